//! The lock that makes one process at a time the owner of a store. The system drops it when the
//! process ends, however it ends; the file itself means nothing and is never removed.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::ErrorKind,
    path::Path,
};

use crate::StorageError;

/// The name of the lock file in a store's folder.
pub(crate) const LOCK_NAME: &str = "LOCK";

/// Keep it as long as the store is in use; dropping it lets others in.
#[derive(Debug)]
pub struct StoreLock {
    file: File,
}

impl Drop for StoreLock {
    /// Closing the file would not do: a process that is being started at this moment has a copy of
    /// it for a while, and with it the lock.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "the store's lock is dropped with its file");
        }
    }
}

impl StoreLock {
    /// Locks the store in `folder`, or says that somebody else has.
    pub(crate) fn take(folder: &Path) -> Result<Self, StorageError> {
        let path = folder.join(LOCK_NAME);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| StorageError::io("opening", &path, error))?;
        Self::lock(file, folder)
    }

    /// The same without creating a lock file: where there is none, nobody has locked.
    pub(crate) fn take_as_it_is(folder: &Path) -> Result<Option<Self>, StorageError> {
        let path = folder.join(LOCK_NAME);
        match File::open(&path) {
            Ok(file) => Self::lock(file, folder).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::io("opening", &path, error)),
        }
    }

    fn lock(file: File, folder: &Path) -> Result<Self, StorageError> {
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => {
                Err(StorageError::Locked { path: folder.to_path_buf() })
            }
            Err(TryLockError::Error(error)) => {
                Err(StorageError::io("locking", &folder.join(LOCK_NAME), error))
            }
        }
    }
}
