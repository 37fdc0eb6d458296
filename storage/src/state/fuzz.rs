//! The state's part of [`crate::fuzz`]: rows, heads of snapshots and the log.

use std::sync::Arc;

use super::{
    changes::{Change, Decoder, encode},
    rows::{self, Kept},
    snapshots,
};
use crate::{Position, Table, journal::Place};

/// A row of the index, under one key.
pub fn row(bytes: &[u8]) {
    let key = rows::row_key(Table(1), b"key");
    if let Some(kept) = rows::decode(&key, bytes) {
        assert_eq!(rows::encode(&key, &kept), bytes);
    }
}

/// Rows of the index of each kind, as seeds; one has `value` in itself.
#[must_use]
pub fn rows_of(value: &[u8]) -> Vec<Vec<u8>> {
    let key = rows::row_key(Table(1), b"key");
    let place = Place { segment: 1, offset: 4_096, length: 300 };
    let kept = [
        Kept::Here(value.to_vec()),
        Kept::Record { place, crc: 7 },
        Kept::Parts { first: Position(9), length: 9_000 },
    ];
    kept.iter().map(|kept| rows::encode(&key, kept)).collect()
}

/// The head of a snapshot.
pub fn snapshot_head(bytes: &[u8]) {
    snapshots::check_head(bytes);
}

/// A head of a snapshot, as a seed.
#[must_use]
pub fn snapshot_head_of(position: u64, length: u64) -> Vec<u8> {
    snapshots::head_of(position, length)
}

/// A record of the state's log, and again as the last part of a value.
pub fn change(bytes: &[u8]) {
    let place = Place { segment: 1, offset: 4_096, length: bytes.len() as u32 };
    let mut decoder = Decoder::default();
    for position in [Position(1), Position(2)] {
        if let Some(told) = decoder.take(position, bytes, place) {
            let held = told.key.len() as u64 + told.kept.map_or(0, |kept| kept.length());
            assert!(held <= 2 * bytes.len() as u64);
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
