//! What a simulation has seen, counted by name, and what it must have seen to be worth anything. It
//! judges no answer.

use std::collections::BTreeMap;

/// Counts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures(BTreeMap<&'static str, u64>);

/// What some hundred seeds must have met; else the simulation has become empty somewhere.
#[cfg(test)]
pub(super) const NEEDED: [&str; 78] = [
    "answer: hold",
    "answer: item",
    "answer: movement",
    "answer: order",
    "answer: receipt",
    "asked: a key that may be known, for what is sold out",
    "asked: a key for another request",
    "asked: again after an answer",
    "asked: again to know the outcome",
    "asked: about an order at rest",
    "crash",
    "crash: a beginning of the unsynced was kept",
    "crash: an end of the unsynced was lost",
    "crash: answers were on their way",
    "crash: effects were on their way",
    "crash: rows of the state were kept",
    "crash: rows of the state were lost",
    "crash: shards were being rebuilt",
    "day: another",
    "fault: answer lost",
    "fault: append failed",
    "fault: clock jumped ahead",
    "fault: clock jumped back",
    "fault: effect repeated",
    "fault: effects lost until the sender began anew",
    "fault: flush of the state failed",
    "fault: half a minute passed",
    "fault: panic at delivery",
    "fault: panic in a machine, half changed",
    "fault: panic in a machine, unchanged",
    "fault: sync failed",
    "hold: confirmed",
    "hold: expired",
    "hold: released",
    "hold: shipped",
    "not taken: dead",
    "not taken: fault",
    "not taken: overloaded",
    "order: accepted",
    "order: cancelled",
    "order: completed",
    "order: confirmed",
    "order: expired",
    "order: paid late and reserved again",
    "order: paid late and in vain",
    "order: partly shipped",
    "order: refund due",
    "order: rejected after it was queued",
    "order: returned",
    "order: timed out in the queue",
    "probe: all that was left",
    "probe: more than was left",
    "queue: cancelled",
    "queue: released",
    "read: beside the shard",
    "read: beside the shard, stock",
    "refused: already shipped",
    "refused: amount overflow",
    "refused: below committed",
    "refused: at the front",
    "refused: change under way",
    "refused: hold not confirmed",
    "refused: hold settled",
    "refused: key conflict",
    "refused: limit exceeded",
    "refused: memory full",
    "refused: out of bounds",
    "refused: payment conflict",
    "refused: queue full",
    "refused: sold out",
    "refused: too many",
    "refused: unknown line",
    "refused: unknown sku",
    "refused: wrong state",
    "storage: snapshot and trim",
    "unknown: gone",
    "unknown: unavailable",
    "unknown: waited too long",
];

impl Figures {
    pub(super) fn count(&mut self, name: &'static str) {
        self.add(name, 1);
    }

    pub(super) fn add(&mut self, name: &'static str, count: u64) {
        *self.0.entry(name).or_default() += count;
    }

    pub(super) fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// All whose names begin with `prefix`.
    pub(super) fn sum(&self, prefix: &str) -> u64 {
        self.0.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, count)| count).sum()
    }

    pub(super) fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(name, count)| self.add(name, *count));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(name, count)| (*name, *count))
    }
}
