//! The state on disk: [`LoggedState`], a log of every change, and sled as an index of it, which
//! says where in the log each value is, and can be made from it again. What the projector and the
//! snapshotter write goes through here. It is never the first home of a command's effect; the
//! journal is.
//!
//! sled 0.34 can't be made safe from outside: it writes over a part of its file as soon as what
//! replaces it is written, not when that is synced. So the log alone is durable, and an index that
//! was not closed in order is never used.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use crc32c::crc32c;
use tracing::{info, warn};

use super::{
    changes::{Change, Pending, Record, encode},
    index::{Index, StateOptions},
    rows::Kept,
    tail::Tail,
    trust,
};
use crate::{
    Batch, FileJournal, Journal, JournalOptions, Opening, OpeningStep, Position, Row, State,
    StorageError, StreamId, Table, Urgency, disk,
};

type Result<T> = std::result::Result<T, StorageError>;

const LOG_NAME: &str = "log";
const INDEX_NAME: &str = "index";

const STREAM: StreamId = StreamId(0);

/// Half of the log may be what counts no more: cleaning it less often moves less.
const ALLOWED_PERCENT: u64 = 200;
/// Where the oldest goes first, cleaning hardly moves anything.
const SHORT_PERCENT: u64 = 110;

/// A batch may take a quarter of a segment.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// Queued changes beyond this are made durable without being asked: memory stays bounded.
const PENDING_BYTES_MAX: usize = 512 << 10;

/// The state engine: a log that survives power loss, and an index in sled 0.34 to look things up.
///
/// Several threads may use it. Of two that write the same row at once, one wins.
pub struct LoggedState {
    folder: PathBuf,
    pub(super) log: FileJournal,
    /// `None` only while it is dropped.
    pub(super) index: Option<Index>,
    pending: RwLock<Pending>,
    /// Held during a commit.
    pub(super) committing: Mutex<Committing>,
    /// What stopped all later commits.
    failure: OnceLock<StorageError>,
    /// The index is not to be used again.
    damaged: AtomicBool,
    /// How long the log may become, of what counts in it.
    pub(super) allowed_percent: u64,
    /// And as much more, in bytes.
    pub(super) slack_bytes: u64,
}

pub(super) struct Committing {
    pub(super) tail: Tail,
    /// What was written to the log since it was last cleaned, in bytes.
    pub(super) uncleaned_bytes: u64,
}

/// Where a row was seen.
enum Seen {
    /// In a change that is queued; `None`: it goes.
    Queued(Option<Arc<[u8]>>),
    Indexed(Kept),
}

impl LoggedState {
    /// Opens the state in `folder`, or begins one there. If it was not closed in order, or has
    /// changed since, the index is made from the log again: that takes time with the state's size.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] if the log is, [`StorageError::Locked`], [`StorageError::Full`],
    /// [`StorageError::ReadOnly`], [`StorageError::StateUnusable`] if sled refuses even an empty
    /// folder, or an IO error.
    pub fn open(folder: impl AsRef<Path>, options: &StateOptions) -> Result<Self> {
        Self::open_with(folder.as_ref(), options, true, &Opening::default())
    }

    /// Like [`LoggedState::open`], but a folder without a log is damage.
    pub(crate) fn open_existing(
        folder: &Path,
        options: &StateOptions,
        opening: &Opening,
    ) -> Result<Self> {
        Self::open_with(folder, options, false, opening)
    }

    /// The same for rows of which the oldest are replaced first, or a new one: its log is kept
    /// hardly longer than what counts.
    pub(super) fn open_short(
        folder: &Path,
        options: &StateOptions,
        opening: &Opening,
    ) -> Result<Self> {
        let options = StateOptions { log_slack_bytes: 0, ..options.clone() };
        let mut state = Self::open_with(folder, &options, true, opening)?;
        state.allowed_percent = SHORT_PERCENT;
        Ok(state)
    }

    fn open_with(
        folder: &Path,
        options: &StateOptions,
        may_begin: bool,
        opening: &Opening,
    ) -> Result<Self> {
        disk::create_folder(folder)?;
        let segment_bytes = options.log_segment_bytes.max(SEGMENT_BYTES_MIN);
        let log = JournalOptions { segment_bytes, spare_segments_max: 1, soon_ms_max: 2 };
        let (path, index) = (folder.join(LOG_NAME), folder.join(INDEX_NAME));
        let log = if may_begin && !index.exists() {
            FileJournal::open(&path, &log)?
        } else {
            FileJournal::open_existing(&path, &log, opening)?
        };
        let trusted =
            if trust::is_given(folder, &index) { reuse(folder, options, &log)? } else { None };
        let (index, tail) = match trusted {
            Some(used) => used,
            None => rebuild(folder, options, &log, opening)?,
        };
        Ok(Self {
            folder: folder.to_path_buf(),
            log,
            index: Some(index),
            pending: RwLock::default(),
            committing: Mutex::new(Committing { tail, uncleaned_bytes: 0 }),
            failure: OnceLock::new(),
            damaged: AtomicBool::new(false),
            allowed_percent: ALLOWED_PERCENT,
            slack_bytes: options.log_slack_bytes.max(3 * segment_bytes),
        })
    }

    pub(super) fn index(&self) -> Result<&Index> {
        self.index.as_ref().ok_or(StorageError::Closed)
    }

    fn read(&self) -> RwLockReadGuard<'_, Pending> {
        self.pending.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Pending> {
        self.pending.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found. If it is damaged, the next open makes the index again, and if it is the log
    /// that is damaged, says so.
    pub(super) fn checked<T>(&self, found: Result<T>) -> Result<T> {
        if let Err(error @ StorageError::Damaged { .. }) = &found
            && !self.damaged.swap(true, Ordering::Relaxed)
        {
            warn!(%error, "the state is damaged; the next open looks at all of it");
        }
        found
    }

    fn change(&self, table: Table, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        if let Some(failure) = self.failure.get() {
            return Err(failure.clone());
        }
        let change = Change { table, key: key.to_vec(), value: value.map(Arc::from) };
        let queued = {
            let mut pending = self.write();
            pending.push(change);
            pending.bytes()
        };
        if queued < PENDING_BYTES_MAX { Ok(()) } else { self.commit() }
    }

    /// Makes all queued changes durable in the log, then looked up in the index; cleans the log if
    /// it has become too long.
    fn commit(&self) -> Result<()> {
        let committing = &mut *disk::lock(&self.committing);
        let before = self.log.stats().bytes;
        self.commit_queued(&mut committing.tail)?;
        committing.uncleaned_bytes += self.log.stats().bytes - before;
        self.clean_overlong(committing)
    }

    /// The same, for who holds `committing`, of which `tail` is a part.
    pub(super) fn commit_queued(&self, tail: &mut Tail) -> Result<()> {
        if let Some(failure) = self.failure.get() {
            return Err(failure.clone());
        }
        let (changes, number) = self.write().take();
        if changes.is_empty() {
            return Ok(());
        }
        let done = self.log_all(&changes).and_then(|()| tail.follow(self.index()?, || ()));
        if let Err(error) = done {
            // What was queued is neither known to be durable nor queued any more: nothing can
            // follow it.
            return Err(self.failure.get_or_init(|| error).clone());
        }
        self.write().forget(number);
        Ok(())
    }

    fn log_all(&self, changes: &[Change]) -> Result<()> {
        // Room for the key, of which none is long, and for what a batch adds.
        let part_bytes = self.log.batch_bytes_max() / 2;
        let mut records = Vec::new();
        for change in changes {
            encode(change, part_bytes, |record| records.push(record));
        }
        let mut batch = Batch::new(STREAM, 0);
        for record in records {
            if !batch.is_empty() && batch.size() + record.len() > part_bytes {
                let full = std::mem::replace(&mut batch, Batch::new(STREAM, 0));
                self.log.append(full, Urgency::Soon, Box::new(drop))?;
            }
            batch.push(|bytes| {
                bytes.extend_from_slice(&record);
                Ok::<_, StorageError>(())
            })?;
        }
        let last = self.log.append(batch, Urgency::Now, Box::new(drop))?;
        self.log.wait_durable(last)
    }

    /// The value of a row; `None` if that part of the log was given back meanwhile.
    pub(super) fn load(&self, kept: &Kept) -> Result<Option<Vec<u8>>> {
        match kept {
            Kept::Here { value, .. } => Ok(Some(value.clone())),
            Kept::Record { place, crc } => match self.log.fetch(*place)? {
                Some(value) if crc32c(&value) == *crc => Ok(Some(value)),
                Some(_) => Err(self.damaged(&format!("the value at {place:?}"))),
                None => Ok(None),
            },
            Kept::Parts { first, length } => self.load_parts(*first, *length),
        }
    }

    fn load_parts(&self, first: Position, length: u64) -> Result<Option<Vec<u8>>> {
        let mut reader = match self.log.read(Position(first.0.saturating_sub(1))) {
            Err(StorageError::Trimmed { .. }) => return Ok(None),
            reader => reader?,
        };
        let (mut value, mut count) = (Vec::new(), 0);
        while let Some(entry) = reader.next()? {
            let part = Record::read(entry.bytes).filter(|record| record.is_part(count));
            let Some(part) = part else { break };
            value.extend_from_slice(part.value);
            count += 1;
            if part.ends_value() {
                break;
            }
        }
        let whole = value.len() as u64 == length;
        if whole {
            Ok(Some(value))
        } else {
            Err(self.damaged(&format!("the value from {first} on")))
        }
    }

    /// Up to `limit` rows that have changes queued, or are in the index; no value is read.
    fn look(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Seen)>> {
        // Held throughout: a change that arrives in the index meanwhile is still seen here.
        let pending = self.read();
        let stored = self.checked(self.index()?.scan(table, prefix, after, limit))?;
        let end = stored.last().filter(|_| stored.len() == limit).map(|(key, _)| key.clone());
        let seen = stored.into_iter().map(|(key, kept)| (key, Seen::Indexed(kept)));
        let mut rows: BTreeMap<_, _> = seen.collect();
        for (key, value) in pending.range(table, prefix, after) {
            if end.as_deref().is_some_and(|end| key > end) {
                break;
            }
            rows.insert(key.to_vec(), Seen::Queued(value.map(Arc::from)));
        }
        Ok(rows.into_iter().take(limit).collect())
    }

    /// The keys of up to `limit` rows of `table`, in order, after `after` if given.
    pub(super) fn keys(
        &self,
        table: Table,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>> {
        Ok(self.look(table, &[], after, limit)?.into_iter().map(|(key, _)| key).collect())
    }

    /// The row of `key`, which was found `kept` in the index; `None` if it has gone since.
    fn follow(&self, table: Table, key: &[u8], mut kept: Kept) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(value) = self.checked(self.load(&kept))? {
                return Ok(Some(value));
            }
            // What counts is moved before the log's beginning is given back.
            match self.checked(self.index()?.get(table, key))? {
                Some(moved) if moved != kept => kept = moved,
                Some(_) => return Err(self.damaged("a value that the index names")),
                None => return Ok(None),
            }
        }
    }

    fn damaged(&self, what: &str) -> StorageError {
        let what = format!("{what} is not what was written");
        StorageError::damaged(&self.folder.join(LOG_NAME), 0, what)
    }
}

impl State for LoggedState {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(value) = self.read().get(table, key) {
            return Ok(value.map(|value| value.to_vec()));
        }
        let found = self.checked(self.index()?.get(table, key))?;
        found.map_or(Ok(None), |kept| self.follow(table, key, kept))
    }

    fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.change(table, key, Some(value))
    }

    fn delete(&self, table: Table, key: &[u8]) -> Result<()> {
        self.change(table, key, None)
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>> {
        let (mut found, mut after) = (Vec::new(), after.map(<[u8]>::to_vec));
        while found.len() < limit {
            let page = limit - found.len();
            let rows = self.look(table, prefix, after.as_deref(), page)?;
            let more = rows.len() == page;
            after = rows.last().map(|(key, _)| key.clone());
            for (key, seen) in rows {
                let value = match seen {
                    Seen::Queued(value) => value.map(|value| value.to_vec()),
                    Seen::Indexed(kept) => self.follow(table, &key, kept)?,
                };
                found.extend(value.map(|value| (key, value)));
            }
            if !more {
                break;
            }
        }
        Ok(found)
    }

    fn flush(&self) -> Result<()> {
        self.commit()
    }

    fn disk_bytes(&self) -> u64 {
        let index = self.index.as_ref().map_or(0, Index::disk_bytes);
        index + self.log.stats().disk_bytes
    }
}

impl Drop for LoggedState {
    fn drop(&mut self) {
        let Some(index) = self.index.take() else { return };
        let failed = self.failure.get().is_some();
        let distrusted = failed || self.damaged.load(Ordering::Relaxed);
        let closed = index.close().and_then(|()| {
            if distrusted {
                return Ok(());
            }
            trust::give(&self.folder, &self.folder.join(INDEX_NAME))
        });
        if let Err(error) = closed {
            warn!(%error, "the state's index was not closed; the next open makes it again");
        }
    }
}

impl fmt::Debug for LoggedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoggedState").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// The index as it is, brought up to the log; `None` if it must be made again.
fn reuse(
    folder: &Path,
    options: &StateOptions,
    log: &FileJournal,
) -> Result<Option<(Index, Tail)>> {
    trust::withdraw(folder)?;
    let opened = Index::open(folder.join(INDEX_NAME), options);
    let used = opened.and_then(|index| {
        let Some(mut tail) = Tail::of_rest(log, &index)? else { return Ok(None) };
        tail.follow(&index, || ())?;
        Ok(Some((index, tail)))
    });
    match used {
        Err(StorageError::StateUnusable { what, .. } | StorageError::Damaged { what, .. }) => {
            warn!(what, "the state's index can't be used; it is made again");
            Ok(None)
        }
        used => used,
    }
}

/// Makes the index from the log.
fn rebuild(
    folder: &Path,
    options: &StateOptions,
    log: &FileJournal,
    opening: &Opening,
) -> Result<(Index, Tail)> {
    trust::withdraw(folder)?;
    let path = folder.join(INDEX_NAME);
    if path.exists() {
        // Nothing is in it that is not in the log.
        let removed = fs::remove_dir_all(&path);
        removed.map_err(|error| StorageError::io("removing", &path, error))?;
    }
    let (index, mut tail) = (Index::open(&path, options)?, Tail::of_all(log)?);
    opening.begin(OpeningStep::Indexing, log.durable().next().0 - log.oldest().0);
    let changes = tail.follow(&index, || opening.add(1))?;
    if changes > 0 {
        info!(changes, "the state's index was made again from its log");
    }
    Ok((index, tail))
}
