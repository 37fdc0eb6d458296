//! What the machines store: events in the journal, whole shards in snapshots, orders in the
//! archive. bincode takes some numbers in more than one form, so what is read need not be written
//! back as the same bytes; but what we write is read back, and written again as the same.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};
use tidegate_actors::codec;
use tidegate_machines::{
    Consumers, ConsumersEvent, GroupId, GroupName, Machine, MessageId, Order, OrderEvent, Orders,
    Stock, StockEvent, Timestamp, TopicName, Topics, TopicsEvent,
};

use crate::Target;

const STOCK_KIND: u32 = 1;
const ORDERS_KIND: u32 = 2;
const TOPICS_KIND: u32 = 3;
const CONSUMERS_KIND: u32 = 4;

/// An event of an order shard.
pub const ORDER_EVENT: Target = Target {
    name: "order-event",
    run: value::<OrderEvent>,
    seeds: |seeds| seeds.of_kind(ORDERS_KIND),
};

/// An event of a stock shard.
pub const STOCK_EVENT: Target = Target {
    name: "stock-event",
    run: value::<StockEvent>,
    seeds: |seeds| seeds.of_kind(STOCK_KIND),
};

/// An event of a shard of topics.
pub const TOPICS_EVENT: Target = Target {
    name: "topics-event",
    run: value::<TopicsEvent>,
    seeds: |seeds| seeds.of_kind(TOPICS_KIND),
};

/// An event of a shard of consumer groups.
pub const CONSUMERS_EVENT: Target = Target {
    name: "consumers-event",
    run: value::<ConsumersEvent>,
    seeds: |seeds| {
        let (topic, group) = (TopicName::new("risk"), GroupName::new("mail"));
        let passed = topic.and_then(|topic| {
            let of = GroupId { topic, group: group? };
            Ok(ConsumersEvent::Passed { at: Timestamp(1), of, to: MessageId::after(7) })
        });
        seeds.of_kind(CONSUMERS_KIND).into_iter().chain(passed.iter().map(encoded)).collect()
    },
};

/// A snapshot of an order shard.
pub const ORDERS_IMAGE: Target = Target {
    name: "orders-image",
    run: image::<Orders>,
    seeds: |seeds| seeds.images_of(ORDERS_KIND),
};

/// A snapshot of a stock shard.
pub const STOCK_IMAGE: Target =
    Target { name: "stock-image", run: image::<Stock>, seeds: |seeds| seeds.images_of(STOCK_KIND) };

/// A snapshot of a shard of topics.
pub const TOPICS_IMAGE: Target = Target {
    name: "topics-image",
    run: image::<Topics>,
    seeds: |seeds| seeds.images_of(TOPICS_KIND),
};

/// A snapshot of a shard of consumer groups.
pub const CONSUMERS_IMAGE: Target = Target {
    name: "consumers-image",
    run: image::<Consumers>,
    seeds: |seeds| seeds.images_of(CONSUMERS_KIND),
};

/// An order of the archive.
pub const ARCHIVED_ORDER: Target = Target {
    name: "archived-order",
    run: value::<Order>,
    seeds: |seeds| seeds.rows.get(&b'o').cloned().unwrap_or_default(),
};

/// Name and number of shards of a machine.
pub const LAYOUT: Target = Target {
    name: "layout",
    run: value::<(String, u16)>,
    seeds: |seeds| seeds.rows.get(&b'l').cloned().unwrap_or_default(),
};

fn value<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    if let Ok(value) = codec::decode::<T>(bytes) {
        let written = encoded(&value);
        let again = codec::decode::<T>(&written).expect("what we write can be read");
        assert_eq!(encoded(&again), written);
    }
}

fn image<M: Machine<Effect: Debug> + Serialize + DeserializeOwned>(bytes: &[u8]) {
    if let Ok((stamp, machine)) = codec::decode::<(Timestamp, M)>(bytes) {
        let written = encoded(&(stamp, &machine));
        let again = codec::decode::<(Timestamp, M)>(&written);
        let (_, again) = again.expect("what we write can be read");
        assert_eq!(encoded(&(stamp, &again)), written);
    }
}

fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(value, &mut bytes).expect("what was read can be written");
    bytes
}
