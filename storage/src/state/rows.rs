//! How rows lie in sled: keys by table, and for each where its value is, with a checksum. It
//! encodes and checks bytes; it reads and writes nothing.

use crc32c::{crc32c, crc32c_append};

use crate::{Position, Table, journal::Place};

/// A value of up to so many bytes lies in its row. Larger ones stay in the log: sled would write
/// them again and again, whenever a neighbour changes.
pub(crate) const HERE_BYTES_MAX: usize = 32;

/// In front of every key; there is no other kind of row.
const ROWS: u8 = b'r';

const HERE: u8 = 0;
const RECORD: u8 = 1;
const PARTS: u8 = 2;

/// Where the value of a row is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// In the row itself.
    Here(Vec<u8>),
    /// In one record of the log, which is cheap to find.
    Record {
        /// The value alone, without the record's header.
        place: Place,
        /// Of the value.
        crc: u32,
    },
    /// In several records, one after the other.
    Parts {
        /// The first of them.
        first: Position,
        /// Of the whole value, in bytes.
        length: u64,
    },
}

impl Kept {
    /// Bytes of the value.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Here(value) => value.len() as u64,
            Self::Record { place, .. } => u64::from(place.length),
            Self::Parts { length, .. } => *length,
        }
    }
}

/// The key in sled of a row of `table`.
pub(crate) fn row_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len() + 2);
    bytes.extend_from_slice(&[ROWS, table.0]);
    bytes.extend_from_slice(key);
    bytes
}

/// The key that a row was given, from its key in sled.
pub(crate) fn key_in(row_key: &[u8]) -> &[u8] {
    row_key.get(2..).unwrap_or_default()
}

/// What sled gets. The checksum covers the key as well: a value under another row's key is damage.
pub(crate) fn encode(row_key: &[u8], kept: &Kept) -> Vec<u8> {
    let mut bytes = vec![0; 5];
    match kept {
        Kept::Here(value) => {
            bytes[0] = HERE;
            bytes.extend_from_slice(value);
        }
        Kept::Record { place, crc } => {
            bytes[0] = RECORD;
            bytes.extend_from_slice(&place.segment.to_le_bytes());
            bytes.extend_from_slice(&place.offset.to_le_bytes());
            bytes.extend_from_slice(&place.length.to_le_bytes());
            bytes.extend_from_slice(&crc.to_le_bytes());
        }
        Kept::Parts { first, length } => {
            bytes[0] = PARTS;
            bytes.extend_from_slice(&first.0.to_le_bytes());
            bytes.extend_from_slice(&length.to_le_bytes());
        }
    }
    let crc = crc(bytes[0], row_key, &bytes[5..]);
    bytes[1..5].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads what [`encode`] wrote; `None` if it is damaged.
pub(crate) fn decode(row_key: &[u8], bytes: &[u8]) -> Option<Kept> {
    let (&kind, rest) = bytes.split_first()?;
    let (expected, body) = rest.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*expected) != crc(kind, row_key, body) {
        return None;
    }
    match (kind, body.len()) {
        (HERE, _) => Some(Kept::Here(body.to_vec())),
        (RECORD, 20) => Some(Kept::Record {
            place: Place { segment: long(body, 0), offset: word(body, 8), length: word(body, 12) },
            crc: word(body, 16),
        }),
        (PARTS, 16) => Some(Kept::Parts { first: Position(long(body, 0)), length: long(body, 8) }),
        _ => None,
    }
}

fn crc(kind: u8, row_key: &[u8], body: &[u8]) -> u32 {
    crc32c_append(crc32c_append(crc32c(&[kind]), row_key), body)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [Kept; 4] {
        let place = Place { segment: 7, offset: 4_096, length: 300 };
        [
            Kept::Here(Vec::new()),
            Kept::Here(b"tide".to_vec()),
            Kept::Record { place, crc: 9 },
            Kept::Parts { first: Position(3), length: 1 << 33 },
        ]
    }

    #[test]
    fn golden_bytes() {
        let key = row_key(Table(3), b"ab");
        assert_eq!(key, *b"r\x03ab");
        assert_eq!(key_in(&key), b"ab");
        let [_, here, record, parts] = all().map(|kept| encode(&key, &kept));
        assert_eq!((here[0], &here[5..]), (0, &b"tide"[..]));
        let body = b"\x07\0\0\0\0\0\0\0\0\x10\0\0\x2c\x01\0\0\x09\0\0\0";
        assert_eq!((record[0], &record[5..]), (1, &body[..]));
        let body = b"\x03\0\0\0\0\0\0\0\0\0\0\0\x02\0\0\0";
        assert_eq!((parts[0], &parts[5..]), (2, &body[..]));
        for kept in all() {
            assert_eq!(decode(&key, &encode(&key, &kept)), Some(kept));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let key = row_key(Table(3), b"ab");
        for bytes in all().map(|kept| encode(&key, &kept)) {
            assert!(decode(&row_key(Table(4), b"ab"), &bytes).is_none(), "another row's value");
            for bit in 0..bytes.len() * 8 {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(&key, &bytes).is_none(), "bit {bit}");
            }
        }
    }
}
