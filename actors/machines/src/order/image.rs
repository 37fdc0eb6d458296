//! How an order shard is written and read. It deliberately leaves out what follows from the orders.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Ask, Order, Orders, OrdersConfig};
use crate::{Idempotency, OrderId, Outbox};

#[derive(Deserialize)]
struct Image {
    config: OrdersConfig,
    next_order: u64,
    orders: BTreeMap<OrderId, Box<Order>>,
    outbox: Outbox<Ask>,
    memory: Idempotency<OrderId>,
}

#[derive(Serialize)]
struct ImageRef<'a> {
    config: &'a OrdersConfig,
    next_order: u64,
    orders: &'a BTreeMap<OrderId, Box<Order>>,
    outbox: &'a Outbox<Ask>,
    memory: &'a Idempotency<OrderId>,
}

impl Serialize for Orders {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { config, next_order, orders, outbox, memory, .. } = self;
        ImageRef { config, next_order: *next_order, orders, outbox, memory }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Orders {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Image { config, next_order, orders, outbox, memory } =
            Image::deserialize(deserializer)?;
        let mut shard = Self {
            config,
            next_order,
            orders: BTreeMap::new(),
            outbox,
            memory,
            by_user: HashMap::new(),
            deadlines: BTreeSet::new(),
        };
        for (_, order) in orders {
            shard.insert(order);
        }
        Ok(shard)
    }
}
