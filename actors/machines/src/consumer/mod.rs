//! One shard of consumer groups: a machine. It knows how far each group is with a topic, what waits
//! for another attempt, and what is given up. It deliberately reads no topic and hands nothing out:
//! who has a message at the moment, and for how long, is the dispatcher's business.

mod apply;
mod command;
mod decide;
mod event;
mod group;
mod letter;
mod retry;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use command::{
    Attempt, ConsumersCommand, ConsumersEffect, ConsumersRejection, ConsumersReply, Take,
};
pub use event::ConsumersEvent;
pub use group::{ConsumerGroup, GroupSummary, GroupView, Pending};
pub use letter::{DeadLetter, FollowUp, GroupId, Incarnation, LeaseToken, Letter};
pub use retry::Retry;

use crate::{Decision, Machine, Outbox, Timestamp, bounds::check_range};

/// What a consumer shard is told about itself. Used to decide only, so it may change between runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumersConfig {
    /// Which consumer shard it is.
    pub shard: u16,
    /// How long the journal is kept for a group in which nothing happens, in milliseconds.
    pub idle_ms_max: u64,
}

/// One shard of consumer groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumers {
    config: ConsumersConfig,
    /// The last number given to a group, to a move or to a lease. It only counts up, so that none
    /// is ever taken for another.
    counted: u64,
    groups: BTreeMap<GroupId, ConsumerGroup>,
    /// Effects of what was consumed that are not answered yet.
    outbox: Outbox<FollowUp>,
}

impl Consumers {
    /// A shard with no group.
    #[must_use]
    pub fn new(config: ConsumersConfig) -> Self {
        Self { config, counted: 0, groups: BTreeMap::new(), outbox: Outbox::default() }
    }

    /// What it was told about itself.
    #[must_use]
    pub fn config(&self) -> &ConsumersConfig {
        &self.config
    }

    /// Puts another configuration on a shard that was read from a snapshot.
    pub fn configure(&mut self, config: ConsumersConfig) {
        self.config = config;
    }

    /// A group.
    #[must_use]
    pub fn group(&self, of: &GroupId) -> Option<&ConsumerGroup> {
        self.groups.get(of)
    }

    /// Every group.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupId, &ConsumerGroup)> {
        self.groups.iter()
    }

    /// The last record of the journal that none of its groups needs any more; `None` if none needs
    /// any. A group in which nothing has happened for too long doesn't count.
    #[must_use]
    pub fn consumed(&self, now: Timestamp) -> Option<u64> {
        let idle_ms_max = self.config.idle_ms_max;
        let alive = self.groups.values().filter(|group| group.touched.plus_ms(idle_ms_max) >= now);
        alive.map(|group| group.consumed()).min()
    }
}

impl Machine for Consumers {
    type Command = ConsumersCommand;
    type Event = ConsumersEvent;
    type Reply = ConsumersReply;
    type Rejection = ConsumersRejection;
    type Effect = ConsumersEffect;

    fn decide(
        &self,
        command: &ConsumersCommand,
        now: Timestamp,
    ) -> Result<Decision<Self>, ConsumersRejection> {
        match command {
            ConsumersCommand::Open { of, after } => self.decide_open(of, *after, now),
            ConsumersCommand::Take(take) => self.decide_take(take, now),
            ConsumersCommand::Done { of, id, token, follow_ups } => {
                self.decide_done(of, *id, *token, follow_ups, now)
            }
            ConsumersCommand::Fail { of, letter, token, cause, retry } => {
                self.decide_fail(of, letter, *token, cause, retry, now)
            }
            ConsumersCommand::Pass { of, after, to } => self.decide_pass(of, *after, *to, now),
            ConsumersCommand::Seek { of, to } => self.decide_seek(of, *to, now),
            ConsumersCommand::Pause { of, paused } => self.decide_pause(of, *paused, now),
            ConsumersCommand::Replay { of, id } => self.decide_replay(of, *id, now),
            ConsumersCommand::Discard { of, id } => self.decide_discard(of, *id, now),
            ConsumersCommand::Remove { of } => self.decide_remove(of),
            ConsumersCommand::View { of } => {
                Ok(Decision::reply(ConsumersReply::View(self.the(of)?.view().into())))
            }
            ConsumersCommand::DeadLetters { of, after, limit } => {
                check_range("limit", *limit as u64, 1, 100)?;
                let dead = self.the(of)?.dead_after(*after).take(*limit).cloned();
                Ok(Decision::reply(ConsumersReply::DeadLetters(dead.collect())))
            }
            ConsumersCommand::Groups => {
                let groups = self.groups.iter().map(|(of, group)| (of.clone(), group.summary()));
                Ok(Decision::reply(ConsumersReply::Groups(groups.collect())))
            }
            ConsumersCommand::Answered { op } => Ok(self.decide_answered(*op)),
        }
    }

    fn apply(&mut self, event: &ConsumersEvent) {
        self.apply_event(event);
    }

    fn outstanding(&self) -> Vec<ConsumersEffect> {
        let acked_below = self.outbox.acked_below();
        let effect = |(op, follow_up): (_, &FollowUp)| ConsumersEffect {
            op,
            acked_below,
            follow_up: follow_up.clone(),
        };
        self.outbox.iter().map(effect).collect()
    }
}
