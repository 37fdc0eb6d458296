//! The event feed: durable events of the default machines, from any retained place on, to any
//! number of subscribers. Each reads the journal's files for itself, page by page on a blocking
//! thread, and is woken when there is more; a slow one holds up nobody but itself. It deliberately
//! keeps no list of who has seen what: a subscriber keeps its own cursor.

mod event;
mod follow;
mod kind;
mod letters;
mod pace;
mod publish;

use tidegate_machines::Timestamp;
use tidegate_storage::{Entry, Position, StorageError};

pub use event::{Cursor, Event, EventData, HeldLine, PlacedLine, Reason, SetOptions};
use follow::Start;
pub use follow::{Feed, Pick, Tap};
pub use kind::EventKind;
pub use letters::Letters;

use crate::codec::CodecError;

/// Why a feed gave no event.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// Events after the asked place are no longer kept: the subscriber was away or slow for too
    /// long, and must read what it wants to know anew.
    #[error("events from position {asked} on are no longer kept; the oldest kept is {oldest}")]
    Trimmed {
        /// The first position that was to be read.
        asked: Position,
        /// The oldest position that can be read.
        oldest: Position,
    },
    /// The place was never reached: the cursor is another store's.
    #[error("position {asked} is ahead of this store, which ends at {durable}")]
    Ahead {
        /// The position of the cursor.
        asked: Position,
        /// The last position of this store.
        durable: Position,
    },
    /// The store is closed or its journal has failed, and everything in it was given.
    #[error("the store is closed or has failed; there are no more events")]
    Closed,
    /// The journal can't be read.
    #[error(transparent)]
    Storage(StorageError),
    /// A record that this program can't understand.
    #[error("position {position}: {cause}")]
    Codec {
        /// The record.
        position: Position,
        /// What is wrong with it.
        cause: CodecError,
    },
}

/// Where feeds come from. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    tap: Tap,
    wanted: Wanted,
}

/// Which kinds of events are wanted, one bit each.
#[derive(Clone, Copy)]
pub struct Wanted(u64);

impl Wanted {
    const ALL: Self = Self(u64::MAX);

    fn bit(kind: EventKind) -> u64 {
        1 << kind as u64
    }

    fn has(self, kind: EventKind) -> bool {
        self.0 & Self::bit(kind) != 0
    }
}

impl Pick for Wanted {
    type Item = Event;

    fn pick(&self, entry: &Entry<'_>, out: &mut Vec<(Cursor, Event)>) -> Result<(), CodecError> {
        let (position, mut told) = (entry.position, Vec::new());
        publish::publish(entry.stream, Timestamp(entry.stamp), entry.bytes, &mut told)?;
        let all = told.len() as u32;
        for (number, (at, data)) in (1..).zip(told) {
            let cursor = Cursor { position, within: (number < all).then_some(number) };
            if self.has(data.kind()) {
                out.push((cursor, Event { position, at, data, cursor }));
            }
        }
        Ok(())
    }
}

impl Tap {
    /// The messages of a topic after `cursor`.
    pub fn letters(&self, letters: Letters, after: impl Into<Cursor>) -> Feed<Letters> {
        self.feed(letters, Start::After(after.into()))
    }

    /// All messages of a topic that are kept.
    #[must_use]
    pub fn all_letters(&self, letters: Letters) -> Feed<Letters> {
        self.feed(letters, Start::Oldest)
    }
}

impl Events {
    /// The events in the journal that `tap` is on.
    #[must_use]
    pub fn new(tap: Tap) -> Self {
        Self { tap, wanted: Wanted::ALL }
    }

    /// Only these kinds.
    #[must_use]
    pub fn only(mut self, kinds: impl IntoIterator<Item = EventKind>) -> Self {
        self.wanted = Wanted(kinds.into_iter().map(Wanted::bit).fold(0, |all, bit| all | bit));
        self
    }

    /// Events after `cursor`: of the event seen last, or of [`Feed::cursor`], or any position. That
    /// it is no longer retained is said by the first [`Feed::next`].
    pub fn after(&self, cursor: impl Into<Cursor>) -> Feed {
        self.tap.feed(self.wanted, Start::After(cursor.into()))
    }

    /// All events that are retained.
    #[must_use]
    pub fn from_oldest(&self) -> Feed {
        self.tap.feed(self.wanted, Start::Oldest)
    }

    /// Events that become durable from now on.
    #[must_use]
    pub fn from_now(&self) -> Feed {
        self.after(self.tap.durable())
    }

    /// The last position that is on disk, where a feed that has given everything is.
    #[must_use]
    pub fn durable(&self) -> Position {
        self.tap.durable()
    }

    /// Waits until everything up to `position` is on disk, or there is no more to come.
    pub async fn reached(&self, position: Position) {
        self.tap.reached(position).await;
    }

    /// Waits until the store is closed or its journal has failed.
    pub async fn closed(&self) {
        self.tap.closed().await;
    }
}

impl From<StorageError> for FeedError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Trimmed { asked, oldest } => Self::Trimmed { asked, oldest },
            error => Self::Storage(error),
        }
    }
}
