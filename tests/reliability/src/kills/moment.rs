//! When a process is killed: in which part of its life, and how long after that began. It follows
//! from a seed and from how fast earlier lives were; it kills nothing itself.

use std::time::Duration;

use crate::{random::Random, sale::ledger::Note};

/// How often the store looks whether a snapshot is due.
const SNAPSHOT_LOOK_MS: u64 = 500;

/// Which part of its life a process is killed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// From its start until a little after its store should be open: recovery, mostly.
    Opening,
    /// At any time while it sells: rolls, trims and the archive among it.
    Working,
    /// About when a snapshot is due.
    Snapshotting,
    /// After it has begun to close.
    Closing,
}

impl Moment {
    pub(crate) const ALL: [Self; 4] =
        [Self::Opening, Self::Working, Self::Snapshotting, Self::Closing];

    pub(crate) fn draw(random: &mut Random) -> Self {
        Self::ALL[random.below(Self::ALL.len() as u64) as usize]
    }

    /// When the process is to close by itself, if it is.
    pub(crate) fn close_after_ms(self, random: &mut Random) -> Option<u64> {
        (self == Self::Closing).then(|| 50 + random.below(350))
    }

    /// What the process says at the beginning of that part; nothing at its start.
    pub(crate) fn begins_with(self) -> Option<Note> {
        match self {
            Self::Opening => None,
            Self::Working | Self::Snapshotting => Some(Note::Ready),
            Self::Closing => Some(Note::Closing),
        }
    }

    /// How long after that it is killed.
    pub(crate) fn delay(self, pace: &Pace, random: &mut Random) -> Duration {
        let up_to = |span: Duration, random: &mut Random| {
            Duration::from_micros(random.below(span.as_micros() as u64 + 1))
        };
        match self {
            Self::Opening => up_to(pace.opening * 5 / 4, random),
            Self::Working => up_to(Duration::from_millis(600), random),
            Self::Snapshotting => {
                // It is told that the store is open a moment after the clock for it was set.
                let before = Duration::from_millis(SNAPSHOT_LOOK_MS - 20);
                before + up_to(Duration::from_millis(150), random)
            }
            Self::Closing => up_to(Duration::from_millis(100), random),
        }
    }
}

/// How fast lives were so far.
pub(crate) struct Pace {
    /// From the start of a process until its store was open.
    opening: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { opening: Duration::from_millis(50) }
    }
}

impl Pace {
    /// A process was ready after `took`.
    pub(crate) fn ready(&mut self, took: Duration) {
        self.opening = (self.opening * 3 + took) / 4;
    }
}
