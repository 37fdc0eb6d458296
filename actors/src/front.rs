//! What stands in front of a shard's mailbox: callers and other shards, on any threads, leave
//! commands there, and the shard takes all of them at once. It knows no state and no rule, and
//! wakes nobody itself.

use std::{collections::VecDeque, sync::PoisonError};

use crate::sync::{Mutex, MutexGuard};

/// Where commands for one shard are left. Only the first one of a batch costs a message, so under
/// load a command costs one short lock instead of a mailbox slot and a wake-up.
pub(crate) struct Front<T> {
    /// `None` once the shard has gone: whoever asks then is answered at once, not left waiting.
    commands: Mutex<Option<VecDeque<T>>>,
}

impl<T> Default for Front<T> {
    fn default() -> Self {
        Self { commands: Mutex::new(Some(VecDeque::new())) }
    }
}

impl<T> Front<T> {
    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<T>>> {
        // No user code runs under this lock, so its content is whole even after a panic.
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves `more`, in order; returns whether the shard must be woken.
    pub(crate) fn leave(&self, more: impl IntoIterator<Item = T>) -> bool {
        let mut commands = self.lock();
        let Some(commands) = &mut *commands else { return false };
        let was_empty = commands.is_empty();
        commands.extend(more);
        was_empty && !commands.is_empty()
    }

    /// Moves all that was left behind what is in `queue`.
    pub(crate) fn take(&self, queue: &mut VecDeque<T>) {
        if let Some(commands) = &mut *self.lock() {
            if queue.is_empty() {
                // Nothing is copied, and what is left next finds room.
                std::mem::swap(commands, queue);
            } else {
                queue.append(commands);
            }
        }
    }

    /// The shard goes: drops what was left, and what will be.
    pub(crate) fn end(&self) {
        drop(self.lock().take());
    }
}

/// Takes what is in `batch` and leaves room for as much again: the next batch is about as large,
/// and should not have to grow there step by step.
pub(crate) fn take_keeping_room<T>(batch: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(batch.len());
    std::mem::replace(batch, room)
}

/// Every order of events that loom can think of.
#[cfg(all(test, tidegate_loom))]
mod loom_tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn loom_a_shard_that_is_woken_finds_every_command() {
        loom::model(|| {
            let front = Arc::new(Front::default());
            let (wake, woken) = loom::sync::mpsc::channel();
            let callers: Vec<_> = (1..=2)
                .map(|caller| {
                    let (front, wake) = (Arc::clone(&front), wake.clone());
                    loom::thread::spawn(move || {
                        if front.leave([caller]) {
                            wake.send(()).unwrap();
                        }
                    })
                })
                .collect();
            let mut found = VecDeque::new();
            while found.len() < 2 {
                // If a command was left without a wake, this would never return.
                woken.recv().unwrap();
                front.take(&mut found);
            }
            callers.into_iter().for_each(|caller| caller.join().unwrap());
            found.make_contiguous().sort_unstable();
            assert_eq!(found, [1, 2]);
        });
    }

    #[test]
    fn loom_nobody_is_left_waiting_for_a_front_that_has_gone() {
        loom::model(|| {
            let (front, command) = (Arc::new(Front::default()), Arc::new(()));
            let caller = loom::thread::spawn({
                let (front, command) = (Arc::clone(&front), Arc::clone(&command));
                move || front.leave([command])
            });
            front.end();
            caller.join().unwrap();
            assert_eq!(Arc::strong_count(&command), 1, "a command is kept that nobody will do");
        });
    }
}
