//! Units set aside: by a standalone hold with a clock of its own, or by an order, which is the
//! clock. It deliberately does not touch levels.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{StockLine, StockLines};
use crate::{HoldId, Timestamp, UserId};

/// A standalone hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its number.
    pub id: HoldId,
    /// For whom.
    pub user: UserId,
    /// What.
    pub line: StockLine,
    /// When it was made.
    pub placed_at: Timestamp,
    /// When it expires, or would have expired.
    pub expires_at: Timestamp,
    /// Its one outcome, once it has it, and when.
    pub settled: Option<(HoldOutcome, Timestamp)>,
    /// When its units left the stock.
    pub shipped_at: Option<Timestamp>,
}

/// The one outcome of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HoldOutcome {
    /// Its units were sold.
    Confirmed,
    /// Its units were freed by whoever held them.
    Released,
    /// Its units were freed by time.
    Expired,
}

impl fmt::Display for HoldOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Confirmed => "confirmed",
            Self::Released => "released",
            Self::Expired => "expired",
        })
    }
}

/// What an order holds in one stock shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderHold {
    /// For whom.
    pub user: UserId,
    /// What, duplicates summed.
    pub lines: StockLines,
}
