//! Who does it: the actors of Tidegate, from a caller's command to a durable answer.
//!
//! The path of a command, top to bottom: [`Group::ask`] takes a credit (`admission`), a `front`
//! gathers commands into batches, a [`shard`](Shard) decides and journals them and releases the
//! answers, and the [`Projector`] moves what has come to rest from memory to the state. This crate
//! knows storage by its traits only, and nothing of HTTP or configuration files.

mod admission;
pub mod archive;
mod board;
mod clock;
pub mod codec;
mod commerce;
pub mod dispatch;
mod distribution;
mod door;
mod durable;
mod error;
pub mod feed;
mod front;
mod group;
mod keys;
mod known;
mod observe;
mod projector;
mod replay;
mod shard;
mod shown;
mod snapshotter;
mod sync;
mod threads;
mod topics;

pub use board::Board;
pub use clock::{Clock, ManualTime, SystemTimeSource, TimeSource};
pub use commerce::{FromOrders, FromStock};
pub use distribution::{Bucket, Distribution};
pub use door::Door;
pub use durable::{Deliver, Durable, Kind, NoEffects, Reading, RecallError};
pub use error::{AskError, RestoreError};
pub use group::{Credit, Group, Outcome, Question, Reach, Shards};
pub use keys::Keyring;
pub use known::KnownKeys;
pub use observe::{Phase, ProjectorReport, ShardReport, calibrate};
pub use projector::{Projection, Projector, ProjectorHandle};
pub use replay::{Replay, Seat, restore};
pub use shard::{Envelope, Host, Kit, Look, Rebuilt, Shard, ShardOptions, rebuild, rebuild_from};
pub use shown::OnDisk;
pub use snapshotter::{
    Consumed, Copy, Retained, SnapshotError, Snapshottable, Snapshotter, snapshot_all,
    snapshot_fresh,
};
pub use threads::{ArbiterHandle, Threads};
pub use topics::{FromConsumers, FromTopics};
