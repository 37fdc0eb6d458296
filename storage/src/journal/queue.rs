//! What is appended and not yet committed. Positions are given out here, under one short lock. No
//! disk is touched and no `done` is called while that lock is held.

use std::{
    collections::VecDeque,
    sync::PoisonError,
    time::{Duration, Instant},
};

use crate::{
    Batch, Done, Position, StorageError, Urgency,
    sync::{Condvar, Mutex, MutexGuard},
};

type Result<T> = std::result::Result<T, StorageError>;

/// From this many queued bytes on, even batches that nobody waits for are committed.
const SOON_BYTES: usize = 256 * 1024;

/// What the committer is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// Commit what was moved out of the queue.
    Work,
    /// Nothing came for as long as was asked for.
    Lull,
    /// The queue is closed and empty.
    Over,
}

/// Whether the committer sleeps. To wake it costs a system call and a switch of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleep {
    /// It is awake, or was woken.
    No,
    /// For as long as a batch may wait for company, and then it looks by itself: more comes soon
    /// after a commit, as a rule.
    Short,
    /// Until it is woken.
    Deep,
}

/// One batch on its way to the disk.
pub(crate) struct Pending {
    pub(crate) batch: Batch,
    /// The position of its last record.
    pub(crate) last: Position,
    pub(crate) done: Done,
}

/// The queue between those who append and the committer.
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    /// For the committer: there is something to commit.
    work: Condvar,
    /// For [`Queue::wait_durable`]: the durable position moved, or never will.
    moved: Condvar,
    soon: Duration,
}

struct Inner {
    pending: VecDeque<Pending>,
    bytes: usize,
    /// When the oldest pending batch has waited long enough.
    deadline: Option<Instant>,
    urgent: bool,
    sleep: Sleep,
    waiters: usize,
    appended: Position,
    durable: Position,
    closing: bool,
    stopped: bool,
    failure: Option<StorageError>,
}

impl Inner {
    fn refusal(&self) -> Option<StorageError> {
        match &self.failure {
            Some(failure) => Some(failure.clone()),
            None if self.closing => Some(StorageError::Closed),
            None => None,
        }
    }

    fn ready(&self) -> bool {
        let due = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        let hurry = self.urgent || self.closing || self.bytes >= SOON_BYTES || due;
        hurry && !self.pending.is_empty()
    }
}

impl Queue {
    /// After a journal whose last record is `last`.
    pub(crate) fn new(last: Position, soon: Duration) -> Self {
        let inner = Inner {
            pending: VecDeque::new(),
            bytes: 0,
            deadline: None,
            urgent: false,
            sleep: Sleep::No,
            waiters: 0,
            appended: last,
            durable: last,
            closing: false,
            stopped: false,
            failure: None,
        };
        Self { inner: Mutex::new(inner), work: Condvar::new(), moved: Condvar::new(), soon }
    }

    pub(crate) fn append(&self, batch: Batch, urgency: Urgency, done: Done) -> Result<Position> {
        let mut inner = self.lock();
        if let Some(refusal) = inner.refusal() {
            return Err(refusal);
        }
        let last = Position(inner.appended.0 + u64::from(batch.count()));
        inner.appended = last;
        inner.bytes += batch.size();
        if inner.pending.is_empty() {
            inner.deadline = Some(Instant::now() + self.soon);
        }
        inner.pending.push_back(Pending { batch, last, done });
        inner.urgent |= urgency == Urgency::Now;
        // The first of a lull ends a deep sleep too: it is to last no longer than the deadline.
        let first = inner.pending.len() == 1 && inner.sleep == Sleep::Deep;
        let wake = inner.sleep != Sleep::No && (first || inner.ready());
        if wake {
            inner.sleep = Sleep::No;
        }
        // Woken under the lock it might wait for the lock at once.
        drop(inner);
        if wake {
            self.work.notify_one();
        }
        Ok(last)
    }

    /// Moves all that is queued to `into`, once it is worth a commit; or tells of a lull, once
    /// nothing has come for `lull`.
    pub(crate) fn drain(&self, into: &mut VecDeque<Pending>, lull: Option<Duration>) -> Drained {
        let begun = Instant::now();
        let (lull_ends, short_ends) = (lull.map(|lull| begun + lull), begun + self.soon);
        let mut inner = self.lock();
        loop {
            if inner.ready() {
                std::mem::swap(&mut inner.pending, into);
                inner.bytes = 0;
                inner.deadline = None;
                inner.urgent = false;
                return Drained::Work;
            }
            if inner.closing {
                return Drained::Over;
            }
            let now = Instant::now();
            if inner.pending.is_empty() && lull_ends.is_some_and(|end| end <= now) {
                return Drained::Lull;
            }
            let (sleep, until) = match inner.deadline {
                Some(deadline) => (Sleep::Short, Some(deadline)),
                None if now < short_ends => {
                    (Sleep::Short, Some(lull_ends.map_or(short_ends, |end| end.min(short_ends))))
                }
                None => (Sleep::Deep, lull_ends),
            };
            inner.sleep = sleep;
            inner = match until {
                Some(until) => {
                    let left = until.saturating_duration_since(now);
                    let waited = self.work.wait_timeout(inner, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.work.wait(inner).unwrap_or_else(PoisonError::into_inner),
            };
            inner.sleep = Sleep::No;
        }
    }

    /// Tells waiters that everything up to `durable` is on disk.
    pub(crate) fn publish(&self, durable: Position) {
        let mut inner = self.lock();
        inner.durable = durable;
        if inner.waiters > 0 {
            self.moved.notify_all();
        }
    }

    /// Stops taking batches; returns what is still queued, for the committer to fail.
    pub(crate) fn fail(&self, failure: &StorageError) -> VecDeque<Pending> {
        let mut inner = self.lock();
        inner.failure.get_or_insert_with(|| failure.clone());
        self.moved.notify_all();
        std::mem::take(&mut inner.pending)
    }

    /// The committer has ended: nothing moves any more.
    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.moved.notify_all();
    }

    /// Stops taking batches; the committer ends after those that are queued.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closing = true;
        self.wake(&mut inner);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    pub(crate) fn failure(&self) -> Option<StorageError> {
        self.lock().failure.clone()
    }

    pub(crate) fn appended(&self) -> Position {
        self.lock().appended
    }

    pub(crate) fn wait_durable(&self, position: Position) -> Result<()> {
        let mut inner = self.lock();
        while inner.durable < position {
            if let Some(failure) = &inner.failure {
                return Err(failure.clone());
            }
            if inner.stopped || (inner.closing && position > inner.appended) {
                return Err(StorageError::Closed);
            }
            if !inner.pending.is_empty() {
                // Now somebody does wait for it.
                inner.urgent = true;
                self.wake(&mut inner);
            }
            inner.waiters += 1;
            inner = self.moved.wait(inner).unwrap_or_else(PoisonError::into_inner);
            inner.waiters -= 1;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No holder leaves it half changed, so a panic of one does not matter.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, inner: &mut MutexGuard<'_, Inner>) {
        if inner.sleep != Sleep::No {
            inner.sleep = Sleep::No;
            self.work.notify_one();
        }
    }
}

/// Every order of events that loom can think of.
#[cfg(all(test, tidegate_loom))]
mod loom_tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use loom::thread;

    use super::*;
    use crate::StreamId;

    /// Longer than any test: only urgency and waiting move anything.
    const SOON: Duration = Duration::from_secs(3_600);

    fn model(run: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(run);
    }

    fn record() -> Batch {
        let mut batch = Batch::new(StreamId(1), 0);
        let Ok(()) = batch.push::<std::convert::Infallible>(|bytes| {
            bytes.push(7);
            Ok(())
        });
        batch
    }

    /// Commits as the committer does, without a disk.
    fn commit(queue: &Queue) {
        let mut drained = VecDeque::new();
        while queue.drain(&mut drained, None) == Drained::Work {
            let durable = drained.back().map(|pending: &Pending| pending.last);
            durable.into_iter().for_each(|durable| queue.publish(durable));
            drained.drain(..).for_each(|pending| (pending.done)(Ok(pending.last)));
        }
        queue.stop();
    }

    fn counting(count: &Arc<AtomicUsize>) -> Done {
        let count = Arc::clone(count);
        Box::new(move |outcome| {
            count.fetch_add(usize::from(outcome.is_ok()), Ordering::Relaxed);
        })
    }

    #[test]
    fn loom_whoever_waits_is_woken_whatever_the_urgency() {
        for urgency in [Urgency::Now, Urgency::Soon] {
            model(move || {
                let queue = Arc::new(Queue::new(Position::ZERO, SOON));
                let committer = thread::spawn({
                    let queue = Arc::clone(&queue);
                    move || commit(&queue)
                });
                let other = thread::spawn({
                    let queue = Arc::clone(&queue);
                    move || {
                        let last = queue.append(record(), urgency, Box::new(drop)).unwrap();
                        queue.wait_durable(last).unwrap();
                    }
                });
                let last = queue.append(record(), urgency, Box::new(drop)).unwrap();
                queue.wait_durable(last).unwrap();
                other.join().unwrap();
                queue.close();
                committer.join().unwrap();
            });
        }
    }

    #[test]
    fn loom_what_is_urgent_is_committed_though_nobody_waits() {
        model(|| {
            let queue = Arc::new(Queue::new(Position::ZERO, SOON));
            let (told, heard) = loom::sync::mpsc::channel();
            let committer = thread::spawn({
                let queue = Arc::clone(&queue);
                move || commit(&queue)
            });
            let done = Box::new(move |outcome: Result<Position>| {
                told.send(outcome.unwrap()).unwrap();
            });
            queue.append(record(), Urgency::Soon, Box::new(drop)).unwrap();
            queue.append(record(), Urgency::Now, done).unwrap();
            // If nobody woke the committer, this would never return, and loom says so.
            assert_eq!(heard.recv().unwrap(), Position(2));
            queue.close();
            committer.join().unwrap();
        });
    }

    #[test]
    fn loom_what_is_taken_before_the_close_is_committed_and_what_comes_later_refused() {
        model(|| {
            let queue = Arc::new(Queue::new(Position::ZERO, SOON));
            let done = Arc::new(AtomicUsize::new(0));
            let committer = thread::spawn({
                let queue = Arc::clone(&queue);
                move || commit(&queue)
            });
            let other = thread::spawn({
                let (queue, done) = (Arc::clone(&queue), Arc::clone(&done));
                move || queue.append(record(), Urgency::Soon, counting(&done)).is_ok()
            });
            queue.close();
            let taken = other.join().unwrap();
            committer.join().unwrap();
            assert_eq!(done.load(Ordering::Relaxed), usize::from(taken));
            assert!(queue.append(record(), Urgency::Now, Box::new(drop)).is_err());
        });
    }

    #[test]
    fn loom_a_failure_reaches_those_who_wait_and_those_who_come() {
        model(|| {
            let queue = Arc::new(Queue::new(Position::ZERO, SOON));
            let failing = thread::spawn({
                let queue = Arc::clone(&queue);
                move || {
                    let left = queue.fail(&StorageError::Closed);
                    left.into_iter().for_each(|left| (left.done)(Err(StorageError::Closed)));
                    queue.stop();
                }
            });
            match queue.append(record(), Urgency::Soon, Box::new(drop)) {
                Ok(last) => assert!(queue.wait_durable(last).is_err()),
                Err(error) => assert!(matches!(error, StorageError::Closed)),
            }
            failing.join().unwrap();
            assert!(queue.append(record(), Urgency::Now, Box::new(drop)).is_err());
        });
    }
}
