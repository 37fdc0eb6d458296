//! Why stock says no. It deliberately knows nothing of malformed requests: those never reach a
//! stock shard.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Location, Sku, bounds::AMOUNT_MINOR_MAX};

/// Why a stock shard refuses to reserve or to ship, or why it was not even asked. When several
/// reasons hold, the one that comes first here is given: unknown SKU, limit, sold out; and of
/// several lines, the first that fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
pub enum Refusal {
    /// The SKU was never defined.
    #[error("sku {sku} is unknown")]
    UnknownSku {
        /// The SKU asked for.
        sku: Sku,
    },
    /// The user would have more units than one user may.
    #[error("sku {sku} is limited to {limit} per user; {already} already held or bought")]
    LimitExceeded {
        /// The SKU asked for.
        sku: Sku,
        /// Most units for one user.
        limit: u32,
        /// Units that the user holds or has bought already.
        already: u64,
    },
    /// Not enough is left.
    #[error("sku {sku} at {location} is sold out: {requested} requested, {available} available")]
    SoldOut {
        /// The SKU asked for.
        sku: Sku,
        /// Where it was asked for.
        location: Location,
        /// Units asked for.
        requested: u64,
        /// Units that could have been reserved, the backorder cap included.
        available: u64,
    },
    /// The price of a line or the total is beyond what can be kept.
    #[error("the amount of sku {sku} is above {AMOUNT_MINOR_MAX} minor units")]
    AmountOverflow {
        /// The SKU whose line takes the amount over the bound.
        sku: Sku,
    },
    /// Units that were sold ahead of stock cannot be shipped before they have been booked in.
    #[error("sku {sku} at {location}: {requested} to ship, but only {on_hand} on hand")]
    NotInStock {
        /// The SKU to ship.
        sku: Sku,
        /// Where it was to be shipped from.
        location: Location,
        /// Units to ship.
        requested: u64,
        /// Units on hand.
        on_hand: u64,
    },
    /// The stock shard fails on this order, or is down. Nothing is held there.
    #[error("the stock shard is down or failed on this order; see the log")]
    ShardDown,
    /// The order has waited in the queue until its deadline. Stock was never asked.
    #[error("its turn in the queue did not come before its deadline")]
    QueueTimeout,
}
