//! How often the feeds of a store look for more. Each is woken when something new is durable, and
//! looks at once as long as they look seldom, all together; beyond that each waits for company, so
//! that very many feeds, or very many commits, cost no more than so much. It deliberately knows
//! nothing of what is read.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What a look takes of the time that there is for looking: 8,000 of them a second.
const LOOK: Duration = Duration::from_micros(125);

/// Time that may be taken ahead: 80 looks at once.
const AHEAD_MAX: Duration = Duration::from_millis(10);

/// The longest that a feed waits for company.
pub(super) const GATHER: Duration = Duration::from_millis(10);

/// See the module. One for all feeds of a journal.
pub(super) struct Pace {
    /// The end of the time that was taken.
    taken_to: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { taken_to: Mutex::new(Instant::now()) }
    }

    /// Takes the time for a look, and says when it may be: `now` or up to [`GATHER`] later.
    pub(super) fn look_at(&self, now: Instant) -> Instant {
        let mut taken_to = self.taken_to.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = taken_to.saturating_duration_since(now);
        // What waits for the longest time already gets no further away.
        *taken_to = now + (ahead + LOOK).min(AHEAD_MAX + GATHER);
        now + ahead.saturating_sub(AHEAD_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn who_looks_seldom_never_waits() {
        let (pace, mut now) = (Pace::new(), Instant::now());
        for _ in 0..1_000 {
            assert_eq!(pace.look_at(now), now);
            now += LOOK;
        }
    }

    #[test]
    fn many_looks_wait_longer_and_longer_but_never_for_long() {
        let (pace, now) = (Pace::new(), Instant::now());
        let waits: Vec<_> = (0..1_000).map(|_| pace.look_at(now) - now).collect();
        let at_once = waits.iter().take_while(|wait| wait.is_zero()).count();
        assert_eq!(at_once, 81, "as many as may be taken ahead, and the first");
        assert!(waits.is_sorted());
        assert_eq!(waits.last(), Some(&GATHER));
        // However many there were, what comes after a while is at once again.
        let later = now + AHEAD_MAX + GATHER;
        assert_eq!(pace.look_at(later), later);
        assert_eq!(pace.look_at(later + MS), later + MS);
    }
}
