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
    trials: u32,
    /// One message is out to see.
    trying: bool,
}

/// Whether something may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Yes.
    Open,
    /// This one, to see; nothing else until it is known how it went.
    Trial,
    /// Not before so long.
    Shut(Duration),
}

impl Breaker {
    /// Asks to send at `now`. Who is told `Trial` must tell how it went, or `give_back` it.
    pub(super) fn enter(&mut self, now: Instant) -> Gate {
        let Some(until) = self.until else { return Gate::Open };
        if now < until {
            return Gate::Shut(until - now);
        }
        if self.trying {
            return Gate::Shut(REST);
        }
        self.trying = true;
        Gate::Trial
    }

    /// Nothing was there to be sent.
    pub(super) fn give_back(&mut self) {
        self.trying = false;
    }

    /// It took a message.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// It took none. `rest` is how long it asked to be left alone, if it did.
    pub(super) fn failed(&mut self, now: Instant, rest: Option<Duration>) {
        self.failures = self.failures.saturating_add(1);
        let was_trial = std::mem::take(&mut self.trying);
        if let Some(rest) = rest {
            self.until = Some(now + rest.min(REST_MAX));
        } else if was_trial {
            self.trials += 1;
            let rest = REST.saturating_mul(1 << self.trials.min(16));
            self.until = Some(now + rest.min(REST_MAX));
        } else if self.failures >= FAILURES && self.until.is_none() {
            self.until = Some(now + REST);
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

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_after_one_success() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for _ in 1..FAILURES {
            breaker.failed(start, None);
            assert_eq!(breaker.enter(start), Gate::Open);
        }
        breaker.succeeded();
        for _ in 1..FAILURES {
            breaker.failed(start, None);
        }
        assert_eq!(breaker.enter(start), Gate::Open, "they were not in a row");
        breaker.failed(start, None);
        assert_eq!(breaker.enter(start), Gate::Shut(REST));
        // What was on its way says nothing new.
        breaker.failed(start, None);
        let later = start + REST;
        assert_eq!(breaker.enter(later), Gate::Trial);
        assert!(matches!(breaker.enter(later), Gate::Shut(_)), "one is enough to see");
        breaker.give_back();
        assert_eq!(breaker.enter(later), Gate::Trial);
        breaker.failed(later, None);
        assert_eq!(breaker.enter(later), Gate::Shut(REST * 2));
        assert_eq!(breaker.enter(later + REST * 2), Gate::Trial);
        breaker.succeeded();
        assert_eq!(breaker.enter(later), Gate::Open);
        assert!(!breaker.is_open());
    }

    #[test]
    fn it_rests_as_long_as_it_is_asked_to_within_a_bound() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        breaker.failed(start, Some(Duration::from_secs(7)));
        assert_eq!(breaker.enter(start), Gate::Shut(Duration::from_secs(7)));
        breaker.failed(start, Some(Duration::from_secs(7_000)));
        assert_eq!(breaker.enter(start), Gate::Shut(REST_MAX));
        for _ in 0..40 {
            assert_eq!(breaker.enter(start + REST_MAX), Gate::Trial);
            breaker.failed(start, None);
        }
        assert_eq!(breaker.enter(start), Gate::Shut(REST_MAX));
    }
}
