//! What a journal must hold at least: a note beside its segments, of eight bytes twice. Frames and
//! headers tell of everything but a whole file that is gone from one of its ends. It reads no
//! segment.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

use crc32c::crc32c;
use tracing::warn;

use crate::{Position, StorageError, disk};

type Result<T> = std::result::Result<T, StorageError>;

pub(crate) const NAME: &str = "bounds";
pub(crate) const UNFINISHED_NAME: &str = "bounds.tmp";

/// Of a journal of which nothing was noted, nothing is known.
const UNKNOWN: Noted = Noted { oldest: Position(u64::MAX), newest: Position::ZERO };

/// What is noted: nothing from `oldest` on was given back, and `newest` was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Noted {
    pub(crate) oldest: Position,
    pub(crate) newest: Position,
}

impl Noted {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = self.oldest.0.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.newest.0.to_le_bytes());
        bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// `None` if it is not what was written.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (noted, crc) = bytes.split_last_chunk::<4>()?;
        let (oldest, newest) = noted.split_first_chunk::<8>()?;
        let newest: &[u8; 8] = newest.try_into().ok()?;
        let position = |bytes: &[u8; 8]| Position(u64::from_le_bytes(*bytes));
        let noted = Self { oldest: position(oldest), newest: position(newest) };
        (u32::from_le_bytes(*crc) == crc32c(&bytes[..16])).then_some(noted)
    }
}

/// The note of one journal.
#[derive(Debug)]
pub(crate) struct Bounds {
    folder: PathBuf,
    noted: Mutex<Noted>,
}

impl Bounds {
    /// The note in the journal's `folder`. A bad one is none: the journal can be whole without it.
    pub(crate) fn read(folder: &Path) -> Self {
        let found = fs::read(folder.join(NAME));
        let noted = found.as_deref().ok().and_then(Noted::decode);
        let is_there = !found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
        if is_there && noted.is_none() {
            warn!(path = %folder.join(NAME).display(), "this note is damaged; it is made again");
        }
        Self { folder: folder.to_path_buf(), noted: Mutex::new(noted.unwrap_or(UNKNOWN)) }
    }

    /// An error if a journal that begins at `oldest` and ends with `last` lacks what it must hold.
    pub(crate) fn check(&self, oldest: Position, last: Position) -> Result<()> {
        let noted = *disk::lock(&self.noted);
        let what = if oldest > noted.oldest {
            format!("it begins at {oldest} and has to at {}: its first file is gone", noted.oldest)
        } else if last < noted.newest {
            format!("it ends at {last} and has held {}: its last file is gone", noted.newest)
        } else {
            return Ok(());
        };
        Err(StorageError::damaged(&self.folder, 0, what))
    }

    /// A first frame of a segment is durable: that file must not be missed later. `oldest` counts
    /// only if nothing was noted yet; a trim may be under way.
    pub(crate) fn follow(&self, oldest: Position, durable: Position) -> Result<()> {
        self.change(|noted| Noted {
            oldest: if *noted == UNKNOWN { oldest } else { noted.oldest },
            newest: durable,
        })
    }

    /// Before all through `position` may be given back.
    pub(crate) fn allow_trim(&self, position: Position) -> Result<()> {
        self.change(|noted| Noted { oldest: position.next(), ..*noted })
    }

    /// At a close, when nothing is written or trimmed any more: from then on every record counts.
    pub(crate) fn close(&self, oldest: Position, durable: Position) -> Result<()> {
        self.change(|_| Noted { oldest, newest: durable })
    }

    fn change(&self, next: impl FnOnce(&Noted) -> Noted) -> Result<()> {
        let mut noted = disk::lock(&self.noted);
        let next = next(&noted);
        if *noted != next {
            let (path, unfinished) = (self.folder.join(NAME), self.folder.join(UNFINISHED_NAME));
            disk::write_whole(&path, &unfinished, &next.encode())?;
            *noted = next;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read_back_and_nothing_else_is() {
        let noted = Noted { oldest: Position(7), newest: Position(1 << 40) };
        let bytes = noted.encode();
        assert_eq!(Noted::decode(&bytes), Some(noted));
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_eq!(Noted::decode(&other), None);
            assert_eq!(Noted::decode(&bytes[..at]), None);
        }
        assert_eq!(Noted::decode(&[bytes.as_slice(), &[0]].concat()), None);
    }
}
