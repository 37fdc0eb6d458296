//! Rows of orders: as events change them, and as an order that is read whole gives them. Both must
//! come to the same. It doesn't know how rows are kept.

use tidegate_actors::feed::{PlacedLine, Reason};
use tidegate_machines::PaymentSums;

use super::fold::Mark;
use crate::{
    FulfilmentStatus, Location, Order, OrderId, OrderState, Payment, PaymentKind, PaymentStatus,
    Position, Sku, StockLine, Timestamp, UserId,
};

/// A row of `orders` with its lines.
#[derive(Clone, Debug)]
pub(super) struct OrderRow {
    pub(super) mark: Mark,
    pub(super) id: OrderId,
    pub(super) user: UserId,
    pub(super) state: OrderState,
    /// `None` unless it was ever accepted.
    pub(super) total_minor: Option<u64>,
    pub(super) captured_minor: u64,
    pub(super) refunded_minor: u64,
    pub(super) refund_due_minor: u64,
    pub(super) authorized: bool,
    pub(super) placed_at: Timestamp,
    pub(super) changed_at: Timestamp,
    pub(super) expires_at: Option<Timestamp>,
    /// Code and message.
    pub(super) rejection: Option<(String, String)>,
    pub(super) lines: Vec<LineRow>,
    /// Whether a line is to be written: most of what happens to an order changes none.
    pub(super) lines_changed: bool,
}

/// A row of `order_lines`.
#[derive(Clone, Debug)]
pub(super) struct LineRow {
    pub(super) sku: Sku,
    pub(super) location: Location,
    pub(super) stock_shard: u16,
    pub(super) quantity: u64,
    pub(super) amount_minor: Option<u64>,
    pub(super) shipped: u64,
    pub(super) returned: u64,
}

/// A row of `payments`.
#[derive(Clone, Debug)]
pub(super) struct PaymentRow {
    pub(super) order: OrderId,
    pub(super) payment: Payment,
    pub(super) position: Position,
}

impl OrderRow {
    /// An order that was just placed.
    pub(super) fn placed(
        mark: Mark,
        id: OrderId,
        user: &UserId,
        lines: &[PlacedLine],
        at: Timestamp,
    ) -> Self {
        let line = |line: &PlacedLine| LineRow {
            sku: line.sku.clone(),
            location: line.location.clone(),
            stock_shard: line.stock_shard,
            quantity: line.quantity,
            amount_minor: line.amount_minor,
            shipped: 0,
            returned: 0,
        };
        Self {
            mark,
            id,
            user: user.clone(),
            state: OrderState::Queued,
            total_minor: None,
            captured_minor: 0,
            refunded_minor: 0,
            refund_due_minor: 0,
            authorized: false,
            placed_at: at,
            changed_at: at,
            expires_at: None,
            rejection: None,
            lines: lines.iter().map(line).collect(),
            lines_changed: true,
        }
    }

    /// An order as the store has it at the position in `mark`.
    pub(super) fn whole(mark: Mark, order: &Order) -> Self {
        let accepted = order.expires_at.is_some();
        // As long as it is queued it may still be accepted with what is known by now.
        let priced = accepted || order.state == OrderState::Queued;
        let line = |line: &crate::OrderLine| LineRow {
            sku: line.sku.clone(),
            location: line.location.clone(),
            stock_shard: line.shard,
            quantity: line.quantity.into(),
            amount_minor: line.amount_minor.filter(|_| priced),
            shipped: line.shipped.into(),
            returned: line.returned.into(),
        };
        let rejected = order.state == OrderState::Rejected;
        let rejection = order.rejection.as_deref().filter(|_| rejected).map(Reason::from);
        let authorized = |payment: &Payment| payment.kind == PaymentKind::Authorized;
        Self {
            mark,
            id: order.id,
            user: order.user.clone(),
            state: order.state,
            total_minor: accepted.then_some(order.total_minor),
            captured_minor: order.history.captured_minor,
            refunded_minor: order.history.refunded_minor,
            refund_due_minor: order.refund_due_minor(),
            authorized: order.history.payments.iter().any(authorized),
            placed_at: order.placed_at,
            changed_at: order.changed_at,
            expires_at: order.expires_at,
            rejection: rejection.map(|reason| (reason.code.to_owned(), reason.message)),
            lines: order.lines.iter().map(line).collect(),
            lines_changed: true,
        }
    }

    /// All its stock is held. Whether its lines' amounts are known and come to the total.
    pub(super) fn accept(&mut self, total_minor: u64, expires_at: Timestamp) -> bool {
        self.state = OrderState::AwaitingPayment;
        self.total_minor = Some(total_minor);
        self.expires_at = Some(expires_at);
        let sum = self.lines.iter().map(|line| line.amount_minor).sum::<Option<u64>>();
        sum == Some(total_minor)
    }

    /// What a unit costs, for a line whose amount was left to the price.
    pub(super) fn price(&mut self, held: &StockLine, unit_price_minor: Option<u64>) {
        if self.state != OrderState::Queued {
            return;
        }
        if let Some(line) = self.line(held).filter(|line| line.amount_minor.is_none()) {
            line.amount_minor = unit_price_minor.unwrap_or(0).checked_mul(line.quantity);
            (self.mark.changed, self.lines_changed) = (true, true);
        }
    }

    /// It is over before it was accepted: it never had a price.
    pub(super) fn end(&mut self, state: OrderState) {
        if self.state == OrderState::Queued {
            self.lines.iter_mut().for_each(|line| line.amount_minor = None);
            self.lines_changed = true;
        }
        self.state = state;
    }

    pub(super) fn pay(&mut self, kind: PaymentKind, amount_minor: u64) {
        match kind {
            PaymentKind::Captured => self.captured_minor += amount_minor,
            PaymentKind::Refunded => self.refunded_minor += amount_minor,
            PaymentKind::Authorized => self.authorized = true,
            PaymentKind::Failed => {}
        }
    }

    /// Changes each of these lines of the order; whether it has them all.
    pub(super) fn shift(&mut self, lines: &[StockLine], by: impl Fn(&mut LineRow, u64)) -> bool {
        self.lines_changed = true;
        lines.iter().all(|moved| match self.line(moved) {
            Some(line) => {
                by(line, moved.quantity);
                true
            }
            None => false,
        })
    }

    fn line(&mut self, named: &StockLine) -> Option<&mut LineRow> {
        let same = |line: &&mut LineRow| line.sku == named.sku && line.location == named.location;
        self.lines.iter_mut().find(same)
    }

    /// What the order has at a stock shard.
    pub(super) fn at_shard(&self, stock_shard: u16) -> Vec<StockLine> {
        let here = self.lines.iter().filter(|line| line.stock_shard == stock_shard);
        here.map(|line| StockLine {
            sku: line.sku.clone(),
            location: line.location.clone(),
            quantity: line.quantity,
        })
        .collect()
    }

    /// As [`Order::payment_status`].
    pub(super) fn payment_status(&self) -> PaymentStatus {
        let amounts = || self.lines.iter().map(|line| line.amount_minor).sum();
        PaymentStatus::of(&PaymentSums {
            state: self.state,
            total_minor: self.total_minor.or_else(amounts),
            authorized: self.authorized,
            captured_minor: self.captured_minor,
            refunded_minor: self.refunded_minor,
            refund_due_minor: self.refund_due_minor,
        })
    }

    /// As [`Order::fulfilment_status`].
    pub(super) fn fulfilment_status(&self) -> FulfilmentStatus {
        let sum = |units: fn(&LineRow) -> u64| self.lines.iter().map(units).sum::<u64>();
        let (shipped, returned) = (sum(|line| line.shipped), sum(|line| line.returned));
        FulfilmentStatus::of(sum(|line| line.quantity), shipped, returned)
    }
}

/// How a kind of payment event is written.
pub(super) fn payment_kind(kind: PaymentKind) -> &'static str {
    match kind {
        PaymentKind::Authorized => "authorized",
        PaymentKind::Captured => "captured",
        PaymentKind::Failed => "failed",
        PaymentKind::Refunded => "refunded",
    }
}
