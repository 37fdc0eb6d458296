//! Tidegate's own machines: how many shards of each there are, what they are told of themselves,
//! and how they reach each other. What a host adds is wired in `builder`.

use std::sync::Arc;

use tidegate_actors::{
    ArbiterHandle, Board, FromConsumers, FromOrders, FromStock, FromTopics, Group, Keyring,
    KnownKeys, ProjectorHandle, Shards,
};
use tidegate_machines::{Consumers, Orders, Stock, Topics};

use crate::{
    error::OpenError,
    intake::Intake,
    layout::{IdempotencyBounds, fresh_consumers, fresh_orders, fresh_stock, fresh_topics},
    runtime::Parts,
};

/// How they are asked to be. Numbers of shards are fixed once a store has them.
#[derive(Clone, Copy)]
pub(crate) struct OwnOptions {
    pub(crate) stock_shards: Option<u16>,
    pub(crate) order_shards: Option<u16>,
    pub(crate) topic_shards: Option<u16>,
    pub(crate) consumer_shards: Option<u16>,
    pub(crate) idempotency: IdempotencyBounds,
    pub(crate) intake: Option<Intake>,
    pub(crate) consumer_idle_ms_max: u64,
}

impl Default for OwnOptions {
    fn default() -> Self {
        Self {
            stock_shards: None,
            order_shards: None,
            topic_shards: None,
            consumer_shards: None,
            idempotency: IdempotencyBounds::default(),
            intake: None,
            consumer_idle_ms_max: 7 * 24 * 60 * 60 * 1_000,
        }
    }
}

/// See the module.
pub(crate) struct Own {
    pub(crate) stock: Group<Stock>,
    pub(crate) orders: Group<Orders>,
    pub(crate) topics: Group<Topics>,
    pub(crate) consumers: Group<Consumers>,
    /// Of each order shard.
    pub(crate) known: Arc<[Arc<KnownKeys>]>,
}

impl Own {
    /// A new kind of durable actor is a line or two here.
    pub(crate) fn new(parts: &mut Parts, options: OwnOptions) -> Result<Self, OpenError> {
        let memory = options.idempotency;
        let stock = parts.group(options.stock_shards, move |shard| fresh_stock(shard, memory))?;
        let stock_shards = stock.len();
        // Each has its share of the intake.
        let order_shards = parts.claim::<Orders>(options.order_shards)?;
        let share = options.intake.map(|intake| intake.share(order_shards));
        let fresh = move |shard| fresh_orders(shard, stock_shards, memory, share);
        let orders = parts.group_of(order_shards, fresh);
        let topics = parts.group(options.topic_shards, move |shard| fresh_topics(shard, memory))?;
        let idle_ms_max = options.consumer_idle_ms_max;
        let fresh = move |shard| fresh_consumers(shard, idle_ms_max);
        let consumers = parts.group(options.consumer_shards, fresh)?;
        let known = (0..order_shards).map(|_| Arc::new(KnownKeys::new(memory.keys_max)));
        Ok(Self { stock, orders, topics, consumers, known: known.collect() })
    }

    /// And one here.
    pub(crate) fn start(
        &self,
        arbiters: &[ArbiterHandle],
        projector: &ProjectorHandle,
        board: &Arc<Board>,
        keys: &Keyring,
    ) {
        let Self { stock, orders, topics, consumers, known } = self;
        stock.start(arbiters, |_| Box::new(FromStock::new(orders.clone(), Arc::clone(board))));
        orders.start(arbiters, |shard| {
            let known = Arc::clone(&known[usize::from(shard)]);
            Box::new(FromOrders::new(stock.clone(), projector.clone(), known))
        });
        topics.start(arbiters, |_| Box::new(FromTopics::new(consumers.clone())));
        consumers.start(arbiters, |shard| {
            let (topics, orders) = (topics.clone(), orders.clone());
            Box::new(FromConsumers::new(shard, consumers.clone(), topics, orders, keys.clone()))
        });
    }

    pub(crate) fn groups(&self) -> Vec<Arc<dyn Shards>> {
        vec![
            Arc::new(self.stock.clone()),
            Arc::new(self.orders.clone()),
            Arc::new(self.topics.clone()),
            Arc::new(self.consumers.clone()),
        ]
    }
}
