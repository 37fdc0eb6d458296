//! The bound in front of the mailboxes: a command enters only with a credit, and gives it back when
//! it has been answered, which is also how long answers take is known. It never queues: no credit
//! means an error at once. (An actix mailbox has no bound of its own.)

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use quanta::Instant;

use crate::distribution::{Distribution, Tally};

/// Credits of one shard.
pub(crate) struct Admission {
    in_flight: AtomicUsize,
    in_flight_max: usize,
    closed: AtomicBool,
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
    /// Notes that an answer was sent at `now`. By the shard's thread only.
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
            closed: AtomicBool::new(false),
            answer_us: Tally::default(),
        })
    }

    pub(crate) fn enter(self: &Arc<Self>) -> Result<Permit, Denied> {
        // Counted before the check, so that `close` and then `in_flight() == 0` means: nobody is
        // in, and nobody will be.
        let before = self.in_flight.fetch_add(1, Ordering::SeqCst);
        let permit = Permit { admission: Arc::clone(self), entered: Instant::now() };
        if self.closed.load(Ordering::SeqCst) {
            return Err(Denied::Closed);
        }
        if before >= self.in_flight_max {
            return Err(Denied::Full);
        }
        Ok(permit)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
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
        self.admission.in_flight.fetch_sub(1, Ordering::SeqCst);
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
