//! Keeps the log in proportion to what counts in it: what still counts of its beginning is appended
//! again, then the beginning is given back. It decides neither what counts nor when to commit.

use std::sync::Arc;

use tracing::warn;

use super::{
    LoggedState,
    changes::{Change, Decoder, Told},
    logged::Committing,
    tail::Tail,
};
use crate::{Journal, Position, StorageError};

type Result<T> = std::result::Result<T, StorageError>;

/// What is read of an overlong log's beginning before what counts of it is committed.
const AT_ONCE_BYTES: u64 = 4 << 20;

impl LoggedState {
    /// Cleans an overlong log: twice as much as was written since the last time, or a little, so
    /// that no writer outruns it and none waits long. A part of the log that can't be read or given
    /// back stays, which is no loss; it is tried again the next time.
    ///
    /// # Errors
    /// What was moved can't be committed.
    pub(super) fn clean_overlong(&self, committing: &mut Committing) -> Result<()> {
        let mut left = committing.uncleaned_bytes.saturating_mul(2).max(AT_ONCE_BYTES);
        while left > 0 && self.is_overlong(&committing.tail) {
            let oldest = self.log.oldest();
            let read = match self.move_beginning() {
                Ok((through, read)) => {
                    self.commit_queued(&mut committing.tail)?;
                    self.log.trim(through).map(|()| read)
                }
                Err(error) => Err(error),
            };
            match read {
                Ok(read) => left = left.saturating_sub(read),
                Err(error) => {
                    warn!(%error, "the state's log can't be cleaned");
                    break;
                }
            }
            if self.log.oldest() == oldest {
                break;
            }
        }
        committing.uncleaned_bytes = 0;
        Ok(())
    }

    fn is_overlong(&self, tail: &Tail) -> bool {
        let allowed = tail.live_bytes().saturating_mul(self.allowed_percent) / 100;
        let allowed = allowed.saturating_add(self.slack_bytes);
        self.log.stats().disk_bytes > allowed
    }

    /// Queues what still counts of the log's beginning, at least of its first file, once more.
    /// Gives the position up to which it has looked, and how many bytes that was. Only for who
    /// holds `committing`.
    fn move_beginning(&self) -> Result<(Position, u64)> {
        let index = self.index()?;
        let mut through = Position(self.log.oldest().0.saturating_sub(1));
        let (mut reader, mut decoder) = (self.log.read_places(through)?, Decoder::default());
        let (mut bytes, mut first) = (0, None);
        while let Some((entry, place)) = reader.next_placed()? {
            let first = *first.get_or_insert(place.segment);
            bytes += entry.bytes.len() as u64;
            let told = decoder.take(entry.position, entry.bytes, place);
            let Some(Told { table, key, kept }) = told else { continue };
            through = entry.position;
            if let Some(kept) = kept
                && self.checked(index.get(table, key))?.as_ref() == Some(&kept)
                && let Some(value) = self.checked(self.load(&kept))?
            {
                // Only what is queued can be newer: the index changes in commits, as this is one.
                let mut pending = self.write();
                if pending.get(table, key).is_none() {
                    let (key, value) = (key.to_vec(), Some(Arc::from(value)));
                    pending.push(Change { table, key, value });
                }
            }
            // Only whole files are given back.
            if bytes >= AT_ONCE_BYTES && place.segment > first {
                break;
            }
        }
        Ok((through, bytes))
    }
}
