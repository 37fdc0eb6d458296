//! What an order shard does about everything but a new order. It deliberately changes nothing;
//! `apply` does, through the same `advance`.

use std::collections::BTreeMap;

use super::{
    Ask, CHANGE, Order, OrderCommand, OrderEffect, OrderEvent, OrderLine, OrderRejection,
    OrderReply, OrderState, Orders, Payment, SHIP, Upshot, place,
};
use crate::bounds::{
    self, EXPIRIES_PER_EVENT_MAX, LINES_MAX, ORDER_ENTRIES_MAX, ORDER_ENTRY_LINES_MAX,
};
use crate::{
    Answer, Decision, Fingerprint, KeyHash, OpId, OpOutcome, OrderId, OutOfBounds, Short,
    StockLine, Ticket, Timestamp,
};

type Decided = Result<Decision<Orders>, OrderRejection>;

impl Orders {
    /// The operations of these asks, with the numbers that they get when the event is applied.
    pub(super) fn op_effects(&self, asks: Short<Ask>) -> Vec<OrderEffect> {
        let mut effects = Vec::with_capacity(asks.len());
        let mut next = self.asks.next_id();
        asks.take_each(|ask| {
            effects.push(self.op_effect(next, ask));
            next = OpId(next.0 + 1);
        });
        effects
    }

    pub(super) fn decide_get(&self, id: OrderId, now: Timestamp) -> Decided {
        if let Some(order) = self.order(id) {
            let copy = Box::new(order.clone());
            return Ok(Decision::reply(match self.queue_place(order, now) {
                Some(place) => OrderReply::Waiting(copy, Box::new(place)),
                None => OrderReply::Order(copy),
            }));
        }
        self.away(id)
    }

    fn away(&self, id: OrderId) -> Decided {
        if self.is_away(id) {
            return Ok(Decision::reply(OrderReply::AtRest { order: id }));
        }
        Err(OrderRejection::UnknownOrder { order: id })
    }

    // The order after `event`, and the decision so far: the event, its operations, its archiving.
    fn change(
        &self,
        order: &Order,
        event: OrderEvent,
        closed: Option<(OpId, &Ask)>,
    ) -> (Order, Decision<Self>) {
        let before = order;
        let mut order = before.clone();
        let asks = order.advance(&event, closed);
        let event = Some(event.telling(Upshot::of(before, &order)));
        let next = self.asks.next_id().0;
        order.open_ops.extend((next..).map(OpId).take(asks.len()));
        let mut effects = self.op_effects(asks);
        if order.at_rest() && !order.vanishes() {
            effects.push(OrderEffect::Archive { order: order.id, version: order.version });
        }
        (order, Decision { event, effects, answer: Answer::Nobody, settles: Vec::new() })
    }

    // A change that somebody asked for is answered when the stock shards have done their part.
    fn changed(&self, order: &Order, event: OrderEvent) -> Decision<Self> {
        let (order, decision) = self.change(order, event, None);
        decision.answered(answer(&order))
    }

    fn known_key(
        &self,
        key: KeyHash,
        fingerprint: Fingerprint,
    ) -> Result<Option<Decision<Self>>, OrderRejection> {
        let Some(id) = self.memory.look_up(key, fingerprint)? else {
            return Ok(None);
        };
        match self.order(*id) {
            Some(order) if self.is_shipping(order, key) => {
                Ok(Some(Decision::later(ship_ticket(key))))
            }
            Some(order) => Ok(Some(Decision::nothing().answered(answer(order)))),
            None => self.away(*id).map(Some),
        }
    }

    pub(super) fn decide_pay(&self, id: OrderId, payment: Payment) -> Decided {
        bounds::check_amount("amount_minor", payment.amount_minor)?;
        let Some(order) = self.order(id) else {
            return self.away(id);
        };
        let same = |known: &&Payment| {
            known.provider == payment.provider && known.event_id == payment.event_id
        };
        if let Some(known) = order.history.payments.iter().find(same) {
            if known.kind == payment.kind && known.amount_minor == payment.amount_minor {
                return Ok(Decision::nothing().answered(answer(order)));
            }
            let Payment { provider, event_id, .. } = payment;
            return Err(OrderRejection::PaymentConflict { provider, event_id });
        }
        check_entries("payments", order.history.payments.len())?;
        Ok(self.changed(order, OrderEvent::Paid { order: id, payment }))
    }

    pub(super) fn decide_cancel(
        &self,
        id: OrderId,
        key: KeyHash,
        fingerprint: Fingerprint,
        at: Timestamp,
    ) -> Decided {
        if let Some(known) = self.known_key(key, fingerprint)? {
            return Ok(known);
        }
        let Some(order) = self.order(id) else {
            return self.away(id);
        };
        if order.state == OrderState::Cancelled {
            return Ok(Decision::nothing().answered(answer(order)));
        }
        if order.lines.iter().any(|line| line.shipped > 0) {
            return Err(OrderRejection::AlreadyShipped { order: id });
        }
        let open = [OrderState::Queued, OrderState::AwaitingPayment, OrderState::Confirmed];
        check_state(order, &open, "cancelled")?;
        self.memory.check_room(self.config.idempotency_keys_max)?;
        Ok(self.changed(order, OrderEvent::Cancelled { at, order: id, key, fingerprint }))
    }

    pub(super) fn decide_fulfil(
        &self,
        id: OrderId,
        key: KeyHash,
        fingerprint: Fingerprint,
        lines: Option<&[StockLine]>,
        at: Timestamp,
    ) -> Decided {
        if let Some(known) = self.known_key(key, fingerprint)? {
            return Ok(known);
        }
        let Some(order) = self.order(id) else {
            return self.away(id);
        };
        check_state(order, &[OrderState::Confirmed], "fulfilled")?;
        check_entries("fulfilments", order.history.fulfilments.len())?;
        check_entry_lines(order)?;
        let lines = match lines {
            Some(lines) => {
                check_units(order, lines, "fulfilled", |line| line.quantity - line.shipped)?
            }
            None => remaining(order),
        };
        if lines.is_empty() {
            return Err(OrderRejection::ChangeUnderWay { order: id });
        }
        self.memory.check_room(self.config.idempotency_keys_max)?;
        let event = OrderEvent::Fulfilled { at, order: id, key, fingerprint, lines };
        Ok(self.changed(order, event).answered(Answer::Later(ship_ticket(key))))
    }

    pub(super) fn decide_return(&self, command: &OrderCommand, at: Timestamp) -> Decided {
        let OrderCommand::Return { order: id, key, fingerprint, lines, restock } = command else {
            return Ok(Decision::nothing());
        };
        if let Some(known) = self.known_key(*key, *fingerprint)? {
            return Ok(known);
        }
        let Some(order) = self.order(*id) else {
            return self.away(*id);
        };
        check_state(order, &[OrderState::Confirmed, OrderState::Completed], "returned")?;
        check_entries("returns", order.history.returns.len())?;
        check_entry_lines(order)?;
        // A shipment under way may still be refused; nothing of it can come back yet.
        if !order.open_ops.is_empty() {
            return Err(OrderRejection::ChangeUnderWay { order: *id });
        }
        let lines = check_units(order, lines, "returned", |line| line.shipped - line.returned)?;
        self.memory.check_room(self.config.idempotency_keys_max)?;
        let event = OrderEvent::Returned {
            at,
            order: *id,
            key: *key,
            fingerprint: *fingerprint,
            lines,
            restock: *restock,
        };
        Ok(self.changed(order, event))
    }

    pub(super) fn decide_outcome(
        &self,
        op: OpId,
        id: OrderId,
        outcome: &OpOutcome,
        at: Timestamp,
    ) -> Decision<Self> {
        let Some(ask) = self.asks.get(op).filter(|ask| ask.order == id) else {
            return Decision::nothing();
        };
        let Some(before) = self.order(id) else {
            return Decision::nothing();
        };
        let event = OrderEvent::Answered { at, op, order: id, outcome: outcome.clone() };
        let (order, mut decision) = self.change(before, event, Some((op, ask)));
        if let Some(shipment) =
            ask.shipment.as_deref().filter(|it| !self.is_shipping(&order, it.key))
        {
            let result = match outcome {
                OpOutcome::Refused(refusal) if !order.has_shipment(*shipment) => {
                    Err(refusal.clone().into())
                }
                _ => Ok(OrderReply::Order(Box::new(order.clone()))),
            };
            decision.settles.push((ship_ticket(shipment.key), result));
        }
        if !order.open_ops.is_empty() {
            return decision;
        }
        if before.placing {
            decision.settles.reserve_exact(1);
            decision.settles.push((place::ticket(id), order.placed().map(OrderReply::Placed)));
        }
        let asked_more = !order.history.payments.is_empty() || order.state == OrderState::Cancelled;
        if !before.placing || asked_more {
            let change = Ticket { subject: id.0, purpose: CHANGE };
            decision.settles.push((change, Ok(OrderReply::Order(Box::new(order)))));
        }
        decision
    }

    // Whether a stock shard has yet to answer for the shipment that was asked for with `key`.
    fn is_shipping(&self, order: &Order, key: KeyHash) -> bool {
        let asks = order.open_ops.iter().filter_map(|op| self.asks.get(*op));
        asks.filter_map(|ask| ask.shipment.as_deref()).any(|shipment| shipment.key == key)
    }

    pub(super) fn decide_tick(&self, now: Timestamp) -> Decision<Self> {
        // First, because the rate bounds it: very many expiries must not hold up the queue.
        if let Some(decision) = self.decide_queue(now) {
            return decision;
        }
        let due = self.deadlines.iter().take_while(|(at, _)| *at <= now);
        let expired: Vec<_> = due.take(EXPIRIES_PER_EVENT_MAX).map(|(_, id)| id).collect();
        let forget_before = self.forget_before(now);
        if expired.is_empty() && forget_before.is_none() {
            return Decision::nothing();
        }
        let orders = expired.clone();
        self.change_each(OrderEvent::Ticked { at: now, expired, forget_before }, &orders)
    }

    /// The decision for an event that time brings to each of `orders`.
    pub(super) fn change_each(&self, event: OrderEvent, orders: &[OrderId]) -> Decision<Self> {
        let (mut asks, mut archive) = (Short::new(), Vec::new());
        let mut upshot = Upshot::default();
        for order in orders.iter().filter_map(|id| self.order(*id)) {
            let mut after = order.clone();
            let more = after.advance(&event, None);
            if more.is_empty() && after.at_rest() {
                let (order, version) = (after.id, after.version);
                archive.push(OrderEffect::Archive { order, version });
            }
            more.take_each(|ask| asks.push(ask));
            upshot.note_refund(order, &after);
        }
        let ops = self.op_effects(asks);
        Decision::event(event.telling(upshot)).with_effects(ops).with_effects(archive)
    }

    pub(super) fn decide_forget(&self, orders: &[(OrderId, u32)]) -> Decision<Self> {
        let kept = |&&(id, version): &&(OrderId, u32)| {
            self.order(id).is_some_and(|order| order.at_rest() && order.version == version)
        };
        let orders: Vec<_> = orders.iter().filter(kept).map(|(id, _)| *id).collect();
        if orders.is_empty() {
            return Decision::nothing();
        }
        Decision::event(OrderEvent::Forgotten { orders })
    }

    pub(super) fn decide_revive(&self, order: &Order) -> Decision<Self> {
        if !self.is_away(order.id) || !order.at_rest() {
            return Decision::nothing();
        }
        let archive = OrderEffect::Archive { order: order.id, version: order.version };
        let event = OrderEvent::Revived { order: Box::new(order.clone()) };
        Decision::event(event).with_effect(archive)
    }
}

// Half of the key's hash is as good as unique, and only names those who wait at this moment.
fn ship_ticket(key: KeyHash) -> Ticket {
    Ticket { subject: key.0 as u64, purpose: SHIP }
}

fn answer(order: &Order) -> Answer<OrderReply> {
    if order.open_ops.is_empty() {
        return Answer::Now(OrderReply::Order(Box::new(order.clone())));
    }
    Answer::Later(Ticket { subject: order.id.0, purpose: CHANGE })
}

fn check_state(
    order: &Order,
    allowed: &[OrderState],
    what: &'static str,
) -> Result<(), OrderRejection> {
    if allowed.contains(&order.state) {
        return Ok(());
    }
    Err(OrderRejection::WrongState { order: order.id, state: order.state, what })
}

fn check_entries(field: &'static str, present: usize) -> Result<(), OutOfBounds> {
    if present < ORDER_ENTRIES_MAX {
        return Ok(());
    }
    let bound = format_args!("at most {ORDER_ENTRIES_MAX} of one order");
    Err(OutOfBounds::new(field, bound, present + 1))
}

fn check_entry_lines(order: &Order) -> Result<(), OutOfBounds> {
    let shipped = order.history.fulfilments.iter().map(|entry| entry.lines.len());
    let returned = order.history.returns.iter().map(|entry| entry.lines.len());
    // The next entry has at most as many lines as the order.
    let lines = shipped.chain(returned).sum::<usize>() + order.lines.len();
    if lines <= ORDER_ENTRY_LINES_MAX {
        return Ok(());
    }
    let bound = format_args!("at most {ORDER_ENTRY_LINES_MAX} of one order");
    Err(OutOfBounds::new("lines of fulfilments and returns", bound, lines))
}

fn remaining(order: &Order) -> Vec<StockLine> {
    let left = order.lines.iter().filter(|line| line.shipped < line.quantity);
    left.map(|line| StockLine {
        sku: line.sku.clone(),
        location: line.location.clone(),
        quantity: (line.quantity - line.shipped).into(),
    })
    .collect()
}

// Sums `lines` and checks them against what each line of the order has left.
fn check_units(
    order: &Order,
    lines: &[StockLine],
    what: &'static str,
    left: impl Fn(&OrderLine) -> u32,
) -> Result<Vec<StockLine>, OrderRejection> {
    if lines.is_empty() || lines.len() > LINES_MAX {
        let bound = format_args!("1 to {LINES_MAX} lines");
        return Err(OutOfBounds::new("lines", bound, lines.len()).into());
    }
    let mut sums: BTreeMap<_, u64> = BTreeMap::new();
    for StockLine { sku, location, quantity } in lines {
        *sums.entry((sku, location)).or_default() += bounds::check_quantity(*quantity)?;
    }
    let mut checked = Vec::with_capacity(sums.len());
    for ((sku, location), quantity) in sums {
        let (sku, location) = (sku.clone(), location.clone());
        let Some(line) = order.line(&sku, &location) else {
            return Err(OrderRejection::UnknownLine { order: order.id, sku, location });
        };
        let at_most = left(line).into();
        if quantity > at_most {
            let requested = quantity;
            return Err(OrderRejection::TooMany { sku, location, requested, at_most, what });
        }
        checked.push(StockLine { sku, location, quantity });
    }
    Ok(checked)
}
