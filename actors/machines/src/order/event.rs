//! What has happened to orders. It deliberately repeats nothing that can be derived: operations for
//! stock shards follow from the event and the order.

use serde::{Deserialize, Serialize};

use super::{NewLine, Order, Payment};
use crate::{Fingerprint, KeyHash, OpId, OpOutcome, OrderId, StockLine, Timestamp, UserId};

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
    pub lines: Vec<(NewLine, u16)>,
    /// How long the stock is held for payment, in milliseconds.
    pub hold_ms: u64,
    /// Whether the caller has its answer already.
    pub respond_async: bool,
}
