//! What happens in a consumer shard. Only dead letters are whole in their events; all others are in
//! the topic.

use serde::{Deserialize, Serialize};

use super::{DeadLetter, FollowUp, GroupId};
use crate::{MessageId, OpId, Timestamp};

/// Something that has happened. The order of variants and fields is the format on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConsumersEvent {
    /// A group was made.
    Opened {
        /// When.
        at: Timestamp,
        /// The group.
        of: GroupId,
        /// Where it begins.
        after: MessageId,
    },
    /// Attempts have begun.
    Taken {
        /// When.
        at: Timestamp,
        /// The group.
        of: GroupId,
        /// Messages that were read, in order.
        read: Vec<MessageId>,
        /// Those that are tried.
        taken: Vec<MessageId>,
        /// Those that are given up.
        died: Vec<DeadLetter>,
    },
    /// A message is done.
    Done {
        /// When.
        at: Timestamp,
        /// The group.
        of: GroupId,
        /// The message.
        id: MessageId,
        /// What commits with it.
        follow_ups: Vec<FollowUp>,
    },
    /// An attempt has failed.
    Failed {
        /// When.
        at: Timestamp,
        /// The group.
        of: GroupId,
        /// The message.
        id: MessageId,
        /// When it may be tried again.
        not_before: Timestamp,
        /// Why it failed.
        cause: String,
    },
    /// A message is given up.
    Died {
        /// The group.
        of: GroupId,
        /// The message.
        dead: DeadLetter,
    },
    /// There is no further message up to a place.
    Passed {
        /// When.
        at: Timestamp,
        /// The group.
        of: GroupId,
        /// The place.
        to: MessageId,
    },
    /// The group goes on after a place.
    Sought {
        /// When.
        at: Timestamp,
        /// The group.
        of: GroupId,
        /// The place.
        to: MessageId,
    },
    /// A pause has begun or ended.
    Paused {
        /// When.
        at: Timestamp,
        /// The group.
        of: GroupId,
        /// Whether it has begun.
        paused: bool,
    },
    /// A dead letter is to be tried again.
    Replayed {
        /// When.
        at: Timestamp,
        /// The group.
        of: GroupId,
        /// The message.
        id: MessageId,
    },
    /// A dead letter is forgotten.
    Discarded {
        /// When.
        at: Timestamp,
        /// The group.
        of: GroupId,
        /// The message.
        id: MessageId,
    },
    /// A group is forgotten.
    Removed {
        /// The group.
        of: GroupId,
    },
    /// What a message's outcome wanted is done.
    Answered {
        /// Its number.
        op: OpId,
    },
}
