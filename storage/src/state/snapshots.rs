//! Snapshots of whole machines, kept in any [`State`], so that recovery need not replay all
//! history. Written off the hot path; storage does not know what is inside, and does not trim the
//! journal.

use std::{io, sync::Arc};

use crc32c::{crc32c, crc32c_append};
use tracing::warn;

use crate::{Position, State, StorageError, StreamId, Table};

type Result<T> = std::result::Result<T, StorageError>;

/// The table that snapshots take; nothing else may be put there.
pub const SNAPSHOT_TABLE: Table = Table(0xFF);

const HEADS: u8 = b'h';
const PIECES: u8 = b'p';
const PIECE_BYTES: usize = 256 << 10;
const KEPT: usize = 2;
/// One more than are kept, so that a new one never overwrites one that may be needed.
const SLOTS: u8 = 3;

/// The snapshots of all streams of one store. Two are kept per stream, so that one may be damaged.
///
/// One thread at a time may save a given stream.
#[derive(Clone)]
pub struct Snapshots {
    state: Arc<dyn State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    position: Position,
    length: u64,
    crc: u32,
}

/// What the slots of one stream hold.
struct Slots {
    /// Newest first.
    heads: Vec<(u8, Head)>,
    damaged: bool,
}

impl Snapshots {
    /// The snapshots in `state`.
    #[must_use]
    pub fn new(state: Arc<dyn State>) -> Self {
        Self { state }
    }

    /// Begins a snapshot of `stream` that holds everything up to `position`. It is written to what
    /// this gives, bit by bit, and counts from [`Saving::finish`] on.
    ///
    /// # Errors
    /// What the state met.
    pub fn begin(&self, stream: StreamId, position: Position) -> Result<Saving> {
        let other = self.newest_good(stream)?;
        let slot = self.free_slot(stream, other)?;
        // Without a head, the slot's pieces mean nothing.
        self.state.delete(SNAPSHOT_TABLE, &head_key(stream, slot))?;
        let (snapshots, head) = (self.clone(), Head { position, length: 0, crc: 0 });
        let piece = Vec::with_capacity(PIECE_BYTES);
        Ok(Saving { snapshots, stream, other, slot, head, piece, failure: None })
    }

    /// Removes all snapshots of `stream`, from the next flush on durably.
    ///
    /// # Errors
    /// What the state met.
    pub fn remove(&self, stream: StreamId) -> Result<()> {
        (0..SLOTS).try_for_each(|slot| self.empty(stream, slot))
    }

    fn empty(&self, stream: StreamId, slot: u8) -> Result<()> {
        self.state.delete(SNAPSHOT_TABLE, &head_key(stream, slot))?;
        self.drop_pieces(stream, slot, 0)
    }

    /// The newest snapshot of `stream` that can be read, or `None` if it has none at all.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] if it has snapshots and none is good; what the state met
    /// otherwise.
    pub fn latest(&self, stream: StreamId) -> Result<Option<(Position, Vec<u8>)>> {
        let Slots { heads, damaged: mut any_damaged } = self.slots(stream)?;
        for (slot, head) in heads {
            match self.read(stream, slot, head) {
                Ok(bytes) => return Ok(Some((head.position, bytes))),
                Err(error @ StorageError::Damaged { .. }) => {
                    warn!(stream = stream.0, %error, "a snapshot is damaged");
                    any_damaged = true;
                }
                Err(error) => return Err(error),
            }
        }
        if any_damaged {
            return Err(damaged(stream, Position::ZERO, "none of its snapshots can be read"));
        }
        Ok(None)
    }

    /// Position and size in bytes of each snapshot of `stream`, newest first. Whether they can be
    /// read is not looked at.
    ///
    /// # Errors
    /// What the state met.
    pub fn list(&self, stream: StreamId) -> Result<Vec<(Position, u64)>> {
        let heads = self.slots(stream)?.heads;
        Ok(heads.into_iter().map(|(_, head)| (head.position, head.length)).collect())
    }

    /// The position up to which the journal is no longer needed for `streams`: recovery must be
    /// able to begin at the *older* of the two snapshots of each.
    ///
    /// A stream with no snapshot needs the whole journal. So does a stream with one: if that one is
    /// damaged, the journal from its beginning is all there is. Saving a second one, at any later
    /// position of the journal or at the same one, frees the part before the first.
    /// [`Position::ZERO`] for no streams.
    ///
    /// # Errors
    /// What the state met.
    pub fn oldest_needed(&self, streams: &[StreamId]) -> Result<Position> {
        let mut oldest: Option<Position> = None;
        for &stream in streams {
            let heads = self.slots(stream)?.heads;
            let Some((_, older)) = heads.get(KEPT - 1) else {
                return Ok(Position::ZERO);
            };
            oldest = Some(oldest.map_or(older.position, |oldest| oldest.min(older.position)));
        }
        Ok(oldest.unwrap_or(Position::ZERO))
    }

    fn slots(&self, stream: StreamId) -> Result<Slots> {
        let mut slots = Slots { heads: Vec::new(), damaged: false };
        for slot in 0..SLOTS {
            match self.state.get(SNAPSHOT_TABLE, &head_key(stream, slot)) {
                Ok(None) => {}
                Ok(Some(bytes)) => match Head::decode(&bytes) {
                    Some(head) => slots.heads.push((slot, head)),
                    None => slots.damaged = true,
                },
                Err(StorageError::Damaged { .. }) => slots.damaged = true,
                Err(error) => return Err(error),
            }
        }
        slots.heads.sort_by_key(|(_, head)| std::cmp::Reverse(head.position));
        Ok(slots)
    }

    /// The slot of the newest snapshot that can be read: a damaged one must not take its place.
    fn newest_good(&self, stream: StreamId) -> Result<Option<u8>> {
        for (slot, head) in self.slots(stream)?.heads {
            match self.check(stream, slot, head) {
                Ok(()) => return Ok(Some(slot)),
                Err(StorageError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// A slot that is empty or damaged, else the one with the oldest snapshot; never `other`.
    fn free_slot(&self, stream: StreamId, other: Option<u8>) -> Result<u8> {
        let heads = self.slots(stream)?.heads;
        let taken = |slot: u8| heads.iter().any(|(found, _)| *found == slot);
        let empty = (0..SLOTS).find(|&slot| !taken(slot));
        let oldest = heads.iter().rev().map(|(slot, _)| *slot).find(|&slot| Some(slot) != other);
        Ok(empty.or(oldest).unwrap_or(0))
    }

    fn head(&self, stream: StreamId, slot: u8) -> Result<Option<Head>> {
        let value = self.state.get(SNAPSHOT_TABLE, &head_key(stream, slot))?;
        Ok(value.and_then(|value| Head::decode(&value)))
    }

    fn read(&self, stream: StreamId, slot: u8, head: Head) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // All at once, if there is so much: while it grew it would be copied again and again.
        let _ = bytes.try_reserve_exact(usize::try_from(head.length).unwrap_or(usize::MAX));
        self.each_piece(stream, slot, head, |piece| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }

    /// Whether it can be read.
    fn check(&self, stream: StreamId, slot: u8, head: Head) -> Result<()> {
        self.each_piece(stream, slot, head, |_| {})
    }

    fn each_piece(
        &self,
        stream: StreamId,
        slot: u8,
        head: Head,
        mut take: impl FnMut(&[u8]),
    ) -> Result<()> {
        let (mut length, mut crc) = (0, 0);
        for number in 0..head.pieces() {
            let Some(piece) = self.state.get(SNAPSHOT_TABLE, &piece_key(stream, slot, number))?
            else {
                return Err(damaged(stream, head.position, "a piece is gone"));
            };
            length += piece.len() as u64;
            crc = crc32c_append(crc, &piece);
            take(&piece);
        }
        if length != head.length || crc != head.crc {
            return Err(damaged(stream, head.position, "its checksum is wrong"));
        }
        Ok(())
    }

    /// Removes the pieces of a slot from number `from` on, also those of a save that was cut short.
    /// The last goes first: if this is cut short too, no gap hides those after it.
    fn drop_pieces(&self, stream: StreamId, slot: u8, from: u32) -> Result<()> {
        let end = first_missing(from, |number| self.has_piece(stream, slot, number))?;
        let mut unneeded = (from..end).rev().map(|number| piece_key(stream, slot, number));
        unneeded.try_for_each(|key| self.state.delete(SNAPSHOT_TABLE, &key))
    }

    fn has_piece(&self, stream: StreamId, slot: u8, number: u32) -> Result<bool> {
        match self.state.get(SNAPSHOT_TABLE, &piece_key(stream, slot, number)) {
            Ok(found) => Ok(found.is_some()),
            Err(StorageError::Damaged { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// The first number from `from` on that is not there; all before it are, and none after it. Asks
/// for few of them: looking at a piece reads it.
fn first_missing(from: u32, has: impl Fn(u32) -> Result<bool>) -> Result<u32> {
    // All below `there` are; at `there + step - 1` it is looked next.
    let (mut there, mut step) = (from, 1);
    while has(there + step - 1)? {
        there += step;
        step *= 2;
    }
    let mut missing = there + step - 1;
    while there < missing {
        let middle = there.midpoint(missing);
        if has(middle)? {
            there = middle + 1;
        } else {
            missing = middle;
        }
    }
    Ok(there)
}

/// A snapshot that is being written, as to any [`io::Write`]. If it is dropped unfinished, there is
/// none.
pub struct Saving {
    snapshots: Snapshots,
    stream: StreamId,
    /// The slot that must stay.
    other: Option<u8>,
    slot: u8,
    /// Of what is in the state by now.
    head: Head,
    /// What is not.
    piece: Vec<u8>,
    failure: Option<StorageError>,
}

impl Saving {
    fn add(&mut self, mut bytes: &[u8]) -> Result<()> {
        while self.piece.len() + bytes.len() >= PIECE_BYTES {
            let (fits, rest) = bytes.split_at(PIECE_BYTES - self.piece.len());
            self.piece.extend_from_slice(fits);
            bytes = rest;
            self.put_piece()?;
        }
        self.piece.extend_from_slice(bytes);
        Ok(())
    }

    fn put_piece(&mut self) -> Result<()> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let key = piece_key(self.stream, self.slot, self.head.pieces());
        let put = self.snapshots.state.put(SNAPSHOT_TABLE, &key, &self.piece);
        put.inspect_err(|error| self.failure = Some(error.clone()))?;
        self.head.length += self.piece.len() as u64;
        self.head.crc = crc32c_append(self.head.crc, &self.piece);
        self.piece.clear();
        Ok(())
    }

    /// Makes it count, durably; gives its bytes. When this returns it has been flushed and read
    /// back, and its checksum compared. Besides it only the newest other snapshot that can still be
    /// read is kept. Saving twice at one position keeps two copies.
    ///
    /// # Errors
    /// What the state met, also while it was written; [`StorageError::Damaged`] if it reads back
    /// differently.
    pub fn finish(mut self) -> Result<u64> {
        if !self.piece.is_empty() {
            self.put_piece()?;
        }
        let Self { snapshots, stream, other, slot, head, .. } = self;
        snapshots.drop_pieces(stream, slot, head.pieces())?;
        snapshots.state.put(SNAPSHOT_TABLE, &head_key(stream, slot), &head.encode())?;
        snapshots.state.flush()?;
        if snapshots.head(stream, slot)? != Some(head) {
            return Err(damaged(stream, head.position, "it reads back differently"));
        }
        snapshots.check(stream, slot, head)?;
        for unneeded in (0..SLOTS).filter(|&found| found != slot && Some(found) != other) {
            snapshots.empty(stream, unneeded)?;
        }
        Ok(head.length)
    }

    /// Gives it up: the older ones stay. For a writer that has failed, which may be the state's
    /// doing.
    ///
    /// # Errors
    /// What the state met.
    pub fn give_up(self) -> Result<()> {
        match self.failure {
            Some(failure) => Err(failure),
            None => self.snapshots.drop_pieces(self.stream, self.slot, 0),
        }
    }
}

impl io::Write for Saving {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    /// Machines are written in very small parts.
    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.piece.len() + bytes.len() < PIECE_BYTES {
            self.piece.extend_from_slice(bytes);
            return Ok(());
        }
        self.add(bytes).map_err(io::Error::other)
    }

    /// Does nothing: see [`Saving::finish`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl std::fmt::Debug for Saving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saving").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Head {
    fn pieces(&self) -> u32 {
        self.length.div_ceil(PIECE_BYTES as u64) as u32
    }

    fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(24);
        bytes.extend_from_slice(&self.position.0.to_le_bytes());
        bytes.extend_from_slice(&self.length.to_le_bytes());
        bytes.extend_from_slice(&self.crc.to_le_bytes());
        let crc = crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let (position, rest) = body.split_first_chunk::<8>()?;
        let (length, payload_crc) = rest.split_first_chunk::<8>()?;
        let good = crc32c(body) == u32::from_le_bytes(*crc);
        good.then_some(Self {
            position: Position(u64::from_le_bytes(*position)),
            length: u64::from_le_bytes(*length),
            crc: u32::from_le_bytes(payload_crc.try_into().ok()?),
        })
    }
}

/// For the fuzzers: what is read is written back as the same bytes.
#[cfg(feature = "fuzzing")]
pub(super) fn check_head(bytes: &[u8]) {
    if let Some(head) = Head::decode(bytes) {
        assert_eq!(head.encode(), bytes);
        let _ = head.pieces();
    }
}

/// For the fuzzers: a head as it is written.
#[cfg(feature = "fuzzing")]
pub(super) fn head_of(position: u64, length: u64) -> Vec<u8> {
    Head { position: Position(position), length, crc: 1 }.encode()
}

fn head_key(stream: StreamId, slot: u8) -> Vec<u8> {
    let mut key = vec![HEADS];
    key.extend_from_slice(&stream.0.to_be_bytes());
    key.push(slot);
    key
}

fn piece_key(stream: StreamId, slot: u8, number: u32) -> Vec<u8> {
    let mut key = vec![PIECES];
    key.extend_from_slice(&stream.0.to_be_bytes());
    key.push(slot);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

fn damaged(stream: StreamId, position: Position, what: &str) -> StorageError {
    let what = format!("the snapshot of stream {} at {position}: {what}", stream.0);
    StorageError::damaged(std::path::Path::new("state"), 0, what)
}

impl std::fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshots").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_end_of_many_pieces_is_found_by_few_looks() {
        for (from, end) in (0..40).flat_map(|from| (from..90).map(move |end| (from, end))) {
            let looks = Cell::new(0);
            let has = |number| {
                looks.set(looks.get() + 1);
                Ok(number < end)
            };
            assert_eq!(first_missing(from, has).unwrap(), end);
            assert!(looks.get() <= 14, "{from}..{end} took {} looks", looks.get());
        }
    }
}
