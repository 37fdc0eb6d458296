//! What can go wrong between Tidegate and its disk, each with what to do about it. Every layer of
//! storage returns this one type; it never logs and never retries.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::Position;

/// A failure of the environment: the disk, a file, another process. Never an expected refusal.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Another process (or another part of this one) holds the store.
    #[error("the store at {path} is open elsewhere; close it there first, or use another folder")]
    Locked {
        /// The store's folder.
        path: PathBuf,
    },
    /// The folder holds something, but not a store.
    #[error("{path} is not a Tidegate store: {what}; nothing was touched, choose another folder")]
    NotAStore {
        /// The folder.
        path: PathBuf,
        /// What was found instead.
        what: String,
    },
    /// Bytes that were once durable are no longer what was written.
    #[error(
        "{path} is damaged at byte {offset}: {what}; \
         keep a copy of the store, then restore it from a backup"
    )]
    Damaged {
        /// The file, or the folder if no single file is at fault.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// sled refuses a new index, too.
    #[error(
        "the state's index at {path} can't be made again: {what}; the log beside it, from which \
         it is made, is as it was: keep a copy of the store, and read the program's log"
    )]
    StateUnusable {
        /// The index's folder.
        path: PathBuf,
        /// The engine's own word.
        what: String,
    },
    /// Written by a newer version of Tidegate.
    #[error(
        "{path} has format version {found}, this build reads up to {supported}; \
         use the newer Tidegate that wrote it"
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// The version found in it.
        found: u32,
        /// The newest version that this build knows.
        supported: u32,
    },
    /// The disk, or the quota on it, is full.
    #[error("no room left on the disk for {path}; free some space, then open the store again")]
    Full {
        /// What was being written.
        path: PathBuf,
    },
    /// The file or folder may not be written.
    #[error("{path} cannot be written; check its owner, its mode and how its disk is mounted")]
    ReadOnly {
        /// The file or folder.
        path: PathBuf,
    },
    /// The position asked for has been trimmed away.
    #[error(
        "position {asked} is no longer kept; the oldest kept is {oldest}, use a newer snapshot"
    )]
    Trimmed {
        /// What was asked for.
        asked: Position,
        /// The first position that can still be read.
        oldest: Position,
    },
    /// One batch is over the engine's bound.
    #[error("a batch of {size} bytes is over the bound of {max} bytes; split it into smaller ones")]
    TooLarge {
        /// The size of the batch.
        size: u64,
        /// The largest accepted.
        max: u64,
    },
    /// An earlier write or sync failed. What it held is of unknown fate, and nothing more is taken.
    #[error(
        "the journal stopped after a failure and takes nothing more ({cause}); \
         mend the cause, then open the store again"
    )]
    Poisoned {
        /// The first failure.
        cause: Box<StorageError>,
    },
    /// It was closed before.
    #[error("the journal is closed; open the store again to go on")]
    Closed,
    /// An IO error that has no better name here.
    #[error("{doing} {path} failed: {source}; look at the disk and at the system's log")]
    Io {
        /// What was being done, as a verb: `writing`, `syncing`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's own word.
        source: Arc<io::Error>,
    },
}

impl StorageError {
    /// Names an IO error: a full disk and a forbidden write have variants of their own.
    #[must_use]
    pub fn io(doing: &'static str, path: &Path, error: io::Error) -> Self {
        let path = path.to_path_buf();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly { path }
            }
            _ => Self::Io { doing, path, source: Arc::new(error) },
        }
    }

    /// The first failure: looks through [`StorageError::Poisoned`].
    #[must_use]
    pub fn root(&self) -> &Self {
        let mut error = self;
        while let Self::Poisoned { cause } = error {
            error = cause;
        }
        error
    }

    /// Whether there was no file descriptor left, in the process (EMFILE) or the system (ENFILE).
    pub(crate) fn lacks_descriptors(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        matches!(source.raw_os_error(), Some(23 | 24))
    }

    /// What every later call gets once `self` stopped an engine.
    #[must_use]
    pub(crate) fn poison(self) -> Self {
        match self {
            Self::Poisoned { .. } => self,
            first => Self::Poisoned { cause: Box::new(first) },
        }
    }

    pub(crate) fn damaged(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_path_buf(), offset, what: what.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_full_and_forbidden_disks() {
        let of =
            |code| StorageError::io("writing", Path::new("x"), io::Error::from_raw_os_error(code));
        assert!(matches!(of(28), StorageError::Full { .. })); // ENOSPC
        assert!(matches!(of(30), StorageError::ReadOnly { .. })); // EROFS
        assert!(matches!(of(13), StorageError::ReadOnly { .. })); // EACCES
        assert!(matches!(of(5), StorageError::Io { .. })); // EIO
    }

    #[test]
    fn descriptors_are_lacking_by_two_names() {
        let of =
            |code| StorageError::io("opening", Path::new("x"), io::Error::from_raw_os_error(code));
        assert!(of(23).lacks_descriptors() && of(24).lacks_descriptors());
        assert!(!of(5).lacks_descriptors() && !of(28).lacks_descriptors());
    }

    #[test]
    fn root_looks_through_poison() {
        let full = StorageError::Full { path: "x".into() };
        let poisoned = full.poison().poison();
        let StorageError::Poisoned { cause } = &poisoned else { panic!("{poisoned}") };
        assert!(matches!(**cause, StorageError::Full { .. }));
        assert!(matches!(poisoned.root(), StorageError::Full { .. }));
    }
}
