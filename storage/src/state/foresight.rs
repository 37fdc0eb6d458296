//! Reads what sled is about to read, before it does. sled takes a failed read during its recovery
//! for the end of its log, and wipes what lies behind it; so a disk that can't be read must be
//! noticed first, while nothing has changed. It understands no more of sled's file than where its
//! segments begin and how old they are.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use crate::{StorageError, disk};

/// Size of sled's segments, its default.
const SEGMENT_BYTES: u64 = 512 << 10;

/// What a segment begins with: a checksum, its own place in the log, and another place.
const HEADER_BYTES: usize = 20;

/// sled keeps places in the log with these bits turned over.
const PLACE_MASK: u64 = 0x7fff_ffff_ffff_ffff;

/// Reads what sled will read of `folder` when it opens it: the beginning of every segment, and all
/// of those that its newest summary does not stand for. From then on the system has it in memory.
/// Gives the bytes read.
///
/// # Errors
/// The disk can't be read. Nothing has changed.
pub(super) fn read_ahead(folder: &Path) -> Result<u64, StorageError> {
    let path = folder.join("db");
    if !path.exists() {
        return Ok(0);
    }
    let summarized = summarized(folder)?;
    let read = || -> std::io::Result<u64> {
        let mut file = File::open(&path)?;
        let length = file.metadata()?.len();
        let (mut bytes, mut buffer) = (0, Vec::new());
        for start in (0..length).step_by(SEGMENT_BYTES as usize) {
            file.seek(SeekFrom::Start(start))?;
            buffer.clear();
            bytes += file.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut buffer)? as u64;
            if place(&buffer).is_some_and(|place| place + SEGMENT_BYTES > summarized) {
                let rest = SEGMENT_BYTES - HEADER_BYTES as u64;
                bytes += file.by_ref().take(rest).read_to_end(&mut buffer)? as u64;
            }
        }
        Ok(bytes)
    };
    read().map_err(|error| StorageError::io("reading", &path, error))
}

/// Up to where in the log the newest summary goes; 0 without one.
fn summarized(folder: &Path) -> Result<u64, StorageError> {
    let names = disk::list(folder)?;
    let places = names.iter().filter_map(|(name, _)| {
        name.strip_prefix("snap.").and_then(|place| u64::from_str_radix(place, 16).ok())
    });
    Ok(places.max().unwrap_or(0))
}

/// The place in the log that a segment with this header has; `None` if it was never used.
fn place(header: &[u8]) -> Option<u64> {
    let place = header.get(4..12)?.try_into().ok()?;
    let place = u64::from_le_bytes(place) ^ PLACE_MASK;
    (place < PLACE_MASK).then_some(place)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{State, StateOptions, Table, state::SledState};

    fn filled(folder: &Path, rows: u32) {
        let state = SledState::open(folder, &StateOptions::default()).unwrap();
        for row in 0..rows {
            state.put(Table(1), &row.to_be_bytes(), &[7; 2_000]).unwrap();
        }
        state.flush().unwrap();
    }

    #[test]
    fn all_is_read_that_no_summary_stands_for() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("state");
        filled(&folder, 1_000);
        for (name, _) in disk::list(&folder).unwrap() {
            if name.starts_with("snap.") {
                fs::remove_file(folder.join(name)).unwrap();
            }
        }
        let whole = fs::metadata(folder.join("db")).unwrap().len();
        assert!(whole > 3 * SEGMENT_BYTES);
        assert!(read_ahead(&folder).unwrap() > whole - 2 * SEGMENT_BYTES, "of {whole}");
        // Opening makes a summary of all that is there.
        filled(&folder, 0);
        let read = read_ahead(&folder).unwrap();
        assert!(read <= 3 * SEGMENT_BYTES, "{read} of {whole}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_before_sled_sees_it() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("state");
        fs::create_dir_all(folder.join("db")).unwrap();
        let error = read_ahead(&folder);
        // A folder has a length and can't be read, on any disk and for any user.
        assert!(matches!(error, Err(StorageError::Io { .. })), "{error:?}");
    }
}
