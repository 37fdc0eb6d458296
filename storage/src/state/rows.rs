//! How rows lie in sled: keys by kind and table, values with a checksum, large values in pieces. It
//! encodes and checks bytes; it reads and writes nothing.

use crc32c::{crc32c, crc32c_append};

use crate::Table;

/// The largest value that sled gets. A leaf over 128 KiB it would move to a file that it never
/// syncs, and it splits leaves by entries, over 16, and merges small ones into their neighbours: 20
/// values of 7 KiB in one leaf have been seen. Of these, 32 fit.
pub(crate) const VALUE_BYTES_MAX: usize = 4 << 10;
/// What a row stored in one piece may hold.
pub(crate) const WHOLE_BYTES_MAX: usize = VALUE_BYTES_MAX - WHOLE_HEADER;
/// What one piece of a larger row holds.
pub(crate) const PIECE_BYTES: usize = VALUE_BYTES_MAX - 4;

const WHOLE_HEADER: usize = 5;
const HEAD_BYTES: usize = 25;
const WHOLE: u8 = 0;
const PIECES: u8 = 1;

/// The ranges of keys, by their first byte.
const ROWS: u8 = b'r';
const PIECE_ROWS: u8 = b'p';
const INTENTS: u8 = b'i';
const TICK: u8 = b't';

/// The head of a row that lies in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Which pieces are meant: a new value never overwrites the pieces of the old one.
    pub(crate) generation: u64,
    /// Bytes of the whole value.
    pub(crate) length: u64,
    /// The crc of the whole value.
    pub(crate) crc: u32,
}

impl Head {
    pub(crate) fn pieces(&self) -> u64 {
        self.length.div_ceil(PIECE_BYTES as u64)
    }
}

/// A row's value as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored<'a> {
    Whole(&'a [u8]),
    Pieces(Head),
}

pub(crate) fn row_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len() + 2);
    bytes.extend_from_slice(&[ROWS, table.0]);
    bytes.extend_from_slice(key);
    bytes
}

/// The caller's key in a key of [`row_key`].
pub(crate) fn key_in(row_key: &[u8]) -> &[u8] {
    row_key.get(2..).unwrap_or_default()
}

/// Where the pieces of one generation of a row lie.
pub(crate) fn pieces_prefix(row_key: &[u8], generation: u64) -> Vec<u8> {
    let mut bytes = pieces_of_row(row_key);
    bytes.extend_from_slice(&generation.to_be_bytes());
    bytes
}

/// Where all pieces of a row lie. The key's length comes first: no key is then a prefix of another.
pub(crate) fn pieces_of_row(row_key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(row_key.len() + 17);
    bytes.push(PIECE_ROWS);
    bytes.extend_from_slice(&(row_key.len() as u32).to_be_bytes());
    bytes.extend_from_slice(row_key);
    bytes
}

/// The generation and the number in the key of a piece.
pub(crate) fn generation_in(piece_key: &[u8]) -> Option<u64> {
    let (rest, _number) = piece_key.split_last_chunk::<4>()?;
    let (_, generation) = rest.split_last_chunk::<8>()?;
    Some(u64::from_be_bytes(*generation))
}

pub(crate) fn piece_key(prefix: &[u8], number: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(prefix.len() + 4);
    bytes.extend_from_slice(prefix);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes
}

/// The row that says: pieces of `row_key` are being changed. Found at opening, they are tidied up.
pub(crate) fn intent_key(row_key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(row_key.len() + 1);
    bytes.push(INTENTS);
    bytes.extend_from_slice(row_key);
    bytes
}

/// The one row that every flush writes last.
pub(crate) fn tick_key() -> [u8; 1] {
    [TICK]
}

pub(crate) fn intents() -> [u8; 1] {
    [INTENTS]
}

/// The checksums cover the key as well: a value under another row's key is damage.
pub(crate) fn encode_whole(row_key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len() + WHOLE_HEADER);
    bytes.push(WHOLE);
    bytes.extend_from_slice(&crc(WHOLE, row_key, value).to_le_bytes());
    bytes.extend_from_slice(value);
    bytes
}

pub(crate) fn encode_head(row_key: &[u8], head: Head) -> Vec<u8> {
    let mut bytes = vec![PIECES, 0, 0, 0, 0];
    bytes.extend_from_slice(&head.generation.to_le_bytes());
    bytes.extend_from_slice(&head.length.to_le_bytes());
    bytes.extend_from_slice(&head.crc.to_le_bytes());
    let crc = crc(PIECES, row_key, &bytes[5..]);
    bytes[1..5].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads what [`encode_whole`] or [`encode_head`] wrote; `None` if it is damaged.
pub(crate) fn decode<'a>(row_key: &[u8], bytes: &'a [u8]) -> Option<Stored<'a>> {
    let (&kind, rest) = bytes.split_first()?;
    let (expected, body) = rest.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*expected) != crc(kind, row_key, body) {
        return None;
    }
    match kind {
        WHOLE => Some(Stored::Whole(body)),
        PIECES if bytes.len() == HEAD_BYTES => {
            let (generation, rest) = body.split_first_chunk::<8>()?;
            let (length, crc) = rest.split_first_chunk::<8>()?;
            Some(Stored::Pieces(Head {
                generation: u64::from_le_bytes(*generation),
                length: u64::from_le_bytes(*length),
                crc: u32::from_le_bytes(crc.try_into().ok()?),
            }))
        }
        _ => None,
    }
}

pub(crate) fn encode_piece(piece: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(piece.len() + 4);
    bytes.extend_from_slice(&crc32c(piece).to_le_bytes());
    bytes.extend_from_slice(piece);
    bytes
}

pub(crate) fn decode_piece(bytes: &[u8]) -> Option<&[u8]> {
    let (expected, piece) = bytes.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*expected) == crc32c(piece)).then_some(piece)
}

fn crc(kind: u8, row_key: &[u8], body: &[u8]) -> u32 {
    crc32c_append(crc32c_append(crc32c(&[kind]), row_key), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let key = row_key(Table(3), b"ab");
        assert_eq!(key, *b"r\x03ab");
        assert_eq!(encode_whole(&key, b"tide")[5..], *b"tide");
        let head = Head { generation: 1, length: 2, crc: 3 };
        let bytes = encode_head(&key, head);
        assert_eq!(bytes.len(), HEAD_BYTES);
        assert_eq!(decode(&key, &bytes), Some(Stored::Pieces(head)));
        let piece = piece_key(&pieces_prefix(&key, 7), 2);
        assert_eq!(piece, *b"p\0\0\0\x04r\x03ab\0\0\0\0\0\0\0\x07\0\0\0\x02");
        assert_eq!(generation_in(&piece), Some(7));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let key = row_key(Table(3), b"ab");
        let head = Head { generation: 1, length: 2, crc: 3 };
        for bytes in [encode_whole(&key, b"tide"), encode_head(&key, head)] {
            assert!(decode(&row_key(Table(4), b"ab"), &bytes).is_none(), "another row's value");
            for bit in 0..bytes.len() * 8 {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(&key, &bytes).is_none(), "bit {bit}");
            }
        }
    }
}
