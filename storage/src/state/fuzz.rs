//! The state's part of [`crate::fuzz`]: rows, heads of snapshots, the mark, and sled's messages.

use super::{log_check, mark::Mark, rows, snapshots};
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

/// A record of the mark.
pub fn mark(bytes: &[u8]) {
    Mark::check(bytes);
}

/// A message of sled's log.
pub fn sled_message(bytes: &[u8]) {
    log_check::check_message(bytes);
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

/// A record of the mark, as a seed.
#[must_use]
pub fn mark_of(tick: u64, summary: u64) -> Vec<u8> {
    Mark { tick, summary }.encode().to_vec()
}

/// A message of sled's log, as a seed.
#[must_use]
pub fn sled_message_of(segment: u64, body: &[u8]) -> Vec<u8> {
    log_check::message_of(segment, body)
}
