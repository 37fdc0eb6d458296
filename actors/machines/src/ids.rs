//! Names and numbers of things, checked when they enter. It deliberately does not check again when
//! read back from a journal: what was journalled had been checked.

use std::fmt;
use std::str::FromStr;

use ecow::EcoString;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::bounds::{
    EVENT_ID_BYTES_MAX, MESSAGE_KEY_BYTES_MAX, NAME_BYTES_MAX, OutOfBounds, PROVIDER_BYTES_MAX,
};
use crate::shared::Number;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $field:literal, $bytes_max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(EcoString);

        impl $name {
            /// Checks and keeps `text`.
            ///
            /// # Errors
            /// If it is empty, too long, or has anything but visible ASCII characters.
            pub fn new(text: &str) -> Result<Self, OutOfBounds> {
                let visible = text.bytes().all(|b| (0x21..=0x7e).contains(&b));
                if visible && (1..=$bytes_max).contains(&text.len()) {
                    return Ok(Self(EcoString::from(text)));
                }
                let bound = format_args!("1 to {} visible ASCII characters", $bytes_max);
                Err(OutOfBounds::new($field, bound, format_args!("{text:?}")))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = OutOfBounds;
            fn from_str(text: &str) -> Result<Self, OutOfBounds> {
                Self::new(text)
            }
        }
    };
}

name!(
    /// A stock keeping unit: what is sold.
    Sku, "sku", NAME_BYTES_MAX
);
name!(
    /// Who buys.
    UserId, "user", NAME_BYTES_MAX
);
name!(
    /// Where stock lies; `main` unless said otherwise.
    Location, "location", NAME_BYTES_MAX
);
name!(
    /// A payment provider.
    Provider, "provider", PROVIDER_BYTES_MAX
);
name!(
    /// A payment provider's own id of one of its events.
    EventId, "event_id", EVENT_ID_BYTES_MAX
);
name!(
    /// A topic: what messages are about.
    TopicName, "topic", NAME_BYTES_MAX
);
name!(
    /// A group of consumers that share the messages of a topic among them.
    GroupName, "group", NAME_BYTES_MAX
);
name!(
    /// A message that comes again and again, within its topic.
    ScheduleName, "schedule", NAME_BYTES_MAX
);
name!(
    /// What orders messages: those of one key are consumed one after the other.
    MessageKey, "message key", MESSAGE_KEY_BYTES_MAX
);

impl TopicName {
    /// The built-in topic of order and stock events. Nothing else can be published there.
    pub const EVENTS: &'static str = "events";

    /// Whether it is the built-in topic.
    #[must_use]
    pub fn is_events(&self) -> bool {
        self.as_str() == Self::EVENTS
    }
}

impl Default for Location {
    fn default() -> Self {
        Self(EcoString::inline("main"))
    }
}

/// A currency: three upper-case letters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Currency(EcoString);

impl Currency {
    /// Checks and keeps `text`.
    ///
    /// # Errors
    /// If it is not three upper-case letters.
    pub fn new(text: &str) -> Result<Self, OutOfBounds> {
        if text.len() == 3 && text.bytes().all(|b| b.is_ascii_uppercase()) {
            return Ok(Self(EcoString::from(text)));
        }
        Err(OutOfBounds::new("currency", "3 upper-case letters", format_args!("{text:?}")))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const SEQUENCE_BITS: u32 = 48;
/// Largest number that one shard gives out.
pub const SEQUENCE_MAX: u64 = (1 << SEQUENCE_BITS) - 1;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $field:literal, $prefix:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The number `sequence` (from 1) of `shard`.
            ///
            /// # Errors
            /// If the sequence is 0 or needs more than 48 bits.
            pub fn new(shard: u16, sequence: u64) -> Result<Self, OutOfBounds> {
                if (1..=SEQUENCE_MAX).contains(&sequence) {
                    return Ok(Self::compose(shard, sequence));
                }
                let bound = format_args!("a sequence of 1 to {SEQUENCE_MAX}");
                Err(OutOfBounds::new($field, bound, sequence))
            }

            pub(crate) fn compose(shard: u16, sequence: u64) -> Self {
                Self(u64::from(shard) << SEQUENCE_BITS | (sequence & SEQUENCE_MAX))
            }

            /// The shard that gave the number out.
            #[must_use]
            pub fn shard(self) -> u16 {
                (self.0 >> SEQUENCE_BITS) as u16
            }

            /// The number within its shard, from 1.
            #[must_use]
            pub fn sequence(self) -> u64 {
                self.0 & SEQUENCE_MAX
            }
        }

        impl Number for $name {
            fn number(self) -> u64 {
                self.0
            }

            fn of(number: u64) -> Self {
                Self(number)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_base32($prefix, self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = OutOfBounds;
            fn from_str(text: &str) -> Result<Self, OutOfBounds> {
                text.strip_prefix($prefix).and_then(read_base32).map(Self).ok_or_else(|| {
                    let bound = format_args!("{:?} and {BASE32_DIGITS} characters", $prefix);
                    OutOfBounds::new($field, bound, format_args!("{text:?}"))
                })
            }
        }
    };
}

number!(
    /// An order: its order shard in the top 16 bits, a number within the shard in the others.
    OrderId, "order", "o-"
);
number!(
    /// A standalone hold: its stock shard in the top 16 bits, a number within it in the others.
    HoldId, "hold", "h-"
);

/// An idempotency key together with its caller and operation, hashed by the front.
///
/// Packed, because what holds it would otherwise lie at every 16th byte, with gaps before it.
#[repr(Rust, packed(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyHash(pub u128);

/// What a request asks for, hashed by the front, so that a reused key is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub u64);

/// The number of an operation that one shard sends to another; counts up within the sender.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct OpId(pub u64);

/// The shard of `shards` that `bytes` belong to, the same on every machine and in every version.
///
/// The hash key is part of the format of a store: changing it would move every SKU.
#[must_use]
pub fn shard_of(bytes: &[u8], shards: u16) -> u16 {
    let hasher = SipHasher13::new_with_keys(0x7469_6465_6761_7465, 0x7368_6172_645f_6f66);
    let scaled = u128::from(hasher.hash(bytes)) * u128::from(shards);
    (scaled >> 64) as u16
}

// Crockford's alphabet in lower case: no i, l, o, u, and its order is the order of the numbers.
const BASE32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const BASE32_DIGITS: usize = 13;

fn write_base32(prefix: &str, number: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = EcoString::from(prefix);
    for digit in (0..BASE32_DIGITS).rev() {
        text.push(char::from(BASE32[(number >> (5 * digit) & 31) as usize]));
    }
    f.pad(&text)
}

fn read_base32(text: &str) -> Option<u64> {
    if text.len() != BASE32_DIGITS {
        return None;
    }
    let mut number: u64 = 0;
    for byte in text.bytes() {
        let digit = BASE32.iter().position(|b| *b == byte)? as u64;
        // The first of 13 digits has only 4 of its 5 bits.
        if number >> 59 != 0 {
            return None;
        }
        number = number << 5 | digit;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_and_sort_like_their_text() {
        let ids = [(0, 1), (0, 31), (0, 32), (1, 1), (u16::MAX, SEQUENCE_MAX)];
        let texts: Vec<String> = ids
            .iter()
            .map(|(shard, sequence)| {
                let id = OrderId::new(*shard, *sequence).unwrap();
                assert_eq!((id.shard(), id.sequence()), (*shard, *sequence));
                assert_eq!(id.to_string().parse(), Ok(id));
                id.to_string()
            })
            .collect();
        assert!(texts.is_sorted());
        assert_eq!(texts[0], "o-0000000000001");
    }

    #[test]
    fn malformed_numbers_are_refused() {
        for text in
            ["", "o-", "h-0000000000001", "o-000000000001", "o-g000000000000", "o-00000000000i1"]
        {
            assert!(text.parse::<OrderId>().is_err(), "{text}");
        }
        assert!(OrderId::new(0, 0).is_err());
        assert!(OrderId::new(0, SEQUENCE_MAX + 1).is_err());
    }

    #[test]
    fn names_are_visible_ascii() {
        assert!(Sku::new(&"x".repeat(64)).is_ok());
        for text in ["", "a b", "ä", "a\n", &"x".repeat(65)] {
            assert!(Sku::new(text).is_err(), "{text:?}");
        }
        let error = Sku::new("a b").unwrap_err().to_string();
        assert_eq!(error, "sku must be 1 to 64 visible ASCII characters; got \"a b\"");
        assert!(Currency::new("EUR").is_ok() && Currency::new("eur").is_err());
        assert_eq!(Location::default().as_str(), "main");
    }

    #[test]
    fn shards_are_stable_and_even() {
        assert_eq!(shard_of(b"anything", 1), 0);
        let mut counts = [0_u32; 4];
        for number in 0..4_000 {
            counts[usize::from(shard_of(format!("sku-{number}").as_bytes(), 4))] += 1;
        }
        assert!(counts.iter().all(|count| (900..1_100).contains(count)), "{counts:?}");
    }
}
