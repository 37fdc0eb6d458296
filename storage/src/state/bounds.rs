//! What the state's log must hold at least: a note beside it, of eight bytes twice. The log's own
//! checksums tell of everything but a whole file that is gone from one of its ends. It reads no
//! log.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

use crc32c::crc32c;
use tracing::warn;

use crate::{FileJournal, Journal, Position, StorageError, disk};

type Result<T> = std::result::Result<T, StorageError>;

const NAME: &str = "log.bounds";
const UNFINISHED_NAME: &str = "log.bounds.tmp";

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

/// The note of one log.
pub(crate) struct Bounds {
    folder: PathBuf,
    noted: Mutex<Noted>,
}

impl Bounds {
    /// The note in the state's `folder`. A bad one is none: the log can be whole without it.
    pub(crate) fn read(folder: &Path) -> Self {
        let found = fs::read(folder.join(NAME)).ok();
        let noted = found.as_deref().and_then(Noted::decode);
        if found.is_some() && noted.is_none() {
            warn!(path = %folder.join(NAME).display(), "this note is damaged; it is made again");
        }
        // Of which nothing was noted, nothing is known.
        let unknown = Noted { oldest: Position(u64::MAX), newest: Position::ZERO };
        Self { folder: folder.to_path_buf(), noted: Mutex::new(noted.unwrap_or(unknown)) }
    }

    /// Whether the log has held anything.
    pub(crate) fn is_begun(&self) -> bool {
        disk::lock(&self.noted).newest > Position::ZERO
    }

    /// An error if `log`, in `path`, lacks what it must hold.
    pub(crate) fn check(&self, log: &FileJournal, path: &Path) -> Result<()> {
        let Noted { oldest, newest } = *disk::lock(&self.noted);
        let what = if log.oldest() > oldest {
            format!(
                "it begins at {} and has to at {}: its first file is gone",
                log.oldest(),
                oldest
            )
        } else if log.durable() < newest {
            format!("it ends at {} and has held {newest}: its last file is gone", log.durable())
        } else {
            return Ok(());
        };
        Err(StorageError::damaged(path, 0, what))
    }

    /// After a commit: a new file of `log` must not be missed later.
    pub(crate) fn follow(&self, log: &FileJournal) -> Result<()> {
        let noted = *disk::lock(&self.noted);
        if log.newest_begins() <= noted.newest {
            return Ok(());
        }
        self.note(Noted { oldest: noted.oldest.min(log.oldest()), newest: log.durable() })
    }

    /// Before `log` is trimmed through `position`.
    pub(crate) fn allow_trim(&self, log: &FileJournal, position: Position) -> Result<()> {
        self.note(Noted { oldest: position.next(), newest: log.durable() })
    }

    /// At a close: from then on every record counts.
    pub(crate) fn close(&self, log: &FileJournal) -> Result<()> {
        self.note(Noted { oldest: log.oldest(), newest: log.durable() })
    }

    fn note(&self, next: Noted) -> Result<()> {
        let mut noted = disk::lock(&self.noted);
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
