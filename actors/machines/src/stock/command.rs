//! What can be asked of a stock shard, and its answers. It deliberately decides nothing.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Hold, HoldOutcome, ItemView, SkuPatch};
use crate::{
    Fingerprint, HoldId, IdempotencyError, KeyHash, Location, OpId, OrderId, OutOfBounds, Refusal,
    Short, Sku, Timestamp, UserId,
};

/// Asked of a stock shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum StockCommand {
    /// Defines a SKU, or changes the options that the patch gives. Answered with the item.
    Define {
        /// The SKU.
        sku: Sku,
        /// The options to set.
        patch: SkuPatch,
    },
    /// Moves stock in or out. Answered with a receipt.
    Adjust {
        /// The idempotency key.
        key: KeyHash,
        /// What the request asks for.
        fingerprint: Fingerprint,
        /// The SKU; it must be defined.
        sku: Sku,
        /// Where.
        location: Location,
        /// Units in (positive) or out (negative).
        delta: i64,
        /// Why, for whoever reads the journal.
        reason: String,
    },
    /// Holds units for a while, without an order. Answered with the hold.
    Hold {
        /// The idempotency key.
        key: KeyHash,
        /// What the request asks for.
        fingerprint: Fingerprint,
        /// For whom.
        user: UserId,
        /// The SKU.
        sku: Sku,
        /// Where.
        location: Location,
        /// Units.
        quantity: u64,
        /// Time to live in milliseconds.
        ttl_ms: u64,
    },
    /// Lets a hold live for `ttl_ms` from now. Answered with the hold.
    ExtendHold {
        /// The hold.
        hold: HoldId,
        /// Time to live from now, in milliseconds.
        ttl_ms: u64,
    },
    /// Settles a hold: its units are sold. Answered with the hold.
    ConfirmHold {
        /// The hold.
        hold: HoldId,
    },
    /// Settles a hold: its units are free again. Answered with the hold.
    ReleaseHold {
        /// The hold.
        hold: HoldId,
    },
    /// The units of a confirmed hold leave the stock. Answered with the hold.
    ShipHold {
        /// The hold.
        hold: HoldId,
    },
    /// An operation from an order shard. Nobody is answered; the outcome is an effect.
    Op(OrderOp),
    /// Reads an item.
    Get {
        /// The SKU.
        sku: Sku,
    },
    /// Reads a standalone hold.
    GetHold {
        /// The hold.
        hold: HoldId,
    },
    /// Time has passed: expires holds and forgets what is older than the retention.
    Tick,
}

/// Units of a SKU at a location.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StockLine {
    /// The SKU.
    pub sku: Sku,
    /// Where.
    pub location: Location,
    /// Units, from 1.
    pub quantity: u64,
}

/// Lines that several hold: the order shard that asks, the operation on its way, the stock shard.
pub type StockLines = Short<StockLine>;

/// The unit price of each line, in minor units, where it has one.
pub type UnitPrices = Short<Option<u64>>;

/// One operation of an order shard on a stock shard: delivered at least once, in the order of its
/// numbers per sender and receiver, applied exactly once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderOp {
    /// Its number, counted by the sender.
    pub op: OpId,
    /// The order shard that sends it.
    pub from: u16,
    /// All operations of the sender below this one have been answered and will not come again.
    pub acked_below: OpId,
    /// The order it is for.
    pub order: OrderId,
    /// What to do.
    pub action: OpAction,
}

/// What an order wants of a stock shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpAction {
    /// Hold all lines for the order, or none. The hold has no clock of its own.
    Reserve {
        /// For whom.
        user: UserId,
        /// What.
        lines: StockLines,
    },
    /// Free what the order holds here.
    Release,
    /// What the order holds here is sold.
    Allocate,
    /// Sold units are free again, before they were shipped.
    Deallocate {
        /// Who gets the allowance back.
        user: UserId,
        /// What.
        lines: StockLines,
    },
    /// Sold units leave the stock; refused as a whole if they are not on hand.
    Ship {
        /// What.
        lines: StockLines,
    },
    /// Shipped units came back.
    Return {
        /// Who gets the allowance back.
        user: UserId,
        /// What.
        lines: StockLines,
        /// Whether they go back on the shelf.
        restock: bool,
    },
}

/// The one outcome of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpOutcome {
    /// All lines are held.
    Held {
        /// The unit price of each line, in the order of the lines; empty if no line has a price.
        unit_prices: UnitPrices,
    },
    /// Nothing was changed, and this is why. Only a reserve or a ship can be refused.
    Refused(Refusal),
    /// It is done.
    Done,
}

/// A message from a stock shard to an order shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StockEffect {
    /// The outcome of an operation.
    Outcome {
        /// The order shard that sent the operation.
        to: u16,
        /// The operation.
        op: OpId,
        /// The order it is for.
        order: OrderId,
        /// Its outcome.
        outcome: OpOutcome,
    },
}

/// The stock of a SKU at a location after a movement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockReceipt {
    /// The SKU.
    pub sku: Sku,
    /// Where.
    pub location: Location,
    /// Units in the warehouse.
    pub on_hand: u64,
    /// Units held for unpaid orders and holds.
    pub held: u64,
    /// Units sold and not yet shipped.
    pub allocated: u64,
    /// `on_hand − held − allocated`; below 0 when units are sold ahead of stock.
    pub available: i64,
    /// When the movement was made.
    pub at: Timestamp,
}

/// The good answer of a stock shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum StockReply {
    /// The item, to `Define` and `Get`.
    Item(Box<ItemView>),
    /// The receipt, to `Adjust`.
    Receipt(StockReceipt),
    /// The hold as it is now, to everything about a hold.
    Hold(Hold),
}

/// The refusal of a command by a stock shard. Nothing was changed and nothing is remembered: the
/// idempotency key is free, since in a flash sale most commands are refused and must cost no write.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StockRejection {
    /// A value is outside its bounds.
    #[error(transparent)]
    Invalid(#[from] OutOfBounds),
    /// The idempotency key cannot be used.
    #[error(transparent)]
    Idempotency(#[from] IdempotencyError),
    /// There is not enough, or the user has had enough, or the SKU is unknown.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The movement would take away units that are promised.
    #[error(
        "sku {sku} at {location}: delta {delta} is not possible with {on_hand} on hand, \
         {committed} held or sold and a backorder limit of {backorder_limit}"
    )]
    BelowCommitted {
        /// The SKU.
        sku: Sku,
        /// Where.
        location: Location,
        /// The movement asked for.
        delta: i64,
        /// Units on hand.
        on_hand: u64,
        /// Units held and allocated.
        committed: u64,
        /// Units that may be promised ahead of stock.
        backorder_limit: u32,
    },
    /// The backorder limit cannot go below what is already sold ahead of stock.
    #[error("sku {sku}: backorder_limit must be at least {in_use}, which is in use; got {given}")]
    BackorderInUse {
        /// The SKU.
        sku: Sku,
        /// Units sold ahead of stock at some location.
        in_use: u64,
        /// The limit asked for.
        given: u32,
    },
    /// No such hold, or it was settled longer ago than it is remembered.
    #[error("hold {hold} is unknown")]
    UnknownHold {
        /// The hold asked for.
        hold: HoldId,
    },
    /// The hold has its one outcome, and it is another.
    #[error("hold {hold} is already {outcome}")]
    HoldSettled {
        /// The hold.
        hold: HoldId,
        /// Its outcome.
        outcome: HoldOutcome,
    },
    /// Only a confirmed hold can be shipped.
    #[error("hold {hold} is not confirmed")]
    HoldNotConfirmed {
        /// The hold.
        hold: HoldId,
    },
}
