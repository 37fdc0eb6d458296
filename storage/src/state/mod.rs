//! The state: rows in sled, and snapshots in any state. The path of a value is `engine → rows →
//! sled`. Nothing here knows what a row means.

mod closable;
mod engine;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod log_check;
mod mark;
mod opening;
mod rows;
mod snapshots;
#[cfg(test)]
mod tests;

pub use closable::ClosableState;
pub use engine::{SledState, StateOptions};
pub use snapshots::{SNAPSHOT_TABLE, Snapshots};
