//! Brings to the index what the log says: after each commit, and all of it where the index is made
//! anew. There is no other way into the index. What a row means is unknown here.

use super::{
    changes::{Decoder, Told, bytes_in_log},
    index::Index,
    rows::Kept,
};
use crate::{FileJournal, Journal, Position, StorageError, Table, journal::FileReader};

type Result<T> = std::result::Result<T, StorageError>;

/// The table in the index, reserved, whose one row says how far the log is in it, and how much of
/// the log counts.
const REACHED: Table = Table(0xFE);

/// How far the index has followed the log.
pub(crate) struct Tail {
    reader: FileReader,
    decoder: Decoder,
    reached: Position,
    live_bytes: u64,
}

impl Tail {
    /// For an index in which nothing is.
    pub(crate) fn of_all(log: &FileJournal) -> Result<Self> {
        Self::after(log, Position(log.oldest().0.saturating_sub(1)), 0)
    }

    /// Where `index` was left; `None` if `log` does not go on from there.
    pub(crate) fn of_rest(log: &FileJournal, index: &Index) -> Result<Option<Self>> {
        let (reached, live_bytes) = match index.get(REACHED, b"")? {
            Some(Kept::Here { at, value }) => (at.0, value.first_chunk().copied()),
            _ => (0, None),
        };
        let live_bytes = live_bytes.map_or(0, u64::from_le_bytes);
        let fits = (log.oldest().0..=log.durable().0 + 1).contains(&(reached + 1));
        if fits { Self::after(log, Position(reached), live_bytes).map(Some) } else { Ok(None) }
    }

    fn after(log: &FileJournal, reached: Position, live_bytes: u64) -> Result<Self> {
        let reader = log.read_places(reached)?;
        Ok(Self { reader, decoder: Decoder::default(), reached, live_bytes })
    }

    /// Brings to `index` all that is durable in the log by now; gives the number of changes. Calls
    /// `met` for each record.
    pub(crate) fn follow(&mut self, index: &Index, met: impl Fn()) -> Result<u64> {
        let (before, mut changes) = (self.reached, 0);
        while let Some((entry, place)) = self.reader.next_placed()? {
            self.reached = entry.position;
            met();
            let told = self.decoder.take(entry.position, entry.bytes, place);
            let Some(Told { table, key, kept }) = told else { continue };
            let replaced = match &kept {
                Some(kept) => index.put(table, key, kept)?,
                None => index.delete(table, key)?,
            };
            let bytes = |kept: Option<Kept>| kept.map_or(0, |kept| bytes_in_log(key, &kept));
            self.live_bytes = (self.live_bytes + bytes(kept)).saturating_sub(bytes(replaced));
            changes += 1;
        }
        if self.reached > before {
            let value = self.live_bytes.to_le_bytes().to_vec();
            index.put(REACHED, b"", &Kept::Here { at: self.reached, value })?;
        }
        Ok(changes)
    }

    /// What counts of the log, in bytes: all else could be cleaned away.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }
}
