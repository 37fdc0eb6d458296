//! The bytes of one frame: encoded by the committer, checked by readers and at opening. One frame
//! is one whole commit. This file does no IO and knows no file.

use std::ops::Range;

use crc32c::{crc32c, crc32c_append};

use crate::{Batch, Entry, Position, StreamId};

/// Bytes in front of a frame's payload.
pub(crate) const FRAME_HEADER: usize = 32;
/// Bytes in front of each batch in the payload.
pub(crate) const BATCH_HEADER: usize = 20;
/// Frames begin at multiples of this.
pub(crate) const ALIGNMENT: usize = 8;
/// A zero word after the newest frame. It tells a clean end from a torn frame; it protects nothing.
pub(crate) const TERMINATOR: usize = 8;

const MAGIC: u32 = u32::from_le_bytes(*b"TgF1");

/// The header of a frame. All numbers are little endian, in this order:
/// magic u32, crc u32, length u32, count u32, first u64, previous chain u32, header crc u32.
///
/// The header's own crc makes a length trustworthy before anything is read or allocated by it, and
/// makes a search for frames cheap. Both crcs begin with the segment's salt, so bytes of the
/// segment's earlier life never pass for new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Covers salt, the rest of the header and payload; also the next frame's `previous`.
    pub(crate) crc: u32,
    /// Payload bytes, without padding.
    pub(crate) length: u32,
    /// Records in it.
    pub(crate) count: u32,
    /// Position of its first record.
    pub(crate) first: u64,
    /// The crc of the frame before, across segments.
    pub(crate) previous: u32,
}

impl FrameHeader {
    /// Reads a header; `None` if these bytes are not the header of a frame under `salt`.
    pub(crate) fn decode(bytes: &[u8; FRAME_HEADER], salt: u64) -> Option<Self> {
        if word(bytes, 0) != MAGIC || word(bytes, 28) != header_crc(bytes, salt) {
            return None;
        }
        Some(Self {
            crc: word(bytes, 4),
            length: word(bytes, 8),
            count: word(bytes, 12),
            first: long(bytes, 16),
            previous: word(bytes, 24),
        })
    }

    /// Whether header and payload belong together under `salt`.
    pub(crate) fn covers(&self, header: &[u8; FRAME_HEADER], payload: &[u8], salt: u64) -> bool {
        self.crc == frame_crc(header, payload, salt)
    }

    /// Whether this is no commit, but the proof that one was durable; see [`proof`].
    pub(crate) fn is_proof(&self) -> bool {
        self.count == 0 && self.length == 0
    }

    /// Bytes of the frame in the file, padding included.
    pub(crate) fn size(&self) -> u64 {
        framed(self.length as usize) as u64
    }
}

/// Bytes of a frame in the file for a payload of `payload` bytes.
pub(crate) fn framed(payload: usize) -> usize {
    (FRAME_HEADER + payload).next_multiple_of(ALIGNMENT)
}

/// Begins a frame in `buffer`, which is cleared first; its allocation is kept.
pub(crate) fn begin(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(FRAME_HEADER, 0);
}

/// Adds one batch to the frame in `buffer`.
pub(crate) fn add(buffer: &mut Vec<u8>, batch: &Batch) {
    buffer.extend_from_slice(&batch.stream().0.to_le_bytes());
    buffer.extend_from_slice(&batch.stamp().to_le_bytes());
    buffer.extend_from_slice(&batch.count().to_le_bytes());
    buffer.extend_from_slice(&(batch.size() as u32).to_le_bytes());
    buffer.extend_from_slice(batch.bytes());
}

/// Fills in the header and the padding, and returns the new chain value.
pub(crate) fn finish(
    buffer: &mut Vec<u8>,
    first: u64,
    count: u32,
    previous: u32,
    salt: u64,
) -> u32 {
    let length = (buffer.len() - FRAME_HEADER) as u32;
    buffer[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    buffer[8..12].copy_from_slice(&length.to_le_bytes());
    buffer[12..16].copy_from_slice(&count.to_le_bytes());
    buffer[16..24].copy_from_slice(&first.to_le_bytes());
    buffer[24..28].copy_from_slice(&previous.to_le_bytes());
    let crc = {
        let (header, payload) = split(buffer);
        frame_crc(header, payload, salt)
    };
    buffer[4..8].copy_from_slice(&crc.to_le_bytes());
    let header_crc = header_crc(split(buffer).0, salt);
    buffer[28..32].copy_from_slice(&header_crc.to_le_bytes());
    buffer.resize(buffer.len().next_multiple_of(ALIGNMENT), 0);
    crc
}

/// Writes into `buffer`, which is cleared first, the proof that every record before `next` is
/// durable, the last of them in the frame with crc `chain`.
///
/// A bad frame after which nothing follows looks like an interrupted write. A proof lies by itself
/// in a later block of the file than the frame that it speaks for: no cursor steps over it, and the
/// next frames may overwrite it.
pub(crate) fn proof(buffer: &mut Vec<u8>, next: u64, chain: u32, salt: u64) {
    begin(buffer);
    finish(buffer, next, 0, chain, salt);
}

/// A record, as its place in the payload: a slice would tie it to the reader's buffer too early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) position: Position,
    pub(crate) stream: StreamId,
    pub(crate) stamp: u64,
    pub(crate) place: Range<usize>,
}

impl Found {
    /// The record itself. `payload` is what it was found in.
    pub(crate) fn entry<'a>(&self, payload: &'a [u8]) -> Entry<'a> {
        Entry {
            position: self.position,
            stream: self.stream,
            stamp: self.stamp,
            bytes: &payload[self.place.clone()],
        }
    }
}

/// Walks over the records of one payload.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Walk {
    at: usize,
    next: u64,
    records_left: u32,
    batches_end: usize,
    stream: u32,
    stamp: u64,
}

impl Walk {
    /// Before the first record, whose position is `first`.
    pub(crate) fn new(first: u64) -> Self {
        Self { next: first, ..Self::default() }
    }

    /// The next record, `None` after the last, or what is wrong with the payload. A payload whose
    /// crc is good can only be wrong if a program wrote it so.
    pub(crate) fn next(&mut self, payload: &[u8]) -> Result<Option<Found>, &'static str> {
        while self.records_left == 0 {
            if self.at != self.batches_end {
                return Err("a batch is longer than its records");
            }
            if self.at == payload.len() {
                return Ok(None);
            }
            self.enter_batch(payload)?;
        }
        let start = self.at + 4;
        if start > self.batches_end {
            return Err("a record begins after its batch ends");
        }
        let end = start + word(payload, self.at) as usize;
        if end > self.batches_end {
            return Err("a record ends after its batch");
        }
        let position = Position(self.next);
        self.at = end;
        self.next += 1;
        self.records_left -= 1;
        let (stream, stamp) = (StreamId(self.stream), self.stamp);
        Ok(Some(Found { position, stream, stamp, place: start..end }))
    }

    fn enter_batch(&mut self, payload: &[u8]) -> Result<(), &'static str> {
        let at = self.at;
        if payload.len() - at < BATCH_HEADER {
            return Err("a batch header is cut off");
        }
        self.stream = word(payload, at);
        self.stamp = long(payload, at + 4);
        self.records_left = word(payload, at + 12);
        self.at = at + BATCH_HEADER;
        self.batches_end = self.at + word(payload, at + 16) as usize;
        if self.batches_end > payload.len() {
            return Err("a batch ends after its frame");
        }
        Ok(())
    }
}

fn header_crc(header: &[u8; FRAME_HEADER], salt: u64) -> u32 {
    crc32c_append(crc32c(&salt.to_le_bytes()), &header[..28])
}

fn frame_crc(header: &[u8; FRAME_HEADER], payload: &[u8], salt: u64) -> u32 {
    let crc = crc32c_append(crc32c(&salt.to_le_bytes()), &header[8..28]);
    crc32c_append(crc, payload)
}

/// The frame in `buffer` as header and payload. The caller has put a header there.
fn split(buffer: &[u8]) -> (&[u8; FRAME_HEADER], &[u8]) {
    buffer.split_first_chunk().expect("a frame begins with its header")
}

pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

pub(crate) fn long(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(salt: u64) -> (Vec<u8>, u32) {
        let mut batch = Batch::new(StreamId(7), 0x0102_0304_0506_0708);
        for record in [&b"tide"[..], b""] {
            batch
                .push(|out| {
                    out.extend_from_slice(record);
                    Ok::<_, ()>(())
                })
                .unwrap();
        }
        let mut buffer = Vec::new();
        begin(&mut buffer);
        add(&mut buffer, &batch);
        let chain = finish(&mut buffer, 41, 2, 0xAABB_CCDD, salt);
        (buffer, chain)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn golden_bytes() {
        let (bytes, chain) = sample(99);
        // Format version 1. If this test fails, old journals no longer open.
        let expected = concat!(
            "5467463195bd8fb620000000020000002900000000000000ddccbbaaf4193242",
            "070000000807060504030201020000000c000000040000007469646500000000",
        );
        assert_eq!(hex(&bytes), expected);
        assert_eq!(chain, word(&bytes, 4));
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let (bytes, chain) = sample(99);
        let (head, rest) = split(&bytes);
        let header = FrameHeader::decode(head, 99).unwrap();
        assert_eq!(
            header,
            FrameHeader { crc: chain, length: 32, count: 2, first: 41, previous: 0xAABB_CCDD }
        );
        let payload = &rest[..header.length as usize];
        assert!(header.covers(head, payload, 99));
        let mut walk = Walk::new(header.first);
        let found = walk.next(payload).unwrap().unwrap();
        let entry = found.entry(payload);
        assert_eq!(
            (entry.position, entry.stream, entry.bytes),
            (Position(41), StreamId(7), &b"tide"[..])
        );
        assert_eq!(walk.next(payload).unwrap().unwrap().entry(payload).bytes, b"");
        assert!(walk.next(payload).unwrap().is_none());
    }

    #[test]
    fn another_salt_or_any_flipped_bit_is_no_frame() {
        let (bytes, _) = sample(99);
        assert!(FrameHeader::decode(split(&bytes).0, 98).is_none());
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (head, payload) = split(&bytes);
            let valid = FrameHeader::decode(head, 99)
                .is_some_and(|header| header.covers(head, &payload[..32], 99));
            assert!(!valid, "bit {bit}");
        }
    }

    #[test]
    fn a_wrong_payload_is_named_not_read() {
        let (bytes, _) = sample(99);
        let payload = &bytes[FRAME_HEADER..];
        for (at, value) in [(12, 9), (16, 900), (20, 900), (16, 4)] {
            let mut payload = payload.to_vec();
            payload[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
            let mut walk = Walk::new(1);
            let outcome = loop {
                match walk.next(&payload) {
                    Ok(Some(_)) => {}
                    other => break other.map(|_| ()),
                }
            };
            assert!(outcome.is_err(), "{at} {value}");
        }
    }
}
