//! The shard: what owns a machine. decide → apply → journal → release.
//!
//! It holds every reply until what the reply was derived from is durable, and hands effects on as
//! soon as their cause has its place in the journal. It never waits for the disk itself, and knows
//! nothing of what its machine decides. Nor does it know what runs it: that is a [`Host`], an actor
//! in a store, a simulation in tests.

mod actor;
mod messages;
mod release;
mod restore;
mod supervise;
#[cfg(test)]
mod tests;
mod turn;

pub use restore::{Rebuilt, rebuild, rebuild_from};

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tidegate_machines::{Answer, Timestamp};
use tidegate_storage::{Batch, Journal, Position, State, StorageError, Urgency};

use crate::{
    clock::Clock,
    door::Door,
    durable::{Deliver, Durable},
    error::AskError,
    front::Front,
    observe::{Phase, ShardGauges},
    shown::Shown,
};
pub(crate) use actor::ShardActor;
pub use messages::{Envelope, Look};
pub(crate) use messages::{Inspect, Numbered, ReplySlot, Restore, Wake};
use release::{Held, Waiting};
use supervise::{HeldUp, RestartLog};
use turn::{Ready, Turn};
pub(crate) use turn::{guarded, panic_text};

/// Due commands decided at one look; the rest follows at the next, so that expiry of very many
/// orders at one moment doesn't keep callers waiting.
const DUE_PER_LOOK_MAX: usize = 8;

/// Bounds of a shard, each with its unit.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// Commands from callers in flight per shard; one more is `Overloaded`.
    pub in_flight_max: usize,
    /// A batch this large is journalled before the mailbox is drained.
    pub batch_bytes_max: usize,
    /// Rebuilds after panics within `restart_window_ms`; one more and the shard stays down.
    pub restarts_max: usize,
    /// See `restarts_max`.
    pub restart_window_ms: u64,
    /// A caller waits this long for other shards; then the outcome is told to be unknown.
    pub answer_ms_max: u64,
}

impl Default for ShardOptions {
    fn default() -> Self {
        Self {
            in_flight_max: 16_384,
            batch_bytes_max: 32 << 10,
            restarts_max: 5,
            restart_window_ms: 60_000,
            answer_ms_max: 30_000,
        }
    }
}

/// What all shards of one kind share.
pub struct Kit<M> {
    /// The one journal of the store.
    pub journal: Arc<dyn Journal>,
    /// Snapshots and resting entities.
    pub state: Arc<dyn State>,
    /// The store's clock.
    pub clock: Arc<Clock>,
    /// Makes the machine of shard *i* as it is before its first event.
    pub fresh: Box<dyn Fn(u16) -> M + Send + Sync>,
    /// Bounds.
    pub options: ShardOptions,
}

/// What a shard needs of whoever runs it.
pub trait Host {
    /// Have [`Shard::end_turn`] called when everything has been taken that is there by now: all of
    /// it then shares one batch.
    fn commit_soon(&mut self);

    /// Brings the journal's word to [`Shard::committed`]. Called on the journal's thread.
    fn tell(&self) -> impl FnOnce(Result<Position, StorageError>) + Send + 'static;

    /// The machine has panicked: have it rebuilt, and nothing taken before that.
    fn rebuild(&mut self);
}

/// Where a shard is in its life, with what it has there.
enum Life {
    /// Commands wait in `queue` or in the mailbox.
    Restoring,
    /// Its machine is shown.
    Running,
    Poisoned(StorageError),
    Dead,
}

/// See the module.
pub struct Shard<M: Durable> {
    index: u16,
    kit: Arc<Kit<M>>,
    gauges: Arc<ShardGauges>,
    post: Box<dyn Deliver<M>>,
    life: Life,
    /// The machine, while it runs.
    shown: Arc<Shown<M>>,
    queue: VecDeque<Envelope<M>>,
    turn: Turn<M>,
    commit_scheduled: bool,
    /// The last position this shard was given.
    last: Position,
    held: Arc<Held<Ready<M>>>,
    /// Effects that wait for durability, with the position that must be on disk first.
    leaving: VecDeque<(Position, Vec<M::Effect>)>,
    waiting: Waiting<M>,
    restarts: RestartLog,
    held_up: HeldUp,
    /// It is down with effects unsent, which say what has become of commands.
    mute: bool,
}

impl<M: Durable> Shard<M> {
    /// Shard `index`, whose figures are seen through `door`. It takes commands once it is rebuilt.
    #[must_use]
    pub fn new(index: u16, kit: Arc<Kit<M>>, door: &Door<M>, post: Box<dyn Deliver<M>>) -> Self {
        let turn = Turn::new(M::KIND.stream(index), kit.journal.batch_bytes_max());
        let restarts = RestartLog::new(kit.options.restarts_max, kit.options.restart_window_ms);
        Self {
            index,
            kit,
            gauges: door.gauges(),
            post,
            life: Life::Restoring,
            shown: door.shown(),
            queue: VecDeque::new(),
            turn,
            commit_scheduled: false,
            last: Position::ZERO,
            held: Arc::new(Held::new(door.gauges())),
            leaving: VecDeque::new(),
            waiting: Waiting::default(),
            restarts,
            held_up: HeldUp::default(),
            mute: false,
        }
    }

    /// Takes commands, in their order.
    pub fn take(&mut self, commands: Vec<Envelope<M>>, host: &mut impl Host) {
        self.queue.extend(commands);
        self.go_on(host);
    }

    /// Takes what was left at `front`.
    pub(crate) fn take_from(&mut self, front: &Front<Envelope<M>>, host: &mut impl Host) {
        front.take(&mut self.queue);
        self.go_on(host);
    }

    fn go_on(&mut self, host: &mut impl Host) {
        match self.life {
            Life::Running => self.drain(host),
            Life::Restoring => {}
            Life::Poisoned(_) | Life::Dead => self.refuse_queued(),
        }
    }

    /// Decides what is queued. Ends early when the machine panics: the rest waits for the rebuild.
    fn drain(&mut self, host: &mut impl Host) {
        let now = self.kit.clock.now();
        while matches!(self.life, Life::Running) {
            let Some(envelope) = self.queue.pop_front() else { break };
            self.decide(envelope, now, host);
            if self.turn.size() >= self.kit.options.batch_bytes_max {
                self.commit(host);
            }
        }
        if self.turn.has_work() && !self.commit_scheduled {
            // Runs once the mailbox is empty: everything that has queued up shares one batch.
            self.commit_scheduled = true;
            host.commit_soon();
        }
    }

    fn decide(&mut self, envelope: Envelope<M>, now: Timestamp, host: &mut impl Host) {
        let Envelope { command, reply } = envelope;
        self.gauges.commands.add(1);
        if !self.is_in_line(&command) {
            return;
        }
        let mut taken = self.try_decide(&command, now);
        if let Some(Err(turn::Failure::NoRoom(_))) = taken {
            self.commit(host);
            taken = self.try_decide(&command, now);
        }
        match taken {
            // The commit has failed; the caller is told as everyone who waits is.
            None => {
                self.queue.push_front(Envelope { command, reply });
                self.refuse_queued();
            }
            Some(Ok(Ok(answers))) => self.settle(answers, reply),
            Some(Ok(Err(rejection))) => {
                self.gauges.rejections.add(1);
                self.turn.answer(reply, Err(AskError::Rejected(rejection)));
            }
            Some(Err(turn::Failure::Recall(error))) => {
                tracing::error!(shards = M::NAME, index = self.index, %error, "can't recall");
                self.turn.answer(reply, Err(AskError::Unavailable { why: error.to_string() }));
            }
            Some(Err(turn::Failure::NoRoom(size))) => {
                let (shards, index) = (M::NAME, self.index);
                let panic = format!("its event of {size} bytes is over the journal's bound");
                tracing::error!(shards, index, size, "an event is over the journal's bound");
                match reply {
                    None => self.hold_up(&command),
                    reply => self.turn.answer(reply, Err(AskError::Fault { shards, index, panic })),
                }
            }
            Some(Err(turn::Failure::Panic(panic))) => self.fail(&command, reply, panic, host),
        }
    }

    fn try_decide(&mut self, command: &M::Command, now: Timestamp) -> Option<turn::Taken<M>> {
        if !matches!(self.life, Life::Running) {
            return None;
        }
        Some(self.turn.take(&self.shown, command, now, &*self.kit.state, &mut *self.post))
    }

    /// Notes who is to be answered once this turn is journalled.
    fn settle(&mut self, answers: turn::Answers<M>, reply: Option<ReplySlot<M>>) {
        match answers.answer {
            Answer::Now(answer) => self.turn.answer(reply, Ok(answer)),
            Answer::Later(ticket) => {
                if let Some(reply) = reply {
                    self.waiting.add(ticket, reply);
                }
            }
            // A message of the store's own, or a caller who asked what only the store may ask.
            Answer::Nobody => drop(reply),
        }
        for (ticket, result) in answers.settles {
            self.turn.answer_all(self.waiting.take(ticket), result);
        }
    }

    /// Everything that was there has been taken: ends the turn.
    pub fn end_turn(&mut self, host: &mut impl Host) {
        self.commit_scheduled = false;
        self.commit(host);
    }

    /// Gives the turn to the journal, sends its effects, and holds its replies until it is durable.
    fn commit(&mut self, host: &mut impl Host) {
        if !self.turn.has_work() {
            return;
        }
        let done = self.turn.end();
        if let Some(batch) = done.batch {
            let urgency = if done.replies.is_empty() { Urgency::Soon } else { Urgency::Now };
            match self.append(batch, urgency, host) {
                Ok(position) => {
                    self.last = position;
                    self.shown.journalled(position);
                    self.post.journalled(position);
                }
                Err(error) => {
                    done.replies.into_iter().for_each(|reply| reply.unavailable(&error));
                    self.poison(error);
                    return;
                }
            }
        }
        self.held.hold(self.last, done.replies);
        if !done.leaving.is_empty() {
            self.leaving.push_back((self.last, done.leaving));
        }
        if self.awaits() {
            self.held.want_word();
        }
        // The cause has its place in the one journal, so its effects can only come after it.
        let sent = self.deliver(done.effects);
        self.turn.reuse(sent);
        self.gauges.waiting.set(self.waiting.len() as u64);
        // If it is there by now, the journal's word may have come before anything was held.
        if self.kit.journal.durable() >= self.last {
            self.release();
        }
    }

    fn append(
        &self,
        batch: Batch,
        urgency: Urgency,
        host: &impl Host,
    ) -> Result<Position, StorageError> {
        self.gauges.batches.add(1);
        self.gauges.events.add(u64::from(batch.count()));
        self.gauges.batch_records.count(u64::from(batch.count()));
        let (held, shown, tell) = (Arc::clone(&self.held), Arc::clone(&self.shown), host.tell());
        // Answers leave from the journal's thread. The shard is told only if it needs to know, and
        // before: whoever sees that all are answered finds its mail there.
        let done = move |result: Result<Position, StorageError>| {
            let durable = result.as_ref().ok().copied();
            if durable.is_none() || held.take_want() {
                tell(result);
            }
            if let Some(durable) = durable {
                // First, so that whoever has an answer can read at once what it says.
                shown.durable(durable);
                held.release(durable);
            }
        };
        self.kit.journal.append(batch, urgency, Box::new(done))
    }

    /// The journal's word: something has become durable, or will never be known to be.
    pub fn committed(&mut self, result: Result<Position, StorageError>) {
        match result {
            Ok(_) => self.release(),
            Err(error) => self.poison(error),
        }
    }

    /// Whether anything but answers waits for the disk.
    fn awaits(&self) -> bool {
        !self.leaving.is_empty() || self.post.awaits()
    }

    /// Releases what was held up to what is on disk.
    fn release(&mut self) {
        loop {
            let durable = self.kit.journal.durable();
            self.shown.durable(durable);
            self.held.release(durable);
            self.post.durable(durable);
            let mut leaving = Vec::new();
            while let Some((_, effects)) = self.leaving.pop_front_if(|(until, _)| *until <= durable)
            {
                leaving.extend(effects);
            }
            self.deliver(leaving);
            if !self.awaits() {
                break;
            }
            self.held.want_word();
            if self.kit.journal.durable() == durable {
                break;
            }
        }
    }

    /// Sends effects on. If that panics, what was not sent is only sent after the next open, so
    /// this shard stays down until then. Gives the list back, empty.
    fn deliver(&mut self, mut effects: Vec<M::Effect>) -> Vec<M::Effect> {
        let post = &mut self.post;
        if guarded(M::NAME, "a delivery", || post.deliver(&mut effects)).is_none() {
            self.mute = true;
            self.die();
        }
        effects.clear();
        effects
    }

    /// Storage has failed: nothing more is acknowledged, and the state, which may be ahead of the
    /// disk, is dropped.
    fn poison(&mut self, error: StorageError) {
        if !matches!(self.life, Life::Poisoned(_)) {
            tracing::error!(shards = M::NAME, index = self.index, %error, "poisoned");
        }
        self.gauges.set_phase(Phase::Poisoned);
        let replies = self.turn.end().replies;
        replies.into_iter().for_each(|reply| reply.unavailable(&error));
        self.held.drop_all(&error);
        self.leaving.clear();
        self.waiting.let_go(|| AskError::Unavailable { why: error.to_string() });
        self.leave(Life::Poisoned(error));
        self.refuse_queued();
    }

    /// From here on nothing is decided, and nothing is shown.
    fn leave(&mut self, life: Life) {
        self.hide();
        self.life = life;
    }

    /// It goes: nothing is shown any more.
    pub(crate) fn hide(&self) {
        self.shown.clear();
    }

    /// Answers what is queued when nothing can be decided any more.
    fn refuse_queued(&mut self) {
        for Envelope { command, reply } in std::mem::take(&mut self.queue) {
            match (&self.life, reply) {
                (Life::Poisoned(error), Some(reply)) => reply.unavailable(error),
                (_, Some(reply)) => {
                    reply.send(Err(AskError::Dead { shards: M::NAME, index: self.index }));
                }
                (Life::Poisoned(_), None) => {}
                // It may have been done before, with its outcome unsent.
                (_, None) if self.mute => {}
                (_, None) => drop(self.report_fault(&command)),
            }
        }
    }

    /// Looks at the time: decides what is due and lets go of those who have waited too long.
    pub fn look_at_time(&mut self, host: &mut impl Host) {
        let now = self.kit.clock.now();
        // At closing what is due waits for the next open: else a queue that is released on and on
        // would never let the store come to rest.
        let looks = if self.gauges.is_closing() { 0 } else { DUE_PER_LOOK_MAX };
        for _ in 0..looks {
            let due = || self.shown.look(|machine| machine.due(now));
            let Some(due) = guarded(M::NAME, "asking what is due", due) else {
                // It would panic at every look, and time would stand still unnoticed.
                self.die();
                break;
            };
            let Some(command) = due.flatten() else { break };
            self.decide(Envelope { command, reply: None }, now, host);
            // Applied by now, so the next look sees what is still due.
        }
        let patience = Duration::from_millis(self.kit.options.answer_ms_max);
        self.waiting.let_go_after(patience, || AskError::Unavailable {
            why: "another shard has not answered in time".to_owned(),
        });
        self.shown.look(|machine| self.gauges.queue.set(machine.queue_counts()));
        self.commit(host);
    }

    /// Runs `look` with the machine, unless the shard is down, and a position: the machine holds
    /// everything that its stream has in the journal up to there.
    pub fn inspect(&mut self, look: Look<M>, host: &mut impl Host) {
        self.commit(host);
        // All of this shard's own events are at or below `last`, so the machine also stands for any
        // later position that others have reached by now.
        let position = self.kit.journal.appended().max(self.last);
        let look = || self.shown.look(|machine| look(machine, position));
        guarded(M::NAME, "an inspection", look);
    }
}
