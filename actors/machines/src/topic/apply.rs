//! How events change a topic shard. It decides nothing.

use super::{Due, Origin, PublishReceipt, Topics, TopicsEvent};
use crate::{Message, Timestamp};

impl Topics {
    pub(super) fn apply_event(&mut self, event: &TopicsEvent) {
        match event {
            TopicsEvent::Published { at, origin, message } => {
                self.take(*at, *at, *origin, message);
            }
            TopicsEvent::Delayed { at, origin, due, message } => {
                self.take(*at, *due, *origin, message);
                self.delayed_bytes += message.payload.bytes().len();
                self.delayed.insert((*due, message.number), message.clone());
            }
            TopicsEvent::Scheduled { at, schedule } => {
                let name = (schedule.topic.clone(), schedule.name.clone());
                let due = self.schedules.get(&name).map(|old| old.next).filter(|next| next <= at);
                self.schedules.insert(name, schedule.begin(*at, due));
            }
            TopicsEvent::Unscheduled { topic, name } => {
                self.schedules.remove(&(topic.clone(), name.clone()));
            }
            TopicsEvent::Ticked { at, forget_before, due } => {
                if let Some(cutoff) = forget_before {
                    self.memory.forget_before(*cutoff);
                }
                due.iter().for_each(|due| self.published(*at, due));
            }
        }
    }

    /// A message has its number, and whoever asked for it is remembered.
    fn take(&mut self, at: Timestamp, due: Timestamp, origin: Origin, message: &Message) {
        let (topic, number) = (message.topic.clone(), message.number);
        self.next = self.next.max(number + 1);
        match origin {
            Origin::Caller => {}
            Origin::Key { key, fingerprint } => {
                let receipt = PublishReceipt { topic, number, at, due };
                self.memory.bind(key, fingerprint, at, receipt);
            }
            Origin::Op { from, op, acked_below } => self.inbox.record(from, op, acked_below, ()),
        }
    }

    fn published(&mut self, at: Timestamp, due: &Due) {
        match due {
            Due::Delayed { due, message } => {
                if let Some(gone) = self.delayed.remove(&(*due, message.number)) {
                    self.delayed_bytes -= gone.payload.bytes().len();
                }
            }
            Due::Run { name, message } => {
                self.next = self.next.max(message.number + 1);
                let schedule = self.schedules.get_mut(&(message.topic.clone(), name.clone()));
                if let Some(schedule) = schedule {
                    schedule.ran(at);
                }
            }
        }
    }
}
