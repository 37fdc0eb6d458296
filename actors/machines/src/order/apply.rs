//! How an event changes an order shard, now and at every replay. It deliberately asks neither the
//! configuration nor whether the event was right to happen.

use super::{Ask, Order, OrderEvent, OrderState, Orders};
use crate::{OpAction, OpId, OpOutcome, OrderId, Timestamp};

impl Orders {
    pub(super) fn apply_event(&mut self, event: &OrderEvent) {
        match event {
            OrderEvent::Placed(placed) => {
                self.next_order = self.next_order.max(placed.order.sequence() + 1);
                self.memory.bind(placed.key, placed.fingerprint, placed.at, placed.order);
                let (mut order, asks) = Order::place(placed);
                self.open(&mut order, asks);
                self.insert(Box::new(order));
            }
            OrderEvent::Answered { op, order, outcome, .. } => {
                let Some(ask) = self.outbox.close(*op) else {
                    return;
                };
                if let (Some(key), OpOutcome::Refused(_), OpAction::Ship { .. }) =
                    (ask.key, outcome, &ask.action)
                {
                    self.memory.unbind(key);
                }
                self.advance(*order, event, Some((*op, &ask)));
                if self.order(*order).is_some_and(Order::vanishes)
                    && let Some(order) = self.remove(*order)
                {
                    self.memory.unbind(order.key);
                }
            }
            OrderEvent::Paid { order, .. } => self.advance(*order, event, None),
            OrderEvent::Cancelled { at, order, key, fingerprint }
            | OrderEvent::Fulfilled { at, order, key, fingerprint, .. }
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
            OrderEvent::Revived { order } => self.insert(order.clone()),
        }
    }

    fn advance(&mut self, id: OrderId, event: &OrderEvent, closed: Option<(OpId, &Ask)>) {
        let Some(mut order) = self.orders.remove(&id) else {
            return;
        };
        let before = deadline(&order);
        let asks = order.advance(event, closed);
        self.open(&mut order, asks);
        let after = deadline(&order);
        if before != after {
            before.map(|at| self.deadlines.remove(&(at, id)));
            after.map(|at| self.deadlines.insert((at, id)));
        }
        self.orders.insert(id, order);
    }

    fn open(&mut self, order: &mut Order, asks: Vec<Ask>) {
        for ask in asks {
            order.open_ops.push(self.outbox.open(ask));
        }
    }

    pub(super) fn insert(&mut self, order: Box<Order>) {
        self.by_user.entry(order.user.clone()).or_default().insert(order.id);
        deadline(&order).map(|at| self.deadlines.insert((at, order.id)));
        self.orders.insert(order.id, order);
    }

    fn remove(&mut self, id: OrderId) -> Option<Box<Order>> {
        let order = self.orders.remove(&id)?;
        deadline(&order).map(|at| self.deadlines.remove(&(at, id)));
        if let Some(ids) = self.by_user.get_mut(&order.user) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_user.remove(&order.user);
            }
        }
        Some(order)
    }
}

fn deadline(order: &Order) -> Option<Timestamp> {
    order.expires_at.filter(|_| order.state == OrderState::AwaitingPayment)
}
