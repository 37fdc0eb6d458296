//! One group: how far it is. It only keeps the books; what may follow on what is decided elsewhere.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::{DeadLetter, LeaseToken, letter::Letter};
use crate::{
    MessageId, Timestamp,
    bounds::{DEAD_LETTERS_MAX, WINDOW_MAX},
};

/// How far a group is with its topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerGroup {
    /// The shard's number for this incarnation of the group.
    pub(super) born: u64,
    /// The shard's number for its last move.
    pub(super) moved: u64,
    /// Every message up to here is resolved.
    pub(super) cursor: MessageId,
    /// Every message up to here was read: it is resolved, or it is in the window.
    pub(super) read_to: MessageId,
    /// The messages between the two.
    pub(super) window: BTreeMap<MessageId, Entry>,
    /// Dead letters.
    pub(super) dead: BTreeMap<MessageId, DeadLetter>,
    /// Dead letters that are tried again.
    pub(super) again: BTreeMap<MessageId, (Entry, DeadLetter)>,
    pub(super) paused: bool,
    /// When something happened here last.
    pub(super) touched: Timestamp,
    /// Messages done, ever.
    pub(super) done: u64,
}

/// What is known of a message that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) attempts: u32,
    pub(super) state: EntryState,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum EntryState {
    /// Nobody has it.
    #[default]
    New,
    /// Somebody has it, or had it when the process ended.
    Taken { token: LeaseToken },
    /// It failed.
    Failed { not_before: Timestamp, cause: String },
    /// It is done or dead.
    Resolved,
}

/// A message that was read and is not resolved, as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The message.
    pub id: MessageId,
    /// How often it was tried.
    pub attempts: u32,
    /// Who has it, or had it when the process ended.
    pub token: Option<LeaseToken>,
    /// When it may be tried again.
    pub not_before: Timestamp,
}

/// A group as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// Another number for each group of the same name.
    pub born: u64,
    /// Another number after each `Seek`, greater than any before.
    pub moved: u64,
    /// Every message up to here is done or dead.
    pub cursor: MessageId,
    /// Every message up to here was read.
    pub read_to: MessageId,
    /// What was read and is not resolved, in order.
    pub pending: Vec<Pending>,
    /// What is resolved after the cursor, in order.
    pub resolved: Vec<MessageId>,
    /// Dead letters that are to be tried again, in order.
    pub again: Vec<(Pending, Letter)>,
    /// How many dead letters there are.
    pub dead: usize,
    /// How many messages are done, ever.
    pub done: u64,
    /// Whether nothing is handed out.
    pub paused: bool,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSummary {
    /// Every message up to here is done or dead.
    pub cursor: MessageId,
    /// How many messages were read and are not resolved.
    pub pending: usize,
    /// How many dead letters there are.
    pub dead: usize,
    /// How many messages are done, ever.
    pub done: u64,
    /// Whether nothing is handed out.
    pub paused: bool,
}

impl Entry {
    fn pending(&self, id: MessageId) -> Option<Pending> {
        let (token, not_before) = match &self.state {
            EntryState::Resolved => return None,
            EntryState::Failed { not_before, .. } => (None, *not_before),
            EntryState::Taken { token } => (Some(*token), Timestamp(0)),
            EntryState::New => (None, Timestamp(0)),
        };
        Some(Pending { id, attempts: self.attempts, token, not_before })
    }
}

impl ConsumerGroup {
    pub(super) fn new(after: MessageId, at: Timestamp, born: u64) -> Self {
        Self {
            born,
            moved: born,
            cursor: after,
            read_to: after,
            window: BTreeMap::new(),
            dead: BTreeMap::new(),
            again: BTreeMap::new(),
            paused: false,
            touched: at,
            done: 0,
        }
    }

    /// As others see it.
    #[must_use]
    pub fn view(&self) -> GroupView {
        let pending = self.window.iter().filter_map(|(id, entry)| entry.pending(*id));
        let resolved = self.window.iter().filter(|(_, e)| e.state == EntryState::Resolved);
        let again = self.again.iter().filter_map(|(id, (entry, dead))| {
            entry.pending(*id).map(|pending| (pending, dead.letter.clone()))
        });
        GroupView {
            born: self.born,
            moved: self.moved,
            cursor: self.cursor,
            read_to: self.read_to,
            pending: pending.collect(),
            resolved: resolved.map(|(id, _)| *id).collect(),
            again: again.collect(),
            dead: self.dead.len(),
            done: self.done,
            paused: self.paused,
        }
    }

    /// Its dead letters after `after`, in order.
    pub fn dead_after(&self, after: MessageId) -> impl Iterator<Item = &DeadLetter> {
        self.dead.range((Bound::Excluded(after), Bound::Unbounded)).map(|(_, dead)| dead)
    }

    /// Dead letters and those that may be again: how many, and the bytes of their payloads.
    pub(super) fn kept(&self) -> (usize, usize) {
        let again = self.again.values().map(|(_, dead)| dead);
        let bytes = self.dead.values().chain(again).map(|dead| dead.letter.payload.bytes().len());
        (self.dead.len() + self.again.len(), bytes.sum())
    }

    /// The last record that it needs no more.
    pub(super) fn consumed(&self) -> u64 {
        // One of which some messages are not resolved is needed whole.
        self.cursor.position.saturating_sub(u64::from(self.cursor.within.is_some()))
    }

    /// For a check: whether nothing is left behind the cursor, and nothing is twice.
    pub(crate) fn is_honest(&self) -> bool {
        let unresolved = |entry: &Entry| entry.state != EntryState::Resolved;
        let first = self.window.first_key_value();
        let last = self.window.last_key_value().map_or(self.read_to, |(id, _)| *id);
        let in_bounds = first.is_none_or(|(id, entry)| *id > self.cursor && unresolved(entry));
        let caught_up = !self.window.is_empty() || self.cursor == self.read_to;
        let (once, kept) = (self.again.keys().all(|id| !self.dead.contains_key(id)), self.kept());
        let bounded = kept.0 <= DEAD_LETTERS_MAX && self.window.len() <= WINDOW_MAX;
        in_bounds && caught_up && last <= self.read_to && once && bounded
    }

    /// What of it is told in a list.
    #[must_use]
    pub fn summary(&self) -> GroupSummary {
        let waiting = self.window.values().filter(|entry| entry.state != EntryState::Resolved);
        GroupSummary {
            cursor: self.cursor,
            pending: waiting.count() + self.again.len(),
            dead: self.dead.len(),
            done: self.done,
            paused: self.paused,
        }
    }

    /// A message that was read and is not resolved.
    pub(super) fn entry(&self, id: MessageId) -> Option<&Entry> {
        let again = self.again.get(&id).map(|(entry, _)| entry);
        let entry = again.or_else(|| self.window.get(&id))?;
        (entry.state != EntryState::Resolved).then_some(entry)
    }

    pub(super) fn entry_mut(&mut self, id: MessageId) -> Option<&mut Entry> {
        let again = self.again.get_mut(&id).map(|(entry, _)| entry);
        again.or_else(|| self.window.get_mut(&id))
    }

    /// Whether it will come to the group by itself.
    pub(super) fn is_to_come(&self, id: MessageId) -> bool {
        let unresolved = |entry: &Entry| entry.state != EntryState::Resolved;
        id > self.read_to || self.window.get(&id).is_some_and(unresolved)
    }

    /// `id` is done or dead, and the cursor goes on as far as it can.
    pub(super) fn resolve(&mut self, id: MessageId) {
        if self.again.remove(&id).is_some() {
            return;
        }
        if let Some(entry) = self.window.get_mut(&id) {
            entry.state = EntryState::Resolved;
        }
        while let Some(first) = self.window.first_entry() {
            if first.get().state != EntryState::Resolved {
                return;
            }
            self.cursor = *first.key();
            first.remove();
        }
        self.cursor = self.read_to;
    }
}
