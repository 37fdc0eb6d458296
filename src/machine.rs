//! What it takes to write a durable, sharded, supervised actor of your own: implement [`Machine`]
//! (pure rules) and [`Durable`] (its number and name), and add it with
//! [`Builder::machine`](crate::Builder::machine). The example `own_machine.rs` does so.

pub use tidegate_actors::{
    Credit, Deliver, Durable, Group, Kind, NoEffects, OnDisk, Outcome, Question, Reading,
    RecallError,
};
pub use tidegate_machines::{
    Answer, Decision, Idempotency, Inbox, Known, Machine, OpId, Outbox, Ticket, Timestamp, shard_of,
};
