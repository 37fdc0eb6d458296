//! The order itself: what is in memory while it lives, what is archived at rest, and what callers
//! see. It deliberately does not change itself; `advance` does.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{History, OrderEntries, OrderRejection, PaymentKind, Receipt, written::Written};
use crate::{KeyHash, Location, OpId, OrderId, Refusal, Short, Sku, StockLine, Timestamp, UserId};

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Written")]
pub struct Order {
    /// Its number.
    pub id: OrderId,
    /// Counts its changes, from 1.
    pub version: u32,
    /// Who buys.
    pub user: UserId,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// When it last changed.
    pub changed_at: Timestamp,
    /// When it expires, or would have expired, unless paid; `None` before its stock is held.
    pub expires_at: Option<Timestamp>,
    /// How long its stock is held for payment, in milliseconds.
    pub hold_ms: u64,
    /// Where it is in its life.
    pub state: OrderState,
    /// Why it was rejected, or why its late payment came to nothing.
    pub rejection: Option<Box<Refusal>>,
    /// What is bought, one line for each SKU and location.
    pub lines: Short<OrderLine>,
    /// The sum of the lines' amounts in minor units.
    pub total_minor: u64,
    /// What happened to it since: payments, shipments, returns.
    pub history: History,
    /// Whether a late payment has brought a second try to reserve.
    pub rereserve: Rereserve,
    /// What is known of each stock shard involved.
    pub legs: Short<Leg>,
    /// Operations that no stock shard has answered yet.
    pub open_ops: Short<OpId>,
    /// The key it was placed with.
    pub key: KeyHash,
    /// Whether it was answered when it was queued.
    pub respond_async: bool,
    /// Whether those who wait for it to be placed still wait.
    pub placing: bool,
}

/// Where an order is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OrderState {
    /// Placed; its stock is being reserved, or it still waits in the queue for its turn.
    Queued,
    /// Its stock is held until it expires.
    AwaitingPayment,
    /// Paid; its stock is sold.
    Confirmed,
    /// All is shipped.
    Completed,
    /// Refused: nothing was held in the end.
    Rejected,
    /// Cancelled before anything was shipped.
    Cancelled,
    /// Not paid in time.
    Expired,
}

impl fmt::Display for OrderState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queued => "queued",
            Self::AwaitingPayment => "awaiting_payment",
            Self::Confirmed => "confirmed",
            Self::Completed => "completed",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        })
    }
}

/// A line of an order: all of one SKU from one location.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    /// The SKU.
    pub sku: Sku,
    /// Where it is sold from.
    pub location: Location,
    /// The stock shard that has it.
    pub shard: u16,
    /// Units.
    pub quantity: u32,
    /// Amount of the whole line in minor units; `None` until the stock shard has given the price.
    pub amount_minor: Option<u64>,
    /// Units shipped.
    pub shipped: u32,
    /// Units that came back.
    pub returned: u32,
}

impl OrderLine {
    /// The value of the units that came back: the same share of the amount, rounded down over all
    /// returns together, so that returning everything in parts gives exactly the amount.
    #[must_use]
    pub fn returned_minor(&self) -> u64 {
        let amount = u128::from(self.amount_minor.unwrap_or(0));
        let share = amount * u128::from(self.returned) / u128::from(self.quantity.max(1));
        u64::try_from(share).unwrap_or(u64::MAX)
    }
}

/// Units that left together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fulfilment {
    /// When.
    pub at: Timestamp,
    /// The key it was asked for with.
    pub key: KeyHash,
    /// What.
    pub lines: Vec<StockLine>,
}

/// Names a fulfilment within its order: keys are forgotten in time and may then be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shipment {
    pub(crate) key: KeyHash,
    pub(crate) at: Timestamp,
}

impl Fulfilment {
    pub(crate) fn shipment(&self) -> Shipment {
        Shipment { key: self.key, at: self.at }
    }
}

/// Units that came back together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Return {
    /// When.
    pub at: Timestamp,
    /// What.
    pub lines: Vec<StockLine>,
    /// Whether it went back on the shelf.
    pub restock: bool,
    /// By how much it raised the value of what came back, in minor units.
    pub refund_minor: u64,
}

/// Whether a late payment has brought a second try to reserve. There is only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rereserve {
    /// There was none.
    No,
    /// It is under way.
    Trying,
    /// There was one.
    Done,
}

/// What an order knows of one stock shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// The stock shard.
    pub shard: u16,
    /// What the order has there.
    pub state: LegState,
}

/// What an order has at one stock shard. `Releasing` and the like last until it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LegState {
    /// A reserve is under way.
    Asked,
    /// Its lines are held.
    Held,
    /// A release is under way.
    Releasing,
    /// Nothing.
    Free,
    /// An allocation is under way.
    Allocating,
    /// Its lines are sold.
    Allocated,
    /// The sale is being undone.
    Deallocating,
}

/// How much of an order was shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FulfilmentStatus {
    /// Nothing.
    Unfulfilled,
    /// Some.
    Partial,
    /// All.
    Fulfilled,
    /// Some of what was shipped came back.
    PartiallyReturned,
    /// All of what was shipped came back.
    Returned,
}

impl FulfilmentStatus {
    /// Of an order of `quantity` units of all lines, of which so many were shipped, and so many of
    /// those came back.
    #[must_use]
    pub fn of(quantity: u64, shipped: u64, returned: u64) -> Self {
        if shipped == 0 {
            Self::Unfulfilled
        } else if returned == shipped {
            Self::Returned
        } else if returned > 0 {
            Self::PartiallyReturned
        } else if shipped < quantity {
            Self::Partial
        } else {
            Self::Fulfilled
        }
    }
}

impl fmt::Display for FulfilmentStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unfulfilled => "unfulfilled",
            Self::Partial => "partial",
            Self::Fulfilled => "fulfilled",
            Self::PartiallyReturned => "partially_returned",
            Self::Returned => "returned",
        })
    }
}

impl Order {
    /// Whether nothing is open: the order changes only if somebody asks for it.
    #[must_use]
    pub fn at_rest(&self) -> bool {
        let waits = matches!(self.state, OrderState::Queued | OrderState::AwaitingPayment);
        !waits && self.open_ops.is_empty()
    }

    /// Whether it waits in the queue: it has nothing at any stock shard and asks for nothing yet.
    #[must_use]
    pub fn waits_in_queue(&self) -> bool {
        // While stock is being reserved, some operation is always open.
        self.state == OrderState::Queued && self.open_ops.is_empty()
    }

    /// The answer to whoever placed it: to everyone who asks with the same key the same one. Only
    /// an order that was answered when it was queued shows its state as it is now.
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        let accepted = self.expires_at.is_some() && !self.respond_async;
        let state = if accepted { OrderState::AwaitingPayment } else { self.state };
        Receipt {
            id: self.id,
            state,
            total_minor: self.total_minor,
            placed_at: self.placed_at,
            expires_at: self.expires_at,
            queue: None,
        }
    }

    /// What those who placed it are told once it is decided: its receipt, or why it was refused.
    ///
    /// # Errors
    /// The refusal.
    pub fn placed(&self) -> Result<Receipt, OrderRejection> {
        match &self.rejection {
            Some(refusal) if self.state == OrderState::Rejected && !self.respond_async => {
                Err(Refusal::clone(refusal).into())
            }
            _ => Ok(self.receipt()),
        }
    }

    /// How much was shipped.
    #[must_use]
    pub fn fulfilment_status(&self) -> FulfilmentStatus {
        let sum = |units: fn(&OrderLine) -> u32| {
            self.lines.iter().map(|line| u64::from(units(line))).sum::<u64>()
        };
        let (shipped, returned) = (sum(|line| line.shipped), sum(|line| line.returned));
        FulfilmentStatus::of(sum(|line| line.quantity), shipped, returned)
    }

    /// The line of `sku` at `location`.
    #[must_use]
    pub fn line(&self, sku: &Sku, location: &Location) -> Option<&OrderLine> {
        self.lines.iter().find(|line| line.sku == *sku && line.location == *location)
    }

    /// Whether anything of `shipment` is shipped or on its way.
    pub(crate) fn has_shipment(&self, shipment: Shipment) -> bool {
        self.history.fulfilments.iter().any(|fulfilment| fulfilment.shipment() == shipment)
    }

    /// Whether enough has come in to confirm: an order of total 0 still waits for its payment.
    pub(crate) fn covered(&self) -> bool {
        // What has gone back does not pay for anything, whichever was told first.
        let OrderEntries { payments, captured_minor, refunded_minor, .. } = &*self.history;
        captured_minor.saturating_sub(*refunded_minor) >= self.total_minor
            && payments.iter().any(|payment| payment.kind == PaymentKind::Captured)
    }

    /// Whether the order came to nothing and nobody needs to find it: its caller gets the refusal.
    pub(crate) fn vanishes(&self) -> bool {
        let refused = self.state == OrderState::Rejected && self.open_ops.is_empty();
        refused && !self.respond_async && self.history.payments.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_and_its_counter_fill_a_block_of_224_bytes() {
        // Allocators know blocks of 224 and of 256 bytes, and none between.
        assert!(size_of::<Order>() + size_of::<usize>() <= 224, "{}", size_of::<Order>());
    }
}
