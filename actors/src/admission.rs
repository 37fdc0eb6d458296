//! The bound in front of the mailboxes: a command enters only with a credit, and gives it back when
//! it has been answered, which is also how long answers take is known. It never queues: no credit
//! means an error at once. (An actix mailbox has no bound of its own.)

use std::sync::{Arc, atomic::Ordering};

use quanta::Instant;

use crate::{
    distribution::{Distribution, Tally},
    sync::AtomicUsize,
};

/// Set once nobody is let in any more.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// Credits of one shard.
pub(crate) struct Admission {
    /// How many are in, and [`CLOSED`]: one number, so that there is one order of who entered
    /// before the close and who did not. After a close with nobody in, nobody will be.
    in_flight: AtomicUsize,
    in_flight_max: usize,
    answer_us: Tally,
}

/// Why there was no credit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    Full,
    Closed,
}

/// One credit; comes back when dropped.
pub(crate) struct Permit {
    admission: Arc<Admission>,
    entered: Instant,
}

impl Permit {
    /// Notes that an answer was sent at `now`.
    pub(crate) fn answered(&self, now: Instant) {
        let taken = now.duration_since(self.entered).as_micros();
        self.admission.answer_us.count(u64::try_from(taken).unwrap_or(u64::MAX));
    }
}

impl Admission {
    pub(crate) fn new(in_flight_max: usize) -> Arc<Self> {
        Arc::new(Self {
            in_flight: AtomicUsize::new(0),
            in_flight_max,
            answer_us: Tally::default(),
        })
    }

    pub(crate) fn enter(self: &Arc<Self>) -> Result<Permit, Denied> {
        // Who is denied writes nothing: those who are in are not held up by those who are not.
        let one_more = |before: usize| {
            let enters = before & CLOSED == 0 && before < self.in_flight_max;
            enters.then_some(before + 1)
        };
        match self.in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more) {
            Ok(_) => Ok(Permit { admission: Arc::clone(self), entered: Instant::now() }),
            Err(before) if before & CLOSED != 0 => Err(Denied::Closed),
            Err(_) => Err(Denied::Full),
        }
    }

    pub(crate) fn close(&self) {
        self.in_flight.fetch_or(CLOSED, Ordering::AcqRel);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) & CLOSED != 0
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire) & !CLOSED
    }

    pub(crate) fn in_flight_max(&self) -> usize {
        self.in_flight_max
    }

    /// How long answers took.
    pub(crate) fn answer_us(&self) -> Distribution {
        self.answer_us.read()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_exact_and_credits_come_back() {
        let admission = Admission::new(2);
        let first = admission.enter().ok();
        let second = admission.enter().ok();
        assert!(first.is_some() && second.is_some());
        assert_eq!(admission.enter().err(), Some(Denied::Full));
        drop(first);
        let third = admission.enter().ok();
        assert!(third.is_some());
        assert_eq!(admission.in_flight(), 2);
        admission.close();
        drop((second, third));
        assert_eq!(admission.enter().err(), Some(Denied::Closed));
        assert_eq!(admission.in_flight(), 0);
    }
}

/// Every order of events that loom can think of.
#[cfg(all(test, tidegate_loom))]
mod loom_tests {
    use super::*;

    #[test]
    fn loom_closed_and_empty_stays_empty() {
        loom::model(|| {
            let admission = Admission::new(1);
            let entered = Arc::new(AtomicUsize::new(0));
            let caller = loom::thread::spawn({
                let (admission, entered) = (Arc::clone(&admission), Arc::clone(&entered));
                move || {
                    let permit = admission.enter();
                    entered.fetch_add(usize::from(permit.is_ok()), Ordering::AcqRel);
                    drop(permit);
                }
            });
            admission.close();
            let empty = admission.in_flight() == 0;
            let before = entered.load(Ordering::Acquire);
            caller.join().unwrap();
            if empty {
                assert_eq!(entered.load(Ordering::Acquire), before, "somebody came in later");
            }
            assert_eq!(admission.enter().err(), Some(Denied::Closed));
            assert_eq!(admission.in_flight(), 0);
        });
    }

    #[test]
    fn loom_no_more_than_the_bound_are_in() {
        loom::model(|| {
            let admission = Admission::new(1);
            let inside = Arc::new(AtomicUsize::new(0));
            let call = |admission: Arc<Admission>, inside: Arc<AtomicUsize>| {
                if let Ok(permit) = admission.enter() {
                    assert_eq!(inside.fetch_add(1, Ordering::AcqRel), 0, "two are in");
                    inside.fetch_sub(1, Ordering::AcqRel);
                    drop(permit);
                }
            };
            let other = loom::thread::spawn({
                let (admission, inside) = (Arc::clone(&admission), Arc::clone(&inside));
                move || call(admission, inside)
            });
            call(Arc::clone(&admission), inside);
            other.join().unwrap();
            assert!(admission.enter().is_ok(), "a credit was lost");
        });
    }
}
