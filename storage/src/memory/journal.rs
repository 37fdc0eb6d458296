//! [`MemoryJournal`]: the journal of tests and simulation. It keeps nothing beyond the process.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    Batch, Done, Entry, Journal, JournalStats, Position, Reader, StorageError, StreamId, Urgency,
    Watch, disk,
};

type Result<T> = std::result::Result<T, StorageError>;

/// A batch may hold as much as in a journal of files with its default options.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// A journal in memory. Either every append is durable at once, or [`MemoryJournal::commit`] says
/// when.
#[derive(Debug)]
pub struct MemoryJournal {
    shared: Arc<Shared>,
    manual: bool,
}

#[derive(Debug, Default)]
struct Shared {
    log: Mutex<Log>,
    moved: Condvar,
}

#[derive(Clone, Debug)]
struct Record {
    stream: StreamId,
    stamp: u64,
    bytes: Arc<[u8]>,
}

#[derive(Default)]
struct Log {
    /// Durable records; the first of them has position `trimmed + 1`.
    records: VecDeque<Record>,
    trimmed: u64,
    appended: u64,
    queued: VecDeque<(Batch, Position, Done)>,
    /// Batches whose commit has failed: a disk may have them all the same.
    limbo: Vec<Batch>,
    /// Outcomes on their way to their `done`s, in order.
    outcomes: VecDeque<(Done, Result<Position>)>,
    /// Some thread delivers outcomes; it takes those that come meanwhile as well.
    delivering: bool,
    watches: Vec<Watch>,
    /// What the watches were told last.
    told: u64,
    failure: Option<StorageError>,
    fail_next_sync: bool,
    fail_next_append: Option<StorageError>,
    closed: bool,
    /// Up to where each reader has passed.
    readers: Vec<Weak<AtomicU64>>,
    stats: JournalStats,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("durable", &self.durable()).finish_non_exhaustive()
    }
}

impl Log {
    fn durable(&self) -> u64 {
        self.trimmed + self.records.len() as u64
    }

    fn has_ended(&self) -> bool {
        self.closed || self.failure.is_some()
    }

    /// Makes all that is queued durable, or fails all of it.
    fn commit(&mut self) {
        if !self.queued.is_empty() && std::mem::take(&mut self.fail_next_sync) {
            let error = std::io::Error::other("a failure on demand");
            let failure = StorageError::io("syncing", "memory".as_ref(), error);
            self.failure = Some(failure.poison());
        }
        for (batch, last, done) in self.queued.drain(..) {
            if let Some(failure) = &self.failure {
                self.outcomes.push_back((done, Err(failure.clone())));
                self.limbo.push(batch);
                continue;
            }
            self.records.extend(records(&batch));
            self.stats.commits += 1;
            self.stats.records += u64::from(batch.count());
            self.stats.bytes += batch.size() as u64;
            self.outcomes.push_back((done, Ok(last)));
        }
    }
}

/// The records of `batch`, one by one.
fn records(batch: &Batch) -> impl Iterator<Item = Record> {
    let (stream, stamp, mut rest) = (batch.stream(), batch.stamp(), batch.bytes());
    std::iter::from_fn(move || {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let (record, tail) = tail.split_at(u32::from_le_bytes(*length) as usize);
        rest = tail;
        Some(Record { stream, stamp, bytes: record.into() })
    })
}

impl Default for MemoryJournal {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryJournal {
    /// Empty; every append is durable at once, and its `done` is called before it returns, unless
    /// another thread is calling one just then.
    #[must_use]
    pub fn new() -> Self {
        Self { shared: Arc::default(), manual: false }
    }

    /// Empty; nothing is durable before [`MemoryJournal::commit`].
    #[must_use]
    pub fn manual() -> Self {
        Self { manual: true, ..Self::new() }
    }

    /// Makes everything queued durable and calls the `done`s.
    pub fn commit(&self) {
        disk::lock(&self.shared.log).commit();
        self.deliver();
    }

    /// What a power loss now would leave at least: a journal of the same kind with the durable
    /// records only.
    #[must_use]
    pub fn crash_image(&self) -> Self {
        self.crash_image_keeping(0)
    }

    /// What a power loss now might leave as well: the durable records, and the first `batches` of
    /// those that are not known to be. A disk may have written them all the same.
    #[must_use]
    pub fn crash_image_keeping(&self, batches: usize) -> Self {
        let log = disk::lock(&self.shared.log);
        let mut kept = log.records.clone();
        let unknown = log.limbo.iter().chain(log.queued.iter().map(|(batch, ..)| batch));
        kept.extend(unknown.take(batches).flat_map(records));
        let durable = log.trimmed + kept.len() as u64;
        let image = Log {
            records: kept,
            trimmed: log.trimmed,
            appended: durable,
            told: durable,
            ..Log::default()
        };
        let shared = Shared { log: Mutex::new(image), moved: Condvar::new() };
        Self { shared: Arc::new(shared), manual: self.manual }
    }

    /// How many batches are not known to be durable.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        let log = disk::lock(&self.shared.log);
        log.limbo.len() + log.queued.len()
    }

    /// The next commit of something fails and poisons the journal.
    pub fn fail_next_sync(&self) {
        disk::lock(&self.shared.log).fail_next_sync = true;
    }

    /// The next append is refused with `error`; nothing is poisoned.
    pub fn fail_next_append(&self, error: StorageError) {
        disk::lock(&self.shared.log).fail_next_append = Some(error);
    }

    /// Calls `done`s outside the lock, one thread at a time, so that they may append and stay in
    /// order.
    fn deliver(&self) {
        self.shared.moved.notify_all();
        let mut log = disk::lock(&self.shared.log);
        if std::mem::replace(&mut log.delivering, true) {
            return;
        }
        loop {
            let durable = log.durable();
            if durable > log.told {
                log.told = durable;
                let mut watches = std::mem::take(&mut log.watches);
                drop(log);
                watches.iter_mut().for_each(|watch| watch(Position(durable)));
                log = disk::lock(&self.shared.log);
                watches.append(&mut log.watches);
                log.watches = watches;
            } else if let Some((done, outcome)) = log.outcomes.pop_front() {
                drop(log);
                done(outcome);
                log = disk::lock(&self.shared.log);
            } else {
                break;
            }
        }
        log.delivering = false;
        if log.has_ended() {
            log.watches.clear();
        }
    }
}

impl Journal for MemoryJournal {
    fn append(&self, batch: Batch, _urgency: Urgency, done: Done) -> Result<Position> {
        let mut log = disk::lock(&self.shared.log);
        if let Some(failure) = &log.failure {
            return Err(failure.clone());
        }
        if log.closed {
            return Err(StorageError::Closed);
        }
        if let Some(error) = log.fail_next_append.take() {
            return Err(error);
        }
        let (size, max) = (batch.size() as u64, BATCH_BYTES_MAX as u64);
        if size > max {
            return Err(StorageError::TooLarge { size, max });
        }
        log.appended += u64::from(batch.count());
        let last = Position(log.appended);
        log.queued.push_back((batch, last, done));
        if !self.manual {
            log.commit();
            drop(log);
            self.deliver();
        }
        Ok(last)
    }

    fn batch_bytes_max(&self) -> usize {
        BATCH_BYTES_MAX
    }

    fn appended(&self) -> Position {
        Position(disk::lock(&self.shared.log).appended)
    }

    fn durable(&self) -> Position {
        Position(disk::lock(&self.shared.log).durable())
    }

    fn wait_durable(&self, position: Position) -> Result<()> {
        let mut log = disk::lock(&self.shared.log);
        while log.durable() < position.0 {
            if let Some(failure) = &log.failure {
                return Err(failure.clone());
            }
            if log.closed {
                return Err(StorageError::Closed);
            }
            log = self.shared.moved.wait(log).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    fn oldest(&self) -> Position {
        Position(disk::lock(&self.shared.log).trimmed + 1)
    }

    fn read(&self, after: Position) -> Result<Box<dyn Reader>> {
        let mut log = disk::lock(&self.shared.log);
        if after.0 < log.trimmed {
            let (asked, oldest) = (after.next(), Position(log.trimmed + 1));
            return Err(StorageError::Trimmed { asked, oldest });
        }
        let passed = Arc::new(AtomicU64::new(after.0));
        log.readers.push(Arc::downgrade(&passed));
        Ok(Box::new(MemoryReader { shared: self.shared.clone(), passed, current: None }))
    }

    fn watch(&self, watch: Watch) {
        let mut log = disk::lock(&self.shared.log);
        if !log.has_ended() {
            log.watches.push(watch);
        }
    }

    fn follow(&self, after: Position) -> Result<Box<dyn Reader>> {
        let log = disk::lock(&self.shared.log);
        if after.0 < log.trimmed {
            let (asked, oldest) = (after.next(), Position(log.trimmed + 1));
            return Err(StorageError::Trimmed { asked, oldest });
        }
        // Unknown to trim.
        let passed = Arc::new(AtomicU64::new(after.0));
        Ok(Box::new(MemoryReader { shared: self.shared.clone(), passed, current: None }))
    }

    fn before_last(&self, bytes: u64) -> Position {
        let log = disk::lock(&self.shared.log);
        let (mut left, mut last) = (bytes, log.durable());
        for record in log.records.iter().rev() {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(record.bytes.len() as u64);
            last -= 1;
        }
        Position(if left == 0 { last } else { 0 })
    }

    fn trim(&self, through: Position) -> Result<()> {
        let mut log = disk::lock(&self.shared.log);
        if log.closed {
            return Err(StorageError::Closed);
        }
        let mut through = through.0.min(log.durable());
        log.readers.retain(|reader| match reader.upgrade() {
            Some(passed) => {
                through = through.min(passed.load(Ordering::Relaxed));
                true
            }
            None => false,
        });
        let dropped = through.saturating_sub(log.trimmed);
        log.records.drain(..dropped as usize);
        log.trimmed += dropped;
        Ok(())
    }

    fn stats(&self) -> JournalStats {
        disk::lock(&self.shared.log).stats
    }

    fn close(&self) -> Result<()> {
        let failure = {
            let mut log = disk::lock(&self.shared.log);
            log.commit();
            log.closed = true;
            log.failure.clone()
        };
        self.deliver();
        failure.map_or(Ok(()), Err)
    }
}

struct MemoryReader {
    shared: Arc<Shared>,
    passed: Arc<AtomicU64>,
    current: Option<Record>,
}

impl Reader for MemoryReader {
    fn next(&mut self) -> Result<Option<Entry<'_>>> {
        let log = disk::lock(&self.shared.log);
        let passed = self.passed.load(Ordering::Relaxed);
        if passed < log.trimmed {
            let (asked, oldest) = (Position(passed + 1), Position(log.trimmed + 1));
            return Err(StorageError::Trimmed { asked, oldest });
        }
        // It may begin beyond the end.
        let place = (passed - log.trimmed) as usize;
        let Some(record) = log.records.get(place).cloned() else {
            return Ok(None);
        };
        self.passed.store(passed + 1, Ordering::Relaxed);
        drop(log);
        let Record { stream, stamp, ref bytes } = *self.current.insert(record);
        Ok(Some(Entry { position: Position(passed + 1), stream, stamp, bytes }))
    }
}
