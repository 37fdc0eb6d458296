//! What arrives in a shard's mailbox. Messages carry; they do nothing themselves.

use actix::Message;
use quanta::Instant;
use tidegate_machines::Machine;
use tidegate_storage::{Position, StorageError};
use tokio::sync::{mpsc, oneshot};

use crate::durable::Durable;
use crate::{
    admission::Permit,
    error::{AskError, RestoreError},
    group::Outcome,
    replay::Seat,
};

/// One command and who wants its answer (nobody, if it comes from inside the store).
pub struct Envelope<M: Durable> {
    pub(crate) command: M::Command,
    pub(crate) reply: Option<ReplySlot<M>>,
}

impl<M: Durable> Envelope<M> {
    /// A command of a caller, and where its answer will be. If that closes without one, the outcome
    /// is unknown.
    pub(crate) fn asked(
        command: M::Command,
        permit: Permit,
    ) -> (Self, oneshot::Receiver<Outcome<M>>) {
        let (sender, receiver) = oneshot::channel();
        let reply = Some(ReplySlot { way: Way::One(sender), permit });
        (Self { command, reply }, receiver)
    }

    /// A command as one of many of a caller: its answer goes to `sender` under `number`.
    pub(crate) fn asked_among(
        command: M::Command,
        permit: Permit,
        number: usize,
        sender: mpsc::UnboundedSender<Numbered<M>>,
    ) -> Self {
        Self { command, reply: Some(ReplySlot { way: Way::Among(number, sender), permit }) }
    }

    /// A command from inside the store.
    #[must_use]
    pub fn told(command: M::Command) -> Self {
        Self { command, reply: None }
    }
}

/// The answer to one of many questions that were asked together, with its number among them.
pub(crate) type Numbered<M> = (usize, Outcome<M>);

/// Where an answer goes. Gives the caller's credit back when it is used or dropped.
pub(crate) struct ReplySlot<M: Durable> {
    way: Way<M>,
    permit: Permit,
}

enum Way<M: Durable> {
    /// To who asks this alone.
    One(oneshot::Sender<Outcome<M>>),
    /// To who asks many things together.
    Among(usize, mpsc::UnboundedSender<Numbered<M>>),
}

impl<M: Durable> ReplySlot<M> {
    pub(crate) fn send(self, outcome: Outcome<M>) {
        // A caller who has gone away loses only the answer.
        match self.way {
            Way::One(sender) => drop(sender.send(outcome)),
            Way::Among(number, sender) => drop(sender.send((number, outcome))),
        }
    }

    /// Sends an answer of the machine, at `now`.
    pub(crate) fn answer(self, outcome: Outcome<M>, now: Instant) {
        self.permit.answered(now);
        self.send(outcome);
    }

    pub(crate) fn unavailable(self, error: &StorageError) {
        self.send(Err(AskError::Unavailable { why: error.to_string() }));
    }
}

/// There are commands at the front.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Wake;

/// The mailbox is drained: journal what was decided.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Commit;

/// The journal's word, see [`super::Shard::committed`].
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Committed(pub(crate) Result<Position, StorageError>);

/// What to do with a machine and the position that it stands for.
pub type Look<M> = Box<dyn FnOnce(&M, Position) + Send>;

/// Run this with the machine.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Inspect<M: Machine>(pub(crate) Look<M>);

/// Rebuild the machine, then begin.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Restore {
    pub(crate) seat: Option<Seat>,
    pub(crate) ready: oneshot::Sender<Result<(), RestoreError>>,
}
