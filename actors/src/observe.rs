//! What each actor lets be seen of itself: plain figures, read at any time by tests, metrics and
//! operators alike, without asking the actor. Nothing here steers anything.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering},
};

use crossbeam_utils::CachePadded;
use tidegate_machines::QueueCounts;

use crate::distribution::{Distribution, Tally};

/// Gets the clock ready that latencies are measured with. The first time it takes up to 200 ms and
/// blocks, which nobody's first command should.
pub fn calibrate() {
    let _ready = quanta::Instant::now();
}

/// Where a shard is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Rebuilding its state; commands wait.
    Restoring = 0,
    /// Deciding commands.
    Running = 1,
    /// Storage has failed; everything is answered as unavailable until the store is reopened.
    Poisoned = 2,
    /// It failed too often; everything is refused until the store is reopened.
    Dead = 3,
}

/// The live figures of one shard.
#[derive(Default)]
pub(crate) struct ShardGauges {
    phase: AtomicU8,
    pub(crate) commands: Counter,
    pub(crate) events: Counter,
    pub(crate) rejections: Counter,
    /// Commands answered by callers' threads, beside the shard.
    pub(crate) read_beside: SharedCounter,
    /// And refused.
    pub(crate) refused_beside: SharedCounter,
    pub(crate) batches: Counter,
    pub(crate) restarts: Counter,
    pub(crate) held: Counter,
    pub(crate) waiting: Counter,
    pub(crate) batch_records: Tally,
    pub(crate) queue: QueueGauges,
    closing: AtomicBool,
}

/// What waits in the machine for its turn, see [`QueueCounts`].
#[derive(Default)]
pub(crate) struct QueueGauges {
    queued: Counter,
    released: Counter,
    timed_out: Counter,
    cancelled: Counter,
}

impl QueueGauges {
    pub(crate) fn set(&self, counts: QueueCounts) {
        self.queued.set(counts.queued);
        self.released.set(counts.released);
        self.timed_out.set(counts.timed_out);
        self.cancelled.set(counts.cancelled);
    }

    pub(crate) fn get(&self) -> QueueCounts {
        QueueCounts {
            // Read last, so that no more seem to have left than came.
            released: self.released.get(),
            timed_out: self.timed_out.get(),
            cancelled: self.cancelled.get(),
            queued: self.queued.get(),
        }
    }
}

/// A figure with one writer.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        // One writer, so no read-modify-write is needed.
        self.set(self.get() + n);
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many parts a figure of many writers has.
const PARTS: usize = 16;

/// A figure with many writers. Each thread adds to a part that it has nearly for itself.
#[derive(Default)]
pub(crate) struct SharedCounter([CachePadded<AtomicU64>; PARTS]);

impl SharedCounter {
    pub(crate) fn add(&self, n: u64) {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static PART: usize = THREADS.fetch_add(1, Ordering::Relaxed) % PARTS;
        }
        self.0[PART.with(|part| *part)].fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.iter().map(|part| part.load(Ordering::Relaxed)).sum()
    }
}

impl ShardGauges {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// From now on nothing is begun that nobody asked for.
    pub(crate) fn set_closing(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Restoring,
            1 => Phase::Running,
            2 => Phase::Poisoned,
            _ => Phase::Dead,
        }
    }
}

/// The figures of one shard at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardReport {
    /// The kind of machine.
    pub name: &'static str,
    /// Which shard of it.
    pub index: u16,
    /// Where it is in its life.
    pub phase: Phase,
    /// Commands from callers that have no answer yet.
    pub in_flight: usize,
    /// Commands decided, those from other shards and from time included, and those that were
    /// answered on their callers' threads.
    pub commands: u64,
    /// Events applied.
    pub events: u64,
    /// Commands refused.
    pub rejections: u64,
    /// Batches given to the journal.
    pub batches: u64,
    /// Replies decided whose events are not durable yet.
    pub held: u64,
    /// Callers who wait for other shards.
    pub waiting: u64,
    /// How often it was rebuilt after a panic.
    pub restarts: u64,
    /// What waits in the machine for its turn, as of the last look at the time.
    pub queue: QueueCounts,
    /// Time from when a caller asked until its answer was safe and sent, in microseconds: replies
    /// and refusals, but no errors, and nothing that was answered on its caller's thread.
    pub answer_us: Distribution,
    /// Records in each batch given to the journal.
    pub batch_records: Distribution,
}

/// The figures of the projector at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProjectorReport {
    /// Orders that have come to rest and still wait to be written.
    pub backlog: u64,
    /// Rows written since the store was opened.
    pub rows: u64,
    /// Flushes of the state since the store was opened.
    pub flushes: u64,
    /// Whether it has stopped because the state can't be written.
    pub failed: bool,
}
