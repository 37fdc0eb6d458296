//! Why a database can't follow its store, and whether trying again may help. It names no password:
//! addresses are shown without them.

use std::error::Error as _;

use crate::{FeedError, Position};

/// Why the database doesn't follow. A [`Worker`](super::Worker) ends with the first four; the
/// others it meets by trying again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address can't be used.
    #[error("the address of the database: {0}")]
    Address(String),
    /// The database follows another store.
    #[error(
        "the database follows another store ({theirs}, this one is {ours}): name another database, \
         or remove what it has with `drop schema tidegate cascade`"
    )]
    OtherStore {
        /// The id of the store that is open.
        ours: String,
        /// The id in the database.
        theirs: String,
    },
    /// The tables are those of a newer program.
    #[error(
        "the tables have version {found}, this program knows up to {known}: run the newer program"
    )]
    NewerSchema {
        /// The version in the database.
        found: i32,
        /// The newest that this program knows.
        known: i32,
    },
    /// The database knows more than the store: the store is an older copy of itself.
    #[error(
        "the database is at position {theirs}, the store ends at {ours}: it is an older copy of \
         itself. Remove what the database has with `drop schema tidegate cascade`; it is written \
         anew"
    )]
    Ahead {
        /// Where the store ends.
        ours: Position,
        /// Where the database is.
        theirs: Position,
    },
    /// The database can't be reached or refuses something.
    #[error("{}", described(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The database takes connections and answers nothing.
    #[error("the database takes a connection and does not answer")]
    Silent,
    /// Another worker has written meanwhile; nothing of this one's was.
    #[error("another worker has moved the database on meanwhile")]
    Overtaken,
    /// A row that must be there is not, or does not add up; everything is loaded anew.
    #[error("the tables do not fit the journal ({0}): somebody else has changed them")]
    Damaged(String),
    /// The store can't be read now.
    #[error("the store can't be read: {0}")]
    Store(String),
    /// Events can't be read.
    #[error(transparent)]
    Feed(#[from] FeedError),
}

impl Error {
    /// Whether trying again is of no use until somebody has done something.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Address(_)
                | Self::OtherStore { .. }
                | Self::NewerSchema { .. }
                | Self::Ahead { .. }
        )
    }

    /// Whether everything is to be loaded anew.
    pub(super) fn wants_load(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Feed(FeedError::Trimmed { .. }))
    }
}

/// With its causes: the error alone says little more than "db error".
fn described(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    text
}
