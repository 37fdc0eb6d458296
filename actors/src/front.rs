//! The stateless first stop of a command: one front per core and kind. It turns single commands
//! from any number of threads into one batch per shard. It knows no state and no rule, so any
//! number of fronts may run.

use std::sync::{Arc, PoisonError};

use actix::{Actor, Addr, Context, Handler, Message};

use crate::{
    durable::Durable,
    shard::{Commands, Envelope, ShardActor},
    sync::{Mutex, MutexGuard},
};

/// Where callers leave commands for a front. Only the first one of a batch costs a message, so
/// under load a command costs one short lock instead of a mailbox slot and a wake-up.
struct Intake<T> {
    /// `None` once the front has gone: whoever asks then is answered at once, not left waiting.
    commands: Mutex<Option<Vec<T>>>,
}

/// A command with its shard.
pub(crate) type Addressed<M> = (u16, Envelope<M>);

impl<T> Intake<T> {
    fn new() -> Self {
        Self { commands: Mutex::new(Some(Vec::new())) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<T>>> {
        // No user code runs under this lock, so its content is whole even after a panic.
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves `more`; returns whether the front must be woken.
    fn leave(&self, more: impl IntoIterator<Item = T>) -> bool {
        let mut commands = self.lock();
        let Some(commands) = &mut *commands else { return false };
        let was_empty = commands.is_empty();
        commands.extend(more);
        was_empty && !commands.is_empty()
    }

    /// Swaps all that was left with `empty`.
    fn take(&self, empty: &mut Vec<T>) {
        if let Some(commands) = &mut *self.lock() {
            std::mem::swap(commands, empty);
        }
    }

    /// The front goes: drops what was left, and what will be.
    fn end(&self) {
        drop(self.lock().take());
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
    intake: Arc<Intake<Addressed<M>>>,
    front: Addr<Front<M>>,
}

impl<M: Durable> FrontHandle<M> {
    /// Hands commands over, all at once; never waits.
    pub(crate) fn submit(&self, commands: impl IntoIterator<Item = Addressed<M>>) {
        if self.intake.leave(commands) {
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
    intake: Arc<Intake<Addressed<M>>>,
    shards: Arc<[Addr<ShardActor<M>>]>,
    taken: Vec<Addressed<M>>,
    batches: Vec<Vec<Envelope<M>>>,
}

impl<M: Durable> Front<M> {
    pub(crate) fn start(
        arbiter: &actix_rt::ArbiterHandle,
        shards: Arc<[Addr<ShardActor<M>>]>,
    ) -> FrontHandle<M> {
        let intake = Arc::new(Intake::new());
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
        self.intake.end();
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
        self.intake.take(&mut self.taken);
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

/// Every order of events that loom can think of.
#[cfg(all(test, tidegate_loom))]
mod loom_tests {
    use super::*;

    #[test]
    fn loom_a_front_that_is_woken_finds_every_command() {
        loom::model(|| {
            let intake = Arc::new(Intake::new());
            let (wake, woken) = loom::sync::mpsc::channel();
            let callers: Vec<_> = (1..=2)
                .map(|caller| {
                    let (intake, wake) = (Arc::clone(&intake), wake.clone());
                    loom::thread::spawn(move || {
                        if intake.leave([caller]) {
                            wake.send(()).unwrap();
                        }
                    })
                })
                .collect();
            let (mut found, mut taken) = (Vec::new(), Vec::new());
            while found.len() < 2 {
                // If a command was left without a wake, this would never return.
                woken.recv().unwrap();
                intake.take(&mut taken);
                found.append(&mut taken);
            }
            callers.into_iter().for_each(|caller| caller.join().unwrap());
            found.sort_unstable();
            assert_eq!(found, [1, 2]);
        });
    }

    #[test]
    fn loom_nobody_is_left_waiting_for_a_front_that_has_gone() {
        loom::model(|| {
            let (intake, command) = (Arc::new(Intake::new()), Arc::new(()));
            let caller = loom::thread::spawn({
                let (intake, command) = (Arc::clone(&intake), Arc::clone(&command));
                move || intake.leave([command])
            });
            intake.end();
            caller.join().unwrap();
            assert_eq!(Arc::strong_count(&command), 1, "a command is kept that nobody will do");
        });
    }
}
