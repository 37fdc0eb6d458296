//! Pure state machines: what Tidegate decides. No clock, no IO, no async, no actors.
//!
//! Read [`Machine`] first, then [`stock`] and [`order`], [`topic`] and [`consumer`]. [`Outbox`],
//! [`Inbox`] and [`Idempotency`] are what any machine needs to work with others exactly once.

pub mod bounds;
pub mod consumer;
mod idempotency;
mod ids;
mod inbox;
pub mod invariants;
mod machine;
mod message;
mod ops;
pub mod order;
mod outbox;
mod refusal;
mod shared;
mod short;
pub mod stock;
mod time;
pub mod topic;

pub use bounds::OutOfBounds;
pub use consumer::*;
pub use idempotency::{Idempotency, IdempotencyError};
pub use ids::{
    Currency, EventId, Fingerprint, GroupName, HoldId, KeyHash, Location, MessageKey, OpId,
    OrderId, Provider, SEQUENCE_MAX, ScheduleName, Sku, TopicName, UserId, shard_of,
};
pub use inbox::{Inbox, Known};
pub use machine::{Answer, Decision, Machine, Settled, Ticket};
pub use message::{Message, MessageId, NewMessage, Payload};
pub use order::*;
pub use outbox::Outbox;
pub use refusal::Refusal;
pub use short::Short;
pub use stock::*;
pub use time::Timestamp;
pub use topic::*;
