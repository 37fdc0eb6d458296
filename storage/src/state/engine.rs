//! The index of the state: [`SledState`], one sled tree. Alone it does not survive power loss, and
//! it need not: `logged` makes it again. It deletes nothing.

use std::{
    fmt,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use crc32c::crc32c;
use tracing::{error, info, warn};

use super::{
    handle::Handle,
    opening::{DATA_NAME, open_patiently, sync_closed},
    rows::{
        self, Head, PIECE_BYTES, Stored, WHOLE_BYTES_MAX, decode, decode_piece, encode_head,
        encode_piece, encode_whole, row_key,
    },
};
use crate::{Row, State, StorageError, Table, disk};

type Result<T> = std::result::Result<T, StorageError>;

/// How often a read begins anew because a writer replaced the row meanwhile.
const READ_ATTEMPTS_MAX: usize = 100;
/// How long an open waits for sled to let go of a folder.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// How a [`LoggedState`](super::LoggedState) uses memory and disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateOptions {
    /// Memory for cached pages.
    pub cache_bytes: u64,
    /// How often sled writes in the background, and collects its garbage. Such writes are durable
    /// only after the next [`State::flush`].
    pub flush_every_ms: u64,
    /// Size of a segment file of the log, at least 1 MiB.
    pub log_segment_bytes: u64,
    /// The log is cleaned once it takes twice what its index takes, and this much.
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

/// The index, in sled 0.34.
///
/// Several threads may use it. Of two that write the same row at once, one wins.
pub(crate) struct SledState {
    pub(super) db: Handle,
    folder: PathBuf,
    next_generation: AtomicU64,
    blobs_reported: AtomicBool,
}

impl SledState {
    /// Opens the state in `folder`, or begins one there.
    ///
    /// # Errors
    /// [`StorageError::Locked`], [`StorageError::StateUnusable`] if sled refuses or panics,
    /// [`StorageError::Full`], [`StorageError::ReadOnly`] or an IO error. Nothing is ever deleted.
    pub(crate) fn open(folder: impl AsRef<Path>, options: &StateOptions) -> Result<Self> {
        Self::open_within(folder.as_ref(), options, LOCK_WAIT)
    }

    /// Like [`SledState::open`], with the time after which a locked folder is given up.
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
        let first = getrandom::u64()
            .map_err(|error| StorageError::io("numbering", folder, std::io::Error::other(error)))?;
        let state = Self {
            db: Handle::new(db),
            folder: folder.to_path_buf(),
            next_generation: AtomicU64::new(first),
            blobs_reported: AtomicBool::new(false),
        };
        state.tidy_pieces()?;
        Ok(state)
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

    fn raw_get(&self, key: &[u8]) -> Result<Option<sled::IVec>> {
        self.guarded("reading", || self.db.get(key))
    }

    fn raw_insert(&self, key: &[u8], value: Vec<u8>) -> Result<Option<sled::IVec>> {
        self.guarded("writing", || self.db.insert(key, value))
    }

    fn raw_remove(&self, key: &[u8]) -> Result<Option<sled::IVec>> {
        self.guarded("writing", || self.db.remove(key))
    }

    /// The row's value, from what sled holds under its key.
    fn load(&self, row_key: &[u8], stored: sled::IVec) -> Result<Option<Vec<u8>>> {
        let mut stored = Some(stored);
        for _ in 0..READ_ATTEMPTS_MAX {
            let Some(bytes) = &stored else {
                return Ok(None);
            };
            match decode(row_key, bytes) {
                None => return Err(self.damaged_row(row_key)),
                Some(Stored::Whole(value)) => return Ok(Some(value.to_vec())),
                Some(Stored::Pieces(head)) => {
                    if let Some(value) = self.load_pieces(row_key, head)? {
                        return Ok(Some(value));
                    }
                }
            }
            // A writer may have replaced the row since its head was read, and with it the pieces.
            let again = self.raw_get(row_key)?;
            if again == stored {
                return Err(self.damaged_row(row_key));
            }
            stored = again;
        }
        Err(self.damaged_row(row_key))
    }

    /// `None` if pieces are missing or do not fit.
    fn load_pieces(&self, row_key: &[u8], head: Head) -> Result<Option<Vec<u8>>> {
        let prefix = rows::pieces_prefix(row_key, head.generation);
        let mut value = Vec::new();
        for entry in self.rows_of(self.db.scan_prefix(&prefix)) {
            let (_, bytes) = entry?;
            let Some(piece) = decode_piece(&bytes) else {
                return Ok(None);
            };
            value.extend_from_slice(piece);
        }
        let whole = value.len() as u64 == head.length && crc32c(&value) == head.crc;
        Ok(whole.then_some(value))
    }

    fn put_pieces(&self, row_key: &[u8], value: &[u8]) -> Result<()> {
        let intent = rows::intent_key(row_key);
        let generation = self.next_generation.fetch_add(1, Ordering::Relaxed);
        let head = Head { generation, length: value.len() as u64, crc: crc32c(value) };
        let prefix = rows::pieces_prefix(row_key, generation);
        // In this order: sled recovers some prefix of its writes, so pieces without an intent, or a
        // head without its pieces, cannot be left behind.
        self.raw_insert(&intent, Vec::new())?;
        for (number, piece) in value.chunks(PIECE_BYTES).enumerate() {
            self.raw_insert(&rows::piece_key(&prefix, number as u32), encode_piece(piece))?;
        }
        let old = self.raw_insert(row_key, encode_head(row_key, head))?;
        self.drop_pieces(row_key, old)?;
        self.raw_remove(&intent)?;
        Ok(())
    }

    /// Removes the pieces that a replaced head named, and no others: another writer may be adding
    /// its own.
    fn drop_pieces(&self, row_key: &[u8], old: Option<sled::IVec>) -> Result<()> {
        let Some(old) = old else { return Ok(()) };
        let Some(Stored::Pieces(head)) = decode(row_key, &old) else {
            return Ok(());
        };
        let intent = rows::intent_key(row_key);
        self.raw_insert(&intent, Vec::new())?;
        let prefix = rows::pieces_prefix(row_key, head.generation);
        for number in 0..head.pieces() {
            self.raw_remove(&rows::piece_key(&prefix, number as u32))?;
        }
        self.raw_remove(&intent)?;
        Ok(())
    }

    /// Finishes what writers of large rows were in the middle of when the process ended.
    fn tidy_pieces(&self) -> Result<()> {
        let mut unfinished = Vec::new();
        for entry in self.rows_of(self.db.scan_prefix(rows::intents())) {
            let (key, _) = entry?;
            unfinished.push(key);
        }
        for intent in unfinished {
            let row_key = &intent[1..];
            let stored = self.raw_get(row_key)?;
            let current = stored.as_ref().and_then(|bytes| match decode(row_key, bytes) {
                Some(Stored::Pieces(head)) => Some(head.generation),
                _ => None,
            });
            let mut dropped = 0;
            for entry in self.rows_of(self.db.scan_prefix(rows::pieces_of_row(row_key))) {
                let (key, _) = entry?;
                if rows::generation_in(&key) != current {
                    self.raw_remove(&key)?;
                    dropped += 1;
                }
            }
            self.raw_remove(&intent)?;
            info!(dropped, "pieces of an unfinished large row were removed");
        }
        Ok(())
    }

    /// Values in `blobs/` would escape the syncs of a close. Rows are kept small, so there should
    /// be none.
    fn watch_blobs(&self) {
        let blobs = self.folder.join("blobs");
        let any = disk::list(&blobs).is_ok_and(|found| !found.is_empty());
        if any && !self.blobs_reported.swap(true, Ordering::Relaxed) {
            error!(
                path = %blobs.display(),
                "sled keeps values in files that it does not sync; they may not survive power loss"
            );
        }
    }
}

impl State for SledState {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let row_key = row_key(table, key);
        match self.raw_get(&row_key)? {
            Some(stored) => self.load(&row_key, stored),
            None => Ok(None),
        }
    }

    fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        let row_key = row_key(table, key);
        if value.len() > WHOLE_BYTES_MAX {
            return self.put_pieces(&row_key, value);
        }
        let old = self.raw_insert(&row_key, encode_whole(&row_key, value))?;
        self.drop_pieces(&row_key, old)
    }

    fn delete(&self, table: Table, key: &[u8]) -> Result<()> {
        let row_key = row_key(table, key);
        let old = self.raw_remove(&row_key)?;
        self.drop_pieces(&row_key, old)
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>> {
        let prefix = row_key(table, prefix);
        let start = match after.map(|after| row_key(table, after)) {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix.clone()),
        };
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        for entry in self.rows_of(self.db.range((start, Bound::Unbounded))) {
            let (key, stored) = entry?;
            if !key.starts_with(&prefix) {
                break;
            }
            if let Some(value) = self.load(&key, stored)? {
                found.push((rows::key_in(&key).to_vec(), value));
            }
            if found.len() == limit {
                break;
            }
        }
        Ok(found)
    }

    /// Writes, and syncs nothing: sled doesn't, and while the system runs that is enough.
    fn flush(&self) -> Result<()> {
        self.guarded("flushing", || self.db.flush())?;
        self.watch_blobs();
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        self.db.size_on_disk().unwrap_or_else(|error| {
            warn!(%error, "the size of the state is unknown");
            0
        })
    }
}

impl fmt::Debug for SledState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledState").field("folder", &self.folder).finish_non_exhaustive()
    }
}
