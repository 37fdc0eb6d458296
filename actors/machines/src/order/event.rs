//! What has happened to orders. It deliberately repeats nothing that a replay needs and can derive:
//! operations for stock shards follow from the event and the order. What readers of the journal
//! need, who know no order, is in an [`Upshot`].

use serde::{Deserialize, Serialize};

use super::{NewLine, Order, OrderState, Payment};
use crate::{Fingerprint, KeyHash, OpId, OpOutcome, OrderId, Short, StockLine, Timestamp, UserId};

/// Happened in an order shard. Variants are only ever appended, and never change: they are the
/// format on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderEvent {
    /// An order was placed; its stock is being reserved.
    Placed(Placed),
    /// An operation has its outcome.
    Answered {
        /// When the answer arrived.
        at: Timestamp,
        /// The operation.
        op: OpId,
        /// The order it was for.
        order: OrderId,
        /// Its outcome.
        outcome: OpOutcome,
    },
    /// A payment event was told.
    Paid {
        /// The order.
        order: OrderId,
        /// The payment event.
        payment: Payment,
    },
    /// An order was cancelled.
    Cancelled {
        /// When.
        at: Timestamp,
        /// The order.
        order: OrderId,
        /// The idempotency key.
        key: KeyHash,
        /// What the request asked for.
        fingerprint: Fingerprint,
    },
    /// Lines were shipped.
    Fulfilled {
        /// When.
        at: Timestamp,
        /// The order.
        order: OrderId,
        /// The idempotency key.
        key: KeyHash,
        /// What the request asked for.
        fingerprint: Fingerprint,
        /// What was shipped.
        lines: Vec<StockLine>,
    },
    /// Shipped units came back.
    Returned {
        /// When.
        at: Timestamp,
        /// The order.
        order: OrderId,
        /// The idempotency key.
        key: KeyHash,
        /// What the request asked for.
        fingerprint: Fingerprint,
        /// What came back.
        lines: Vec<StockLine>,
        /// Whether it goes back on the shelf.
        restock: bool,
    },
    /// Time has passed.
    Ticked {
        /// When.
        at: Timestamp,
        /// Orders that expired unpaid.
        expired: Vec<OrderId>,
        /// Keys bound before this time are forgotten. Recorded, so that a changed retention does
        /// not change what a replay gives.
        forget_before: Option<Timestamp>,
    },
    /// Orders at rest left the memory; the archive has them.
    Forgotten {
        /// The orders.
        orders: Vec<OrderId>,
    },
    /// An order came back from the archive.
    Revived {
        /// The order.
        order: Box<Order>,
    },
    /// Another event, with what it came to. Replayed as that event alone.
    Told {
        /// What has happened; never `Told` itself.
        event: Box<OrderEvent>,
        /// What it came to.
        upshot: Upshot,
    },
    /// An order was placed and waits in the queue; nothing of its stock is asked for yet.
    Enqueued {
        /// The order.
        placed: Placed,
        /// When it is rejected unless its turn has come.
        deadline: Timestamp,
    },
    /// The turn of queued orders has come: their stock is being reserved.
    Released {
        /// When.
        at: Timestamp,
        /// The orders, first to last.
        orders: Vec<OrderId>,
        /// What is left of the credit by which orders are released. Recorded, so that a changed
        /// rate does not change what a replay gives.
        credit: u64,
    },
    /// Queued orders were rejected: their deadline has come before their turn.
    TimedOut {
        /// When.
        at: Timestamp,
        /// The orders.
        orders: Vec<OrderId>,
    },
}

/// What an event came to, where that does not follow from the event alone. A replay ignores it; it
/// is there for those who read the journal and know no order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upshot {
    /// Its order was accepted: all stock is held.
    pub accepted: Option<Accepted>,
    /// The state that its order is in now, if it was in another before.
    pub state: Option<OrderState>,
    /// Lines that were to be shipped and are not.
    pub unshipped: Vec<StockLine>,
    /// Orders for which another amount is to be paid back than before, each with that amount in
    /// minor units.
    pub refunds_due: Vec<(OrderId, u64)>,
}

/// What accepting an order fixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The sum of the lines' amounts in minor units.
    pub total_minor: u64,
    /// When it expires unless paid.
    pub expires_at: Timestamp,
}

impl OrderEvent {
    /// What has happened, without its upshot.
    #[must_use]
    pub fn bare(&self) -> &Self {
        match self {
            Self::Told { event, .. } => event,
            event => event,
        }
    }

    /// The event with `upshot`, if that says anything.
    pub(super) fn telling(self, upshot: Upshot) -> Self {
        if upshot == Upshot::default() {
            return self;
        }
        Self::Told { event: Box::new(self), upshot }
    }
}

impl Upshot {
    /// What took an order from `before` to `after` came to.
    pub(super) fn of(before: &Order, after: &Order) -> Self {
        let accepted = after.expires_at.filter(|_| before.expires_at.is_none());
        let total_minor = after.total_minor;
        let both = before.lines.iter().zip(&after.lines);
        let unshipped = both.filter(|(before, after)| after.shipped < before.shipped);
        let unshipped = unshipped.map(|(before, after)| StockLine {
            sku: after.sku.clone(),
            location: after.location.clone(),
            quantity: (before.shipped - after.shipped).into(),
        });
        let mut upshot = Self {
            accepted: accepted.map(|expires_at| Accepted { total_minor, expires_at }),
            state: (after.state != before.state).then_some(after.state),
            unshipped: unshipped.collect(),
            refunds_due: Vec::new(),
        };
        upshot.note_refund(before, after);
        upshot
    }

    /// Notes what is to be paid back, if that has changed.
    pub(super) fn note_refund(&mut self, before: &Order, after: &Order) {
        let due = after.refund_due_minor();
        if due != before.refund_due_minor() {
            self.refunds_due.push((after.id, due));
        }
    }
}

/// An order was placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// When.
    pub at: Timestamp,
    /// Its number.
    pub order: OrderId,
    /// The idempotency key.
    pub key: KeyHash,
    /// What the request asked for.
    pub fingerprint: Fingerprint,
    /// Who buys.
    pub user: UserId,
    /// What, lines of the same SKU and location summed, each with its stock shard. The shard is
    /// recorded so that what follows does not depend on the configuration.
    pub lines: Short<(NewLine, u16)>,
    /// How long the stock is held for payment, in milliseconds.
    pub hold_ms: u64,
    /// Whether the caller has its answer already.
    pub respond_async: bool,
}
