//! Takes snapshots of all shards, off their threads, and lets the journal go below what they hold.
//! Only the machine's image is made on the shard's thread. It never trims what is not safely
//! stored.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use tidegate_machines::Timestamp;
use tidegate_storage::{Journal, Position, Saving, Snapshots, State, StorageError, StreamId};

use crate::{
    codec,
    durable::Durable,
    group::{Group, Shards},
    shard::panic_text,
};

/// How often the journal's growth is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The longest wait after snapshots that failed, before they are tried again.
const TRY_AGAIN_MAX: Duration = Duration::from_mins(1);

/// Records in the journal at an open that make a snapshot due at once.
const RECORDS_AT_OPEN_MAX: u64 = 1_000_000;

/// Encodes a machine, piece by piece.
type Write = Box<dyn FnOnce(&mut Saving) -> Result<(), codec::CodecError> + Send>;

/// A machine's image, ready to be written.
pub struct Copy {
    stream: StreamId,
    position: Position,
    write: Write,
}

impl Copy {
    /// Of `machine`, the one of `stream`, as it is at `position` and at the time `stamp`.
    pub fn of<M: Durable>(
        stream: StreamId,
        machine: &M,
        position: Position,
        stamp: Timestamp,
    ) -> Self {
        let image = machine.image();
        let write = Box::new(move |out: &mut Saving| codec::write(&(stamp, image), out));
        Self { stream, position, write }
    }

    /// Writes it, durably; gives its bytes. The older ones stay if it can't be encoded.
    fn save(self, snapshots: &Snapshots) -> Result<u64, SnapshotError> {
        let Self { stream, position, write } = self;
        let mut saving = snapshots.begin(stream, position)?;
        match write(&mut saving) {
            Ok(()) => Ok(saving.finish()?),
            Err(error) => {
                saving.give_up()?;
                Err(error.into())
            }
        }
    }
}

/// Why there is no snapshot of a machine.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// It can't be encoded.
    #[error(transparent)]
    Codec(#[from] codec::CodecError),
}

/// The last record that the readers of a shard's account don't need, `None` if it has no such
/// readers; and the position that this was derived from, which may not be durable yet.
pub type Consumed = (Option<Position>, Position);

/// A group of shards, whatever they own.
pub trait Snapshottable: Send + Sync {
    /// The journal streams of its shards.
    fn streams(&self) -> Vec<StreamId>;

    /// Asks every shard for a copy of its machine. A shard that is down sends none.
    fn copies(&self, to: &mpsc::Sender<Copy>);

    /// Asks every shard up to where the readers that it keeps account of need the journal no more.
    /// A shard that is down says nothing.
    fn consumed(&self, to: &mpsc::Sender<Consumed>);
}

impl<M: Durable> Snapshottable for Group<M> {
    fn streams(&self) -> Vec<StreamId> {
        (0..self.len()).map(|index| M::KIND.stream(index)).collect()
    }

    fn copies(&self, to: &mpsc::Sender<Copy>) {
        for (index, stream) in (0..).zip(self.streams()) {
            let (to, clock) = (to.clone(), Arc::clone(&self.kit().clock));
            self.look(index, move |machine: &M, position| {
                // The snapshotter may have given up waiting: then the copy is not needed.
                let _ = to.send(Copy::of(stream, machine, position, clock.now()));
            });
        }
    }

    fn consumed(&self, to: &mpsc::Sender<Consumed>) {
        for index in 0..self.len() {
            let (to, clock) = (to.clone(), Arc::clone(&self.kit().clock));
            self.look(index, move |machine: &M, position| {
                // As above.
                let _ = to.send((machine.consumed(clock.now()), position));
            });
        }
    }
}

/// How much of the journal's end is kept beyond what recovery needs, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// For whoever reads it.
    pub bytes: u64,
    /// At most, for consumer groups that are behind.
    pub unconsumed_bytes_max: u64,
}

/// Snapshots every shard of `groups`, then trims the journal as far as the snapshots allow, but not
/// what is `retained`. Blocks; waits for the disk. A shard that is down keeps its older snapshot,
/// and with it its journal. Gives how many bytes the snapshots took.
///
/// # Errors
/// Storage failed; earlier snapshots and the journal are as they were.
pub fn snapshot_all<G: Snapshottable + ?Sized>(
    groups: &[Arc<G>],
    journal: &dyn Journal,
    state: &Arc<dyn State>,
    retained: Retained,
) -> Result<u64, StorageError> {
    let streams: Vec<_> = groups.iter().flat_map(|group| group.streams()).collect();
    let snapshots = Snapshots::new(Arc::clone(state));
    let (sender, copies) = mpsc::channel();
    groups.iter().for_each(|group| group.copies(&sender));
    drop(sender);
    let mut bytes_saved = 0;
    for copy in copies {
        // Not before the events in it are durable: else, after a crash, this shard would remember
        // what the others have lost.
        journal.wait_durable(copy.position)?;
        let stream = copy.stream;
        match copy.save(&snapshots) {
            Ok(bytes) => bytes_saved += bytes,
            Err(SnapshotError::Storage(error)) => return Err(error),
            Err(error) => tracing::error!(?stream, %error, "a machine can't be encoded"),
        }
    }
    // What is read below must be on disk: an earlier save may have failed after it had written.
    state.flush()?;
    let unneeded = snapshots.oldest_needed(&streams)?;
    // Asked last, so that a group that has begun or was moved back meanwhile is known of.
    let consumed = consumed(groups, streams.len(), journal)?;
    let unconsumed = consumed.max(journal.before_last(retained.unconsumed_bytes_max));
    journal.trim(unneeded.min(journal.before_last(retained.bytes)).min(unconsumed))?;
    Ok(bytes_saved)
}

/// The last record that no consumer needs, by what is on disk. If a shard of the `shards` is down,
/// it isn't known what its groups need: it may be all.
fn consumed<G: Snapshottable + ?Sized>(
    groups: &[Arc<G>],
    shards: usize,
    journal: &dyn Journal,
) -> Result<Position, StorageError> {
    let (sender, answers) = mpsc::channel();
    groups.iter().for_each(|group| group.consumed(&sender));
    drop(sender);
    let (mut missing, mut consumed) = (shards, Position(u64::MAX));
    for (upto, position) in answers {
        missing -= 1;
        consumed = consumed.min(upto.unwrap_or(consumed));
        journal.wait_durable(position)?;
    }
    Ok(if missing > 0 { Position::ZERO } else { consumed })
}

/// Makes room for the shards of `group`, which the store never had, in a journal whose beginning is
/// gone: each begins with a snapshot in which nothing is. Without one it would miss that beginning,
/// and could not be rebuilt. Waits for the disk.
///
/// # Errors
/// Storage failed, or the machine can't be encoded.
pub fn snapshot_fresh(
    group: &dyn Shards,
    journal: &dyn Journal,
    state: &Arc<dyn State>,
) -> Result<(), SnapshotError> {
    let at = Position(journal.oldest().0.saturating_sub(1));
    if at == Position::ZERO {
        return Ok(());
    }
    let snapshots = Snapshots::new(Arc::clone(state));
    for copy in group.fresh(at) {
        // An opening that was cut short may have left one, of a machine that was another then.
        snapshots.remove(copy.stream)?;
        copy.save(&snapshots)?;
    }
    Ok(())
}

/// A machine of a host's own may panic where it is encoded: that must not end snapshots for good.
fn attempt(snapshot: impl FnOnce() -> Result<u64, StorageError>) -> Result<u64, String> {
    match catch_unwind(AssertUnwindSafe(snapshot)) {
        Ok(taken) => taken.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("panicked: {}", panic_text(&*panic))),
    }
}

/// A thread that snapshots whenever the journal has grown enough. Stopped and joined when dropped.
pub struct Snapshotter {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Snapshotter {
    /// Snapshots `groups` after every `every_bytes` that the journal has written, as
    /// [`snapshot_all`] does. Or after as many as the last snapshots took, if that is more: so what
    /// they cost stays in proportion to what is written, and what a recovery reads to the state.
    ///
    /// # Errors
    /// The system can't start a thread.
    pub fn start(
        groups: Vec<Arc<dyn Shards>>,
        journal: Arc<dyn Journal>,
        state: Arc<dyn State>,
        every_bytes: u64,
        retained: Retained,
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let run = move || {
            // What is there from before may be much: a process that never lived long enough to
            // snapshot must not leave it to the next one for ever.
            let unsnapshotted = journal.durable().0.saturating_sub(journal.oldest().0);
            let mut due = unsnapshotted >= RECORDS_AT_OPEN_MAX;
            let (mut written, mut taken, mut wait) = (0, 0, LOOK_EVERY);
            while stopped.recv_timeout(wait) == Err(mpsc::RecvTimeoutError::Timeout) {
                let now_written = journal.stats().bytes;
                due |= now_written - written >= every_bytes.max(taken);
                if !due {
                    continue;
                }
                let start = Instant::now();
                match attempt(|| snapshot_all(&groups, &*journal, &state, retained)) {
                    Ok(bytes) => {
                        (due, written, taken, wait) = (false, now_written, bytes, LOOK_EVERY);
                        tracing::info!(bytes, seconds = start.elapsed().as_secs_f64(), "snapshot");
                    }
                    Err(error) => {
                        wait = (2 * wait).min(TRY_AGAIN_MAX);
                        tracing::error!(error, "no snapshot; the journal stays longer");
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("tidegate-snapshots".into()).spawn(run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Snapshotter {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the snapshotter's thread has panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_costs_one_snapshot() {
        assert_eq!(attempt(|| panic!("no name")), Err("panicked: no name".to_owned()));
        assert_eq!(attempt(|| Ok(7)), Ok(7));
        assert_eq!(attempt(|| Err(StorageError::Closed)), Err(StorageError::Closed.to_string()));
    }
}
