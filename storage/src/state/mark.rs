//! The state's mark: a small file of our own beside sled's, which says how much of sled's log was
//! on disk at the last flush. sled takes the first bad entry of its log for the log's end, and
//! skips a bad segment; only with a witness of our own can that be told from an interrupted write.
//! It keeps no row, and it doesn't look into sled's files.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crc32c::crc32c;

use crate::{StorageError, disk};

type Result<T> = std::result::Result<T, StorageError>;

/// The mark's name in the folder of the state.
pub(crate) const MARK_NAME: &str = "tidegate.mark";
const UNFINISHED_NAME: &str = "tidegate.mark.tmp";

const MAGIC: &[u8; 8] = b"TIDEMARK";
const FORMAT_VERSION: u32 = 1;
const RECORD_BYTES: usize = 32;
/// Two records take turns, each in a block of its own: the last good one is never overwritten.
const BLOCK: usize = 4096;

/// What was known at the last flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The number in the tick, a row that each flush writes last. 0 before the first flush.
    pub(crate) tick: u64,
    /// Where in sled's log sled's own summary ended; what it replays at an open begins there.
    pub(crate) summary: u64,
}

/// The file, open to be written.
#[derive(Debug)]
pub(crate) struct MarkFile {
    file: File,
    path: PathBuf,
}

impl Mark {
    /// The row that stands in sled's log for this mark: nothing else holds these bytes.
    pub(crate) fn tick_row(self) -> [u8; 24] {
        let mut row = *b"tidegate's tick ........";
        row[16..].copy_from_slice(&self.tick.to_le_bytes());
        row
    }

    /// All numbers are little endian, in this order: magic 8 bytes, format version u32, tick u64,
    /// summary u64, crc u32.
    pub(super) fn encode(self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.tick.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.summary.to_le_bytes());
        let crc = crc32c(&bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// For the fuzzers: what is read is written back as the same bytes.
    #[cfg(feature = "fuzzing")]
    pub(super) fn check(bytes: &[u8]) {
        if let Some((FORMAT_VERSION, mark)) = Self::decode(bytes) {
            assert_eq!(mark.encode(), bytes[..RECORD_BYTES]);
        }
    }

    /// The version and the mark in `bytes`; `None` if they are damaged.
    fn decode(bytes: &[u8]) -> Option<(u32, Self)> {
        let (body, crc) = bytes.get(..RECORD_BYTES)?.split_last_chunk::<4>()?;
        let (magic, body_rest) = body.split_first_chunk::<8>()?;
        if magic != MAGIC || u32::from_le_bytes(*crc) != crc32c(body) {
            return None;
        }
        let (version, rest) = body_rest.split_first_chunk::<4>()?;
        let (tick, rest) = rest.split_first_chunk::<8>()?;
        let summary = u64::from_le_bytes(rest.try_into().ok()?);
        Some((u32::from_le_bytes(*version), Self { tick: u64::from_le_bytes(*tick), summary }))
    }
}

/// The mark in `folder`; `None` if there is no file.
pub(crate) fn read(folder: &Path) -> Result<Option<Mark>> {
    let path = folder.join(MARK_NAME);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StorageError::io("reading", &path, error)),
    };
    let mut newest: Option<Mark> = None;
    for block in bytes.chunks(BLOCK).take(2) {
        match Mark::decode(block) {
            Some((found, _)) if found > FORMAT_VERSION => {
                let supported = FORMAT_VERSION;
                return Err(StorageError::NewerFormat { path, found, supported });
            }
            Some((_, mark)) => {
                let newer = newest.is_none_or(|newest| newest.tick < mark.tick);
                newest = if newer { Some(mark) } else { newest };
            }
            // The last write was interrupted, or a record is damaged: the other one stands.
            None => {}
        }
    }
    let Some(newest) = newest else {
        return Err(StorageError::damaged(&path, 0, "no record in it is what was written"));
    };
    Ok(Some(newest))
}

impl MarkFile {
    /// The file in `folder`, created with `mark` if there is none.
    pub(crate) fn open(folder: &Path, mark: Mark) -> Result<Self> {
        let path = folder.join(MARK_NAME);
        if !path.exists() {
            let mut bytes = vec![0; 2 * BLOCK];
            for start in [0, BLOCK] {
                bytes[start..start + RECORD_BYTES].copy_from_slice(&mark.encode());
            }
            disk::write_whole(&path, &folder.join(UNFINISHED_NAME), &bytes)?;
        }
        let file = File::options().write(true).open(&path);
        let file = file.map_err(|error| StorageError::io("opening", &path, error))?;
        Ok(Self { file, path })
    }

    /// Notes `mark`, durably.
    pub(crate) fn write(&self, mark: Mark) -> Result<()> {
        let place = mark.tick % 2 * BLOCK as u64;
        self.file
            .write_all_at(&mark.encode(), place)
            .and_then(|()| self.file.sync_data())
            .map_err(|error| StorageError::io("writing", &self.path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let mark = Mark { tick: 0x0102, summary: 0x0304 };
        // Format version 1. If this test fails, old stores no longer open.
        let expected = b"TIDEMARK\x01\0\0\0\x02\x01\0\0\0\0\0\0\x04\x03\0\0\0\0\0\0";
        assert_eq!(mark.encode()[..28], *expected);
        assert_eq!(Mark::decode(&mark.encode()), Some((1, mark)));
        for bit in 0..RECORD_BYTES * 8 {
            let mut bytes = mark.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Mark::decode(&bytes), None, "bit {bit}");
        }
    }

    #[test]
    fn the_newest_good_record_stands() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
        let file = MarkFile::open(folder.path(), Mark::default()).unwrap();
        let marks = [1, 2, 3].map(|tick| Mark { tick, summary: 9 });
        for mark in marks {
            file.write(mark).unwrap();
            assert_eq!(read(folder.path()).unwrap(), Some(mark));
        }
        file.file.write_all_at(b"x", BLOCK as u64 + 20).unwrap();
        assert_eq!(read(folder.path()).unwrap(), Some(marks[1]));
        file.file.write_all_at(b"x", 3).unwrap();
        assert!(matches!(read(folder.path()), Err(StorageError::Damaged { .. })));
    }
}
