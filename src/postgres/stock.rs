//! Rows of stock: SKUs, levels, holds and movements, as events change them and as a stock shard
//! that is read whole gives them. It doesn't know how rows are kept.

use std::fmt;

use super::fold::Mark;
use crate::{
    Hold, HoldId, HoldOutcome, Level, Location, OrderId, Position, SetOptions, Sku, SkuOptions,
    StockLine, Timestamp, UserId,
};

/// A row of `skus`.
#[derive(Clone, Debug)]
pub(super) struct SkuRow {
    pub(super) mark: Mark,
    pub(super) options: SkuOptions,
}

/// A row of `stock`.
#[derive(Clone, Copy, Debug)]
pub(super) struct StockRow {
    pub(super) mark: Mark,
    pub(super) level: Level,
}

/// A row of `holds`.
#[derive(Clone, Debug)]
pub(super) struct HoldRow {
    pub(super) mark: Mark,
    pub(super) id: HoldId,
    pub(super) user: UserId,
    pub(super) line: StockLine,
    pub(super) state: HoldState,
    pub(super) placed_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) settled_at: Option<Timestamp>,
    pub(super) shipped_at: Option<Timestamp>,
}

/// What has become of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HoldState {
    Held,
    Confirmed,
    Released,
    Expired,
    /// The store had forgotten it before this was written.
    Unknown,
}

impl HoldState {
    pub(super) const ALL: [Self; 5] =
        [Self::Held, Self::Confirmed, Self::Released, Self::Expired, Self::Unknown];
}

impl fmt::Display for HoldState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held => "held",
            Self::Confirmed => "confirmed",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
        })
    }
}

/// A row of `movements`: what was added to each number of a level.
#[derive(Clone, Debug)]
pub(super) struct MovementRow {
    pub(super) position: Position,
    /// Counts the movements of one position, from 1; below 0 if it was loaded.
    pub(super) number: i32,
    pub(super) at: Timestamp,
    pub(super) kind: &'static str,
    pub(super) sku: Sku,
    pub(super) location: Location,
    pub(super) change: Change,
    pub(super) order: Option<OrderId>,
    pub(super) hold: Option<HoldId>,
    pub(super) reason: Option<String>,
}

/// What is added to a level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) on_hand: i64,
    pub(super) held: i64,
    pub(super) allocated: i64,
}

impl Change {
    pub(super) fn on_hand(units: i64) -> Self {
        Self { on_hand: units, ..Self::default() }
    }

    pub(super) fn held(units: i64) -> Self {
        Self { held: units, ..Self::default() }
    }

    pub(super) fn allocated(units: i64) -> Self {
        Self { allocated: units, ..Self::default() }
    }

    /// Units that were held are sold.
    pub(super) fn sold(units: i64) -> Self {
        Self { on_hand: 0, held: -units, allocated: units }
    }

    /// Units that were sold leave the warehouse.
    pub(super) fn shipped(units: i64) -> Self {
        Self { on_hand: -units, held: 0, allocated: -units }
    }

    /// What leads from one level to another.
    pub(super) fn between(before: Level, after: Level) -> Self {
        let step = |before: u64, after: u64| signed(after) - signed(before);
        Self {
            on_hand: step(before.on_hand, after.on_hand),
            held: step(before.held, after.held),
            allocated: step(before.allocated, after.allocated),
        }
    }

    /// The level after this; `None` if it would be below 0.
    pub(super) fn apply(self, level: Level) -> Option<Level> {
        Some(Level {
            on_hand: level.on_hand.checked_add_signed(self.on_hand)?,
            held: level.held.checked_add_signed(self.held)?,
            allocated: level.allocated.checked_add_signed(self.allocated)?,
        })
    }
}

/// Counts are far below what PostgreSQL can keep.
pub(super) fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}

impl SkuRow {
    pub(super) fn set(&mut self, options: &SetOptions) {
        let SetOptions { price_minor, currency, limit_per_user, backorder_limit } = options;
        let now = &mut self.options;
        now.price_minor = price_minor.unwrap_or(now.price_minor);
        now.limit_per_user = limit_per_user.unwrap_or(now.limit_per_user);
        now.backorder_limit = backorder_limit.unwrap_or(now.backorder_limit);
        if let Some(currency) = currency {
            now.currency.clone_from(currency);
        }
    }
}

impl HoldRow {
    /// A hold as the store has it at the position in `mark`.
    pub(super) fn whole(mark: Mark, hold: &Hold) -> Self {
        let state = match hold.settled {
            None => HoldState::Held,
            Some((HoldOutcome::Confirmed, _)) => HoldState::Confirmed,
            Some((HoldOutcome::Released, _)) => HoldState::Released,
            Some((HoldOutcome::Expired, _)) => HoldState::Expired,
        };
        Self {
            mark,
            id: hold.id,
            user: hold.user.clone(),
            line: hold.line.clone(),
            state,
            placed_at: hold.placed_at,
            expires_at: hold.expires_at,
            settled_at: hold.settled.map(|(_, at)| at),
            shipped_at: hold.shipped_at,
        }
    }
}
