//! How a worker is doing, for metrics and for whoever asks. It keeps figures; the worker is what
//! acts on them.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::Error;
use crate::{Events, Position};

/// What a worker is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Reaching the database, also after it was lost.
    #[default]
    Connecting,
    /// Another worker is at work; this one takes over when that one's connection ends.
    Waiting,
    /// Writing everything anew.
    Loading,
    /// Writing what happens.
    Following,
    /// At its end: the store is closed, or trying again is of no use.
    Ended,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 5] =
        [Self::Connecting, Self::Waiting, Self::Loading, Self::Following, Self::Ended];
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Connecting => "connecting",
            Self::Waiting => "waiting",
            Self::Loading => "loading",
            Self::Following => "following",
            Self::Ended => "ended",
        })
    }
}

/// The figures of a worker at one moment.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What it is doing.
    pub phase: Phase,
    /// Where the database is, as far as this worker knows.
    pub position: Position,
    /// Records of the journal that are on disk and not in the database.
    pub lag_records: u64,
    /// How long ago the database had everything, in milliseconds; 0 if it has.
    pub lag_ms: u64,
    /// Events written.
    pub events: u64,
    /// Transactions that wrote events.
    pub batches: u64,
    /// How often everything was written anew.
    pub loads: u64,
    /// How often the database was lost or could not be reached.
    pub failures: u64,
    /// How often it was found with less than had been written to it: a replica that was behind has
    /// taken over, or an older copy was put back.
    pub set_back: u64,
    /// What is wrong, if anything is.
    pub trouble: Option<String>,
}

/// Where a worker's figures are read. Cheap to clone.
#[derive(Clone)]
pub struct Figures(Arc<Mutex<Kept>>);

struct Kept {
    report: Report,
    caught_up: Instant,
    events: Option<Events>,
}

impl Figures {
    pub(super) fn new() -> Self {
        let (report, caught_up) = (Report::default(), Instant::now());
        Self(Arc::new(Mutex::new(Kept { report, caught_up, events: None })))
    }

    /// The figures now.
    #[must_use]
    pub fn report(&self) -> Report {
        let kept = self.kept();
        let end = kept.events.as_ref().map_or(Position::ZERO, Events::durable);
        let mut report = kept.report.clone();
        report.lag_records = end.0.saturating_sub(report.position.0);
        if report.lag_records > 0 {
            report.lag_ms = kept.caught_up.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        }
        report
    }

    pub(super) fn begin(&self, events: &Events) {
        self.kept().events = Some(events.clone());
    }

    pub(super) fn phase(&self, phase: Phase) {
        self.kept().report.phase = phase;
    }

    /// The database is at `position`, `events` further than before.
    pub(super) fn moved(&self, position: Position, events: usize) {
        let mut kept = self.kept();
        kept.report.position = position;
        kept.report.events += events as u64;
        kept.report.batches += u64::from(events > 0);
        let has_all = kept.events.as_ref().is_some_and(|events| events.durable() <= position);
        if has_all {
            kept.caught_up = Instant::now();
        }
        // That it can be asked does not mean that it can be written to.
        let is_back = has_all || events > 0;
        if is_back && kept.report.trouble.take().is_some() {
            tracing::info!(%position, "PostgreSQL is back; it catches up");
        }
    }

    /// The database was found at `position` by a new connection. Only the figures remember where it
    /// was; nobody goes on from there.
    pub(super) fn found(&self, position: Position) {
        let mut kept = self.kept();
        let written = kept.report.position;
        if position < written {
            kept.report.set_back += 1;
            kept.report.position = position;
            tracing::warn!(
                %position,
                %written,
                "PostgreSQL has less than was written to it: a replica that was behind has taken \
                 over, or an older copy was put back; what it lacks is written again"
            );
        }
    }

    pub(super) fn loaded(&self) {
        self.kept().report.loads += 1;
    }

    /// Notes a failure, and logs it if it is another one than the last.
    pub(super) fn failed(&self, error: &Error) {
        let mut kept = self.kept();
        kept.report.failures += 1;
        kept.report.phase = Phase::Connecting;
        let text = error.to_string();
        if kept.report.trouble.as_ref() != Some(&text) {
            tracing::warn!(
                error = text,
                "PostgreSQL does not follow; trying again, nothing is lost"
            );
            kept.report.trouble = Some(text);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
