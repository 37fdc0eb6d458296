//! Topics and consumer groups as durable actors: their numbers in the journal, and how the effects
//! of what was consumed reach topics and orders. What they decide is in `machines`.

use std::time::Duration;

use tidegate_machines::{
    Consumers, ConsumersCommand, ConsumersEffect, Fingerprint, FollowUp, IdempotencyError, KeyHash,
    OpId, OrderCommand, OrderRejection, Orders, OutOfBounds, Timestamp, Topics, TopicsCommand,
    TopicsEffect, shard_of,
};
use tidegate_storage::Position;

use crate::{
    commerce::Batches,
    durable::{Deliver, Durable, Kind},
    error::AskError,
    group::{Group, Reach},
    keys::Keyring,
};

/// How long an order waits to be asked again when it could not be asked; doubled each time.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// The longest such wait.
const ASK_AGAIN_MAX: Duration = Duration::from_secs(30);

impl Durable for Topics {
    const KIND: Kind = Kind(3);
    const NAME: &'static str = "topics";

    fn reconfigure(&mut self, fresh: &Self) {
        self.configure(fresh.config().clone());
    }
}

impl Durable for Consumers {
    const KIND: Kind = Kind(4);
    const NAME: &'static str = "consumers";

    fn reconfigure(&mut self, fresh: &Self) {
        self.configure(fresh.config().clone());
    }

    fn consumed(&self, now: Timestamp) -> Option<Position> {
        self.consumed(now).map(Position)
    }
}

/// Tells consumer shards that what they wanted published is.
pub struct FromTopics {
    consumers: Batches<Consumers>,
}

impl FromTopics {
    /// To the shards of `consumers`.
    #[must_use]
    pub fn new(consumers: impl Reach<Consumers> + 'static) -> Self {
        Self { consumers: Batches::new(consumers) }
    }
}

impl Deliver<Topics> for FromTopics {
    fn deliver(&mut self, effects: &mut Vec<TopicsEffect>) {
        for TopicsEffect::Published { to, op } in effects.drain(..) {
            self.consumers.add(to, ConsumersCommand::Answered { op });
        }
        self.consumers.send();
    }
}

/// Carries what the outcomes of messages want to topics and orders. What a shard that is down or
/// has failed on it did not take waits for the next open of the store, and takes up room till then.
pub struct FromConsumers {
    from: u16,
    topics: Batches<Topics>,
    topic_shards: u16,
    orders: Group<Orders>,
    consumers: Group<Consumers>,
    keys: Keyring,
}

impl FromConsumers {
    /// From shard `from` of `consumers`.
    #[must_use]
    pub fn new(
        from: u16,
        consumers: Group<Consumers>,
        topics: Group<Topics>,
        orders: Group<Orders>,
        keys: Keyring,
    ) -> Self {
        let topic_shards = topics.len();
        Self { from, topics: Batches::new(topics), topic_shards, orders, consumers, keys }
    }

    /// Each wish to cancel has a number of its own, and with it a key of its own: however often it
    /// is sent, it is one request, and it is never taken for another.
    fn key(&self, op: OpId) -> Result<(KeyHash, Fingerprint), OutOfBounds> {
        let key = self.keys.key("", "follow-up", &format!("{}.{}", self.from, op.0))?;
        Ok((key, self.keys.fingerprint(&op)))
    }
}

impl Deliver<Consumers> for FromConsumers {
    fn deliver(&mut self, effects: &mut Vec<ConsumersEffect>) {
        for ConsumersEffect { op, acked_below, follow_up } in effects.drain(..) {
            match follow_up {
                FollowUp::Publish { topic, message } => {
                    let to = shard_of(topic.as_str().as_bytes(), self.topic_shards);
                    let from = self.from;
                    let op = TopicsCommand::Op { from, op, acked_below, topic, message };
                    self.topics.add(to, op);
                }
                FollowUp::Cancel { order } => {
                    let (key, fingerprint) = match self.key(op) {
                        Ok(named) => named,
                        Err(error) => {
                            tracing::error!(%error, "no key for a message's outcome");
                            continue;
                        }
                    };
                    let command = OrderCommand::Cancel { order, key, fingerprint };
                    let (orders, consumers) = (self.orders.clone(), self.consumers.clone());
                    let asking = cancel(order.shard(), command, op, self.from, orders, consumers);
                    drop(actix_rt::spawn(asking));
                }
            }
        }
        self.topics.send();
    }
}

/// Asks the order's shard until it has answered. The answer to a repeated cancel is the same, so
/// nothing is lost if this ends early: the next open asks again.
async fn cancel(
    shard: u16,
    command: OrderCommand,
    op: OpId,
    from: u16,
    orders: Group<Orders>,
    consumers: Group<Consumers>,
) {
    let mut wait = ASK_AGAIN;
    while shard < orders.len() {
        match orders.ask(shard, command.clone()).await {
            Ok(_) => break,
            // There is room again when older keys are forgotten.
            Err(AskError::Rejected(OrderRejection::Idempotency(
                IdempotencyError::MemoryFull { .. },
            ))) => {}
            Err(AskError::Rejected(rejection)) => {
                tracing::warn!(%rejection, "a message's outcome could not cancel an order");
                break;
            }
            Err(AskError::Closing | AskError::Dead { .. } | AskError::Fault { .. }) => return,
            Err(_) => {}
        }
        tokio::time::sleep(wait).await;
        wait = (2 * wait).min(ASK_AGAIN_MAX);
    }
    consumers.tell(from, vec![ConsumersCommand::Answered { op }]);
}
