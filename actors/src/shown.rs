//! The machine of a shard, where callers' threads can read it beside the shard, and how much of it
//! is on disk. Only the shard changes it. It knows nothing of what is read, and never makes a
//! reader wait: who can't read at once asks the shard.

use std::{
    collections::VecDeque,
    hint,
    sync::{PoisonError, TryLockError, atomic::Ordering},
};

use tidegate_machines::Timestamp;
use tidegate_storage::Position;

use crate::sync::{AtomicBool, AtomicU64, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// How often a reader tries while the shard is changing the machine, which takes about a
/// microsecond.
const TRIES: usize = if cfg!(all(test, tidegate_loom)) { 1 } else { 100 };

/// No event that was applied is missing on disk.
const NOTHING_OPEN: u64 = u64::MAX;

/// How much of what a machine shows is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnDisk {
    /// The stamp of the first event that may not be.
    open_since: u64,
}

impl OnDisk {
    /// Whether everything that was decided at `at` and before is on disk.
    #[must_use]
    pub fn covers(self, at: Timestamp) -> bool {
        // More may have been decided within the millisecond of the first that is not.
        at.0 < self.open_since
    }

    /// Whether everything is.
    #[must_use]
    pub fn is_all(self) -> bool {
        self.open_since == NOTHING_OPEN
    }
}

/// See the module.
pub(crate) struct Shown<M> {
    /// `None` unless the shard decides with it. Boxed, since it is taken out while it changes.
    machine: RwLock<Option<Box<M>>>,
    /// See [`OnDisk`]. Set under the lock before the event is applied, so who reads the machine
    /// finds it set; raised at any time, since what is on disk stays there.
    open_since: AtomicU64,
    /// What it follows from.
    open: Mutex<Open>,
    /// Whether the present turn has applied an event. Only the shard asks.
    in_turn: AtomicBool,
}

/// Events that are not known to be on disk.
#[derive(Default)]
struct Open {
    /// Those with a place in the journal: up to which, and the stamp of the first.
    batches: VecDeque<(Position, Timestamp)>,
    /// The stamp of the first of the present turn, which has no place yet.
    turn: Option<Timestamp>,
}

impl Open {
    fn since(&self) -> u64 {
        let first = self.batches.front().map(|(_, since)| *since);
        first.or(self.turn).map_or(NOTHING_OPEN, |since| since.0)
    }
}

impl<M> Shown<M> {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            machine: RwLock::new(None),
            open_since: AtomicU64::new(NOTHING_OPEN),
            open: Mutex::new(Open::default()),
            in_turn: AtomicBool::new(false),
        }
    }

    /// For callers' threads: what `read` makes of the machine, and of how much of it is on disk.
    /// `None` if it can't be read now.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&M, OnDisk) -> Option<T>) -> Option<T> {
        for _ in 0..TRIES {
            let machine = match self.machine.try_read() {
                Ok(machine) => machine,
                Err(TryLockError::Poisoned(gone)) => gone.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    hint::spin_loop();
                    continue;
                }
            };
            let on_disk = OnDisk { open_since: self.open_since.load(Ordering::Acquire) };
            return machine.as_deref().and_then(|machine| read(machine, on_disk));
        }
        None
    }

    /// For the shard: what `look` makes of the machine; `None` if there is none.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&M) -> T) -> Option<T> {
        self.locked().as_deref().map(look)
    }

    /// For the shard: has `change` apply an event that was decided at `now`. If that panics, the
    /// machine is gone: nobody ever sees it half-changed.
    pub(crate) fn change(&self, now: Timestamp, change: impl FnOnce(&mut M)) {
        let mut place = self.locked_to_write();
        if !self.in_turn.load(Ordering::Relaxed) {
            self.in_turn.store(true, Ordering::Relaxed);
            self.note(|open| open.turn = Some(now));
        }
        if let Some(mut machine) = place.take() {
            change(&mut machine);
            *place = Some(machine);
        }
    }

    /// Shows `machine`, of which everything is on disk.
    pub(crate) fn put(&self, machine: M) {
        let mut place = self.locked_to_write();
        self.in_turn.store(false, Ordering::Relaxed);
        self.note(|open| *open = Open::default());
        *place = Some(Box::new(machine));
    }

    /// Shows nothing any more.
    pub(crate) fn clear(&self) {
        drop(self.locked_to_write().take());
    }

    /// For the shard: the events of the present turn have their place, up to `position`. It must
    /// then look whether that is on disk: the journal may have said so before.
    pub(crate) fn journalled(&self, position: Position) {
        self.in_turn.store(false, Ordering::Relaxed);
        self.note(|open| open.batches.extend(open.turn.take().map(|since| (position, since))));
    }

    /// For the journal's thread, and the shard: everything up to `durable` is on disk.
    pub(crate) fn durable(&self, durable: Position) {
        self.note(|open| {
            while open.batches.pop_front_if(|(position, _)| *position <= durable).is_some() {}
        });
    }

    /// Under one lock, so that what is shown always follows from what is open.
    fn note(&self, change: impl FnOnce(&mut Open)) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut open);
        self.open_since.store(open.since(), Ordering::Release);
    }

    fn locked(&self) -> RwLockReadGuard<'_, Option<Box<M>>> {
        // A panic under the lock has left nothing behind that is not whole, as in the others.
        self.machine.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn locked_to_write(&self) -> RwLockWriteGuard<'_, Option<Box<M>>> {
        self.machine.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(tidegate_loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn seen(shown: &Shown<u64>, changed_at: u64) -> Option<u64> {
        shown.read(|machine, on_disk| on_disk.covers(Timestamp(changed_at)).then_some(*machine))
    }

    #[test]
    fn what_is_not_on_disk_is_not_covered_and_the_rest_is() {
        let shown = Shown::new();
        assert_eq!(seen(&shown, 1), None, "there is nothing");
        shown.put(7);
        assert_eq!(seen(&shown, 1), Some(7));
        assert_eq!(shown.read(|_, on_disk| Some(on_disk.is_all())), Some(true));
        shown.change(Timestamp(5), |machine| *machine += 1);
        shown.change(Timestamp(6), |machine| *machine += 1);
        shown.journalled(Position(2));
        shown.change(Timestamp(7), |machine| *machine += 1);
        assert_eq!((seen(&shown, 4), seen(&shown, 5), seen(&shown, 7)), (Some(10), None, None));
        shown.durable(Position(1));
        assert_eq!((seen(&shown, 4), seen(&shown, 5)), (Some(10), None));
        shown.durable(Position(2));
        assert_eq!((seen(&shown, 6), seen(&shown, 7)), (Some(10), None));
        shown.journalled(Position(3));
        shown.durable(Position(3));
        assert_eq!(seen(&shown, u64::MAX - 1), Some(10));
    }

    #[test]
    fn who_changes_it_holds_nobody_up_and_a_panic_shows_nothing() {
        let shown = Shown::new();
        shown.put(7);
        shown.change(Timestamp(5), |_| assert_eq!(seen(&shown, 1), None));
        assert_eq!(seen(&shown, 1), Some(7));
        shown.look(|_| assert_eq!(seen(&shown, 1), Some(7), "who only looks is in nobody's way"));
        let panic = AssertUnwindSafe(|| shown.change(Timestamp(6), |_| panic!("half-changed")));
        assert!(catch_unwind(panic).is_err());
        assert_eq!((seen(&shown, 1), shown.look(|machine| *machine)), (None, None));
        shown.put(8);
        assert_eq!(seen(&shown, 1), Some(8));
    }
}

/// Every order of events that loom can think of.
#[cfg(all(test, tidegate_loom))]
mod loom_tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn loom_a_read_never_shows_what_is_not_on_disk() {
        loom::model(|| {
            // When it was last changed.
            let shown = Arc::new(Shown::<u64>::new());
            shown.put(3);
            let on_disk = Arc::new(AtomicU64::new(3));
            let shard = loom::thread::spawn({
                let (shown, on_disk) = (Arc::clone(&shown), Arc::clone(&on_disk));
                move || {
                    shown.change(Timestamp(5), |machine| *machine = 5);
                    let journal = loom::thread::spawn({
                        let (shown, on_disk) = (Arc::clone(&shown), Arc::clone(&on_disk));
                        move || {
                            on_disk.store(5, Ordering::Release);
                            shown.durable(Position(1));
                        }
                    });
                    shown.journalled(Position(1));
                    shown.change(Timestamp(6), |machine| *machine = 6);
                    journal.join().unwrap();
                }
            });
            let read = shown.read(|at, covered| covered.covers(Timestamp(*at)).then_some(*at));
            if let Some(at) = read {
                assert!(at <= on_disk.load(Ordering::Acquire), "{at} is not on disk");
            }
            shard.join().unwrap();
            assert_eq!(shown.look(|machine| *machine), Some(6));
        });
    }
}
