//! How an order shard is written and read. It deliberately leaves out what follows from the orders.
//!
//! The first format has no queue; it is still written for a shard that never had an intake. It
//! begins with the shard's number, of 16 bits. Every later format begins with a number above those,
//! which names it: small numbers are written alike whatever their type, so one look tells.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use triomphe::Arc;

use super::asks::Asks;
use super::by_user::ByUser;
use super::queue::{Bucket, Queue, QueueCounts};
use super::{Ask, IntakeConfig, Order, Orders, OrdersConfig};
use crate::shared::{Calendar, Paged};
use crate::{Idempotency, OrderId, Outbox, Timestamp};

/// Names the second format, which has a queue.
const SECOND: u32 = 0x1_0002;

/// More values than any format has at its outermost level.
const VALUES_MAX: usize = 16;

#[derive(Serialize)]
struct First<'a> {
    shard: u16,
    stock_shards: u16,
    idempotency_retention_ms: u64,
    idempotency_keys_max: usize,
    next_order: u64,
    orders: &'a Paged<OrderId, Arc<Order>>,
    outbox: &'a Outbox<Ask>,
    memory: &'a Idempotency<OrderId>,
}

#[derive(Serialize)]
struct Second<'a> {
    format: u32,
    first: First<'a>,
    intake: Option<IntakeConfig>,
    waiting: Vec<(OrderId, Timestamp)>,
    bucket: Bucket,
    counts: QueueCounts,
}

impl Serialize for Orders {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { config, next_order, orders, asks, memory, queue, .. } = self;
        let first = First {
            shard: config.shard,
            stock_shards: config.stock_shards,
            idempotency_retention_ms: config.idempotency_retention_ms,
            idempotency_keys_max: config.idempotency_keys_max,
            next_order: *next_order,
            orders,
            outbox: asks.outbox(),
            memory,
        };
        if config.intake.is_none() && *queue == Queue::default() {
            return first.serialize(serializer);
        }
        let (intake, waiting) = (config.intake, queue.iter().collect());
        let (bucket, counts) = (queue.bucket, queue.counts());
        Second { format: SECOND, first, intake, waiting, bucket, counts }.serialize(serializer)
    }
}

/// An order shard as it was, to be written as the shard itself would be. It has nothing of what is
/// not written: a shard that goes on need not copy that when it changes.
#[derive(Debug, Serialize)]
pub struct OrdersImage(Orders);

impl Orders {
    /// The shard as it is now, to be written.
    #[must_use]
    pub fn image(&self) -> OrdersImage {
        OrdersImage(Self {
            config: self.config.clone(),
            next_order: self.next_order,
            orders: self.orders.clone(),
            asks: self.asks.clone(),
            memory: self.memory.image(),
            queue: self.queue.clone(),
            by_user: ByUser::default(),
            deadlines: Calendar::default(),
        })
    }
}

impl<'de> Deserialize<'de> for Orders {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(VALUES_MAX, Read)
    }
}

struct Read;

impl<'de> Visitor<'de> for Read {
    type Value = Orders;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an order shard")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Orders, A::Error> {
        let begin: u32 = next(&mut values)?;
        let (shard, has_queue) = match u16::try_from(begin) {
            Ok(shard) => (shard, false),
            Err(_) if begin == SECOND => (next(&mut values)?, true),
            Err(_) => {
                let format = begin & 0xffff;
                let newer =
                    format_args!("format {format} of an order shard is newer than this program");
                return Err(A::Error::custom(newer));
            }
        };
        let mut config = OrdersConfig {
            shard,
            stock_shards: next(&mut values)?,
            idempotency_retention_ms: next(&mut values)?,
            idempotency_keys_max: next(&mut values)?,
            intake: None,
        };
        let next_order = next(&mut values)?;
        let orders: Paged<OrderId, Arc<Order>> = next(&mut values)?;
        let outbox: Outbox<Ask> = next(&mut values)?;
        let memory = next(&mut values)?;
        let mut queue = Queue::default();
        if has_queue {
            config.intake = next(&mut values)?;
            let (waiting, bucket) = (next(&mut values)?, next(&mut values)?);
            queue = Queue::from_parts(waiting, bucket, next(&mut values)?);
        }
        let asks = Asks::from(outbox);
        let (by_user, deadlines) = (ByUser::default(), Calendar::default());
        let mut read =
            Orders { config, next_order, orders, asks, memory, queue, by_user, deadlines };
        read.index();
        Ok(read)
    }
}

fn next<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(values: &mut A) -> Result<T, A::Error> {
    values.next_element()?.ok_or_else(|| A::Error::custom("an order shard ends too early"))
}
