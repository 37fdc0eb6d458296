//! How an order changes, and what it then wants of stock shards: the saga. Deciding and applying
//! both go through here, so they cannot disagree. It deliberately knows no other order.

use serde::{Deserialize, Serialize};

use super::{
    Fulfilment, History, Leg, LegState, NewLine, Order, OrderEvent, OrderLine, OrderState, Payment,
    PaymentKind, Placed, Rereserve, Return, Shipment,
};
use crate::bounds::AMOUNT_MINOR_MAX;
use crate::{
    KeyHash, OpAction, OpId, OpOutcome, OrderId, Refusal, Short, StockLine, StockLines, Timestamp,
};

/// What an order wants of a stock shard, before it has a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub(crate) order: OrderId,
    pub(crate) to: u16,
    pub(crate) action: OpAction,
    // The shipment that it is a part of.
    pub(super) shipment: Option<Box<Shipment>>,
}

impl Placed {
    /// One reserve for each stock shard involved, in the order in which the lines first name them.
    pub(super) fn reserves(&self) -> Short<Ask> {
        let mut asks = Short::<Ask>::new();
        for (_, to) in &self.lines {
            if asks.iter().all(|ask| ask.to != *to) {
                let action =
                    OpAction::Reserve { user: self.user.clone(), lines: self.lines_at(*to) };
                asks.push(Ask { order: self.order, to: *to, action, shipment: None });
            }
        }
        asks
    }

    fn lines_at(&self, to: u16) -> StockLines {
        let line = |(NewLine { sku, location, quantity, .. }, _): &(NewLine, u16)| {
            let (sku, location) = (sku.clone(), location.clone());
            StockLine { sku, location, quantity: *quantity }
        };
        if self.lines.iter().all(|(_, shard)| *shard == to) {
            // Nearly always.
            return Short::of_each(&self.lines, line);
        }
        self.lines.iter().filter(|(_, shard)| *shard == to).map(line).collect()
    }
}

impl Order {
    /// The order that was placed, as it is while stock shards are asked for `asks`.
    pub(super) fn place(placed: &Placed, asks: &[Ask]) -> Self {
        let lines = Short::of_each(&placed.lines, |(line, shard)| OrderLine {
            sku: line.sku.clone(),
            location: line.location.clone(),
            shard: *shard,
            quantity: units(line.quantity),
            amount_minor: line.amount_minor,
            shipped: 0,
            returned: 0,
        });
        let legs = Short::of_each(asks, |ask| Leg { shard: ask.to, state: LegState::Asked });
        Self {
            id: placed.order,
            version: 1,
            user: placed.user.clone(),
            placed_at: placed.at,
            changed_at: placed.at,
            expires_at: None,
            hold_ms: placed.hold_ms,
            state: OrderState::Queued,
            rejection: None,
            lines,
            total_minor: placed.lines.iter().filter_map(|(line, _)| line.amount_minor).sum(),
            history: History::default(),
            rereserve: Rereserve::No,
            legs,
            open_ops: Short::new(),
            key: placed.key,
            respond_async: placed.respond_async,
            placing: true,
        }
    }

    /// The order that was placed, as it is while it waits in the queue: it has nothing, and wants
    /// nothing yet. Nobody waits for its stock either.
    pub(super) fn queued(placed: &Placed) -> Self {
        let mut order = Self::place(placed, &placed.reserves());
        order.legs.iter_mut().for_each(|leg| leg.state = LegState::Free);
        order.placing = false;
        order
    }

    /// Changes the order by an event that is about it, and gives what it then asks for. `closed` is
    /// the ask that an answer closes.
    pub(super) fn advance(
        &mut self,
        event: &OrderEvent,
        closed: Option<(OpId, &Ask)>,
    ) -> Short<Ask> {
        self.version = self.version.saturating_add(1);
        match event.bare() {
            OrderEvent::Answered { at, outcome, .. } => {
                self.changed_at = *at;
                closed.map(|(op, ask)| self.answered(*at, op, ask, outcome)).unwrap_or_default()
            }
            OrderEvent::Paid { payment, .. } => {
                self.changed_at = payment.at;
                self.paid(payment)
            }
            OrderEvent::Cancelled { at, .. } => {
                self.changed_at = *at;
                self.cancel()
            }
            OrderEvent::Fulfilled { at, key, lines, .. } => {
                self.changed_at = *at;
                self.fulfil(*at, *key, lines)
            }
            OrderEvent::Returned { at, lines, restock, .. } => {
                self.changed_at = *at;
                self.take_back(*at, lines, *restock)
            }
            OrderEvent::Ticked { at, .. } => {
                self.changed_at = *at;
                self.state = OrderState::Expired;
                self.release()
            }
            OrderEvent::Released { at, .. } => {
                self.changed_at = *at;
                self.reserve()
            }
            OrderEvent::TimedOut { at, .. } => {
                self.changed_at = *at;
                self.give_up(Refusal::QueueTimeout)
            }
            OrderEvent::Placed(_)
            | OrderEvent::Enqueued { .. }
            | OrderEvent::Forgotten { .. }
            | OrderEvent::Revived { .. }
            | OrderEvent::Told { .. } => Short::new(),
        }
    }

    fn answered(&mut self, at: Timestamp, op: OpId, ask: &Ask, outcome: &OpOutcome) -> Short<Ask> {
        self.open_ops.retain(|open| *open != op);
        let mut asks = Short::new();
        match (&ask.action, outcome) {
            (OpAction::Reserve { .. }, OpOutcome::Refused(refusal)) => {
                self.set_leg(ask.to, LegState::Asked, LegState::Free);
                if self.wants_stock() {
                    asks = self.give_up(refusal.clone());
                }
            }
            (OpAction::Reserve { .. }, OpOutcome::Held { unit_prices }) => {
                self.set_leg(ask.to, LegState::Asked, LegState::Held);
                asks = self.held(at, ask.to, unit_prices);
            }
            (OpAction::Reserve { .. }, OpOutcome::Done) => {
                self.set_leg(ask.to, LegState::Asked, LegState::Held);
                asks = self.held(at, ask.to, &[]);
            }
            (OpAction::Release, _) => self.set_leg(ask.to, LegState::Releasing, LegState::Free),
            (OpAction::Allocate, _) => {
                self.set_leg(ask.to, LegState::Allocating, LegState::Allocated);
            }
            (OpAction::Deallocate { .. }, _) => {
                self.set_leg(ask.to, LegState::Deallocating, LegState::Free);
            }
            (OpAction::Ship { lines }, OpOutcome::Refused(_)) => {
                self.unship(ask.shipment.as_deref(), lines)
            }
            (OpAction::Ship { .. } | OpAction::Return { .. }, _) => {}
        }
        if self.open_ops.is_empty() && asks.is_empty() {
            self.placing = false;
            let shipped = self.lines.iter().all(|line| line.shipped == line.quantity);
            if shipped && self.state == OrderState::Confirmed {
                self.state = OrderState::Completed;
            }
        }
        asks
    }

    // Whether stock that is held now is still of use.
    fn wants_stock(&self) -> bool {
        self.state == OrderState::Queued || self.rereserve == Rereserve::Trying
    }

    fn held(&mut self, at: Timestamp, shard: u16, unit_prices: &[Option<u64>]) -> Short<Ask> {
        if !self.wants_stock() {
            return self.release();
        }
        let lines = self.lines.iter_mut().filter(|line| line.shard == shard);
        for (number, line) in lines.enumerate() {
            if line.amount_minor.is_some() {
                continue;
            }
            let unit = unit_prices.get(number).copied().flatten().unwrap_or(0);
            let amount = unit.checked_mul(line.quantity.into()).filter(|a| *a <= AMOUNT_MINOR_MAX);
            let Some(amount) = amount else {
                let refusal = Refusal::AmountOverflow { sku: line.sku.clone() };
                return self.give_up(refusal);
            };
            line.amount_minor = Some(amount);
        }
        if self.legs.iter().any(|leg| leg.state != LegState::Held) {
            return Short::new();
        }
        self.accept(at)
    }

    fn accept(&mut self, at: Timestamp) -> Short<Ask> {
        if self.rereserve == Rereserve::Trying {
            self.rereserve = Rereserve::Done;
            return self.confirm();
        }
        self.total_minor = 0;
        for line in &self.lines {
            self.total_minor += line.amount_minor.unwrap_or(0);
            if self.total_minor > AMOUNT_MINOR_MAX {
                let refusal = Refusal::AmountOverflow { sku: line.sku.clone() };
                self.total_minor = 0;
                return self.give_up(refusal);
            }
        }
        self.state = OrderState::AwaitingPayment;
        self.expires_at = Some(at.plus_ms(self.hold_ms));
        if self.covered() { self.confirm() } else { Short::new() }
    }

    fn give_up(&mut self, refusal: Refusal) -> Short<Ask> {
        self.rejection = Some(Box::new(refusal));
        if self.rereserve == Rereserve::Trying {
            self.rereserve = Rereserve::Done;
        } else {
            self.state = OrderState::Rejected;
        }
        self.release()
    }

    fn paid(&mut self, payment: &Payment) -> Short<Ask> {
        self.history.payments.push(payment.clone());
        match payment.kind {
            PaymentKind::Captured => self.history.captured_minor += payment.amount_minor,
            PaymentKind::Refunded => self.history.refunded_minor += payment.amount_minor,
            PaymentKind::Authorized | PaymentKind::Failed => return Short::new(),
        }
        if !self.covered() {
            return Short::new();
        }
        match self.state {
            OrderState::AwaitingPayment => self.confirm(),
            OrderState::Expired if self.rereserve == Rereserve::No => {
                self.rereserve = Rereserve::Trying;
                self.reserve()
            }
            _ => Short::new(),
        }
    }

    fn confirm(&mut self) -> Short<Ask> {
        self.state = OrderState::Confirmed;
        self.move_legs(&[LegState::Held], LegState::Allocating)
    }

    fn release(&mut self) -> Short<Ask> {
        self.move_legs(&[LegState::Held], LegState::Releasing)
    }

    fn reserve(&mut self) -> Short<Ask> {
        // A release may still be under way; it is numbered lower, so the reserve comes after it.
        self.move_legs(&[LegState::Free, LegState::Releasing], LegState::Asked)
    }

    fn cancel(&mut self) -> Short<Ask> {
        self.state = OrderState::Cancelled;
        let mut asks = self.release();
        let sold = [LegState::Allocating, LegState::Allocated];
        self.move_legs(&sold, LegState::Deallocating).take_each(|ask| asks.push(ask));
        asks
    }

    fn fulfil(&mut self, at: Timestamp, key: KeyHash, lines: &[StockLine]) -> Short<Ask> {
        self.each_line(lines, |line, units| line.shipped += units);
        let fulfilment = Fulfilment { at, key, lines: lines.to_vec() };
        let shipment = Some(fulfilment.shipment());
        self.history.fulfilments.push(fulfilment);
        self.by_shard(lines, shipment, |lines| OpAction::Ship { lines })
    }

    // Takes a refused shipment out of the record: what its other legs shipped stays.
    fn unship(&mut self, shipment: Option<&Shipment>, refused: &[StockLine]) {
        self.each_line(refused, |line, units| line.shipped = line.shipped.saturating_sub(units));
        for fulfilment in
            self.history.fulfilments.iter_mut().filter(|f| Some(&f.shipment()) == shipment)
        {
            fulfilment.lines.retain(|line| !refused.contains(line));
        }
        self.history.fulfilments.retain(|fulfilment| !fulfilment.lines.is_empty());
    }

    fn take_back(&mut self, at: Timestamp, lines: &[StockLine], restock: bool) -> Short<Ask> {
        let before_minor = self.returned_minor();
        self.each_line(lines, |line, units| line.returned += units);
        let refund_minor = self.returned_minor().saturating_sub(before_minor);
        self.history.returns.push(Return { at, lines: lines.to_vec(), restock, refund_minor });
        let user = self.user.clone();
        self.by_shard(lines, None, |lines| OpAction::Return { user: user.clone(), lines, restock })
    }

    fn each_line(&mut self, lines: &[StockLine], change: impl Fn(&mut OrderLine, u32)) {
        for StockLine { sku, location, quantity } in lines {
            let mine = |line: &&mut OrderLine| line.sku == *sku && line.location == *location;
            if let Some(line) = self.lines.iter_mut().find(mine) {
                change(line, units(*quantity));
            }
        }
    }

    // One ask for each stock shard that has some of `lines`.
    fn by_shard(
        &self,
        lines: &[StockLine],
        shipment: Option<Shipment>,
        action: impl Fn(StockLines) -> OpAction,
    ) -> Short<Ask> {
        let mut asks = Short::new();
        for leg in &self.legs {
            let here = |l: &&StockLine| {
                self.line(&l.sku, &l.location).is_some_and(|line| line.shard == leg.shard)
            };
            let lines: StockLines = lines.iter().filter(here).cloned().collect();
            if !lines.is_empty() {
                asks.push(Ask {
                    order: self.id,
                    to: leg.shard,
                    action: action(lines),
                    shipment: shipment.map(Box::new),
                });
            }
        }
        asks
    }

    fn set_leg(&mut self, shard: u16, from: LegState, to: LegState) {
        // A leg that has moved on meanwhile is left alone: a later ask is under way.
        for leg in self.legs.iter_mut().filter(|leg| leg.shard == shard && leg.state == from) {
            leg.state = to;
        }
    }

    // Moves the legs in one of `from` to `to`, with the ask that brings it about.
    fn move_legs(&mut self, from: &[LegState], to: LegState) -> Short<Ask> {
        let mut asks = Short::new();
        for number in 0..self.legs.len() {
            let Leg { shard, state } = self.legs[number];
            if !from.contains(&state) {
                continue;
            }
            self.legs[number].state = to;
            let action = match to {
                LegState::Asked => {
                    OpAction::Reserve { user: self.user.clone(), lines: self.lines_at(shard) }
                }
                LegState::Allocating => OpAction::Allocate,
                LegState::Deallocating => {
                    OpAction::Deallocate { user: self.user.clone(), lines: self.lines_at(shard) }
                }
                _ => OpAction::Release,
            };
            asks.push(Ask { order: self.id, to: shard, action, shipment: None });
        }
        asks
    }

    /// All that the order has at one stock shard.
    pub(crate) fn lines_at(&self, shard: u16) -> StockLines {
        let here = self.lines.iter().filter(|line| line.shard == shard);
        here.map(|line| StockLine {
            sku: line.sku.clone(),
            location: line.location.clone(),
            quantity: line.quantity.into(),
        })
        .collect()
    }
}

// What an event says is within its bound, which is far below.
fn units(quantity: u64) -> u32 {
    u32::try_from(quantity).unwrap_or(u32::MAX)
}
