//! How an event changes an order shard, now and at every replay. It deliberately asks neither the
//! configuration nor whether the event was right to happen.

use triomphe::Arc;

use super::{Ask, Asks, Order, OrderEvent, OrderState, Orders, Placed};
use crate::{OpId, OpOutcome, OrderId, Short, Timestamp};

impl Orders {
    pub(super) fn apply_event(&mut self, event: &OrderEvent) {
        match event.bare() {
            OrderEvent::Placed(placed) => {
                self.give_out(placed);
                let asks = placed.reserves();
                let mut order = Order::place(placed, &asks);
                open(&mut self.asks, &mut order, asks);
                self.insert(order);
            }
            OrderEvent::Answered { op, order, outcome, .. } => {
                let Some(ask) = self.asks.close(*op) else {
                    return;
                };
                let vanishes = self.advance(*order, event, Some((*op, &ask)));
                if let (Some(shipment), OpOutcome::Refused(_)) = (ask.shipment.as_deref(), outcome)
                    && self.order(*order).is_some_and(|order| !order.has_shipment(*shipment))
                {
                    // Nothing of the shipment is left: it was refused, and its key is free.
                    self.memory.unbind(shipment.key);
                }
                if vanishes && let Some(order) = self.remove(*order) {
                    self.memory.unbind(order.key);
                }
            }
            OrderEvent::Paid { order, .. } => {
                self.advance(*order, event, None);
            }
            OrderEvent::Cancelled { at, order, key, fingerprint } => {
                self.memory.bind(*key, *fingerprint, *at, *order);
                self.queue.cancel(*order);
                self.advance(*order, event, None);
            }
            OrderEvent::Fulfilled { at, order, key, fingerprint, .. }
            | OrderEvent::Returned { at, order, key, fingerprint, .. } => {
                self.memory.bind(*key, *fingerprint, *at, *order);
                self.advance(*order, event, None);
            }
            OrderEvent::Ticked { expired, forget_before, .. } => {
                for order in expired {
                    self.advance(*order, event, None);
                }
                if let Some(cutoff) = forget_before {
                    self.memory.forget_before(*cutoff);
                }
            }
            OrderEvent::Forgotten { orders } => {
                for order in orders {
                    self.remove(*order);
                }
            }
            OrderEvent::Revived { order } => self.insert(Order::clone(order)),
            OrderEvent::Enqueued { .. }
            | OrderEvent::Released { .. }
            | OrderEvent::TimedOut { .. } => self.apply_queue(event),
            OrderEvent::Told { .. } => {}
        }
    }

    // The number and the key of a new order are taken.
    pub(super) fn give_out(&mut self, placed: &Placed) {
        self.next_order = self.next_order.max(placed.order.sequence() + 1);
        self.memory.bind(placed.key, placed.fingerprint, placed.at, placed.order);
    }

    // Whether the order came to nothing, and nobody needs to find it.
    pub(super) fn advance(
        &mut self,
        id: OrderId,
        event: &OrderEvent,
        closed: Option<(OpId, &Ask)>,
    ) -> bool {
        let Some(order) = self.orders.get_mut(id).map(Arc::make_mut) else {
            return false;
        };
        let before = deadline(order);
        let asks = order.advance(event, closed);
        open(&mut self.asks, order, asks);
        let after = deadline(order);
        if before != after {
            before.inspect(|at| self.deadlines.remove(*at, id));
            after.inspect(|at| self.deadlines.insert(*at, id));
        }
        order.vanishes()
    }

    pub(super) fn insert(&mut self, order: Order) {
        self.by_user.insert(order.id, &order.user, &self.orders);
        deadline(&order).inspect(|at| self.deadlines.insert(*at, order.id));
        self.orders.insert(order.id, Arc::new(order));
    }

    /// Lists orders that were just read.
    pub(super) fn index(&mut self) {
        for (_, order) in self.orders.iter() {
            self.by_user.insert(order.id, &order.user, &self.orders);
            deadline(order).inspect(|at| self.deadlines.insert(*at, order.id));
        }
    }

    fn remove(&mut self, id: OrderId) -> Option<Arc<Order>> {
        let order = self.orders.remove(id)?;
        deadline(&order).inspect(|at| self.deadlines.remove(*at, id));
        self.by_user.remove(id, &order.user);
        Some(order)
    }
}

fn open(open: &mut Asks, order: &mut Order, asks: Short<Ask>) {
    asks.take_each(|ask| order.open_ops.push(open.open(ask)));
}

fn deadline(order: &Order) -> Option<Timestamp> {
    order.expires_at.filter(|_| order.state == OrderState::AwaitingPayment)
}
