//! The stateless first stop of a command: one front per core and kind. It turns single commands
//! from any number of threads into one batch per shard. It knows no state and no rule, so any
//! number of fronts may run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::{Actor, Addr, Context, Handler, Message};

use crate::{
    durable::Durable,
    shard::{Commands, Envelope, ShardActor},
};

/// Where callers leave commands for a front. Only the first one of a batch costs a message, so
/// under load a command costs one short lock instead of a mailbox slot and a wake-up.
pub(crate) struct Intake<M: Durable> {
    /// `None` once the front has gone: whoever asks then is answered at once, not left waiting.
    commands: Mutex<Option<Addressed<M>>>,
}

/// Commands, each with its shard.
type Addressed<M> = Vec<(u16, Envelope<M>)>;

impl<M: Durable> Intake<M> {
    fn lock(&self) -> MutexGuard<'_, Option<Addressed<M>>> {
        // No user code runs under this lock, so its content is whole even after a panic.
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves `commands`; returns whether the front must be woken.
    fn leave(&self, shard: u16, command: Envelope<M>) -> bool {
        let mut commands = self.lock();
        let Some(commands) = &mut *commands else { return false };
        commands.push((shard, command));
        commands.len() == 1
    }
}

/// Takes what is in `batch` and leaves room for as much again: the next batch is about as large,
/// and should not have to grow there step by step.
pub(crate) fn take_keeping_room<T>(batch: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(batch.len());
    std::mem::replace(batch, room)
}

/// A front's address.
pub(crate) struct FrontHandle<M: Durable> {
    intake: Arc<Intake<M>>,
    front: Addr<Front<M>>,
}

impl<M: Durable> FrontHandle<M> {
    /// Hands a command over; never waits.
    pub(crate) fn submit(&self, shard: u16, command: Envelope<M>) {
        if self.intake.leave(shard, command) {
            self.front.do_send(Wake);
        }
    }
}

/// There is something in the intake.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Wake;

/// See the module.
pub(crate) struct Front<M: Durable> {
    intake: Arc<Intake<M>>,
    shards: Arc<[Addr<ShardActor<M>>]>,
    taken: Addressed<M>,
    batches: Vec<Vec<Envelope<M>>>,
}

impl<M: Durable> Front<M> {
    pub(crate) fn start(
        arbiter: &actix_rt::ArbiterHandle,
        shards: Arc<[Addr<ShardActor<M>>]>,
    ) -> FrontHandle<M> {
        let intake = Arc::new(Intake { commands: Mutex::new(Some(Vec::new())) });
        let front = Self {
            intake: Arc::clone(&intake),
            batches: shards.iter().map(|_| Vec::new()).collect(),
            shards,
            taken: Vec::new(),
        };
        FrontHandle { intake, front: Self::start_in_arbiter(arbiter, |_| front) }
    }
}

impl<M: Durable> Drop for Front<M> {
    fn drop(&mut self) {
        drop(self.intake.lock().take());
    }
}

/// Nothing in a front is ever pinned, whatever its machine's types are.
impl<M: Durable> Unpin for Front<M> {}

impl<M: Durable> Actor for Front<M> {
    type Context = Context<Self>;
}

impl<M: Durable> Handler<Wake> for Front<M> {
    type Result = ();

    fn handle(&mut self, _: Wake, _: &mut Context<Self>) {
        if let Some(commands) = &mut *self.intake.lock() {
            std::mem::swap(commands, &mut self.taken);
        }
        for (shard, command) in self.taken.drain(..) {
            self.batches[usize::from(shard)].push(command);
        }
        for (batch, shard) in self.batches.iter_mut().zip(&*self.shards) {
            if !batch.is_empty() {
                shard.do_send(Commands(take_keeping_room(batch)));
            }
        }
    }
}
