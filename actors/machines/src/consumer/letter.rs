//! A message on its way to a consumer, and what becomes of one that nobody can handle. What a
//! letter says is not looked at.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{GroupName, MessageId, MessageKey, NewMessage, OrderId, Payload, Timestamp, TopicName};

/// A group of consumers of one topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupId {
    /// The topic.
    pub topic: TopicName,
    /// The group's name within it.
    pub group: GroupName,
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.group)
    }
}

/// A group from when it was made until it is removed. One of the same name that is made later is
/// another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation {
    /// Its name.
    pub of: GroupId,
    /// The number that it got when it was made: see [`GroupView::born`](super::GroupView::born).
    pub born: u64,
}

/// Names one lease of one message. No two leases of a consumer shard ever have the same, whatever
/// becomes of their groups: so who has an older one comes too late.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct LeaseToken(pub u64);

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A message as it is read from the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Its place in the journal, which is its id.
    pub id: MessageId,
    /// When it was published.
    pub at: Timestamp,
    /// Its number, as its publisher was told; `None` in the built-in topic.
    pub number: Option<u64>,
    /// What orders it; `None`: nothing.
    pub key: Option<MessageKey>,
    /// What it says.
    pub payload: Payload,
}

/// A message that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The message.
    pub letter: Letter,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it failed last.
    pub cause: String,
    /// When it was given up.
    pub died_at: Timestamp,
}

/// An effect that commits together with the outcome of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FollowUp {
    /// A message to publish.
    Publish {
        /// Where.
        topic: TopicName,
        /// What.
        message: NewMessage,
    },
    /// An order to cancel.
    Cancel {
        /// The order.
        order: OrderId,
    },
}

impl FollowUp {
    pub(super) fn payload_bytes(&self) -> usize {
        match self {
            Self::Publish { message, .. } => message.payload.bytes().len(),
            Self::Cancel { .. } => 0,
        }
    }
}
