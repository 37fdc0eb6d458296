//! The receiver's half of exactly-once between shards: which operations were applied, and with
//! which outcome. It deliberately remembers no longer than a sender may repeat itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::OpId;
use crate::ops::Ops;

/// The operations of every sender that were applied and may come again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbox<O> {
    senders: BTreeMap<u16, Sender<O>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sender<O> {
    pruned_below: OpId,
    applied: Ops<O>,
}

/// What the inbox knows of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<'a, O> {
    /// Nothing: apply it.
    New,
    /// It was applied with this outcome: give it again.
    Applied(&'a O),
    /// Its sender has the answer already: ignore it.
    Closed,
}

impl<O> Default for Inbox<O> {
    fn default() -> Self {
        Self { senders: BTreeMap::new() }
    }
}

impl<O> Inbox<O> {
    /// What is known of operation `op` of `sender`.
    #[must_use]
    pub fn look_up(&self, sender: u16, op: OpId) -> Known<'_, O> {
        let Some(known) = self.senders.get(&sender) else {
            return Known::New;
        };
        if op < known.pruned_below {
            return Known::Closed;
        }
        known.applied.get(op).map_or(Known::New, Known::Applied)
    }

    /// Records the outcome of `op`, and forgets what `sender` has answers for: all below
    /// `acked_below`, which must come from the event so that a replay forgets the same.
    pub fn record(&mut self, sender: u16, op: OpId, acked_below: OpId, outcome: O) {
        let known = self
            .senders
            .entry(sender)
            .or_insert_with(|| Sender { pruned_below: OpId::default(), applied: Ops::default() });
        known.pruned_below = known.pruned_below.max(acked_below);
        known.applied.remove_below(known.pruned_below);
        known.applied.insert(op, outcome);
    }

    /// Every remembered operation with its sender and outcome.
    pub fn iter(&self) -> impl Iterator<Item = (u16, OpId, &O)> {
        self.senders.iter().flat_map(|(sender, known)| {
            known.applied.iter().map(|(op, outcome)| (*sender, op, outcome))
        })
    }

    /// How many operations are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.senders.values().map(|known| known.applied.len()).sum()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_kept_until_the_sender_has_them() {
        let mut inbox = Inbox::default();
        inbox.record(1, OpId(1), OpId(1), "one");
        inbox.record(1, OpId(4), OpId(1), "four");
        assert_eq!(inbox.look_up(1, OpId(1)), Known::Applied(&"one"));
        assert_eq!(inbox.look_up(1, OpId(2)), Known::New);
        assert_eq!(inbox.look_up(2, OpId(1)), Known::New, "senders are apart");
        inbox.record(1, OpId(5), OpId(4), "five");
        assert_eq!(inbox.look_up(1, OpId(1)), Known::Closed);
        assert_eq!(inbox.look_up(1, OpId(4)), Known::Applied(&"four"));
        inbox.record(1, OpId(6), OpId(2), "six");
        assert_eq!(inbox.look_up(1, OpId(1)), Known::Closed, "the mark never goes back");
        assert_eq!(inbox.len(), 3);
    }
}
