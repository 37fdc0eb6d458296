//! What can be asked of a topic shard, and what it answers. It deliberately has no way to read a
//! topic: readers read the journal.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::schedule::{NewSchedule, Schedule};
use crate::{
    Fingerprint, IdempotencyError, KeyHash, NewMessage, OpId, OutOfBounds, ScheduleName, Timestamp,
    TopicName,
    bounds::{DELAYED_BYTES_MAX, DELAYED_MAX, SCHEDULES_MAX},
};

/// A command to a topic shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicsCommand {
    /// Publishes a message, now or later.
    Publish(Publish),
    /// Publishes a message that the consumer shard `from` wants published.
    Op {
        /// The consumer shard.
        from: u16,
        /// Its number for this.
        op: OpId,
        /// Everything below has been answered.
        acked_below: OpId,
        /// Where.
        topic: TopicName,
        /// What.
        message: NewMessage,
    },
    /// Publishes a message again and again.
    Schedule(NewSchedule),
    /// Ends a schedule.
    Unschedule {
        /// Its topic.
        topic: TopicName,
        /// Its name.
        name: ScheduleName,
    },
    /// All schedules of a topic.
    Schedules {
        /// The topic.
        topic: TopicName,
    },
    /// Publishes what is due and forgets old keys.
    Tick,
}

/// A message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The idempotency key, with what the request asks for; `None`: asked again it is published
    /// again.
    pub key: Option<(KeyHash, Fingerprint)>,
    /// Where.
    pub topic: TopicName,
    /// What.
    pub message: NewMessage,
    /// How much later, in milliseconds.
    pub delay_ms: u64,
}

/// A message that was published, or will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishReceipt {
    /// Where.
    pub topic: TopicName,
    /// Its number: no two messages of a topic have the same.
    pub number: u64,
    /// When it was taken.
    pub at: Timestamp,
    /// When it is published.
    pub due: Timestamp,
}

/// The good answer of a topic shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicsReply {
    /// To `Publish`.
    Published(PublishReceipt),
    /// To `Schedules`.
    Schedules(Vec<(ScheduleName, Schedule)>),
    /// To `Schedule` and `Unschedule`.
    Done,
}

/// A message from a topic shard to a consumer shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicsEffect {
    /// What it wanted published is.
    Published {
        /// The consumer shard.
        to: u16,
        /// Its number for it.
        op: OpId,
    },
}

/// The refusal of a command by a topic shard. Nothing was changed, and the key is free.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TopicsRejection {
    /// A value is outside its bounds.
    #[error(transparent)]
    Invalid(#[from] OutOfBounds),
    /// The idempotency key cannot be used.
    #[error(transparent)]
    Idempotency(#[from] IdempotencyError),
    /// Only Tidegate tells what has happened to orders and stock.
    #[error("the topic \"events\" is built in; publish to one of another name")]
    BuiltIn,
    /// Too many messages wait for their time.
    #[error(
        "{DELAYED_MAX} messages or {DELAYED_BYTES_MAX} bytes are delayed, the most that may be; \
         try again later"
    )]
    DelayedFull,
    /// Too many schedules.
    #[error("there are {SCHEDULES_MAX} schedules, the most that may be; end one first")]
    SchedulesFull,
    /// No such schedule.
    #[error("topic {topic} has no schedule {name}")]
    UnknownSchedule {
        /// The topic.
        topic: TopicName,
        /// The name asked for.
        name: ScheduleName,
    },
}
