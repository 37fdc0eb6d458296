//! The index: where in the log the value of each row is, in one sled tree. Alone it does not
//! survive power loss, and it need not: `tail` makes it again. It reads and writes no value.

use std::{
    fmt,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::Duration,
};

use tracing::warn;

use super::{
    handle::Handle,
    opening::{DATA_NAME, open_patiently, sync_closed},
    rows::{self, Kept, row_key},
};
use crate::{StorageError, Table, disk};

type Result<T> = std::result::Result<T, StorageError>;

/// How long an open waits for sled to let go of a folder.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// How a [`LoggedState`](super::LoggedState) uses memory and disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateOptions {
    /// Memory for cached pages of the index.
    pub cache_bytes: u64,
    /// How often sled writes the index in the background, and collects its garbage.
    pub flush_every_ms: u64,
    /// Size of a segment file of the log, at least 1 MiB.
    pub log_segment_bytes: u64,
    /// The log is cleaned once it takes twice what counts in it, and this much.
    pub log_slack_bytes: u64,
}

impl Default for StateOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            flush_every_ms: 500,
            log_segment_bytes: 4 << 20,
            log_slack_bytes: 64 << 20,
        }
    }
}

/// The index, in sled 0.34. One thread writes; any may read.
pub(crate) struct Index {
    pub(super) db: Handle,
    folder: PathBuf,
}

impl Index {
    /// Opens the index in `folder`, or begins one there.
    ///
    /// # Errors
    /// [`StorageError::Locked`], [`StorageError::StateUnusable`] if sled refuses or panics,
    /// [`StorageError::Full`], [`StorageError::ReadOnly`] or an IO error. Nothing is ever deleted.
    pub(crate) fn open(folder: impl AsRef<Path>, options: &StateOptions) -> Result<Self> {
        Self::open_within(folder.as_ref(), options, LOCK_WAIT)
    }

    /// Like [`Index::open`], with the time after which a locked folder is given up.
    pub(super) fn open_within(
        folder: &Path,
        options: &StateOptions,
        lock_wait: Duration,
    ) -> Result<Self> {
        disk::create_folder(folder)?;
        let config = sled::Config::new()
            .path(folder)
            .cache_capacity(options.cache_bytes)
            .flush_every_ms(Some(options.flush_every_ms.max(1)));
        let db = open_patiently(folder, &config, lock_wait)?;
        Ok(Self { db: Handle::new(db), folder: folder.to_path_buf() })
    }

    /// Closes it so that all of it is durable, and stays as it is.
    ///
    /// # Errors
    /// sled can't write, or keeps its file for too long.
    pub(crate) fn close(self) -> Result<()> {
        self.flush()?;
        let Self { db, folder, .. } = self;
        if !db.close() {
            let what = "sled panicked while closing it".to_owned();
            return Err(StorageError::StateUnusable { path: folder, what });
        }
        sync_closed(&folder, LOCK_WAIT)
    }

    fn failed(&self, doing: &'static str, error: sled::Error) -> StorageError {
        match error {
            sled::Error::Io(error) => StorageError::io(doing, &self.folder, error),
            sled::Error::Corruption { at, .. } => {
                let what = format!("sled met damage at {at:?}");
                StorageError::damaged(&self.folder.join(DATA_NAME), 0, what)
            }
            other => {
                StorageError::io(doing, &self.folder, std::io::Error::other(other.to_string()))
            }
        }
    }

    fn damaged_row(&self, row_key: &[u8]) -> StorageError {
        let what =
            format!("the row {:?} is not what was written", String::from_utf8_lossy(row_key));
        StorageError::damaged(&self.folder.join(DATA_NAME), 0, what)
    }

    /// Asks sled. It panics on some damage, and that must cost nobody more than an error.
    fn guarded<T>(&self, doing: &'static str, ask: impl FnOnce() -> sled::Result<T>) -> Result<T> {
        match catch_unwind(AssertUnwindSafe(ask)) {
            Ok(asked) => asked.map_err(|error| self.failed(doing, error)),
            Err(_) => {
                let what = format!("sled panicked while {doing}");
                Err(StorageError::damaged(&self.folder.join(DATA_NAME), 0, what))
            }
        }
    }

    /// The rows of `range`, each asked for with care.
    fn rows_of(
        &self,
        mut range: sled::Iter,
    ) -> impl Iterator<Item = Result<(sled::IVec, sled::IVec)>> {
        std::iter::from_fn(move || self.guarded("reading", || range.next().transpose()).transpose())
    }

    fn understood(&self, row_key: &[u8], stored: &[u8]) -> Result<Kept> {
        rows::decode(row_key, stored).ok_or_else(|| self.damaged_row(row_key))
    }

    /// What `replaced` was, if it can still be told.
    fn replaced(row_key: &[u8], replaced: Option<sled::IVec>) -> Option<Kept> {
        replaced.and_then(|stored| rows::decode(row_key, &stored))
    }

    /// Where the value of a row is.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] or an IO error.
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Kept>> {
        let row_key = row_key(table, key);
        let stored = self.guarded("reading", || self.db.get(&row_key))?;
        stored.map(|stored| self.understood(&row_key, &stored)).transpose()
    }

    /// Says where a value is; gives where the one before it was.
    ///
    /// # Errors
    /// As for [`Index::get`].
    pub(crate) fn put(&self, table: Table, key: &[u8], kept: &Kept) -> Result<Option<Kept>> {
        let row_key = row_key(table, key);
        let row = rows::encode(&row_key, kept);
        let replaced = self.guarded("writing", || self.db.insert(&row_key, row))?;
        Ok(Self::replaced(&row_key, replaced))
    }

    /// Forgets a row; gives where its value was.
    ///
    /// # Errors
    /// As for [`Index::get`].
    pub(crate) fn delete(&self, table: Table, key: &[u8]) -> Result<Option<Kept>> {
        let row_key = row_key(table, key);
        let replaced = self.guarded("writing", || self.db.remove(&row_key))?;
        Ok(Self::replaced(&row_key, replaced))
    }

    /// Up to `limit` rows, as [`State::scan`](crate::State::scan) gives them.
    ///
    /// # Errors
    /// As for [`Index::get`].
    pub(crate) fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Kept)>> {
        let prefix = row_key(table, prefix);
        let start = match after.map(|after| row_key(table, after)) {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix.clone()),
        };
        let mut found = Vec::new();
        for entry in self.rows_of(self.db.range((start, Bound::Unbounded))).take(limit) {
            let (key, stored) = entry?;
            if !key.starts_with(&prefix) {
                break;
            }
            found.push((rows::key_in(&key).to_vec(), self.understood(&key, &stored)?));
        }
        Ok(found)
    }

    /// Writes, and syncs nothing: sled doesn't, and while the system runs that is enough.
    fn flush(&self) -> Result<()> {
        self.guarded("flushing", || self.db.flush()).map(drop)
    }

    /// Size on disk, in bytes.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.db.size_on_disk().unwrap_or_else(|error| {
            warn!(%error, "the size of the state's index is unknown");
            0
        })
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("folder", &self.folder).finish_non_exhaustive()
    }
}
