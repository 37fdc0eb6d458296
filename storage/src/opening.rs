//! How far an opening is, which may take long after a crash: figures that anybody may look at
//! meanwhile, and a line in the log every few seconds. It steers nothing.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use tracing::info;

use crate::disk;

/// A line in the log is not sooner than this after the opening's begin, or the last one.
const TOLD_EVERY: Duration = Duration::from_secs(3);

/// What an opening is at, in this order. Some steps are left out where there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum OpeningStep {
    /// It has hardly begun.
    #[default]
    Beginning,
    /// The journal's frames are checked. Counted in bytes.
    CheckingJournal,
    /// The frames of the state's log are. Counted in bytes.
    CheckingState,
    /// The state's index is made again from its log. Counted in records of the log.
    Indexing,
    /// Shards read their snapshots. Counted in shards.
    Loading,
    /// Shards apply what the journal has since. Counted in records of the journal.
    Applying,
}

/// How far an opening is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpeningProgress {
    /// What it is at.
    pub step: OpeningStep,
    /// How much of this step is done.
    pub done: u64,
    /// How much there is to do in it; 0 until it is known.
    pub total: u64,
}

/// An opening, as it may be looked at from any thread.
#[derive(Debug)]
pub struct Opening {
    now: Mutex<(OpeningProgress, Instant)>,
}

impl Default for Opening {
    fn default() -> Self {
        Self { now: Mutex::new((OpeningProgress::default(), Instant::now())) }
    }
}

impl Opening {
    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> OpeningProgress {
        disk::lock(&self.now).0
    }

    /// The next step begins, with so much to do.
    pub fn begin(&self, step: OpeningStep, total: u64) {
        disk::lock(&self.now).0 = OpeningProgress { step, done: 0, total };
    }

    /// There is so much more to do in this step.
    pub fn expect(&self, more: u64) {
        disk::lock(&self.now).0.total += more;
    }

    /// So much more of this step is done.
    pub fn add(&self, done: u64) {
        let mut now = disk::lock(&self.now);
        let (progress, told) = &mut *now;
        progress.done += done;
        if told.elapsed() < TOLD_EVERY {
            return;
        }
        *told = Instant::now();
        let OpeningProgress { step, done, total } = *progress;
        drop(now);
        info!(?step, done, total, "the store is being opened");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_step_from_its_begin() {
        let opening = Opening::default();
        assert_eq!(opening.progress(), OpeningProgress::default());
        opening.begin(OpeningStep::CheckingJournal, 0);
        opening.expect(30);
        opening.add(10);
        opening.add(20);
        let step = OpeningStep::CheckingJournal;
        assert_eq!(opening.progress(), OpeningProgress { step, done: 30, total: 30 });
        opening.begin(OpeningStep::Applying, 7);
        let step = OpeningStep::Applying;
        assert_eq!(opening.progress(), OpeningProgress { step, done: 0, total: 7 });
    }
}
