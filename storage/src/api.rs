//! The two narrow doors of storage: [`Journal`] (what happened, in one total order) and [`State`]
//! (what can be looked up). Engines stand behind them; this file names none.

use std::fmt;

use crate::StorageError;

/// The place of one record in the journal's total order. The first record has position 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// Before the first record.
    pub const ZERO: Self = Self(0);

    /// The next place.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who wrote a record. Storage only compares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// Records of one stream that become durable together: after a crash all of them are there, or
/// none.
#[derive(Clone, Debug)]
pub struct Batch {
    stream: StreamId,
    stamp: u64,
    count: u32,
    bytes: Vec<u8>,
}

impl Batch {
    /// An empty batch of `stream`. `stamp` is the writer's time, opaque to storage and given back
    /// to readers.
    #[must_use]
    pub fn new(stream: StreamId, stamp: u64) -> Self {
        Self { stream, stamp, count: 0, bytes: Vec::new() }
    }

    /// The same, with room for `bytes` before its buffer must grow.
    #[must_use]
    pub fn with_room(stream: StreamId, stamp: u64, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ..Self::new(stream, stamp) }
    }

    /// Adds the record that `write` appends to the buffer.
    ///
    /// # Errors
    /// What `write` returns; the batch then stays as it was.
    pub fn push<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        if let Err(error) = write(&mut self.bytes) {
            self.bytes.truncate(start);
            return Err(error);
        }
        let length = (self.bytes.len() - start - 4) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.count += 1;
        Ok(())
    }

    /// How many records it holds.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Its size in the journal, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it holds no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whose records these are.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// The writer's time.
    #[must_use]
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Moves the writer's time on, for records added later; never back.
    pub fn restamp(&mut self, stamp: u64) {
        self.stamp = self.stamp.max(stamp);
    }

    /// The records, each with its length in front (u32, little endian).
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Whether somebody waits for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A reply is held for it: commit as soon as the disk is free.
    Now,
    /// Nobody waits yet; it may wait a few milliseconds for company.
    Soon,
}

/// Called once a batch is durable (with the position of its last record), or will never be known to
/// be. Runs on the committer's thread: it must be quick and must not block.
pub type Done = Box<dyn FnOnce(Result<Position, StorageError>) + Send>;

/// Told of every new durable position, each later than the one before. Runs on the committer's
/// thread: it must be quick and must not block. Dropped once no position follows any more.
pub type Watch = Box<dyn FnMut(Position) + Send>;

/// An append-only log of batches in one total order. If a record is durable, so is every earlier
/// one.
pub trait Journal: Send + Sync + 'static {
    /// Queues `batch` and returns the position of its last record. Never waits for the disk, and
    /// sets no bound on what is queued: callers do. `done` is called exactly once if this returns
    /// `Ok`, in order of position.
    ///
    /// An empty batch is a barrier: it takes no position and writes nothing, and its `done` is
    /// called once everything before it is durable.
    ///
    /// # Errors
    /// [`StorageError::Poisoned`] after a failed write or sync, [`StorageError::Closed`] after
    /// [`Journal::close`], [`StorageError::TooLarge`] for a batch over the engine's bound. Then
    /// nothing was queued and `done` is never called.
    fn append(&self, batch: Batch, urgency: Urgency, done: Done) -> Result<Position, StorageError>;

    /// The size of the largest batch that [`Journal::append`] takes, in bytes.
    fn batch_bytes_max(&self) -> usize;

    /// The last position that was queued.
    fn appended(&self) -> Position;

    /// The last position known to be on disk.
    fn durable(&self) -> Position;

    /// Waits (blocking the thread) until `position` is durable. What is queued for it becomes
    /// urgent. Must not be called from a `done`, which would wait for itself.
    ///
    /// # Errors
    /// Why it never will be.
    fn wait_durable(&self, position: Position) -> Result<(), StorageError>;

    /// Tells `watch` of every position that becomes durable from now on; drops it when the journal
    /// is closed or has failed (at once, if it is or has).
    fn watch(&self, watch: Watch);

    /// The oldest position that can still be read; one past the last if there is none.
    fn oldest(&self) -> Position;

    /// Reads durable records after `after`, in order. The reader ends where durability ends at each
    /// moment: after `None` it may be asked again later. What it has not passed yet is not trimmed
    /// away under it.
    ///
    /// # Errors
    /// [`StorageError::Trimmed`] if the record after `after` is no longer kept.
    fn read(&self, after: Position) -> Result<Box<dyn Reader>, StorageError>;

    /// The same for readers that nobody answers for: however slow one is, it keeps nothing from
    /// being trimmed. What is trimmed before it has passed, it misses: then its `next` gives
    /// [`StorageError::Trimmed`], now and ever after.
    ///
    /// # Errors
    /// [`StorageError::Trimmed`] if the record after `after` is no longer kept.
    fn follow(&self, after: Position) -> Result<Box<dyn Reader>, StorageError>;

    /// The last position that has at least `bytes` of durable records after it;
    /// [`Position::ZERO`] if there are not as many. May be a little earlier than it could be.
    fn before_last(&self, bytes: u64) -> Position;

    /// Allows the journal to drop records up to and including `through`. It may keep some longer.
    ///
    /// # Errors
    /// An IO error; the records are then still there.
    fn trim(&self, through: Position) -> Result<(), StorageError>;

    /// Figures for operators.
    fn stats(&self) -> JournalStats;

    /// Commits what is queued, then stops the committer and waits for it. Later appends fail. May
    /// be called twice.
    ///
    /// # Errors
    /// What the last commit met.
    fn close(&self) -> Result<(), StorageError>;
}

/// A cursor over the durable part of a journal.
pub trait Reader: Send {
    /// The next record, or `None` at the end of what is durable now.
    ///
    /// # Errors
    /// Damage, with file and offset; or an IO error.
    fn next(&mut self) -> Result<Option<Entry<'_>>, StorageError>;
}

/// One record, as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its place in the total order.
    pub position: Position,
    /// Who wrote it.
    pub stream: StreamId,
    /// The writer's time of its batch.
    pub stamp: u64,
    /// What was written.
    pub bytes: &'a [u8],
}

/// Figures of a journal since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// Commits (one write and one sync each).
    pub commits: u64,
    /// Records committed.
    pub records: u64,
    /// Bytes committed, frames included.
    pub bytes: u64,
    /// Time spent in syncs, in microseconds.
    pub sync_us: u64,
    /// Time spent in writes, in microseconds.
    pub write_us: u64,
    /// Size on disk, spare segments included, in bytes.
    pub disk_bytes: u64,
}

/// A named keyspace of the state. One byte in front of each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub u8);

/// Key and value of a row.
pub type Row = (Vec<u8>, Vec<u8>);

/// An ordered key-value store for what can be rebuilt or looked up: snapshots, projections,
/// cursors. A row is durable only after [`State::flush`].
pub trait State: Send + Sync + 'static {
    /// The value of `key`. Sees every `put` that returned before.
    ///
    /// # Errors
    /// Damage or an IO error.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// Writes a row of any size up to 4 GiB. Durable after the next flush.
    ///
    /// # Errors
    /// An IO error; the row may or may not be there.
    fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StorageError>;

    /// Removes a row, if there is one.
    ///
    /// # Errors
    /// An IO error; the row may or may not be there.
    fn delete(&self, table: Table, key: &[u8]) -> Result<(), StorageError>;

    /// Up to `limit` rows whose key starts with `prefix`, in key order, after the key `after` if
    /// given.
    ///
    /// # Errors
    /// Damage or an IO error.
    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StorageError>;

    /// Makes every earlier `put` and `delete` durable; waits for the disk.
    ///
    /// # Errors
    /// An IO error: nothing since the last good flush is known to be durable.
    fn flush(&self) -> Result<(), StorageError>;

    /// Size on disk, in bytes.
    fn disk_bytes(&self) -> u64;
}
