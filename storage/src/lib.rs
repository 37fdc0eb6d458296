//! What survives: the journal and the state. Bytes and positions; this crate knows no domain type.
//!
//! The doors are [`Journal`] and [`State`]. Behind them stand [`FileJournal`] and [`SplitState`],
//! which [`Store`] opens, and [`MemoryJournal`] and [`MemoryState`] for tests. Nothing here decides
//! what a record means: it keeps what it is given, in order, and says when it is on disk.

pub mod api;
pub mod conformance;
mod disk;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
mod journal;
mod lock;
mod manifest;
mod memory;
mod opening;
mod state;
mod store;
mod sync;

pub use api::*;
pub use error::StorageError;
pub use journal::{FileJournal, JournalLook, JournalOptions, SegmentLook};
pub use lock::StoreLock;
pub use memory::{MemoryJournal, MemoryState};
pub use opening::{Opening, OpeningProgress, OpeningStep};
pub use state::{
    ClosableState, LoggedState, SNAPSHOT_TABLE, Saving, Snapshots, SplitState, StateOptions,
};
pub use store::{Looked, Opened, Store, StoreOptions};
