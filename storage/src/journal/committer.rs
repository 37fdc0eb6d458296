//! The one thread that writes: drains the queue, writes one frame, syncs once, tells those who
//! wait. It never retries a failed write or sync, and never decides what is worth a commit; the
//! queue does.

use std::{
    collections::VecDeque,
    os::unix::fs::FileExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use tracing::{error, warn};

use super::{
    Shared,
    frame::{self, BATCH_HEADER, FRAME_HEADER, TERMINATOR},
    queue::{Drained, Pending},
    segment::{Active, BLOCK, SegmentHeader, activate},
};
use crate::{Done, Position, StorageError, Watch, disk};

type Result<T> = std::result::Result<T, StorageError>;

/// A frame takes no more batches once it has this many bytes.
const FRAME_BYTES_MAX: u64 = 8 << 20;

/// How long nothing is to be committed before the last frame gets its proof.
const LULL: Duration = Duration::from_millis(100);

/// How long a segment waits for a file descriptor before the journal gives up, and how often it
/// looks. Nothing is in doubt meanwhile, and every connection that ends frees one.
const DESCRIPTORS_WAIT: Duration = Duration::from_mins(1);
const DESCRIPTORS_AGAIN: Duration = Duration::from_millis(200);

pub(crate) struct Committer {
    shared: Arc<Shared>,
    folder: PathBuf,
    active: Active,
    chain: u32,
    /// Segments from here on get this size.
    segment_bytes: u64,
    /// The frame being built. Kept, like the two below, so that a commit allocates nothing.
    buffer: Vec<u8>,
    drained: VecDeque<Pending>,
    dones: Vec<(Position, Done)>,
    asked_for_spare: bool,
    /// Whether this segment may have begun since its place was last noted.
    unnoted: bool,
    /// Whether the last frame has no proof yet.
    unproven: bool,
}

impl Committer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        folder: PathBuf,
        active: Active,
        chain: u32,
        segment_bytes: u64,
    ) -> Self {
        Self {
            shared,
            folder,
            active,
            chain,
            segment_bytes,
            buffer: Vec::new(),
            drained: VecDeque::new(),
            dones: Vec::new(),
            asked_for_spare: false,
            // What was noted may be of an earlier segment, if the last process was killed.
            unnoted: true,
            unproven: true,
        }
    }

    /// Commits until the queue is closed and empty, or until something fails.
    pub(crate) fn run(mut self) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.commit_until_closed()));
        let failure = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure),
            Err(_) => {
                let panic = std::io::Error::other("the committer panicked");
                Some(StorageError::io("committing to", &self.folder, panic))
            }
        };
        if let Some(failure) = failure {
            self.abandon(failure);
        }
        self.shared.queue.stop();
        *disk::lock(&self.shared.watches) = None;
        self.shared.spares.close();
    }

    fn commit_until_closed(&mut self) -> Result<()> {
        loop {
            let lull = self.unproven.then_some(LULL);
            match self.shared.queue.drain(&mut self.drained, lull) {
                Drained::Work => {
                    while !self.drained.is_empty() {
                        self.commit()?;
                    }
                }
                Drained::Lull => self.prove()?,
                Drained::Over => return if self.unproven { self.prove() } else { Ok(()) },
            }
        }
    }

    /// Writes the proof that the last frame was durable: if that frame rots, it must not look like
    /// a write that was interrupted. Nobody waits for it.
    fn prove(&mut self) -> Result<()> {
        let Active { segment, file, offset } = &self.active;
        // A block of its own: what takes the frame's last block must not take the proof with it.
        let place = (offset + TERMINATOR as u64).next_multiple_of(BLOCK);
        self.unproven = false;
        if place + FRAME_HEADER as u64 > segment.header.size {
            // The header of the next segment will be the proof.
            return Ok(());
        }
        let next = self.shared.durable().next();
        frame::proof(&mut self.buffer, next.0, self.chain, segment.header.salt);
        file.write_all_at(&self.buffer, place)
            .and_then(|()| file.sync_data())
            .map_err(|error| StorageError::io("proving the end of", &segment.path, error))
    }

    /// One frame: one write, one sync.
    fn commit(&mut self) -> Result<()> {
        let count = self.gather();
        if count > 0 {
            self.write_frame(count)?;
        }
        for (last, done) in self.dones.drain(..) {
            call(done, Ok(last));
        }
        if std::mem::take(&mut self.unnoted) {
            self.shared.note_segment();
        }
        Ok(())
    }

    /// Moves as many drained batches into the buffer as one frame takes; returns their records.
    fn gather(&mut self) -> u32 {
        let bound = FRAME_BYTES_MAX.min(self.shared.frame_bytes_max) as usize;
        frame::begin(&mut self.buffer);
        let mut count = 0;
        while let Some(next) = self.drained.front() {
            let size = BATCH_HEADER + next.batch.size();
            if count > 0 && self.buffer.len() + size > FRAME_HEADER + bound {
                break;
            }
            if let Some(Pending { batch, last, done }) = self.drained.pop_front() {
                if !batch.is_empty() {
                    frame::add(&mut self.buffer, &batch);
                    count += batch.count();
                }
                self.dones.push((last, done));
            }
        }
        count
    }

    fn write_frame(&mut self, count: u32) -> Result<()> {
        let size = frame::framed(self.buffer.len() - FRAME_HEADER) as u64;
        if self.active.offset + size > self.active.segment.header.size {
            self.roll()?;
        }
        let segment = &self.active.segment;
        let first = self.shared.durable().0 + 1;
        let salt = segment.header.salt;
        let chain = frame::finish(&mut self.buffer, first, count, self.chain, salt);
        let end = self.active.offset + size;
        if end + TERMINATOR as u64 <= segment.header.size {
            self.buffer.extend_from_slice(&[0; TERMINATOR]);
        }

        let started = Instant::now();
        self.shared
            .faults
            .write(&self.active.file, &self.buffer, self.active.offset)
            .map_err(|error| StorageError::io("writing", &segment.path, error))?;
        let written = Instant::now();
        self.shared
            .faults
            .sync(&self.active.file)
            .map_err(|error| StorageError::io("syncing", &segment.path, error))?;

        let figures = &self.shared.figures;
        figures.commits.fetch_add(1, Ordering::Relaxed);
        figures.records.fetch_add(u64::from(count), Ordering::Relaxed);
        figures.bytes.fetch_add(size, Ordering::Relaxed);
        let (write, sync) = (written - started, written.elapsed());
        figures.write_us.fetch_add(write.as_micros() as u64, Ordering::Relaxed);
        figures.sync_us.fetch_add(sync.as_micros() as u64, Ordering::Relaxed);

        self.chain = chain;
        self.unproven = true;
        self.active.offset = end;
        segment.publish_end(end);
        let durable = Position(first + u64::from(count) - 1);
        self.shared.publish(durable);
        if let Some(watches) = &mut *disk::lock(&self.shared.watches) {
            watches.retain_mut(|watch| tell(watch, durable));
        }
        // Time enough: three quarters of the segment are still to be filled.
        if !self.asked_for_spare && end > segment.header.size / 4 {
            self.asked_for_spare = true;
            self.shared.spares.want();
        }
        Ok(())
    }

    /// Goes on in the next segment. All frames of this one are durable already.
    fn roll(&mut self) -> Result<()> {
        let spare = patiently(|| self.shared.spares.take())?;
        let header = SegmentHeader {
            number: self.active.segment.header.number + 1,
            first: self.shared.durable().0 + 1,
            salt: new_salt(&self.folder)?,
            size: self.segment_bytes,
            chain: self.chain,
        };
        self.active = patiently(|| {
            self.shared.faults.open(&spare)?;
            activate(&self.folder, &spare, header)
        })?;
        self.shared.push_segment(self.active.segment.clone());
        self.asked_for_spare = false;
        self.unnoted = true;
        Ok(())
    }

    /// Fails everything that is queued or drained, in order, and everything to come.
    fn abandon(&mut self, failure: StorageError) {
        error!(%failure, durable = %self.shared.durable(), "the journal stops");
        let poison = failure.poison();
        let queued = self.shared.queue.fail(&poison);
        let left = self.drained.drain(..).chain(queued).map(|pending| pending.done);
        for done in self.dones.drain(..).map(|(_, done)| done).chain(left) {
            call(done, Err(poison.clone()));
        }
    }
}

/// What `open` gives, once there is a file descriptor for it.
fn patiently<T>(mut open: impl FnMut() -> Result<T>) -> Result<T> {
    let (began, mut told) = (Instant::now(), false);
    loop {
        match open() {
            Err(error) if error.lacks_descriptors() && began.elapsed() < DESCRIPTORS_WAIT => {
                if !std::mem::replace(&mut told, true) {
                    warn!(%error, "the journal waits for a file descriptor");
                }
                thread::sleep(DESCRIPTORS_AGAIN);
            }
            opened => return opened,
        }
    }
}

/// A random number under which no earlier frame of a file is valid.
pub(crate) fn new_salt(folder: &std::path::Path) -> Result<u64> {
    getrandom::u64().map_err(|error| {
        StorageError::io("drawing a salt for", folder, std::io::Error::other(error))
    })
}

/// Tells a watch; `false` if it panicked, and is not to be told again.
fn tell(watch: &mut Watch, durable: Position) -> bool {
    let told = catch_unwind(AssertUnwindSafe(|| watch(durable)));
    told.inspect_err(|_| error!("a watch of the journal panicked")).is_ok()
}

/// Calls a `done`. A panic in it is its writer's fault; the other batches must not suffer for it.
fn call(done: Done, outcome: Result<Position>) {
    if catch_unwind(AssertUnwindSafe(|| done(outcome))).is_err() {
        error!("a callback of a journal batch panicked");
    }
}
