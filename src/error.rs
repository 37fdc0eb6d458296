//! Why a store could not be opened, each with what to do about it. What a caller of an open store
//! may get is in `AskError`.

use tidegate_actors::{RestoreError, codec};
use tidegate_storage::StorageError;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder, the disk, or what is on it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A shard can't be rebuilt.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The number of shards is fixed when a store is created.
    #[error("this store has {stored} {name} shards, not {asked}; leave it out or ask for {stored}")]
    ShardCount {
        /// The kind of shard.
        name: &'static str,
        /// What the store has.
        stored: u16,
        /// What was asked for.
        asked: u16,
    },
    /// The journal holds records, but the state is empty: its folder is missing.
    #[error(
        "the journal holds records but the state is empty; put the store's `state` folder back \
         (finished orders are only there), or restore both from one backup"
    )]
    StateMissing,
    /// The store holds events of a machine that was not added. Without it its journal could be
    /// trimmed.
    #[error(
        "the store has {shards} shards of the machine {name} (kind {kind}), which was not added; \
         add it with Builder::machine, also when it is not used"
    )]
    MachineMissing {
        /// The machine's name when it was added.
        name: String,
        /// Its number.
        kind: u16,
        /// Its shards.
        shards: u16,
    },
    /// Two machines have the same number, or one has a number of Tidegate's own.
    #[error("kind {kind} of the machine {name} is taken; choose another, from Kind::FIRST_FREE on")]
    KindTaken {
        /// The machine's name.
        name: &'static str,
        /// Its number.
        kind: u16,
    },
    /// Bytes of the store's own that this program can't understand.
    #[error("the store's {what} can't be understood: {cause}")]
    Codec {
        /// Which bytes.
        what: &'static str,
        /// What is wrong with them.
        cause: codec::CodecError,
    },
    /// Two views have the same name.
    #[error("there are two views of the name {name}; give one of them another")]
    ViewTaken {
        /// The name.
        name: &'static str,
    },
    /// A view has a name that it can't have.
    #[error("{name:?} can't be the name of a view: 1 to 64 visible ASCII characters can")]
    ViewName {
        /// The name.
        name: &'static str,
    },
    /// What the store says of a view can't be understood.
    #[error("the view {name}: {what}")]
    View {
        /// The view.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// The system can't start a thread.
    #[error("can't start a thread: {0}")]
    Threads(#[from] std::io::Error),
}
