//! What can be asked of a consumer shard, and what it answers. What a group's owner asks names the
//! group's incarnation; what becomes of a lease is told by its token alone. It decides nothing.

use thiserror::Error;

use super::{
    DeadLetter, FollowUp, GroupId, GroupSummary, GroupView, Incarnation, LeaseToken, Letter, Retry,
};
use crate::{
    MessageId, OpId, OutOfBounds, Timestamp,
    bounds::{
        DEAD_LETTER_BYTES_MAX, DEAD_LETTERS_MAX, FOLLOW_UPS_AFTER_ONE_MAX,
        FOLLOW_UPS_OPEN_BYTES_MAX, FOLLOW_UPS_OPEN_MAX, GROUPS_MAX,
    },
};

/// A command to a consumer shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumersCommand {
    /// Makes a group that begins after a place, unless it is there already. Without a place it must
    /// be there.
    Open {
        /// The group.
        of: GroupId,
        /// Where a new group begins.
        after: Option<MessageId>,
    },
    /// Begins attempts, before anybody gets the messages.
    Take(Take),
    /// A message is done.
    Done {
        /// The group.
        of: GroupId,
        /// The message.
        id: MessageId,
        /// Which lease has done it.
        token: LeaseToken,
        /// What commits with it.
        follow_ups: Vec<FollowUp>,
    },
    /// An attempt has failed.
    Fail {
        /// The group.
        of: GroupId,
        /// The message, which is kept if it is given up.
        letter: Letter,
        /// Which lease.
        token: LeaseToken,
        /// Why.
        cause: String,
        /// What comes next.
        retry: Retry,
    },
    /// There is no message between two places.
    Pass {
        /// The group.
        of: Incarnation,
        /// The first: a place that the group is known to have read up to.
        after: MessageId,
        /// The second.
        to: MessageId,
    },
    /// Goes on after a place, forward or back, whatever was read.
    Seek {
        /// The group.
        of: Incarnation,
        /// The place.
        to: MessageId,
    },
    /// Begins or ends a pause.
    Pause {
        /// The group.
        of: Incarnation,
        /// Whether it begins.
        paused: bool,
    },
    /// Tries a dead letter again.
    Replay {
        /// The group.
        of: Incarnation,
        /// The message.
        id: MessageId,
    },
    /// Forgets a dead letter.
    Discard {
        /// The group.
        of: Incarnation,
        /// The message.
        id: MessageId,
    },
    /// Forgets a group with its dead letters.
    Remove {
        /// The group.
        of: Incarnation,
    },
    /// How far a group is.
    View {
        /// The group.
        of: Incarnation,
    },
    /// Some of a group's dead letters.
    DeadLetters {
        /// The group.
        of: Incarnation,
        /// Only those after this one.
        after: MessageId,
        /// How many at most, from 1 to 100.
        limit: usize,
    },
    /// All groups.
    Groups,
    /// What a message's outcome wanted is done.
    Answered {
        /// Its number.
        op: OpId,
    },
}

/// Attempts to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Take {
    /// The group.
    pub of: Incarnation,
    /// Where `read` begins: a place that the group is known to have read up to.
    pub after: MessageId,
    /// All messages that were read after it, in order, up to the last that is taken.
    pub read: Vec<MessageId>,
    /// The messages to take, in order.
    pub letters: Vec<Letter>,
    /// When to give up.
    pub retry: Retry,
}

/// An attempt that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The message.
    pub id: MessageId,
    /// Which one it is of this message, from 1; it begins anew when the group is moved or the
    /// message is replayed.
    pub number: u32,
    /// What its outcome must name.
    pub token: LeaseToken,
}

/// The good answer of a consumer shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumersReply {
    /// To `Open` and `View`.
    View(Box<GroupView>),
    /// To `Take`.
    Taken {
        /// The messages taken.
        taken: Vec<Attempt>,
        /// The messages given up instead.
        died: Vec<DeadLetter>,
        /// The messages that should be given up and can't be, since there are too many dead
        /// letters: they stay where they are.
        kept: Vec<MessageId>,
    },
    /// To `Fail`: when it is tried again.
    Failed(Timestamp),
    /// To `Fail`: it is given up.
    Died(Box<DeadLetter>),
    /// To `DeadLetters`.
    DeadLetters(Vec<DeadLetter>),
    /// To `Groups`.
    Groups(Vec<(GroupId, GroupSummary)>),
    /// To all others.
    Done,
}

/// What a message's outcome wants, on its way to another shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumersEffect {
    /// Its number.
    pub op: OpId,
    /// Everything below has been answered.
    pub acked_below: OpId,
    /// What is wanted.
    pub follow_up: FollowUp,
}

/// The refusal of a command by a consumer shard. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConsumersRejection {
    /// A value is outside its bounds.
    #[error(transparent)]
    Invalid(#[from] OutOfBounds),
    /// No such group.
    #[error("there is no group {of}; open it first")]
    UnknownGroup {
        /// The group asked for.
        of: GroupId,
    },
    /// Too many groups.
    #[error("there are {GROUPS_MAX} consumer groups, the most that may be; remove one first")]
    GroupsFull,
    /// The lease is over: its time ran out, the group was moved or removed, or the store was opened
    /// anew. Somebody else may have the message, or have done it.
    #[error("lease {token} of message {id} is over; what it did may be done again")]
    Late {
        /// The message.
        id: MessageId,
        /// The lease.
        token: LeaseToken,
    },
    /// No further message can be given up: it stays where it is, with what waits for it.
    #[error(
        "the group has {DEAD_LETTERS_MAX} dead letters or {DEAD_LETTER_BYTES_MAX} bytes of them, \
         the most that may be; replay or discard some"
    )]
    DeadLettersFull,
    /// Too many effects wait to be carried out.
    #[error(
        "{FOLLOW_UPS_OPEN_MAX} effects or {FOLLOW_UPS_OPEN_BYTES_MAX} bytes of them are not \
         carried out yet, or one of them has been overtaken by {FOLLOW_UPS_AFTER_ONE_MAX} others, \
         the most that may be; try again later"
    )]
    FollowUpsFull,
    /// No such dead letter.
    #[error("message {id} is no dead letter of this group")]
    UnknownDeadLetter {
        /// The message asked for.
        id: MessageId,
    },
    /// The group was moved back, so the message will come by itself.
    #[error("message {id} is still to be consumed; it comes again by itself")]
    StillToCome {
        /// The message.
        id: MessageId,
    },
    /// Nothing is handed out.
    #[error("the group is paused")]
    Paused,
    /// The dispatcher's picture of the group is old: it was moved meanwhile.
    #[error("the group was moved meanwhile")]
    Moved,
}
