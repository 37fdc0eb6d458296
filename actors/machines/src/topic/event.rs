//! What happens in a topic shard. These events *are* the topics: readers make messages of them, so
//! each message is whole in its event. They say nothing of who has read them.

use serde::{Deserialize, Serialize};

use super::schedule::NewSchedule;
use crate::{Fingerprint, KeyHash, Message, OpId, ScheduleName, Timestamp, TopicName};

/// Something that has happened. The order of variants and fields is the format on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopicsEvent {
    /// A message was published.
    Published {
        /// When.
        at: Timestamp,
        /// For whom.
        origin: Origin,
        /// The message.
        message: Message,
    },
    /// A message was taken that is to be published later.
    Delayed {
        /// When.
        at: Timestamp,
        /// For whom.
        origin: Origin,
        /// When it is to be published.
        due: Timestamp,
        /// The message.
        message: Message,
    },
    /// A schedule was made or replaced.
    Scheduled {
        /// When.
        at: Timestamp,
        /// The schedule.
        schedule: NewSchedule,
    },
    /// A schedule was ended.
    Unscheduled {
        /// Its topic.
        topic: TopicName,
        /// Its name.
        name: ScheduleName,
    },
    /// Time has passed: messages that were due are published.
    Ticked {
        /// When.
        at: Timestamp,
        /// Keys bound before this are forgotten.
        forget_before: Option<Timestamp>,
        /// The messages, in order.
        due: Vec<Due>,
    },
}

/// For whom a message was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// For a caller without a key.
    Caller,
    /// For a caller with a key.
    Key {
        /// The key.
        key: KeyHash,
        /// What the request asked for.
        fingerprint: Fingerprint,
    },
    /// For a consumer shard.
    Op {
        /// The shard.
        from: u16,
        /// Its number for it.
        op: OpId,
        /// Everything below has been answered.
        acked_below: OpId,
    },
}

/// A message whose time has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Due {
    /// It was delayed until then.
    Delayed {
        /// When it was due.
        due: Timestamp,
        /// The message.
        message: Message,
    },
    /// It is a run of this schedule.
    Run {
        /// The schedule.
        name: ScheduleName,
        /// The message.
        message: Message,
    },
}

impl Due {
    /// The message.
    #[must_use]
    pub fn message(&self) -> &Message {
        match self {
            Self::Delayed { message, .. } | Self::Run { message, .. } => message,
        }
    }
}

impl TopicsEvent {
    /// When it happened; `stamp` of its record if it does not say.
    #[must_use]
    pub fn at(&self, stamp: u64) -> Timestamp {
        match self {
            Self::Published { at, .. }
            | Self::Delayed { at, .. }
            | Self::Scheduled { at, .. }
            | Self::Ticked { at, .. } => *at,
            Self::Unscheduled { .. } => Timestamp(stamp),
        }
    }

    /// The messages that this event publishes, in order.
    pub fn published(&self) -> impl Iterator<Item = &Message> {
        let (one, due): (_, &[Due]) = match self {
            Self::Published { message, .. } => (Some(message), &[]),
            Self::Ticked { due, .. } => (None, due),
            Self::Delayed { .. } | Self::Scheduled { .. } | Self::Unscheduled { .. } => (None, &[]),
        };
        one.into_iter().chain(due.iter().map(Due::message))
    }
}
