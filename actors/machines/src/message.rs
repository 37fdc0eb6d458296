//! What topics carry: messages, their payloads, their ids. It deliberately does not know what is in
//! a payload.

use std::{cmp::Ordering, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    MessageKey, TopicName,
    bounds::{OutOfBounds, PAYLOAD_BYTES_MAX},
};

/// The bytes of a message. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(Arc<[u8]>);

impl Payload {
    /// Checks and keeps `bytes`.
    ///
    /// # Errors
    /// More than [`PAYLOAD_BYTES_MAX`].
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Result<Self, OutOfBounds> {
        let bytes = bytes.into();
        if bytes.len() <= PAYLOAD_BYTES_MAX {
            return Ok(Self(bytes));
        }
        let bound = format_args!("at most {PAYLOAD_BYTES_MAX} bytes");
        Err(OutOfBounds::new("payload", bound, format_args!("{} bytes", bytes.len())))
    }

    /// A payload that Tidegate made itself, of any size.
    #[must_use]
    pub fn of_own(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = Payload;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Payload, E> {
                Ok(Payload(bytes.into()))
            }
            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Payload, E> {
                Ok(Payload(bytes.into()))
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

/// A message as its publisher gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMessage {
    /// What orders it among the messages of its topic; `None`: nothing.
    pub key: Option<MessageKey>,
    /// What it says.
    pub payload: Payload,
}

/// A message as it is in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its topic.
    pub topic: TopicName,
    /// Its number, as its publisher was told: no two messages of a topic have the same. One that
    /// was delayed comes after some with greater numbers.
    pub number: u64,
    /// What orders it among the messages of its topic.
    pub key: Option<MessageKey>,
    /// What it says.
    pub payload: Payload,
}

/// A message's place in the order of the journal. As text `17`, or `17.2` for the second message of
/// a record that holds more than two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MessageId {
    /// The record.
    pub position: u64,
    /// Its number within the record, from 1; `None` for the last one there.
    pub within: Option<u32>,
}

impl MessageId {
    /// After the whole record at `position`.
    #[must_use]
    pub fn after(position: u64) -> Self {
        Self { position, within: None }
    }
}

impl Ord for MessageId {
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |id: &Self| (id.position, id.within.unwrap_or(u32::MAX));
        place(self).cmp(&place(other))
    }
}

impl PartialOrd for MessageId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.within {
            None => write!(f, "{}", self.position),
            Some(within) => write!(f, "{}.{within}", self.position),
        }
    }
}

impl FromStr for MessageId {
    type Err = OutOfBounds;

    fn from_str(text: &str) -> Result<Self, OutOfBounds> {
        let (position, within) = text
            .split_once('.')
            .map_or((text, None), |(position, within)| (position, Some(within)));
        // `parse` alone would take a sign.
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let good = digits(position) && within.is_none_or(digits);
        let read = || -> Option<Self> {
            let position = position.parse().ok()?;
            let within = within
                .map(|within| within.parse().ok())
                .map_or(Some(None), |read| read.map(Some))?;
            Some(Self { position, within })
        };
        good.then(read).flatten().ok_or_else(|| {
            let bound = "a message's id, like 17 or 17.2";
            OutOfBounds::new("id", bound, format_args!("{text:?}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_record_comes_last() {
        let ids = ["0", "17.1", "17.2", "17", "18.1", "18"];
        let ids = ids.map(|text| text.parse::<MessageId>().unwrap());
        assert!(ids.is_sorted(), "{ids:?}");
        for text in ["", ".", "1.", ".1", "-1", "+1", "1.+1", "1.2.3", "x"] {
            assert!(text.parse::<MessageId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn payloads_have_a_bound() {
        assert!(Payload::new(vec![0; PAYLOAD_BYTES_MAX]).is_ok());
        let refused = Payload::new(vec![0; PAYLOAD_BYTES_MAX + 1]).unwrap_err();
        assert!(refused.to_string().contains("65536"), "{refused}");
    }
}
