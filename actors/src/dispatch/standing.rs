//! How an open group stands, for operators: what it has at hand, how it tries again, and a line in
//! the log for each message that is given up. It hands nothing out.

use std::sync::atomic::Ordering;

use tidegate_machines::{DeadLetter, Retry, Timestamp};

use super::{ConsumeError, Dispatcher, Shared, invalid};

/// Most characters of a cause that are logged; all that is kept of it is in the dead letter.
const CAUSE_LOGGED_CHARS: usize = 200;

/// How an open group stands at one moment, as the present process knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupFigures {
    /// Messages at hand that are not resolved: up to 1,024 or 8 MiB of them.
    pub open: usize,
    /// Whether the group reads on, so that there are no more than those. What came in the last
    /// moment may be missing.
    pub reads_on: bool,
    /// When the oldest of them was published.
    pub oldest_at: Option<Timestamp>,
    /// How long ago that was, in milliseconds.
    pub oldest_age_ms: Option<u64>,
    /// Those of them that somebody has.
    pub leased: usize,
    /// Attempts after the first of a message, since the group was opened.
    pub retries: u64,
    /// How often messages were found to be no longer kept, since the group was opened.
    pub trimmed: u64,
    /// When a message is given up.
    pub retry: Retry,
}

impl Dispatcher {
    /// How the group stands.
    #[must_use]
    pub fn figures(&self) -> GroupFigures {
        let now = self.shared.means.clock.now();
        let work = self.shared.work();
        let (open, leased) = work.desk.counts();
        let oldest_at = work.desk.oldest_at();
        GroupFigures {
            open,
            reads_on: work.desk.has_room() && work.ended.is_none() && work.failing.is_none(),
            oldest_at,
            oldest_age_ms: oldest_at.map(|at| now.0.saturating_sub(at.0)),
            leased,
            retries: self.shared.retries.load(Ordering::Relaxed),
            trimmed: self.shared.trimmed.load(Ordering::Relaxed),
            retry: work.retry,
        }
    }

    /// From now on messages are tried so often, and so far apart. Those that wait already wait as
    /// long as they were to.
    ///
    /// # Errors
    /// A value out of bounds.
    pub fn set_retry(&self, retry: Retry) -> Result<(), ConsumeError> {
        retry.check().map_err(invalid)?;
        self.shared.work().retry = retry;
        Ok(())
    }
}

impl Shared {
    /// A message is a dead letter now: a line for operators.
    pub(super) fn tell_of(&self, dead: &DeadLetter) {
        let (topic, group) = (&self.means.of.topic, &self.means.of.group);
        let (id, attempts) = (dead.letter.id, dead.attempts);
        let cause: String = dead.cause.chars().take(CAUSE_LOGGED_CHARS).collect();
        tracing::warn!(%topic, %group, %id, attempts, cause, "a message is a dead letter now");
    }
}
