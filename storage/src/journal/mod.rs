//! The journal on disk: [`FileJournal`], segment files with one committer. The path of a batch is
//! `queue → committer → frame → segment`, and back out through `reader`. Domain events are unknown
//! here: a record is bytes.

mod bounds;
mod committer;
mod cursor;
mod faults;
mod frame;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod open;
mod place;
mod queue;
mod reader;
mod segment;
mod spares;
#[cfg(test)]
mod tests;
mod trim;

use std::{
    collections::VecDeque,
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle, ThreadId},
    time::Duration,
};

use tracing::warn;

use self::{
    bounds::Bounds,
    committer::Committer,
    faults::Faults,
    frame::BATCH_HEADER,
    open::{Looked, Recovered},
    place::Files,
    queue::Queue,
    reader::Hold,
    segment::{BLOCK, Segment},
    spares::Spares,
};
use crate::{
    Batch, Done, Journal, JournalStats, Opening, Position, Reader, StorageError, Urgency, Watch,
    disk,
};

pub(crate) use self::{place::Place, reader::FileReader};

type Result<T> = std::result::Result<T, StorageError>;

const SEGMENT_BYTES_MIN: u64 = 64 << 10;
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// How a [`FileJournal`] uses the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// Size of a segment file, from 64 KiB to 1 GiB (other values are moved there, and to whole
    /// blocks of 4 KiB). Existing segments keep theirs. One batch may take a quarter of it.
    pub segment_bytes: u64,
    /// How many trimmed segments are kept for reuse, at least 1.
    pub spare_segments_max: usize,
    /// How long batches that nobody waits for ([`Urgency::Soon`]) may wait for company.
    pub soon_ms_max: u64,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, spare_segments_max: 4, soon_ms_max: 2 }
    }
}

impl JournalOptions {
    fn segment_size(&self) -> u64 {
        let blocks = self.segment_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX).div_ceil(BLOCK);
        blocks * BLOCK
    }
}

/// What the files of a journal look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalLook {
    /// Every segment, oldest first.
    pub segments: Vec<SegmentLook>,
    /// Whether the last write was interrupted; the next open cuts it off. Nothing of it was
    /// acknowledged.
    pub torn_tail: bool,
}

/// What a segment looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentLook {
    /// Its file.
    pub path: PathBuf,
    /// The position of its first record.
    pub first: Position,
    /// The position of its last record; one before `first` if it has none.
    pub last: Position,
    /// Bytes up to the end of its last record.
    pub used_bytes: u64,
    /// Its size.
    pub bytes: u64,
}

/// The journal engine: pre-written, recycled segment files; one commit is one write and one sync.
///
/// A folder must not be open twice at a time; [`Store`](crate::Store) sees to that with its lock.
/// Dropping it closes it.
pub struct FileJournal {
    shared: Arc<Shared>,
    folder: PathBuf,
    batch_bytes_max: u64,
    committer_id: ThreadId,
    threads: Mutex<Option<Threads>>,
    files: Files,
}

struct Threads {
    committer: JoinHandle<()>,
    spares: JoinHandle<()>,
}

/// What the journal's handle, its threads and its readers have in common.
struct Shared {
    queue: Queue,
    durable: AtomicU64,
    /// All segments, oldest first; the last one is the active one.
    segments: Mutex<VecDeque<Arc<Segment>>>,
    spares: Spares,
    bounds: Bounds,
    trimming: Mutex<()>,
    /// `None` once nothing becomes durable any more.
    watches: Mutex<Option<Vec<Watch>>>,
    frame_bytes_max: u64,
    figures: Figures,
    faults: Faults,
}

#[derive(Default)]
struct Figures {
    commits: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
    sync_us: AtomicU64,
    write_us: AtomicU64,
}

impl Shared {
    fn durable(&self) -> Position {
        Position(self.durable.load(Ordering::Acquire))
    }

    fn publish(&self, durable: Position) {
        self.durable.store(durable.0, Ordering::Release);
        self.queue.publish(durable);
    }

    fn push_segment(&self, segment: Arc<Segment>) {
        disk::lock(&self.segments).push_back(segment);
    }

    /// Segment `number`; `None` if it has been trimmed away.
    fn segment(&self, number: u64) -> Option<Arc<Segment>> {
        let segments = disk::lock(&self.segments);
        let place = number.checked_sub(segments.front()?.header.number)?;
        segments.get(place as usize).cloned()
    }

    /// Where the durable frames of segment `number` end; `None` if it has been trimmed away. Takes
    /// no `Arc`, so it is in nobody's way.
    fn end_of(&self, number: u64) -> Option<u64> {
        let segments = disk::lock(&self.segments);
        let place = number.checked_sub(segments.front()?.header.number)?;
        segments.get(place as usize).map(|segment| segment.end())
    }

    fn oldest(&self) -> Position {
        let segments = disk::lock(&self.segments);
        segments.front().map_or(Position(1), |segment| Position(segment.header.first))
    }

    /// Notes that a segment has begun. Nobody relies on the note, so a disk that doesn't take it
    /// stops nothing.
    fn note_segment(&self) {
        if let Err(error) = self.bounds.follow(self.oldest(), self.durable()) {
            warn!(%error, "the journal's newest file was not noted");
        }
    }

    /// Notes how far the journal goes, when it is closed.
    fn note_end(&self) {
        let _nothing_is_trimmed = disk::lock(&self.trimming);
        if self.queue.failure().is_none()
            && let Err(error) = self.bounds.close(self.oldest(), self.durable())
        {
            warn!(%error, "the journal's end was not noted");
        }
    }

    fn reader(self: &Arc<Self>, after: Position, hold: Hold) -> Result<FileReader> {
        let segment = {
            let segments = disk::lock(&self.segments);
            let wanted = after.0.saturating_add(1);
            let later = segments.partition_point(|segment| segment.header.first <= wanted);
            let found = later.checked_sub(1).and_then(|place| segments.get(place));
            let Some(segment) = found else {
                let oldest = segments.front().map_or(1, |segment| segment.header.first);
                let (asked, oldest) = (Position(wanted), Position(oldest));
                return Err(StorageError::Trimmed { asked, oldest });
            };
            segment.clone()
        };
        FileReader::new(Arc::clone(self), segment, after.0, hold)
    }
}

impl FileJournal {
    /// Opens the journal in `folder`, or begins one if it holds none.
    ///
    /// Checks every frame, cuts off a torn tail (with a warning), and returns once the journal
    /// takes batches.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] with file and offset if something durable has been lost;
    /// [`StorageError::NewerFormat`], [`StorageError::Full`], [`StorageError::ReadOnly`] or an IO
    /// error.
    pub fn open(folder: impl AsRef<Path>, options: &JournalOptions) -> Result<Self> {
        Self::open_with(folder.as_ref(), options, true, &Opening::default())
    }

    /// The journal in `folder` as it is, to be read only: nothing in the folder is changed, and
    /// every append and trim gives [`StorageError::Closed`]. Checks every frame.
    ///
    /// # Errors
    /// As [`FileJournal::open`]; a folder without segments is damage.
    pub fn look(folder: &Path) -> Result<(Self, JournalLook)> {
        let bounds = Bounds::read(folder);
        let Looked { segments, last, torn } = open::look(folder, &bounds)?;
        let ends = segments.iter().skip(1).map(|next| next.header.first - 1).chain([last.0]);
        let look = |(segment, last): (&Arc<Segment>, u64)| SegmentLook {
            path: segment.path.clone(),
            first: Position(segment.header.first),
            last: Position(last),
            used_bytes: segment.end(),
            bytes: segment.header.size,
        };
        let look = JournalLook {
            segments: segments.iter().zip(ends).map(look).collect(),
            torn_tail: torn,
        };
        let size = segments.back().map_or(SEGMENT_BYTES_MIN, |segment| segment.header.size);
        let shared = Arc::new(Shared {
            queue: Queue::new(last, Duration::ZERO),
            durable: AtomicU64::new(last.0),
            segments: Mutex::new(segments),
            spares: Spares::new(folder, size, 0, VecDeque::new(), 0),
            bounds,
            trimming: Mutex::new(()),
            watches: Mutex::new(None),
            frame_bytes_max: size / 8,
            figures: Figures::default(),
            faults: Faults::default(),
        });
        shared.queue.close();
        shared.queue.stop();
        let journal = Self {
            shared,
            folder: folder.to_path_buf(),
            batch_bytes_max: size / 4,
            committer_id: thread::current().id(),
            threads: Mutex::new(None),
            files: Files::default(),
        };
        Ok((journal, look))
    }

    /// Like [`FileJournal::open`], but a folder without segments is damage.
    pub(crate) fn open_existing(
        folder: &Path,
        options: &JournalOptions,
        opening: &Opening,
    ) -> Result<Self> {
        Self::open_with(folder, options, false, opening)
    }

    fn open_with(
        folder: &Path,
        options: &JournalOptions,
        may_begin: bool,
        opening: &Opening,
    ) -> Result<Self> {
        let size = options.segment_size();
        let spares_max = options.spare_segments_max.max(1);
        let bounds = Bounds::read(folder);
        let Recovered { segments, active, chain, last, spares, spare_id } =
            open::recover(folder, size, spares_max, may_begin, &bounds, opening)?;
        let soon = Duration::from_millis(options.soon_ms_max);
        let shared = Arc::new(Shared {
            queue: Queue::new(last, soon),
            durable: AtomicU64::new(last.0),
            segments: Mutex::new(segments),
            spares: Spares::new(folder, size, spares_max, spares, spare_id),
            bounds,
            trimming: Mutex::new(()),
            watches: Mutex::new(Some(Vec::new())),
            frame_bytes_max: size / 8,
            figures: Figures::default(),
            faults: Faults::default(),
        });
        let committer = Committer::new(shared.clone(), folder.to_path_buf(), active, chain, size);
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
            thread.map_err(|error| StorageError::io("starting the threads of", folder, error))
        };
        let preparer = shared.clone();
        let spares = spawn("tidegate-spares", Box::new(move || preparer.spares.run()))?;
        let committer = spawn("tidegate-journal", Box::new(move || committer.run()))
            .inspect_err(|_| shared.spares.close())?;
        Ok(Self {
            shared,
            folder: folder.to_path_buf(),
            batch_bytes_max: size / 4,
            committer_id: committer.thread().id(),
            threads: Mutex::new(Some(Threads { committer, spares })),
            files: Files::default(),
        })
    }
}

impl Journal for FileJournal {
    fn append(&self, batch: Batch, urgency: Urgency, done: Done) -> Result<Position> {
        let size = (batch.size() + BATCH_HEADER) as u64;
        if size > self.batch_bytes_max {
            return Err(StorageError::TooLarge { size, max: self.batch_bytes_max });
        }
        self.shared.queue.append(batch, urgency, done)
    }

    fn batch_bytes_max(&self) -> usize {
        let room = self.batch_bytes_max.saturating_sub(BATCH_HEADER as u64);
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    fn appended(&self) -> Position {
        self.shared.queue.appended()
    }

    fn durable(&self) -> Position {
        self.shared.durable()
    }

    fn wait_durable(&self, position: Position) -> Result<()> {
        if position <= self.durable() {
            return Ok(());
        }
        self.shared.queue.wait_durable(position)
    }

    fn oldest(&self) -> Position {
        self.shared.oldest()
    }

    fn watch(&self, watch: Watch) {
        if let Some(watches) = &mut *disk::lock(&self.shared.watches) {
            watches.push(watch);
        }
    }

    fn read(&self, after: Position) -> Result<Box<dyn Reader>> {
        Ok(Box::new(self.shared.reader(after, Hold::Pinned)?))
    }

    fn follow(&self, after: Position) -> Result<Box<dyn Reader>> {
        Ok(Box::new(self.shared.reader(after, Hold::Loose)?))
    }

    fn before_last(&self, bytes: u64) -> Position {
        let durable = self.durable();
        let segments = disk::lock(&self.shared.segments);
        let (mut left, mut first) = (bytes, durable.next());
        for segment in segments.iter().rev() {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(segment.end() - BLOCK);
            first = Position(segment.header.first);
        }
        if left == 0 { Position(first.0 - 1).min(durable) } else { Position::ZERO }
    }

    fn trim(&self, through: Position) -> Result<()> {
        trim::trim(&self.shared, &self.folder, through.min(self.durable()))
    }

    fn stats(&self) -> JournalStats {
        let figures = &self.shared.figures;
        let of = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let segments = disk::lock(&self.shared.segments);
        let in_segments: u64 = segments.iter().map(|segment| segment.header.size).sum();
        JournalStats {
            commits: of(&figures.commits),
            records: of(&figures.records),
            bytes: of(&figures.bytes),
            sync_us: of(&figures.sync_us),
            write_us: of(&figures.write_us),
            disk_bytes: in_segments + self.shared.spares.disk_bytes(),
        }
    }

    fn close(&self) -> Result<()> {
        self.shared.queue.close();
        // A `done` may close or drop the journal; the committer cannot wait for itself.
        if thread::current().id() != self.committer_id {
            let mut threads = disk::lock(&self.threads);
            if let Some(Threads { committer, spares }) = threads.take() {
                // A panic was caught and reported inside; there is nothing more to learn.
                let _ = committer.join();
                let _ = spares.join();
                self.shared.note_end();
            }
        }
        self.shared.queue.failure().map_or(Ok(()), Err)
    }
}

impl Drop for FileJournal {
    fn drop(&mut self) {
        // A failed commit was reported to its batches and logged by the committer.
        let _ = self.close();
    }
}

impl fmt::Debug for FileJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("FileJournal");
        out.field("folder", &self.folder).field("durable", &self.durable()).finish_non_exhaustive()
    }
}
