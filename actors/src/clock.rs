//! The store's one clock: stamps that never go backwards. Latencies are not its business (those are
//! measured with `quanta`, and never stored).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use tidegate_machines::Timestamp;

use crate::sync;

/// Where wall-clock time comes from.
pub trait TimeSource: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch. May jump in any direction; the clock above it doesn't.
    fn now_ms(&self) -> u64;
}

impl TimeSource for Box<dyn TimeSource> {
    fn now_ms(&self) -> u64 {
        (**self).now_ms()
    }
}

/// The system's wall clock.
pub struct SystemTimeSource;

impl TimeSource for SystemTimeSource {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Time that a test sets.
#[derive(Default)]
pub struct ManualTime(AtomicU64);

impl ManualTime {
    /// Starts at `ms` since the epoch.
    #[must_use]
    pub fn at_ms(ms: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(ms)))
    }

    /// Moves on by `ms`.
    pub fn advance_ms(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl TimeSource for Arc<ManualTime> {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Stamps commands. Never goes backwards: not when the system's clock does, and not over a restart,
/// since recovery shows it every stamp that was stored.
pub struct Clock {
    source: Box<dyn TimeSource>,
    latest: sync::AtomicU64,
}

impl Clock {
    /// A clock over `source`.
    pub fn new(source: impl TimeSource) -> Self {
        Self { source: Box::new(source), latest: sync::AtomicU64::new(0) }
    }

    /// The present stamp: not before any stamp given or observed earlier.
    pub fn now(&self) -> Timestamp {
        let wall = self.source.now_ms();
        Timestamp(self.latest.fetch_max(wall, Ordering::AcqRel).max(wall))
    }

    /// Takes note of a stored stamp.
    pub fn observe(&self, stamp: Timestamp) {
        self.latest.fetch_max(stamp.0, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_goes_backwards() {
        let time = ManualTime::at_ms(50);
        let clock = Clock::new(Arc::clone(&time));
        assert_eq!(clock.now(), Timestamp(50));
        clock.observe(Timestamp(80));
        assert_eq!(clock.now(), Timestamp(80));
        time.advance_ms(40);
        assert_eq!(clock.now(), Timestamp(90));
    }
}

/// Every order of events that loom can think of.
#[cfg(all(test, tidegate_loom))]
mod loom_tests {
    use super::*;

    #[test]
    fn loom_who_has_seen_a_stamp_gets_no_earlier_one() {
        loom::model(|| {
            let time = ManualTime::at_ms(50);
            let clock = Arc::new(Clock::new(Arc::clone(&time)));
            let other = loom::thread::spawn({
                let clock = Arc::clone(&clock);
                move || {
                    clock.observe(Timestamp(80));
                    clock.now()
                }
            });
            let first = clock.now();
            let second = clock.now();
            assert!(first <= second);
            assert!(other.join().unwrap() <= clock.now() && second <= clock.now());
        });
    }
}
