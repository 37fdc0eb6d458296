//! The queue of orders that wait for their turn: who is next, until when each waits, and what may
//! go now. It deliberately does not know what an order is, nor what it wants of stock.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::{OrderId, Timestamp};

/// What a queue that has waited for long may release at once: the orders of so many milliseconds.
const BURST_MS: u64 = 1_000;

/// How orders that do not wait for their answer are taken in: queued, and released at a rate. Used
/// to decide only, so it may change between runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntakeConfig {
    /// Orders that all order shards together release in a second; at least 1.
    pub orders_per_second: u32,
    /// How many order shards share that rate evenly; at least 1.
    pub shards: u16,
    /// Most orders in the queue of one shard.
    pub queued_max: u64,
    /// How long an order may wait in the queue, in milliseconds.
    pub deadline_ms: u64,
}

impl IntakeConfig {
    // Every millisecond brings as much credit as orders are released per second, so this is the
    // credit of one order of one shard. Whole numbers only: no rate is rounded.
    fn price(&self) -> u64 {
        1_000 * u64::from(self.shards.max(1))
    }

    fn per_ms(&self) -> u64 {
        u64::from(self.orders_per_second.max(1))
    }

    // Never more than a burst, and always enough for one order.
    fn credit(&self, bucket: Bucket, now: Timestamp) -> u64 {
        let elapsed_ms = now.0.saturating_sub(bucket.at.0);
        let credit = bucket.credit.saturating_add(elapsed_ms.saturating_mul(self.per_ms()));
        credit.min((BURST_MS * self.per_ms()).max(self.price()))
    }
}

/// A place in the queue, as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePlace {
    /// Its place among all orders that wait in the store, from 1: its place in its own shard's
    /// queue times the number of shards, since they share the rate evenly.
    pub position: u64,
    /// How long it will wait at the present rate, in milliseconds, if nobody before it leaves.
    pub expected_wait_ms: u64,
    /// When it is rejected unless its turn has come.
    pub deadline: Timestamp,
}

/// How many orders a queue has seen since the store was created. Each that was queued has left in
/// one of three ways, or waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueCounts {
    /// Orders that were queued.
    pub queued: u64,
    /// Orders whose turn has come.
    pub released: u64,
    /// Orders that were rejected at their deadline.
    pub timed_out: u64,
    /// Orders that were cancelled while they waited.
    pub cancelled: u64,
}

impl QueueCounts {
    /// Orders that still wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.queued.saturating_sub(self.released + self.timed_out + self.cancelled)
    }
}

/// A token bucket: the credit that was left at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bucket {
    pub(super) at: Timestamp,
    pub(super) credit: u64,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Queue {
    // In the order of their numbers, which is the order in which they came.
    waiting: VecDeque<(OrderId, Timestamp)>,
    // Follows from `waiting` and is not written. Deadlines need not be in its order: how long an
    // order may wait is configured, and may have been another time before.
    deadlines: BTreeSet<(Timestamp, OrderId)>,
    pub(super) bucket: Bucket,
    counts: QueueCounts,
}

impl Queue {
    /// What was written of a queue.
    pub(super) fn from_parts(
        waiting: Vec<(OrderId, Timestamp)>,
        bucket: Bucket,
        counts: QueueCounts,
    ) -> Self {
        let deadlines = waiting.iter().map(|(order, deadline)| (*deadline, *order)).collect();
        Self { waiting: waiting.into(), deadlines, bucket, counts }
    }

    /// Puts an order at its end, which must have a higher number than all before it.
    pub(super) fn push(&mut self, order: OrderId, deadline: Timestamp) {
        self.waiting.push_back((order, deadline));
        self.deadlines.insert((deadline, order));
        self.counts.queued += 1;
    }

    /// Takes out orders whose turn has come.
    pub(super) fn release(&mut self, orders: &[OrderId], bucket: Bucket) {
        self.bucket = bucket;
        self.counts.released += self.take_out(orders);
    }

    /// Takes out orders whose deadline has come.
    pub(super) fn time_out(&mut self, orders: &[OrderId]) {
        self.counts.timed_out += self.take_out(orders);
    }

    /// Takes out an order that was cancelled, if it waits.
    pub(super) fn cancel(&mut self, order: OrderId) {
        self.counts.cancelled += self.take_out(&[order]);
    }

    // How many of `orders` were there.
    fn take_out(&mut self, orders: &[OrderId]) -> u64 {
        let mut found = 0;
        for order in orders {
            // Almost always the first one.
            if let Some((_, deadline)) = self.find(*order).and_then(|at| self.waiting.remove(at)) {
                self.deadlines.remove(&(deadline, *order));
                found += 1;
            }
        }
        found
    }

    fn find(&self, order: OrderId) -> Option<usize> {
        self.waiting.binary_search_by_key(&order, |(waiting, _)| *waiting).ok()
    }

    /// The first of those whose deadline has come, at most `most`.
    pub(super) fn overdue(&self, now: Timestamp, most: usize) -> Vec<OrderId> {
        let overdue = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
        overdue.take(most).map(|(_, order)| *order).collect()
    }

    /// The next to be released at `now`, at most `most`, and what is left in the bucket then.
    /// Without an intake nobody has to wait.
    pub(super) fn next(
        &self,
        intake: Option<&IntakeConfig>,
        now: Timestamp,
        most: usize,
    ) -> (Vec<OrderId>, u64) {
        let Some(intake) = intake else {
            return (self.first(most), self.bucket.credit);
        };
        let credit = intake.credit(self.bucket, now);
        let affordable = usize::try_from(credit / intake.price()).unwrap_or(usize::MAX);
        let orders = self.first(affordable.min(most));
        let left = credit - orders.len() as u64 * intake.price();
        (orders, left)
    }

    fn first(&self, count: usize) -> Vec<OrderId> {
        self.waiting.iter().take(count).map(|(order, _)| *order).collect()
    }

    /// Whether time has something to do here.
    pub(super) fn is_due(&self, intake: Option<&IntakeConfig>, now: Timestamp) -> bool {
        !self.waiting.is_empty()
            && (self.deadlines.first().is_some_and(|(deadline, _)| *deadline <= now)
                || intake.is_none_or(|it| it.credit(self.bucket, now) >= it.price()))
    }

    /// The place of an order that waits.
    pub(super) fn place_of(
        &self,
        order: OrderId,
        intake: Option<&IntakeConfig>,
        now: Timestamp,
    ) -> Option<QueuePlace> {
        let at = self.find(order)?;
        let (_, deadline) = *self.waiting.get(at)?;
        Some(self.place_behind(at as u64, deadline, intake, now))
    }

    /// The place of an order with `ahead` others before it.
    pub(super) fn place_behind(
        &self,
        ahead: u64,
        deadline: Timestamp,
        intake: Option<&IntakeConfig>,
        now: Timestamp,
    ) -> QueuePlace {
        let Some(intake) = intake else {
            return QueuePlace { position: ahead + 1, expected_wait_ms: 0, deadline };
        };
        let position = ahead * u64::from(intake.shards.max(1)) + 1;
        let price = (ahead + 1) * intake.price();
        let missing = price.saturating_sub(intake.credit(self.bucket, now));
        QueuePlace { position, expected_wait_ms: missing.div_ceil(intake.per_ms()), deadline }
    }

    /// Those who wait, with their deadlines, next first.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (OrderId, Timestamp)> {
        self.waiting.iter().copied()
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How many deadlines are kept: as many as wait.
    pub(crate) fn deadlines(&self) -> usize {
        self.deadlines.len()
    }

    /// How many it has seen.
    pub(crate) fn counts(&self) -> QueueCounts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(sequence: u64) -> OrderId {
        OrderId::new(0, sequence).unwrap()
    }

    fn intake(orders_per_second: u32, shards: u16) -> IntakeConfig {
        IntakeConfig { orders_per_second, shards, queued_max: 10_000, deadline_ms: 60_000 }
    }

    fn queue_of(orders: u64) -> Queue {
        let mut queue = Queue::default();
        (1..=orders).for_each(|number| queue.push(id(number), Timestamp(90_000 + number)));
        queue
    }

    // Releases what may go every 100 ms from 10,000 on, and gives how many went by then.
    fn release_for(queue: &mut Queue, intake: &IntakeConfig, ms: u64) -> u64 {
        for now in (10_000..=10_000 + ms).step_by(100).map(Timestamp) {
            let (orders, credit) = queue.next(Some(intake), now, 1_000);
            queue.release(&orders, Bucket { at: now, credit });
        }
        queue.counts().released
    }

    #[test]
    fn the_rate_is_exact_and_shared() {
        // A full bucket holds one second's worth; then it is the rate, to the order.
        assert_eq!(release_for(&mut queue_of(5_000), &intake(300, 1), 10_000), 300 + 3_000);
        assert_eq!(release_for(&mut queue_of(5_000), &intake(300, 7), 10_000), 3_300 / 7);
        assert_eq!(release_for(&mut queue_of(5_000), &intake(1, 4), 20_000), 1 + 5);
    }

    #[test]
    fn a_place_says_when_its_turn_comes() {
        let (mut queue, intake) = (queue_of(900), intake(30, 3));
        assert_eq!(release_for(&mut queue, &intake, 0), 10, "a burst");
        let now = Timestamp(10_000);
        let place = queue.place_of(id(11), Some(&intake), now).unwrap();
        assert_eq!((place.position, place.expected_wait_ms), (1, 100));
        let place = queue.place_of(id(110), Some(&intake), now).unwrap();
        assert_eq!((place.position, place.expected_wait_ms), (298, 10_000));
        assert_eq!(place.deadline, Timestamp(90_110));
        assert_eq!(release_for(&mut queue, &intake, 10_000), 110);
        assert_eq!(queue.place_of(id(110), Some(&intake), now), None);
    }

    #[test]
    fn everyone_leaves_once() {
        let mut queue = queue_of(5);
        queue.cancel(id(2));
        queue.cancel(id(2));
        assert_eq!(queue.overdue(Timestamp(90_003), 10), [id(1), id(3)]);
        queue.time_out(&[id(1), id(3)]);
        queue.release(&[id(4), id(3)], Bucket::default());
        let counts = queue.counts();
        assert_eq!((counts.queued, counts.released), (5, 1));
        assert_eq!((counts.timed_out, counts.cancelled, counts.waiting()), (2, 1, 1));
        assert_eq!((queue.len(), queue.deadlines()), (1, 1));
    }
}
