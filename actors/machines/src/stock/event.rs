//! What has happened to stock: the only writer of its levels. It deliberately carries no levels, so
//! that an event says what was done and not what came of it.

use serde::{Deserialize, Serialize};

use super::{OpOutcome, OrderOp, SkuPatch, StockLine};
use crate::{Fingerprint, HoldId, KeyHash, OpId, OrderId, Refusal, Sku, Timestamp, UserId};

/// Happened in a stock shard. Variants are only ever appended, and never change: they are the
/// format on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StockEvent {
    /// A SKU was defined or its options changed.
    Defined {
        /// The SKU.
        sku: Sku,
        /// The options that were set.
        patch: SkuPatch,
    },
    /// Stock was moved in or out.
    Adjusted {
        /// When.
        at: Timestamp,
        /// The idempotency key.
        key: KeyHash,
        /// What the request asked for.
        fingerprint: Fingerprint,
        /// The SKU.
        sku: Sku,
        /// Where.
        location: crate::Location,
        /// Units in (positive) or out (negative).
        delta: i64,
        /// Why.
        reason: String,
    },
    /// A standalone hold was made.
    HoldPlaced {
        /// When.
        at: Timestamp,
        /// The idempotency key.
        key: KeyHash,
        /// What the request asked for.
        fingerprint: Fingerprint,
        /// Its number.
        hold: HoldId,
        /// For whom.
        user: UserId,
        /// What.
        line: StockLine,
        /// When it expires.
        expires_at: Timestamp,
    },
    /// A standalone hold lives until another time.
    HoldExtended {
        /// The hold.
        hold: HoldId,
        /// When it expires now.
        expires_at: Timestamp,
    },
    /// A standalone hold was confirmed: its units are sold.
    HoldConfirmed {
        /// When.
        at: Timestamp,
        /// The hold.
        hold: HoldId,
    },
    /// A standalone hold was released: its units are free.
    HoldReleased {
        /// When.
        at: Timestamp,
        /// The hold.
        hold: HoldId,
    },
    /// The units of a confirmed hold have left the stock.
    HoldShipped {
        /// When.
        at: Timestamp,
        /// The hold.
        hold: HoldId,
    },
    /// An operation of an order was done.
    OpApplied {
        /// The operation.
        op: OrderOp,
        /// Its outcome: `Held` or `Done`.
        outcome: OpOutcome,
    },
    /// An operation of an order was refused. It is kept because an operation has one outcome, but
    /// small because there are many.
    OpRefused {
        /// The operation.
        op: OpId,
        /// The order shard that sent it.
        from: u16,
        /// All operations of the sender below this one have been answered.
        acked_below: OpId,
        /// The order it was for.
        order: OrderId,
        /// Why.
        refusal: Refusal,
    },
    /// Time has passed.
    Ticked {
        /// When.
        at: Timestamp,
        /// Standalone holds that expired.
        expired: Vec<HoldId>,
        /// Keys bound and holds settled before this time are forgotten. Recorded, so that a changed
        /// retention does not change what a replay gives.
        forget_before: Option<Timestamp>,
    },
}
