//! What happens when a machine panics: the command that caused it is answered and never tried
//! again, what was decided before it stands, what is queued behind it is kept, and the state is
//! rebuilt. Too many panics in a short time and the shard stays down. Other shards don't notice.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use quanta::Instant;

use super::{Host, Life, ReplySlot, Shard, turn};
use crate::{durable::Durable, error::AskError, observe::Phase};

/// When a shard was restarted of late.
pub(super) struct RestartLog {
    times: VecDeque<Instant>,
    restarts_max: usize,
    window: Duration,
}

impl RestartLog {
    pub(super) fn new(restarts_max: usize, window_ms: u64) -> Self {
        Self { times: VecDeque::new(), restarts_max, window: Duration::from_millis(window_ms) }
    }

    /// Notes a restart at `now`; false if it is one too many.
    fn allow(&mut self, now: Instant) -> bool {
        while self.times.pop_front_if(|time| *time + self.window <= now).is_some() {}
        self.times.push_back(now);
        self.times.len() <= self.restarts_max
    }
}

/// Where lines of commands that must be decided in order are held up: by what they are about, the
/// number of the command that failed, and whether its sender was told that it will not be done.
#[derive(Default)]
pub(super) struct HeldUp(HashMap<u64, (u64, bool)>);

impl<M: Durable> Shard<M> {
    /// Whether `command` may be decided now. One behind a command that failed may not, until that
    /// one is sent again: it would find what it builds on undone.
    pub(super) fn is_in_line(&mut self, command: &M::Command) -> bool {
        if self.held_up.0.is_empty() {
            return true;
        }
        let Some((subject, number)) = M::place_in_line(command) else { return true };
        match self.held_up.0.get(&subject) {
            // Its sender has been told: a copy of it must not be done after all.
            Some((failed, true)) if number == *failed => {
                self.report_fault(command);
                false
            }
            Some((failed, false)) if number == *failed => {
                self.held_up.0.remove(&subject);
                true
            }
            Some((failed, told)) => *told || number < *failed,
            None => true,
        }
    }

    pub(super) fn fail(
        &mut self,
        command: &M::Command,
        reply: Option<ReplySlot<M>>,
        panic: String,
        host: &mut impl Host,
    ) {
        let (shards, index) = (M::NAME, self.index);
        tracing::error!(shards, index, panic, "machine panicked; the command is refused");
        self.commit(host);
        if let Some(reply) = reply {
            reply.send(Err(AskError::Fault { shards, index, panic }));
        } else {
            self.hold_up(command);
        }
        if matches!(self.life, Life::Poisoned(_) | Life::Dead) {
            return;
        }
        if self.restarts.allow(Instant::now()) {
            self.gauges.restarts.add(1);
            // The state is half-changed: forget it now, so that nothing is decided on it.
            self.leave(Life::Restoring);
            host.rebuild();
        } else {
            tracing::error!(shards, index, "too many panics; it stays down until reopened");
            self.die();
        }
    }

    /// `command`, of another shard, could not be done: what is behind it in its line has to wait.
    pub(super) fn hold_up(&mut self, command: &M::Command) {
        let told = self.report_fault(command);
        if let Some((subject, number)) = M::place_in_line(command) {
            self.held_up.0.insert(subject, (number, told));
        }
    }

    /// Tells the shard that sent `command` that it will not be done here; whether there was
    /// anything to tell.
    pub(super) fn report_fault(&mut self, command: &M::Command) -> bool {
        let fault = turn::guarded(M::NAME, "a fault report", || M::fault(command)).flatten();
        let Some(effect) = fault else { return false };
        let post = &mut self.post;
        turn::guarded(M::NAME, "a delivery", || post.deliver(&mut vec![effect]));
        true
    }

    pub(super) fn die(&mut self) {
        self.leave(Life::Dead);
        self.gauges.set_phase(Phase::Dead);
        // Their commands are in the journal, and will be driven on after the next open.
        let why = || format!("{} shard {} is down", M::NAME, self.index);
        self.waiting.let_go(|| AskError::Unavailable { why: why() });
        self.refuse_queued();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_are_counted_within_their_window() {
        let (begin, ms) = (Instant::now(), Duration::from_millis);
        let mut log = RestartLog::new(2, 100);
        assert!(log.allow(begin));
        assert!(log.allow(begin + ms(50)));
        assert!(!log.allow(begin + ms(99)));
        assert!(!log.allow(begin + ms(140)), "50, 99 and 140 are within 100 ms");
        assert!(log.allow(begin + ms(300)));
    }
}
