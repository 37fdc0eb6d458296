//! The state: a log of changes with an index in sled, and snapshots in any state. The path of a
//! value is `logged → changes → log`; that of where it is, `tail → index → rows → sled`. Nothing
//! here knows what a row means.

mod changes;
mod clean;
mod closable;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod handle;
mod index;
mod logged;
mod opening;
mod rows;
mod snapshots;
mod split;
mod tail;
#[cfg(test)]
mod tests;
mod trust;

pub use closable::ClosableState;
pub use index::StateOptions;
pub use logged::LoggedState;
pub use snapshots::{SNAPSHOT_TABLE, Saving, Snapshots};
pub use split::SplitState;
