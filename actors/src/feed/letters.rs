//! The messages of one topic, from the records of the journal: those that were published there, or
//! for the built-in topic what has happened to orders and stock. It keeps no account of who has
//! read what.

use tidegate_machines::{
    Letter, Message, MessageKey, Payload, TopicName, Topics, TopicsEvent, shard_of,
};
use tidegate_storage::{Entry, StreamId};

use super::{Cursor, Event, EventData, Pick, Wanted};
use crate::{
    codec::{self, CodecError},
    durable::Durable,
};

/// See the module.
#[derive(Clone)]
pub struct Letters {
    topic: TopicName,
    stream: StreamId,
}

impl Letters {
    /// The messages of `topic`, in a store with `shards` shards of topics.
    #[must_use]
    pub fn of(topic: TopicName, shards: u16) -> Self {
        let stream = Topics::KIND.stream(shard_of(topic.as_str().as_bytes(), shards));
        Self { topic, stream }
    }
}

impl Pick for Letters {
    type Item = Letter;

    fn pick(&self, entry: &Entry<'_>, out: &mut Vec<(Cursor, Letter)>) -> Result<(), CodecError> {
        if self.topic.is_events() {
            let mut events = Vec::new();
            Wanted::ALL.pick(entry, &mut events)?;
            for (cursor, event) in events {
                out.push((cursor, told(&event)?));
            }
            return Ok(());
        }
        if entry.stream != self.stream {
            return Ok(());
        }
        let event: TopicsEvent = codec::decode(entry.bytes)?;
        let (at, all) = (event.at(entry.stamp), event.published().count() as u32);
        for (number, message) in (1..).zip(event.published()) {
            let within = (number < all).then_some(number);
            let cursor = Cursor { position: entry.position, within };
            if message.topic == self.topic {
                let Message { number, key, payload, .. } = message.clone();
                let letter = Letter { id: cursor.into(), at, number: Some(number), key, payload };
                out.push((cursor, letter));
            }
        }
        Ok(())
    }
}

/// An event as a message: as JSON, the same that subscribers over HTTP get.
fn told(event: &Event) -> Result<Letter, CodecError> {
    let payload =
        serde_json::to_vec(event).map_err(|error| CodecError::Malformed(error.to_string()))?;
    Ok(Letter {
        id: event.cursor().into(),
        at: event.at,
        number: None,
        key: MessageKey::new(&subject(&event.data)).ok(),
        payload: Payload::of_own(payload),
    })
}

/// What an event is about: an order, else a hold, else a SKU. Events of one subject are in order.
fn subject(data: &EventData) -> String {
    let order = data.order().map(|order| order.to_string());
    let hold = || data.hold().map(|hold| hold.to_string());
    order.or_else(hold).unwrap_or_else(|| match data {
        EventData::StockDefined { sku, .. } | EventData::StockAdjusted { sku, .. } => {
            sku.to_string()
        }
        _ => String::new(),
    })
}
