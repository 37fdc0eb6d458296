//! How events change a consumer shard. It decides nothing.

use super::{
    ConsumerGroup, Consumers, ConsumersEvent, DeadLetter, GroupId, LeaseToken,
    group::{Entry, EntryState},
};
use crate::{MessageId, Timestamp};

impl Consumers {
    pub(super) fn apply_event(&mut self, event: &ConsumersEvent) {
        match event {
            ConsumersEvent::Opened { at, of, after } => {
                self.counted += 1;
                self.groups.insert(of.clone(), ConsumerGroup::new(*after, *at, self.counted));
            }
            ConsumersEvent::Taken { at, of, read, taken, died } => {
                // Each attempt has its token from the next number on, in this order.
                let tokens = (self.counted + 1..).map(LeaseToken);
                self.counted += taken.len() as u64;
                self.change(of, *at, |group| {
                    group.read(read);
                    taken.iter().zip(tokens).for_each(|(id, token)| group.take(*id, token));
                    died.iter().for_each(|dead| group.bury(dead));
                });
            }
            ConsumersEvent::Done { at, of, id, follow_ups } => {
                self.change(of, *at, |group| {
                    group.resolve(*id);
                    group.done += 1;
                });
                for follow_up in follow_ups {
                    self.outbox.open(follow_up.clone());
                }
            }
            ConsumersEvent::Failed { at, of, id, not_before, cause } => {
                let (not_before, cause) = (*not_before, cause.clone());
                self.change(of, *at, |group| {
                    if let Some(entry) = group.entry_mut(*id) {
                        entry.state = EntryState::Failed { not_before, cause };
                    }
                });
            }
            ConsumersEvent::Died { of, dead } => {
                self.change(of, dead.died_at, |group| group.bury(dead));
            }
            ConsumersEvent::Passed { at, of, to } => {
                self.change(of, *at, |group| group.pass(*to));
            }
            ConsumersEvent::Sought { at, of, to } => {
                self.counted += 1;
                let moved = self.counted;
                self.change(of, *at, |group| group.seek(*to, moved));
            }
            ConsumersEvent::Paused { at, of, paused } => {
                self.change(of, *at, |group| group.paused = *paused);
            }
            ConsumersEvent::Replayed { at, of, id } => {
                self.change(of, *at, |group| {
                    if let Some(dead) = group.dead.remove(id) {
                        group.again.insert(*id, (Entry::default(), dead));
                    }
                });
            }
            ConsumersEvent::Discarded { at, of, id } => {
                self.change(of, *at, |group| drop(group.dead.remove(id)));
            }
            ConsumersEvent::Removed { of } => drop(self.groups.remove(of)),
            ConsumersEvent::Answered { op } => drop(self.outbox.close(*op)),
        }
    }

    fn change(&mut self, of: &GroupId, at: Timestamp, change: impl FnOnce(&mut ConsumerGroup)) {
        if let Some(group) = self.groups.get_mut(of) {
            group.touched = at;
            change(group);
        }
    }
}

impl ConsumerGroup {
    fn read(&mut self, read: &[MessageId]) {
        for id in read {
            self.window.insert(*id, Entry::default());
            self.read_to = *id;
        }
    }

    fn take(&mut self, id: MessageId, token: LeaseToken) {
        if let Some(entry) = self.entry_mut(id) {
            entry.attempts += 1;
            entry.state = EntryState::Taken { token };
        }
    }

    fn bury(&mut self, dead: &DeadLetter) {
        self.resolve(dead.letter.id);
        self.dead.insert(dead.letter.id, dead.clone());
    }

    fn pass(&mut self, to: MessageId) {
        self.read_to = to;
        if self.window.is_empty() {
            self.cursor = to;
        }
    }

    /// What was to be tried again is a dead letter as before: it may lie on the way now.
    fn seek(&mut self, to: MessageId, moved: u64) {
        self.moved = moved;
        self.window.clear();
        (self.cursor, self.read_to) = (to, to);
        let again = std::mem::take(&mut self.again);
        self.dead.extend(again.into_iter().map(|(id, (_, dead))| (id, dead)));
    }
}
