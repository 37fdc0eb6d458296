//! Pure state machines: what Tidegate decides. No clock, no IO, no async, no actors.
//!
//! Read [`Machine`] first, then [`stock`] and [`order`]. [`Outbox`], [`Inbox`] and [`Idempotency`]
//! are what any machine needs to work with others exactly once.

pub mod bounds;
mod canonical;
mod idempotency;
mod ids;
mod inbox;
pub mod invariants;
mod machine;
pub mod order;
mod outbox;
mod refusal;
pub mod stock;
mod time;

pub use bounds::OutOfBounds;
pub use idempotency::{Idempotency, IdempotencyError};
pub use ids::{
    Currency, EventId, Fingerprint, HoldId, KeyHash, Location, OpId, OrderId, Provider,
    SEQUENCE_MAX, Sku, UserId, shard_of,
};
pub use inbox::{Inbox, Known};
pub use machine::{Answer, Decision, Machine, Settled, Ticket};
pub use order::*;
pub use outbox::Outbox;
pub use refusal::Refusal;
pub use stock::*;
pub use time::Timestamp;
