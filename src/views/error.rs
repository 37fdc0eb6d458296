//! Why a view has stopped, and why one can't be read. A view's fault never reaches whoever sells.

use std::{fmt, sync::Arc};

use tidegate_actors::{RestoreError, codec::CodecError};

use crate::{FeedError, Position, StorageError};

/// Why a view could not take in an event, in words. Any error turns into it.
#[derive(Debug)]
pub struct ViewFault {
    what: String,
    /// It is the store's and not the view's.
    store: Option<StorageError>,
}

impl ViewFault {
    /// For this reason.
    pub fn new(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), store: None }
    }

    pub(super) fn of_store(error: StorageError) -> Self {
        Self { what: error.to_string(), store: Some(error) }
    }

    /// The halt that it comes to, in an event at `position`.
    pub(super) fn at(self, position: Option<Position>) -> Halt {
        match (self.store, position) {
            (Some(error), _) => error.into(),
            (None, Some(position)) => Halt::Fault(format!("position {position}: {}", self.what)),
            (None, None) => Halt::Fault(self.what),
        }
    }
}

impl<E: std::error::Error> From<E> for ViewFault {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

/// Why a view does not go on.
#[derive(Debug)]
pub(super) enum Halt {
    /// The store is closing.
    Closed,
    /// What comes next is no longer kept.
    Trimmed,
    /// The view's own fault, or the store's, in words.
    Fault(String),
}

impl Halt {
    /// What whoever waits for the view `name` is told.
    pub(super) fn of(self, name: &'static str) -> ViewError {
        match self {
            Self::Closed => ViewError::Closed,
            Self::Trimmed => {
                ViewError::Stopped { name, why: "what comes next is no longer kept".into() }
            }
            Self::Fault(why) => ViewError::Stopped { name, why: why.into() },
        }
    }
}

impl From<StorageError> for Halt {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Closed => Self::Closed,
            StorageError::Trimmed { .. } => Self::Trimmed,
            error => Self::Fault(error.to_string()),
        }
    }
}

impl From<FeedError> for Halt {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Closed => Self::Closed,
            FeedError::Trimmed { .. } => Self::Trimmed,
            FeedError::Storage(error) => error.into(),
            error => Self::Fault(error.to_string()),
        }
    }
}

impl From<CodecError> for Halt {
    fn from(error: CodecError) -> Self {
        Self::Fault(error.to_string())
    }
}

impl From<RestoreError> for Halt {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Storage(error) => error.into(),
            error => Self::Fault(error.to_string()),
        }
    }
}

/// Why a view can't be read, or not yet.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// It is being built for the first time, or for the first time in this version.
    #[error("the view {name} is still being built; ask again later")]
    Building {
        /// The view.
        name: &'static str,
    },
    /// It did not get there in time. Nothing is wrong with it; ask again.
    #[error("the view {name} is at position {reached} and has not reached {asked} in time")]
    Late {
        /// The view.
        name: &'static str,
        /// The position that was waited for.
        asked: Position,
        /// Where it is.
        reached: Position,
    },
    /// The position was never reached: it is another store's.
    #[error("position {asked} is ahead of this store, which ends at {durable}")]
    Ahead {
        /// The position that was asked for.
        asked: Position,
        /// The last position of this store.
        durable: Position,
    },
    /// It has stopped and goes on only when it is rebuilt, or the store is opened again.
    #[error("the view {name} has stopped: {why}")]
    Stopped {
        /// The view.
        name: &'static str,
        /// Why.
        why: Arc<str>,
    },
    /// The store is closing or closed.
    #[error("the store is closed")]
    Closed,
    /// The state can't be read.
    #[error(transparent)]
    Storage(StorageError),
    /// A row that this program can't understand.
    #[error("a row of the view {name}: {cause}")]
    Codec {
        /// The view.
        name: &'static str,
        /// What is wrong with it.
        cause: CodecError,
    },
}

impl From<StorageError> for ViewError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Closed => Self::Closed,
            error => Self::Storage(error),
        }
    }
}
