//! The state: a log of changes with an index in sled, and snapshots in any state. The path of a
//! value is `logged → changes → log`, then `engine → rows → sled`. Nothing here knows what a row
//! means.

mod changes;
mod closable;
mod engine;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod handle;
mod logged;
mod opening;
mod rows;
mod snapshots;
#[cfg(test)]
mod tests;
mod trust;

pub use closable::ClosableState;
pub(crate) use engine::SledState;
pub use engine::StateOptions;
pub use logged::LoggedState;
pub use snapshots::{SNAPSHOT_TABLE, Snapshots};
