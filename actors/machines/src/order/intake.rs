//! Asynchronous intake: orders that are queued, and what time then does with them. It deliberately
//! decides nothing about stock: a released order asks for it like any other.

use super::{
    IntakeConfig, Order, OrderEvent, OrderRejection, OrderReply, Orders, Placed, QueueCounts,
    QueuePlace, queue::Bucket,
};
use crate::bounds::{EXPIRIES_PER_EVENT_MAX, RELEASES_PER_EVENT_MAX};
use crate::{Answer, Decision, Receipt, Timestamp};

impl Orders {
    /// How many orders the queue has seen.
    #[must_use]
    pub fn queue_counts(&self) -> QueueCounts {
        self.queue.counts()
    }

    /// Refuses one more order for a queue that is full.
    pub(super) fn check_queue(
        &self,
        intake: &IntakeConfig,
        now: Timestamp,
    ) -> Result<(), OrderRejection> {
        let waiting = self.queue.len() as u64;
        if waiting < intake.queued_max {
            return Ok(());
        }
        let place = self.queue.place_behind(waiting, now, Some(intake), now);
        let expected_wait_ms = place.expected_wait_ms;
        Err(OrderRejection::QueueFull { queued_max: intake.queued_max, expected_wait_ms })
    }

    /// Queues an order: answered at once, and asking stock for nothing yet.
    pub(super) fn enqueue(
        &self,
        placed: Placed,
        intake: &IntakeConfig,
        now: Timestamp,
    ) -> Decision<Self> {
        let deadline = now.plus_ms(intake.deadline_ms);
        let ahead = self.queue.len() as u64;
        let place = self.queue.place_behind(ahead, deadline, Some(intake), now);
        let receipt = receipt(&Order::queued(&placed), Some(place));
        Decision::event(OrderEvent::Enqueued { placed, deadline })
            .answered(Answer::Now(OrderReply::Placed(receipt)))
    }

    /// Where `order` waits, if it does.
    pub(super) fn queue_place(&self, order: &Order, now: Timestamp) -> Option<QueuePlace> {
        if !order.waits_in_queue() {
            return None;
        }
        self.queue.place_of(order.id, self.config.intake.as_ref(), now)
    }

    /// Whether time has something to do in the queue.
    pub(super) fn queue_is_due(&self, now: Timestamp) -> bool {
        self.queue.is_due(self.config.intake.as_ref(), now)
    }

    /// What time does in the queue at `now`: rejects those whose deadline has come, before it
    /// releases those whose turn has come.
    pub(super) fn decide_queue(&self, now: Timestamp) -> Option<Decision<Self>> {
        let overdue = self.queue.overdue(now, EXPIRIES_PER_EVENT_MAX);
        if !overdue.is_empty() {
            let event = OrderEvent::TimedOut { at: now, orders: overdue.clone() };
            return Some(self.change_each(event, &overdue));
        }
        let intake = self.config.intake.as_ref();
        let (next, credit) = self.queue.next(intake, now, RELEASES_PER_EVENT_MAX);
        if next.is_empty() {
            return None;
        }
        let event = OrderEvent::Released { at: now, orders: next.clone(), credit };
        Some(self.change_each(event, &next))
    }

    /// What happened in the queue.
    pub(super) fn apply_queue(&mut self, event: &OrderEvent) {
        match event.bare() {
            OrderEvent::Enqueued { placed, deadline } => {
                self.give_out(placed);
                self.queue.push(placed.order, *deadline);
                self.insert(Order::queued(placed));
            }
            OrderEvent::Released { at, orders, credit } => {
                self.queue.release(orders, Bucket { at: *at, credit: *credit });
                for order in orders {
                    self.advance(*order, event, None);
                }
            }
            OrderEvent::TimedOut { orders, .. } => {
                self.queue.time_out(orders);
                for order in orders {
                    self.advance(*order, event, None);
                }
            }
            _ => {}
        }
    }
}

/// The receipt of `order`, with its place in the queue.
pub(super) fn receipt(order: &Order, place: Option<QueuePlace>) -> Receipt {
    Receipt { queue: place.map(Box::new), ..order.receipt() }
}
