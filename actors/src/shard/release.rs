//! Answers on their way out: those held until they are durable, and callers who wait for other
//! shards. Nothing here decides what an answer says.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use quanta::Instant;
use tidegate_machines::Ticket;
use tidegate_storage::{Position, StorageError};

use super::{messages::ReplySlot, turn::Ready};
use crate::{durable::Durable, error::AskError};

/// Replies and leaving effects, by the position that must be durable first.
pub(super) struct Held<M: Durable> {
    turns: VecDeque<HeldTurn<M>>,
    replies: usize,
}

struct HeldTurn<M: Durable> {
    until: Position,
    replies: Vec<Ready<M>>,
    leaving: Vec<M::Effect>,
}

impl<M: Durable> Default for Held<M> {
    fn default() -> Self {
        Self { turns: VecDeque::new(), replies: 0 }
    }
}

impl<M: Durable> Held<M> {
    pub(super) fn hold(
        &mut self,
        until: Position,
        replies: Vec<Ready<M>>,
        leaving: Vec<M::Effect>,
    ) {
        if !(replies.is_empty() && leaving.is_empty()) {
            self.replies += replies.len();
            self.turns.push_back(HeldTurn { until, replies, leaving });
        }
    }

    /// Sends every reply that `durable` covers; returns the effects that may leave now.
    pub(super) fn release(&mut self, durable: Position) -> Vec<M::Effect> {
        let mut leaving = Vec::new();
        if self.turns.is_empty() {
            return leaving;
        }
        let now = Instant::now();
        while let Some(turn) = self.turns.pop_front_if(|turn| turn.until <= durable) {
            self.replies -= turn.replies.len();
            turn.replies.into_iter().for_each(|reply| reply.send(now));
            leaving.extend(turn.leaving);
        }
        leaving
    }

    pub(super) fn drop_all(&mut self, error: &StorageError) {
        self.replies = 0;
        for turn in self.turns.drain(..) {
            turn.replies.into_iter().for_each(|reply| reply.unavailable(error));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.replies
    }
}

/// Callers whose answer a later command will settle.
pub(super) struct Waiting<M: Durable> {
    callers: HashMap<Ticket, Vec<(Instant, ReplySlot<M>)>>,
}

impl<M: Durable> Default for Waiting<M> {
    fn default() -> Self {
        Self { callers: HashMap::new() }
    }
}

impl<M: Durable> Waiting<M> {
    pub(super) fn add(&mut self, ticket: Ticket, reply: ReplySlot<M>) {
        self.callers.entry(ticket).or_default().push((Instant::now(), reply));
    }

    pub(super) fn take(&mut self, ticket: Ticket) -> impl Iterator<Item = ReplySlot<M>> + use<M> {
        self.callers.remove(&ticket).unwrap_or_default().into_iter().map(|(_, reply)| reply)
    }

    /// Answers everyone who has waited for `patience` with `why`.
    pub(super) fn let_go_after(
        &mut self,
        patience: Duration,
        why: impl Fn() -> AskError<M::Rejection>,
    ) {
        self.callers.retain(|_, callers| {
            for (_, reply) in callers.extract_if(.., |(since, _)| since.elapsed() >= patience) {
                reply.send(Err(why()));
            }
            !callers.is_empty()
        });
    }

    /// Answers everyone with `why`.
    pub(super) fn let_go(&mut self, why: impl Fn() -> AskError<M::Rejection>) {
        self.let_go_after(Duration::ZERO, why);
    }

    pub(super) fn len(&self) -> usize {
        self.callers.len()
    }
}
