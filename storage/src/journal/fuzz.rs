//! The journal's part of [`crate::fuzz`]: frames without a file.

use super::{
    bounds::Noted,
    frame::{self, FRAME_HEADER, FrameHeader, Walk},
};
use crate::Position;

/// The salt of every frame that is tried.
const SALT: u64 = 0x5A17;

/// A frame: what passes its checksums is walked over, and written back as the same bytes.
pub fn frame(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_first_chunk::<FRAME_HEADER>() else { return };
    let Some(header) = FrameHeader::decode(head, SALT) else { return };
    let Some(payload) = rest.get(..header.length as usize) else { return };
    if !header.covers(head, payload, SALT) {
        return;
    }
    let mut buffer = Vec::new();
    frame::begin(&mut buffer);
    buffer.extend_from_slice(payload);
    frame::finish(&mut buffer, header.first, header.count, header.previous, SALT);
    assert_eq!(buffer[..FRAME_HEADER + payload.len()], bytes[..FRAME_HEADER + payload.len()]);
    let mut walk = Walk::new(header.first);
    let mut length = 0;
    while let Ok(Some(found)) = walk.next(payload) {
        length += found.entry(payload).bytes.len();
    }
    assert!(length <= payload.len());
}

/// `payload` as a frame whose checksums are right, whatever is in it: else hardly any input would
/// come further than those.
#[must_use]
pub fn sealed_frame(payload: &[u8]) -> Vec<u8> {
    let mut buffer = Vec::new();
    frame::begin(&mut buffer);
    buffer.extend_from_slice(payload);
    frame::finish(&mut buffer, 1, 1, 0, SALT);
    buffer
}

/// The note of what a journal must hold.
pub fn bounds(bytes: &[u8]) {
    if let Some(noted) = Noted::decode(bytes) {
        assert_eq!(noted.encode(), bytes);
    }
}

/// A note, as a seed.
#[must_use]
pub fn bounds_of(oldest: u64, newest: u64) -> Vec<u8> {
    Noted { oldest: Position(oldest), newest: Position(newest) }.encode()
}
