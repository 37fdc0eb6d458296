//! What can be asked of an order shard, and its answers. It deliberately decides nothing.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Order, OrderState, PaymentKind, QueuePlace};
use crate::{
    EventId, Fingerprint, IdempotencyError, KeyHash, Location, OpId, OpOutcome, OrderId, OrderOp,
    OutOfBounds, Provider, Refusal, Sku, StockLine, Timestamp, UserId,
};

/// Asked of an order shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum OrderCommand {
    /// Places an order. Answered with a receipt, or with a refusal once its stock is back.
    Place(PlaceOrder),
    /// Tells of a payment event. Told again, it is answered with the order as it is.
    Pay {
        /// The order.
        order: OrderId,
        /// The payment provider.
        provider: Provider,
        /// The provider's id of the event.
        event_id: EventId,
        /// What happened.
        kind: PaymentKind,
        /// How much, in minor units.
        amount_minor: u64,
    },
    /// Cancels an order of which nothing was shipped.
    Cancel {
        /// The order.
        order: OrderId,
        /// The idempotency key.
        key: KeyHash,
        /// What the request asks for.
        fingerprint: Fingerprint,
    },
    /// Ships lines of a confirmed order.
    Fulfil {
        /// The order.
        order: OrderId,
        /// The idempotency key.
        key: KeyHash,
        /// What the request asks for.
        fingerprint: Fingerprint,
        /// What is shipped; `None` for all that remains.
        lines: Option<Vec<StockLine>>,
    },
    /// Takes back shipped units.
    Return {
        /// The order.
        order: OrderId,
        /// The idempotency key.
        key: KeyHash,
        /// What the request asks for.
        fingerprint: Fingerprint,
        /// What came back.
        lines: Vec<StockLine>,
        /// Whether it goes back on the shelf.
        restock: bool,
    },
    /// Reads an order.
    Get {
        /// The order.
        order: OrderId,
    },
    /// Reads orders of a user that are in memory, newest first.
    ListByUser {
        /// The user.
        user: UserId,
        /// Only those placed before this one, when and which: among those placed at one moment,
        /// the one with the lower number.
        after: Option<(Timestamp, OrderId)>,
        /// How many at most.
        limit: usize,
    },
    /// A stock shard's outcome of an operation. Nobody is answered.
    Outcome {
        /// The operation.
        op: OpId,
        /// The order it was for.
        order: OrderId,
        /// Its outcome.
        outcome: OpOutcome,
    },
    /// Time has passed: releases queued orders or rejects them at their deadline, expires orders,
    /// and forgets keys older than the retention.
    /// One of these at a time.
    Tick,
    /// The projector has these versions of these orders durably: forget those that have not changed
    /// and are at rest.
    Forget {
        /// Orders and their versions.
        orders: Vec<(OrderId, u32)>,
    },
    /// Brings a forgotten order back from the archive, for a command that needs it.
    Revive {
        /// The order as archived.
        order: Box<Order>,
    },
}

/// Places an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlaceOrder {
    /// The idempotency key.
    pub key: KeyHash,
    /// What the request asks for.
    pub fingerprint: Fingerprint,
    /// Who buys.
    pub user: UserId,
    /// What; lines of the same SKU and location are summed.
    pub lines: Vec<NewLine>,
    /// How long the stock is held for payment, in milliseconds.
    pub hold_ms: u64,
    /// Answer as soon as the order is queued, instead of when it is accepted. With an intake it
    /// then waits for its turn.
    pub respond_async: bool,
    /// What the front knows, durably, to be impossible: refused without a write.
    pub hint: Option<Refusal>,
}

/// A line of an order to be placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewLine {
    /// The SKU.
    pub sku: Sku,
    /// Where it is sold from.
    pub location: Location,
    /// Units.
    pub quantity: u64,
    /// Amount of the whole line in minor units; `None` for unit price × quantity.
    pub amount_minor: Option<u64>,
}

/// The answer to a placed order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The order.
    pub id: OrderId,
    /// `AwaitingPayment`, whatever has become of it since; or its state now, if it was placed to be
    /// answered at once.
    pub state: OrderState,
    /// Its total in minor units; what is known of it while queued.
    pub total_minor: u64,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// When it expires unless paid; `None` while queued.
    pub expires_at: Option<Timestamp>,
    /// Where it waits in the queue, if it does. Only told, never stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Box<QueuePlace>>,
}

/// The good answer of an order shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum OrderReply {
    /// The receipt, to `Place`.
    Placed(Receipt),
    /// The order as it is now.
    Order(Box<Order>),
    /// To `Get`: the order, which waits in the queue, and where.
    Waiting(Box<Order>, Box<QueuePlace>),
    /// Orders of a user that are in memory, newest first.
    Orders(Vec<Order>),
    /// The order's number was given out, but it is not in memory: look in the archive. Not there
    /// either means that it was refused.
    AtRest {
        /// The order.
        order: OrderId,
    },
}

/// A message from an order shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderEffect {
    /// An operation for a stock shard.
    Op {
        /// The stock shard.
        to: u16,
        /// The operation.
        op: OrderOp,
    },
    /// An order has come to rest, or has changed at rest: keep this version of it.
    Archive {
        /// The order.
        order: OrderId,
        /// Its version.
        version: u32,
    },
}

/// The refusal of a command by an order shard. Nothing was changed, or it was undone before this
/// was answered; the idempotency key is free.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OrderRejection {
    /// A value is outside its bounds.
    #[error(transparent)]
    Invalid(#[from] OutOfBounds),
    /// The idempotency key cannot be used.
    #[error(transparent)]
    Idempotency(#[from] IdempotencyError),
    /// Stock says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Some lines of the same SKU and location have an amount and some have not.
    #[error("lines of sku {sku} at {location}: give amount_minor on all of them or on none")]
    MixedAmounts {
        /// The SKU.
        sku: Sku,
        /// The location.
        location: Location,
    },
    /// No such order was ever placed in this shard.
    #[error("order {order} is unknown")]
    UnknownOrder {
        /// The order asked for.
        order: OrderId,
    },
    /// The payment event is known with another kind or amount.
    #[error("payment {event_id} of {provider} is known with another kind or amount")]
    PaymentConflict {
        /// The provider.
        provider: Provider,
        /// The provider's id of the event.
        event_id: EventId,
    },
    /// The order's state does not allow the command.
    #[error("order {order} is {state} and cannot be {what}")]
    WrongState {
        /// The order.
        order: OrderId,
        /// Its state.
        state: OrderState,
        /// What was asked: `cancelled`, `fulfilled`, `returned`.
        what: &'static str,
    },
    /// Something was shipped, so the order cannot be cancelled any more.
    #[error("order {order} has shipped units and cannot be cancelled; return them instead")]
    AlreadyShipped {
        /// The order.
        order: OrderId,
    },
    /// The order has no such line.
    #[error("order {order} has no line of sku {sku} at {location}")]
    UnknownLine {
        /// The order.
        order: OrderId,
        /// The SKU.
        sku: Sku,
        /// The location.
        location: Location,
    },
    /// More than the line has left to ship or to return.
    #[error("sku {sku} at {location}: {requested} to be {what}, but at most {at_most} can be")]
    TooMany {
        /// The SKU.
        sku: Sku,
        /// The location.
        location: Location,
        /// Units asked for.
        requested: u64,
        /// Units possible.
        at_most: u64,
        /// What was asked: `fulfilled`, `returned`.
        what: &'static str,
    },
    /// Too many orders wait in the queue of the order's shard.
    #[error(
        "{queued_max} orders wait in the queue of this shard, its bound, for up to \
         {expected_wait_ms} ms; try again later"
    )]
    QueueFull {
        /// Most orders in the queue of a shard.
        queued_max: u64,
        /// How long one more would have waited, in milliseconds.
        expected_wait_ms: u64,
    },
    /// Another change of the order is not finished yet.
    #[error("order {order} is being changed; try again")]
    ChangeUnderWay {
        /// The order.
        order: OrderId,
    },
}
