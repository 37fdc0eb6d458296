//! One turn of a shard: commands decided and applied, not yet journalled. Panics of the machine end
//! here. It doesn't touch the journal.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use quanta::Instant;
use tidegate_machines::{Answer, Decision, Machine, Settled, Timestamp};
use tidegate_storage::{Batch, State, StorageError, StreamId};

use super::messages::ReplySlot;
use crate::{
    codec,
    durable::{Deliver, Durable, RecallError},
    error::AskError,
    front::take_keeping_room,
    group::Outcome,
    shown::Shown,
};

/// What a batch adds to each record.
const RECORD_BYTES: usize = 4;

/// Why a command could not be decided. But for a panic, it has changed nothing.
pub(super) enum Failure {
    /// A resting entity could not be read.
    Recall(RecallError),
    /// The turn has no room for its event, of so many bytes. An empty turn may have.
    NoRoom(usize),
    /// The machine panicked; its state is not to be trusted any more.
    Panic(String),
}

/// Who is to be told what: the rest of a decision, whose event and effects are in the turn.
pub(super) struct Answers<M: Machine> {
    /// How whoever asked is answered.
    pub(super) answer: Answer<M::Reply>,
    /// Who was told to wait and now gets an answer.
    pub(super) settles: Vec<Settled<M>>,
}

/// What a command comes to.
pub(super) type Taken<M> = Result<Result<Answers<M>, <M as Machine>::Rejection>, Failure>;

/// An answer that is ready to be sent.
pub(super) struct Ready<M: Durable> {
    slot: ReplySlot<M>,
    outcome: Outcome<M>,
}

impl<M: Durable> Ready<M> {
    pub(super) fn send(self, now: Instant) {
        self.slot.answer(self.outcome, now);
    }

    pub(super) fn unavailable(self, error: &StorageError) {
        self.slot.unavailable(error);
    }
}

/// A turn that is over.
pub(super) struct Done<M: Durable> {
    pub(super) batch: Option<Batch>,
    pub(super) replies: Vec<Ready<M>>,
    /// Effects that stay in the journal's order.
    pub(super) effects: Vec<M::Effect>,
    /// Effects that wait for durability.
    pub(super) leaving: Vec<M::Effect>,
}

impl<M: Durable> Default for Done<M> {
    fn default() -> Self {
        Self { batch: None, replies: Vec::new(), effects: Vec::new(), leaving: Vec::new() }
    }
}

/// See the module.
pub(super) struct Turn<M: Durable> {
    stream: StreamId,
    /// What one batch may hold.
    bytes_max: usize,
    /// What the last batch held.
    batch_bytes: usize,
    scratch: Vec<u8>,
    done: Done<M>,
}

impl<M: Durable> Turn<M> {
    /// An empty turn; its events will belong to `stream`, and take up to `bytes_max`.
    pub(super) fn new(stream: StreamId, bytes_max: usize) -> Self {
        Self { stream, bytes_max, batch_bytes: 0, scratch: Vec::new(), done: Done::default() }
    }

    /// Decides `command` and applies its event. After a panic nothing of this command is in the
    /// turn.
    pub(super) fn take(
        &mut self,
        shown: &Shown<M>,
        command: &M::Command,
        now: Timestamp,
        state: &dyn State,
        post: &mut dyn Deliver<M>,
    ) -> Taken<M> {
        let turn = AssertUnwindSafe(|| {
            let decide = |machine: &M| {
                let first = machine.recall(command, state).map_err(Failure::Recall)?;
                Ok((first.is_some(), machine.decide(first.as_ref().unwrap_or(command), now)))
            };
            let (recalled, mut decided) = look(shown, decide)?;
            if recalled {
                // What brings an entity back can only be refused if it is there already.
                if let Ok(decision) = decided {
                    self.carry_out(shown, decision, now, post)?;
                }
                decided = look(shown, |machine| Ok(machine.decide(command, now)))?;
            }
            match decided {
                Ok(decision) => self.carry_out(shown, decision, now, post).map(Ok),
                Err(rejection) => Ok(Err(rejection)),
            }
        });
        catch_unwind(turn).unwrap_or_else(|panic| Err(Failure::Panic(panic_text(&*panic))))
    }

    fn carry_out(
        &mut self,
        shown: &Shown<M>,
        decision: Decision<M>,
        now: Timestamp,
        post: &mut dyn Deliver<M>,
    ) -> Result<Answers<M>, Failure> {
        let Decision { event, effects, answer, settles } = decision;
        self.apply(shown, event.as_ref(), now, post)?;
        self.add_effects(effects);
        Ok(Answers { answer, settles })
    }

    /// Applies before it adds to the batch: an event that its machine can't apply must never reach
    /// the journal. Encodes before it applies: one that can't be journalled must not be applied.
    fn apply(
        &mut self,
        shown: &Shown<M>,
        event: Option<&M::Event>,
        now: Timestamp,
        post: &mut dyn Deliver<M>,
    ) -> Result<(), Failure> {
        let Some(event) = event else { return Ok(()) };
        self.scratch.clear();
        codec::encode(event, &mut self.scratch)
            .map_err(|error| Failure::Panic(format!("its event can't be encoded: {error}")))?;
        let size = self.scratch.len() + RECORD_BYTES;
        if self.size() + size > self.bytes_max {
            return Err(Failure::NoRoom(size));
        }
        shown.change(now, |machine| {
            post.applying(machine, event);
            machine.apply(event);
            post.applied(machine, event);
        });
        let (stream, room) = (self.stream, self.batch_bytes);
        let fresh = || Batch::with_room(stream, now.0, room);
        let batch = self.done.batch.get_or_insert_with(fresh);
        batch.restamp(now.0);
        let Ok(()) = batch.push::<std::convert::Infallible>(|bytes| {
            bytes.extend_from_slice(&self.scratch);
            Ok(())
        });
        Ok(())
    }

    fn add_effects(&mut self, effects: Vec<M::Effect>) {
        for effect in effects {
            if M::leaves_store(&effect) {
                self.done.leaving.push(effect);
            } else {
                self.done.effects.push(effect);
            }
        }
    }

    /// Answers one caller, if there is one, once the turn is durable.
    pub(super) fn answer(&mut self, slot: Option<ReplySlot<M>>, outcome: Outcome<M>) {
        if let Some(slot) = slot {
            self.done.replies.push(Ready { slot, outcome });
        }
    }

    /// Answers everyone who waited for the same thing.
    pub(super) fn answer_all(
        &mut self,
        slots: impl Iterator<Item = ReplySlot<M>>,
        outcome: Result<M::Reply, M::Rejection>,
    ) {
        let outcome = outcome.map_err(AskError::Rejected);
        slots.for_each(|slot| self.answer(Some(slot), outcome.clone()));
    }

    /// Bytes that this turn will write.
    pub(super) fn size(&self) -> usize {
        self.done.batch.as_ref().map_or(0, Batch::size)
    }

    pub(super) fn has_work(&self) -> bool {
        let Done { batch, replies, effects, leaving } = &self.done;
        batch.is_some() || !(replies.is_empty() && effects.is_empty() && leaving.is_empty())
    }

    /// Ends the turn.
    pub(super) fn end(&mut self) -> Done<M> {
        let done = &mut self.done;
        self.batch_bytes = done.batch.as_ref().map_or(self.batch_bytes, Batch::size);
        Done {
            batch: done.batch.take(),
            replies: take_keeping_room(&mut done.replies),
            effects: std::mem::take(&mut done.effects),
            leaving: std::mem::take(&mut done.leaving),
        }
    }

    /// Effects of the next turn are kept where those of an ended one were, which are `sent`.
    pub(super) fn reuse(&mut self, sent: Vec<M::Effect>) {
        if self.done.effects.is_empty() {
            self.done.effects = sent;
        }
    }
}

/// What `look` makes of the machine, which is there while its shard runs.
fn look<M, T>(shown: &Shown<M>, look: impl FnOnce(&M) -> Result<T, Failure>) -> Result<T, Failure> {
    let gone = || Err(Failure::Panic("its machine is gone".to_owned()));
    shown.look(look).unwrap_or_else(gone)
}

/// Runs code that is not the shard's own where a panic would take the actor and its mailbox along.
pub(crate) fn guarded<T>(shards: &str, what: &str, run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run))
        .inspect_err(|panic| {
            tracing::error!(shards, panic = panic_text(&**panic), "{what} has panicked");
        })
        .ok()
}

/// The message of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
