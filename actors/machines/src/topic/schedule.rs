//! A message that comes again and again. It deliberately knows no calendar: a run is every so many
//! milliseconds, which is the same in every time zone and needs no rules that change.

use serde::{Deserialize, Serialize};

use crate::{
    NewMessage, ScheduleName, Timestamp, TopicName,
    bounds::{EVERY_MS_MAX, EVERY_MS_MIN, OutOfBounds, check_range},
};

/// A schedule as its owner gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewSchedule {
    /// Where its messages go.
    pub topic: TopicName,
    /// Its name within the topic. One of the same name is replaced; a run of it that is due then
    /// comes with the new message.
    pub name: ScheduleName,
    /// What is published at each run.
    pub message: NewMessage,
    /// Time between two runs, in milliseconds.
    pub every_ms: u64,
    /// A run is whenever the time, in milliseconds since 1970, divided by `every_ms` leaves this.
    pub phase_ms: u64,
}

/// A schedule with its next run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// What is published at each run.
    pub message: NewMessage,
    /// Time between two runs, in milliseconds.
    pub every_ms: u64,
    /// See [`NewSchedule::phase_ms`].
    pub phase_ms: u64,
    /// When it runs next. Runs that were missed are made up for by one.
    pub next: Timestamp,
}

impl NewSchedule {
    pub(super) fn check(&self) -> Result<(), OutOfBounds> {
        check_range("every_ms", self.every_ms, EVERY_MS_MIN, EVERY_MS_MAX)?;
        check_range("phase_ms", self.phase_ms, 0, self.every_ms - 1).map(drop)
    }

    /// As it is when it was made at `at`, in place of one of which a run was `due`: that run is not
    /// lost.
    pub(super) fn begin(&self, at: Timestamp, due: Option<Timestamp>) -> Schedule {
        let Self { message, every_ms, phase_ms, .. } = self.clone();
        let next = due.unwrap_or_else(|| first_after(at, every_ms, phase_ms));
        Schedule { message, every_ms, phase_ms, next }
    }
}

impl Schedule {
    /// It has run at `at`.
    pub(super) fn ran(&mut self, at: Timestamp) {
        self.next = first_after(at, self.every_ms, self.phase_ms);
    }
}

/// The first time after `at` that leaves `phase_ms`.
fn first_after(at: Timestamp, every_ms: u64, phase_ms: u64) -> Timestamp {
    let Some(since) = at.0.checked_sub(phase_ms) else { return Timestamp(phase_ms) };
    Timestamp(at.0 - since % every_ms).plus_ms(every_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_at_the_phase_and_after_the_last() {
        let next = |at, every, phase| first_after(Timestamp(at), every, phase).0;
        assert_eq!(next(0, 1_000, 0), 1_000);
        assert_eq!(next(999, 1_000, 0), 1_000);
        assert_eq!(next(1_000, 1_000, 0), 2_000);
        assert_eq!(next(1_000, 1_000, 250), 1_250);
        assert_eq!(next(1_250, 1_000, 250), 2_250);
        assert_eq!(next(10, 1_000, 250), 250);
        assert_eq!(next(7_777, 1_000, 250), 8_250);
    }
}
