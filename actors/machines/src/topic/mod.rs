//! One shard of topics: a machine. A topic's messages are its events, and the journal keeps them;
//! the machine deliberately remembers none of them but those that are still to be published.

mod apply;
mod command;
mod decide;
mod event;
mod schedule;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use command::{
    Publish, PublishReceipt, TopicsCommand, TopicsEffect, TopicsRejection, TopicsReply,
};
pub use event::{Due, Origin, TopicsEvent};
pub use schedule::{NewSchedule, Schedule};

use crate::{Decision, Idempotency, Inbox, Machine, Message, ScheduleName, Timestamp, TopicName};

/// What a topic shard is told about itself. Used to decide only, so it may change between runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicsConfig {
    /// Which topic shard it is.
    pub shard: u16,
    /// How long idempotency keys are remembered, in milliseconds.
    pub idempotency_retention_ms: u64,
    /// Most idempotency keys remembered.
    pub idempotency_keys_max: usize,
}

/// One shard of topics: what was published lately, by key, and what is to be published later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topics {
    config: TopicsConfig,
    /// The number that the next message gets.
    next: u64,
    memory: Idempotency<PublishReceipt>,
    inbox: Inbox<()>,
    /// By when they are due, then by number.
    delayed: BTreeMap<(Timestamp, u64), Message>,
    delayed_bytes: usize,
    schedules: BTreeMap<(TopicName, ScheduleName), Schedule>,
}

impl Topics {
    /// A shard with no topic.
    #[must_use]
    pub fn new(config: TopicsConfig) -> Self {
        Self {
            config,
            next: 1,
            memory: Idempotency::default(),
            inbox: Inbox::default(),
            delayed: BTreeMap::new(),
            delayed_bytes: 0,
            schedules: BTreeMap::new(),
        }
    }

    /// What it was told about itself.
    #[must_use]
    pub fn config(&self) -> &TopicsConfig {
        &self.config
    }

    /// Puts another configuration on a shard that was read from a snapshot.
    pub fn configure(&mut self, config: TopicsConfig) {
        self.config = config;
    }

    /// How many messages are delayed.
    #[must_use]
    pub fn delayed(&self) -> usize {
        self.delayed.len()
    }

    /// For a check: how many are delayed, the bytes of their payloads as counted, and as they are.
    pub(crate) fn delayed_bytes(&self) -> (usize, usize, usize) {
        let bytes = self.delayed.values().map(|message| message.payload.bytes().len()).sum();
        (self.delayed.len(), self.delayed_bytes, bytes)
    }

    /// The time before which keys may be forgotten, if that is worth an event.
    fn forget_before(&self, now: Timestamp) -> Option<Timestamp> {
        let TopicsConfig { idempotency_retention_ms, idempotency_keys_max, .. } = self.config;
        self.memory.cutoff(
            self.memory.oldest()?,
            now,
            idempotency_retention_ms,
            idempotency_keys_max,
        )
    }
}

impl Machine for Topics {
    type Command = TopicsCommand;
    type Event = TopicsEvent;
    type Reply = TopicsReply;
    type Rejection = TopicsRejection;
    type Effect = TopicsEffect;

    fn decide(
        &self,
        command: &TopicsCommand,
        now: Timestamp,
    ) -> Result<Decision<Self>, TopicsRejection> {
        match command {
            TopicsCommand::Publish(publish) => self.decide_publish(publish, now),
            TopicsCommand::Op { from, op, acked_below, topic, message } => {
                let origin = Origin::Op { from: *from, op: *op, acked_below: *acked_below };
                Ok(self.decide_op(origin, topic, message, now))
            }
            TopicsCommand::Schedule(new) => self.decide_schedule(new, now),
            TopicsCommand::Unschedule { topic, name } => self.decide_unschedule(topic, name),
            TopicsCommand::Schedules { topic } => {
                let of_topic = self.schedules.iter().filter(|((of, _), _)| of == topic);
                let schedules = of_topic.map(|((_, name), at)| (name.clone(), at.clone()));
                Ok(Decision::reply(TopicsReply::Schedules(schedules.collect())))
            }
            TopicsCommand::Tick => Ok(self.decide_tick(now)),
        }
    }

    fn apply(&mut self, event: &TopicsEvent) {
        self.apply_event(event);
    }

    /// The answers that a consumer shard may not have heard yet.
    fn outstanding(&self) -> Vec<TopicsEffect> {
        self.inbox.iter().map(|(to, op, ())| TopicsEffect::Published { to, op }).collect()
    }

    fn due(&self, now: Timestamp) -> Option<TopicsCommand> {
        let delayed = self.delayed.first_key_value().is_some_and(|((due, _), _)| *due <= now);
        let run = self.schedules.values().any(|schedule| schedule.next <= now);
        (delayed || run || self.forget_before(now).is_some()).then_some(TopicsCommand::Tick)
    }
}
