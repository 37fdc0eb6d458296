//! What can go wrong between an asker and a shard. Rejections by the machine's rules are one case;
//! all others say that the command was not decided, or that its outcome is not known.

use tidegate_storage::{Position, StorageError};

/// Why a command got no good reply.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AskError<R> {
    /// The machine refused it by its rules. Nothing has changed.
    #[error("{0}")]
    Rejected(R),
    /// Too many commands are in flight for its shard. Nothing has changed; try again a little
    /// later.
    #[error(
        "{shards} shard {index} has {in_flight_max} commands in flight, its bound; try again later"
    )]
    Overloaded {
        /// The kind of shard.
        shards: &'static str,
        /// Which one.
        index: u16,
        /// The bound.
        in_flight_max: usize,
    },
    /// Too many finished orders wait to leave memory, because the state is slower than the sale.
    /// Nothing has changed; try again a little later.
    #[error("{at_rest_max} finished orders wait to be archived, the bound; try again later")]
    Backlogged {
        /// The bound.
        at_rest_max: u64,
    },
    /// The store is closing or closed. Nothing has changed.
    #[error("the store is closing; this command was not taken")]
    Closing,
    /// **The outcome is unknown**: storage failed, or the shard went away, before the answer was
    /// safe. Ask again with the same idempotency key.
    #[error("the outcome is unknown ({why}); ask again with the same idempotency key")]
    Unavailable {
        /// What happened.
        why: String,
    },
    /// The machine panicked on this command, which changed nothing. That is a bug: the log has the
    /// panic. The shard rebuilds itself and goes on.
    #[error("{shards} shard {index} failed on this command: {panic}")]
    Fault {
        /// The kind of shard.
        shards: &'static str,
        /// Which one.
        index: u16,
        /// The panic's message.
        panic: String,
    },
    /// The shard has failed too often and stays down until the store is opened again. Nothing has
    /// changed.
    #[error(
        "{shards} shard {index} failed too often and is down; see the log, then reopen the store"
    )]
    Dead {
        /// The kind of shard.
        shards: &'static str,
        /// Which one.
        index: u16,
    },
}

impl<R> AskError<R> {
    /// The rejection, if it is one.
    pub fn rejection(&self) -> Option<&R> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }

    /// The same for a command that has other rejections; `None` if it is a rejection.
    pub fn unless_rejected<S>(self) -> Option<AskError<S>> {
        Some(match self {
            Self::Rejected(_) => return None,
            Self::Overloaded { shards, index, in_flight_max } => {
                AskError::Overloaded { shards, index, in_flight_max }
            }
            Self::Backlogged { at_rest_max } => AskError::Backlogged { at_rest_max },
            Self::Closing => AskError::Closing,
            Self::Unavailable { why } => AskError::Unavailable { why },
            Self::Fault { shards, index, panic } => AskError::Fault { shards, index, panic },
            Self::Dead { shards, index } => AskError::Dead { shards, index },
        })
    }
}

/// Why a shard could not be rebuilt from what is stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RestoreError {
    /// The disk, or what is on it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Stored bytes that this program can't understand.
    #[error("{shards} shard {index}, position {position}: {cause}")]
    Codec {
        /// The kind of shard.
        shards: &'static str,
        /// Which one.
        index: u16,
        /// The record, or the snapshot's position.
        position: Position,
        /// What is wrong with it.
        cause: crate::codec::CodecError,
    },
    /// The journal ends before a snapshot that was made from it: its end is missing.
    #[error(
        "the journal ends at position {durable}, but a snapshot of {shards} shard {index} is of \
         position {position}: its end is missing; restore journal and state from one backup"
    )]
    JournalBehind {
        /// The kind of shard.
        shards: &'static str,
        /// Which one.
        index: u16,
        /// The snapshot's position.
        position: Position,
        /// The journal's last position.
        durable: Position,
    },
    /// The machine panicked on an event of its own.
    #[error("{shards} shard {index} panics on its own event at position {position}: {panic}")]
    Fault {
        /// The kind of shard.
        shards: &'static str,
        /// Which one.
        index: u16,
        /// The event's place in the journal.
        position: Position,
        /// The panic's message.
        panic: String,
    },
}
