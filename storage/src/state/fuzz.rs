//! The state's part of [`crate::fuzz`]: rows, heads of snapshots and the log.

use std::sync::Arc;

use super::{
    changes::{Change, Decoder, encode},
    rows, snapshots,
};
use crate::Table;

/// A row as stored, under one key.
pub fn row(bytes: &[u8]) {
    let key = rows::row_key(Table(1), b"key");
    match rows::decode(&key, bytes) {
        Some(rows::Stored::Whole(value)) => assert_eq!(rows::encode_whole(&key, value), bytes),
        Some(rows::Stored::Pieces(head)) => assert_eq!(rows::encode_head(&key, head), bytes),
        None => {}
    }
    if let Some(piece) = rows::decode_piece(bytes) {
        assert_eq!(rows::encode_piece(piece), bytes);
    }
    let _ = rows::generation_in(bytes);
}

/// `value` as a row, as a seed.
#[must_use]
pub fn row_of(value: &[u8]) -> Vec<u8> {
    rows::encode_whole(&rows::row_key(Table(1), b"key"), value)
}

/// The head of a snapshot.
pub fn snapshot_head(bytes: &[u8]) {
    snapshots::check_head(bytes);
}

/// The head of a row in pieces, as a seed.
#[must_use]
pub fn pieces_of(generation: u64, length: u64) -> Vec<u8> {
    let head = rows::Head { generation, length, crc: 1 };
    rows::encode_head(&rows::row_key(Table(1), b"key"), head)
}

/// A head of a snapshot, as a seed.
#[must_use]
pub fn snapshot_head_of(position: u64, length: u64) -> Vec<u8> {
    snapshots::head_of(position, length)
}

/// A record of the state's log, and again as the last part of a value.
pub fn change(bytes: &[u8]) {
    let mut decoder = Decoder::default();
    for record in [bytes, bytes] {
        if let Some(change) = decoder.take(record) {
            let held = change.key.len() + change.value.map_or(0, |value| value.len());
            assert!(held <= 2 * bytes.len());
        }
    }
}

/// A record of the state's log, as a seed.
#[must_use]
pub fn change_of(key: &[u8], value: Option<&[u8]>) -> Vec<u8> {
    let change = Change { table: Table(1), key: key.to_vec(), value: value.map(Arc::from) };
    let mut record = Vec::new();
    encode(&change, usize::MAX, |bytes| record = bytes);
    record
}
