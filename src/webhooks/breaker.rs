//! When an endpoint is left alone: after some failures in a row nothing is sent for a while, then
//! one message is tried. Messages wait in their group meanwhile and lose no attempt. It knows no
//! clock; it is told the time.

use std::time::{Duration, Instant};

/// Failures in a row after which an endpoint is left alone.
const FAILURES: u32 = 5;

/// How long at first; doubled with each trial that fails.
const REST: Duration = Duration::from_secs(10);

/// How long at most.
const REST_MAX: Duration = Duration::from_secs(600);

/// What became of deliveries lately.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    /// Nothing is sent before.
    until: Option<Instant>,
    /// Trials that have failed since it opened.
    failed_trials: u32,
    /// How many trials there were, ever, and whether the last one is out to see.
    trials: u64,
    trying: bool,
}

/// Which trial it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trial(u64);

/// Whether something may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Yes.
    Open,
    /// One message, to see; nothing else until it is known how it went.
    Once(Trial),
    /// Not before so long.
    Shut(Duration),
}

impl Gate {
    /// The trial, if it is one.
    pub(super) fn trial(self) -> Option<Trial> {
        match self {
            Self::Once(trial) => Some(trial),
            Self::Open | Self::Shut(_) => None,
        }
    }
}

impl Breaker {
    /// Asks to send at `now`. Who gets a trial must tell how it went, or `give_back` it.
    pub(super) fn enter(&mut self, now: Instant) -> Gate {
        let Some(until) = self.until else { return Gate::Open };
        if now < until {
            return Gate::Shut(until - now);
        }
        if self.trying {
            return Gate::Shut(REST);
        }
        self.trials += 1;
        self.trying = true;
        Gate::Once(Trial(self.trials))
    }

    /// That trial is over, if it was not before: whether it was out.
    pub(super) fn give_back(&mut self, trial: Option<Trial>) -> bool {
        let is_out = self.trying && trial == Some(Trial(self.trials));
        self.trying &= !is_out;
        is_out
    }

    /// It has answered about the message, well or not.
    pub(super) fn answered(&mut self) {
        *self = Self { trials: self.trials, ..Self::default() };
    }

    /// It took none, and said nothing about the message. `asked` is how long it asked to be left
    /// alone, if it did.
    pub(super) fn failed(&mut self, now: Instant, trial: Option<Trial>, asked: Option<Duration>) {
        self.failures = self.failures.saturating_add(1);
        let own = if self.give_back(trial) {
            self.failed_trials += 1;
            Some(REST.saturating_mul(1 << self.failed_trials.min(16)))
        } else {
            // What was on its way when it opened says nothing new.
            (self.failures >= FAILURES && self.until.is_none()).then_some(REST)
        };
        if let Some(rest) = own.max(asked).filter(|rest| !rest.is_zero()) {
            let until = now + rest.min(REST_MAX);
            self.until = Some(self.until.map_or(until, |known| known.max(until)));
        }
    }

    /// Whether it is left alone, or only tried.
    pub(super) fn is_open(&self) -> bool {
        self.until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(breaker: &mut Breaker, now: Instant) -> Option<Trial> {
        let gate = breaker.enter(now);
        assert!(gate.trial().is_some(), "{gate:?}");
        gate.trial()
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_after_one_answer() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for _ in 1..FAILURES {
            breaker.failed(start, None, None);
            assert_eq!(breaker.enter(start), Gate::Open);
        }
        breaker.answered();
        for _ in 1..FAILURES {
            breaker.failed(start, None, None);
        }
        assert_eq!(breaker.enter(start), Gate::Open, "they were not in a row");
        breaker.failed(start, None, None);
        assert_eq!(breaker.enter(start), Gate::Shut(REST));
        // What was on its way says nothing new.
        breaker.failed(start, None, None);
        let later = start + REST;
        let first = trial(&mut breaker, later);
        assert!(matches!(breaker.enter(later), Gate::Shut(_)), "one is enough to see");
        breaker.failed(later, None, None);
        assert!(matches!(breaker.enter(later), Gate::Shut(_)), "it was not the trial");
        assert!(breaker.give_back(first));
        let second = trial(&mut breaker, later);
        assert!(!breaker.give_back(first), "that one is over");
        assert!(matches!(breaker.enter(later), Gate::Shut(_)));
        breaker.failed(later, second, None);
        assert!(!breaker.give_back(second));
        assert_eq!(breaker.enter(later), Gate::Shut(REST * 2));
        let third = trial(&mut breaker, later + REST * 2);
        breaker.answered();
        assert_eq!(breaker.enter(later), Gate::Open);
        assert!(!breaker.is_open() && !breaker.give_back(third));
    }

    #[test]
    fn it_rests_as_long_as_it_is_asked_to_and_no_shorter_than_by_itself() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        breaker.failed(start, None, seconds(7));
        assert_eq!(breaker.enter(start), Gate::Shut(Duration::from_secs(7)));
        breaker.failed(start, None, seconds(1));
        assert_eq!(breaker.enter(start), Gate::Shut(Duration::from_secs(7)), "not shorter");
        breaker.failed(start, None, seconds(7_000));
        assert_eq!(breaker.enter(start), Gate::Shut(REST_MAX));
        let mut now = start;
        for _ in 0..40 {
            now += REST_MAX;
            let trial = trial(&mut breaker, now);
            // Asking for nothing does not help.
            breaker.failed(now, trial, seconds(0));
        }
        assert_eq!(breaker.enter(now), Gate::Shut(REST_MAX));
    }

    #[test]
    fn one_that_asks_for_no_rest_is_left_alone_all_the_same() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES {
            breaker.failed(start, None, Some(Duration::ZERO));
        }
        assert!(matches!(breaker.enter(start), Gate::Shut(rest) if rest == REST));
    }
}
