//! The one idea: a machine decides and applies. It never learns how its events are kept, who
//! asks, or what time it is unless it is told.

use crate::Timestamp;

/// A pure, deterministic state machine that a shard makes durable.
///
/// The shell around it journals the event of each decision, holds the answer back until that event
/// is on disk, and rebuilds the state by applying the journalled events again.
pub trait Machine: Sized {
    /// What can be asked of the machine, by a caller or by another shard.
    type Command;
    /// What has happened. The journal holds events; `apply` is all that replay uses.
    type Event;
    /// The good answer to a command.
    type Reply;
    /// The expected refusal of a command. A refusal changes nothing.
    type Rejection;
    /// A message to another shard, or to the projector, as data.
    type Effect;

    /// Decides `command` at time `now` without changing anything.
    ///
    /// # Errors A rejection says why the command is refused; the state stays as it is and nothing
    /// is written.
    fn decide(
        &self,
        command: &Self::Command,
        now: Timestamp,
    ) -> Result<Decision<Self>, Self::Rejection>;

    /// Changes the state by what has happened. Infallible and deterministic: the same events in the
    /// same order give the same state, today and at any replay.
    fn apply(&mut self, event: &Self::Event);

    /// The effects that are still open. The shell delivers them again after a recovery, so every
    /// receiver must know a repeated one.
    fn outstanding(&self) -> Vec<Self::Effect>;

    /// The command that the passing of time itself gives, if one is due at `now`. The shell decides
    /// it like any other and asks again until there is none.
    fn due(&self, _now: Timestamp) -> Option<Self::Command> {
        None
    }
}

/// What a machine wants to happen for one command: at most one event, so a command is atomic by
/// construction.
pub struct Decision<M: Machine> {
    /// What is journalled and applied. `None`: nothing changes (a read, a repeated message).
    pub event: Option<M::Event>,
    /// Messages to send once the event is in the journal's order. Each must be derivable again from
    /// the state (see [`Machine::outstanding`]) until its receiver has answered.
    pub effects: Vec<M::Effect>,
    /// How whoever asked is answered.
    pub answer: Answer<M::Reply>,
    /// Askers that were told to wait ([`Answer::Later`]) and now get their answer.
    pub settles: Vec<Settled<M>>,
}

/// A ticket with the answer that whoever waits for it now gets.
pub type Settled<M> = (Ticket, Result<<M as Machine>::Reply, <M as Machine>::Rejection>);

/// Names those who wait for the same later answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// What is waited for: the number of an entity of this machine.
    pub subject: u64,
    /// Which of its answers: the machine's own numbering.
    pub purpose: u8,
}

/// How a decided command is answered. The shell releases each answer only when everything that it
/// was derived from is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<R> {
    /// With this reply.
    Now(R),
    /// When a later decision settles this ticket.
    Later(Ticket),
    /// Nobody asked: a message from another shard, or from time.
    Nobody,
}

impl<M: Machine> Decision<M> {
    /// Answers without changing anything.
    #[inline]
    pub fn reply(reply: M::Reply) -> Self {
        Self { answer: Answer::Now(reply), ..Self::nothing() }
    }

    /// Answers later, without changing anything now.
    #[must_use]
    #[inline]
    pub fn later(ticket: Ticket) -> Self {
        Self { answer: Answer::Later(ticket), ..Self::nothing() }
    }

    /// Changes nothing and answers nobody: what a repeated message deserves.
    #[must_use]
    #[inline]
    pub fn nothing() -> Self {
        Self { event: None, effects: Vec::new(), answer: Answer::Nobody, settles: Vec::new() }
    }

    /// Journals `event`; add the rest with the methods below.
    #[inline]
    pub fn event(event: M::Event) -> Self {
        Self { event: Some(event), ..Self::nothing() }
    }

    /// Sets the answer.
    #[must_use]
    #[inline]
    pub fn answered(mut self, answer: Answer<M::Reply>) -> Self {
        self.answer = answer;
        self
    }

    /// Adds an effect.
    #[must_use]
    #[inline]
    pub fn with_effect(mut self, effect: M::Effect) -> Self {
        self.effects.reserve_exact(1);
        self.effects.push(effect);
        self
    }

    /// Adds several effects.
    #[must_use]
    #[inline]
    pub fn with_effects(mut self, effects: impl IntoIterator<Item = M::Effect>) -> Self {
        if self.effects.is_empty() {
            // As long as they are, no longer.
            self.effects = effects.into_iter().collect();
        } else {
            self.effects.extend(effects);
        }
        self
    }

    /// Settles a ticket.
    #[must_use]
    #[inline]
    pub fn settling(mut self, ticket: Ticket, result: Result<M::Reply, M::Rejection>) -> Self {
        self.settles.reserve_exact(1);
        self.settles.push((ticket, result));
        self
    }
}
