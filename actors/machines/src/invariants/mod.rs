//! What must always hold, named once: for tests, for debug assertions, for an audit. It
//! deliberately repairs nothing.

mod conservation;
mod orders;
mod stock;
mod topics;

use std::fmt;

use thiserror::Error;

pub use conservation::check_conservation;
pub use orders::check_orders;
pub use stock::check_stock;
pub use topics::{check_consumers, check_topics};

/// Something that must always hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// No more is promised than there is.
    NoOversell,
    /// Held units are those of the holds.
    HeldIsHolds,
    /// Nobody has more than the limit.
    LimitKept,
    /// A hold has one outcome.
    OneOutcome,
    /// Nothing happened that cannot happen.
    NothingImpossible,
    /// Idempotency memory stays within its bound.
    MemoryBounded,
    /// Totals are sums of lines.
    TotalIsLines,
    /// Sums of payments are right.
    MoneyIsPayments,
    /// A sale was paid for, and what pays for an order makes it a sale or becomes due as a refund.
    NoLostMoney,
    /// Shipped and returned units are right.
    UnitsAreEntries,
    /// Open operations belong to orders.
    OpsHaveOrders,
    /// An order's stock fits its state.
    LegsFitState,
    /// Stock and orders agree.
    Conservation,
    /// What is delayed is counted.
    DelayedCounted,
    /// A group's cursor leaves nothing behind.
    CursorHonest,
    /// Who waits in the queue has nothing, and is there once.
    QueueHoldsNothing,
    /// Who has left the queue has left it once.
    QueueLeftOnce,
}

impl Invariant {
    /// Every invariant.
    pub const ALL: [Self; 17] = [
        Self::NoOversell,
        Self::HeldIsHolds,
        Self::LimitKept,
        Self::OneOutcome,
        Self::NothingImpossible,
        Self::MemoryBounded,
        Self::TotalIsLines,
        Self::MoneyIsPayments,
        Self::NoLostMoney,
        Self::UnitsAreEntries,
        Self::OpsHaveOrders,
        Self::LegsFitState,
        Self::Conservation,
        Self::DelayedCounted,
        Self::CursorHonest,
        Self::QueueHoldsNothing,
        Self::QueueLeftOnce,
    ];

    /// Its name, for reports and programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoOversell => "no-oversell",
            Self::HeldIsHolds => "held-is-holds",
            Self::LimitKept => "limit-kept",
            Self::OneOutcome => "one-outcome",
            Self::NothingImpossible => "nothing-impossible",
            Self::MemoryBounded => "memory-bounded",
            Self::TotalIsLines => "total-is-lines",
            Self::MoneyIsPayments => "money-is-payments",
            Self::NoLostMoney => "no-lost-money",
            Self::UnitsAreEntries => "units-are-entries",
            Self::OpsHaveOrders => "ops-have-orders",
            Self::LegsFitState => "legs-fit-state",
            Self::Conservation => "conservation",
            Self::DelayedCounted => "delayed-counted",
            Self::CursorHonest => "cursor-honest",
            Self::QueueHoldsNothing => "queue-holds-nothing",
            Self::QueueLeftOnce => "queue-left-once",
        }
    }

    /// What it says, in one line.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::NoOversell => "held + allocated ≤ on hand + backorder limit, everywhere",
            Self::HeldIsHolds => "the held units of a level are the sum of the holds on it",
            Self::LimitKept => "held units are counted towards the user's limit",
            Self::OneOutcome => "a standalone hold waits for its deadline, or has one outcome",
            Self::NothingImpossible => "no operation found stock in a state that cannot be",
            Self::MemoryBounded => "no more idempotency keys are kept than may be",
            Self::TotalIsLines => "an accepted order's total is the sum of its lines",
            Self::MoneyIsPayments => "captured and refunded are the sums of the payment events",
            Self::NoLostMoney => {
                "no sale without a capture, and no covering capture without its effect"
            }
            Self::UnitsAreEntries => "shipped and returned are the sums of the entries",
            Self::OpsHaveOrders => "each open operation is listed by its order, and no other",
            Self::LegsFitState => "an order has at the stock shards what its state says",
            Self::Conservation => "orders and holds have exactly what stock says is set aside",
            Self::DelayedCounted => "delayed messages and their bytes are counted, and bounded",
            Self::CursorHonest => {
                "a group's window lies between its cursor and what it has read, and begins with a \
                 message that is not resolved"
            }
            Self::QueueHoldsNothing => {
                "who waits in the queue is there once, and has nothing and asks for nothing"
            }
            Self::QueueLeftOnce => {
                "each queued order was released, rejected or cancelled, or waits"
            }
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An invariant that does not hold, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{invariant} ({}): {found}", .invariant.description())]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// Where, and what was found.
    pub found: String,
}

fn require(
    invariant: Invariant,
    holds: bool,
    found: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { invariant, found: found() }) }
}
