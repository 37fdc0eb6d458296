//! One segment file: its name, its header, and how a spare becomes the segment that commits go to.
//! It writes no frames; the committer does.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use crc32c::crc32c;

use super::frame::{long, word};
use crate::{
    StorageError,
    disk::{self, Folder},
};

type Result<T> = std::result::Result<T, StorageError>;

/// The newest journal format that this build reads, and the one it writes.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Bytes of a segment's header; the first frame begins here.
pub(crate) const BLOCK: u64 = 4096;
/// How the names of segments, of spares and of unfinished spares end.
pub(crate) const SEGMENT_SUFFIX: &str = ".seg";
pub(crate) const SPARE_SUFFIX: &str = ".spare";
pub(crate) const UNFINISHED_SUFFIX: &str = ".tmp";

const MAGIC: &[u8; 8] = b"TIDEGSEG";
const CHUNK: usize = 1 << 20;
/// Zeros are synced piece by piece, so that no commit queues behind a whole segment of them. Pieces
/// of 1 MiB would protect commits a little better, but cost a third of the speed at which a journal
/// can grow.
const SYNCED_AT_ONCE: u64 = 4 << 20;

/// How fast a spare is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It is waited for.
    Fast,
    /// There is time: a small piece, then as long a pause, so that commits hardly notice.
    Gently,
    /// Not at all any more.
    Stop,
}

/// What the first block of a segment says. All numbers are little endian, in this order: magic
/// 8 bytes, format version u32, chain u32, number u64, first u64, salt u64, size u64, crc u32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The segments of a journal have consecutive numbers.
    pub(crate) number: u64,
    /// The position of its first record, once it has one.
    pub(crate) first: u64,
    /// Random. It makes frames of the file's earlier life invalid.
    pub(crate) salt: u64,
    /// The file's length.
    pub(crate) size: u64,
    /// The crc of the last frame of the segment before.
    pub(crate) chain: u32,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; BLOCK as usize] {
        let mut block = [0; BLOCK as usize];
        block[0..8].copy_from_slice(MAGIC);
        block[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        block[12..16].copy_from_slice(&self.chain.to_le_bytes());
        block[16..24].copy_from_slice(&self.number.to_le_bytes());
        block[24..32].copy_from_slice(&self.first.to_le_bytes());
        block[32..40].copy_from_slice(&self.salt.to_le_bytes());
        block[40..48].copy_from_slice(&self.size.to_le_bytes());
        let crc = crc32c(&block[..48]);
        block[48..52].copy_from_slice(&crc.to_le_bytes());
        block
    }

    /// Reads the header of the segment at `path`.
    pub(crate) fn read(path: &Path, file: &File) -> Result<Self> {
        let mut block = [0; BLOCK as usize];
        file.read_exact_at(&mut block, 0).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                StorageError::damaged(path, 0, "the file is shorter than a segment header")
            }
            _ => StorageError::io("reading", path, error),
        })?;
        if &block[0..8] != MAGIC {
            return Err(StorageError::damaged(path, 0, "it does not begin like a segment"));
        }
        // Before the crc: a newer format may keep its crc elsewhere.
        let found = word(&block, 8);
        if found > FORMAT_VERSION {
            let (path, supported) = (path.to_path_buf(), FORMAT_VERSION);
            return Err(StorageError::NewerFormat { path, found, supported });
        }
        if word(&block, 48) != crc32c(&block[..48]) {
            return Err(StorageError::damaged(path, 0, "the segment header's checksum is wrong"));
        }
        if found < FORMAT_VERSION {
            let what = "it is of a format that there never was";
            return Err(StorageError::damaged(path, 0, what));
        }
        Ok(Self {
            chain: word(&block, 12),
            number: long(&block, 16),
            first: long(&block, 24),
            salt: long(&block, 32),
            size: long(&block, 40),
        })
    }
}

/// A segment as readers, trim and committer share it. Whoever holds an `Arc` of it pins the file:
/// it is not renamed or reused meanwhile.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) path: PathBuf,
    /// Where its durable frames end.
    end: AtomicU64,
}

impl Segment {
    pub(crate) fn new(header: SegmentHeader, path: PathBuf, end: u64) -> Self {
        Self { header, path, end: AtomicU64::new(end) }
    }

    /// Where its durable frames end. Load the durable position first: then everything up to that
    /// position lies before this end or in a later segment.
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Tells readers of durable frames. To be followed by the durable position.
    pub(crate) fn publish_end(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }
}

/// The segment that commits go to, with the handle to write it.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) segment: Arc<Segment>,
    pub(crate) file: File,
    /// Where the next frame goes.
    pub(crate) offset: u64,
}

pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:020}{SEGMENT_SUFFIX}")
}

/// The number in a name like `00000000000000000001.seg`, for the given suffix.
pub(crate) fn number_in(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

pub(crate) fn open_for_writing(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| StorageError::io("opening", path, error))
}

/// Makes the spare at `spare` the segment that `header` describes. What the spare holds means
/// nothing. A crash between any two steps leaves either a spare or a whole, empty segment. All that
/// it needs is opened before anything is changed: if that fails, it may be tried again.
pub(crate) fn activate(folder: &Path, spare: &Path, header: SegmentHeader) -> Result<Active> {
    let (opened, file) = (Folder::open(folder)?, open_for_writing(spare)?);
    // The header is on disk before the file has a segment's name, and the name before any frame is
    // written: a frame is never found under a header or a name that may still vanish.
    file.write_all_at(&header.encode(), 0)
        .map_err(|error| StorageError::io("writing", spare, error))?;
    file.sync_all().map_err(|error| StorageError::io("syncing", spare, error))?;
    let path = folder.join(segment_name(header.number));
    disk::rename(spare, &path)?;
    opened.sync()?;
    let segment = Arc::new(Segment::new(header, path, BLOCK));
    Ok(Active { segment, file, offset: BLOCK })
}

/// Writes a new spare full of zeros to `path`. The zeros are really written: syncs of frames then
/// find every block allocated, and need no change of the file's metadata. Asks for the pace as it
/// goes; gives up early, without an error and without a spare, if that is to stop.
pub(crate) fn prepare(path: &Path, size: u64, pace: &dyn Fn() -> Pace) -> Result<bool> {
    let (unfinished, parent) = (path.with_extension("tmp"), disk::parent_of(path));
    let folder = Folder::open(&parent)?;
    let finished = fill(&unfinished, size, pace);
    match finished {
        Ok(true) => {
            disk::rename(&unfinished, path)?;
            folder.sync()?;
            Ok(true)
        }
        Ok(false) => disk::remove(&unfinished).map(|()| false),
        Err(error) => {
            // On a full disk, half a spare would take the room that others need.
            let _ = disk::remove(&unfinished);
            Err(StorageError::io("preparing", &unfinished, error))
        }
    }
}

fn fill(path: &Path, size: u64, pace: &dyn Fn() -> Pace) -> std::io::Result<bool> {
    let mut file = File::create(path)?;
    let zeros = vec![0; CHUNK.min(size as usize)];
    let (mut left, mut unsynced) = (size, 0);
    while left > 0 {
        let (at_once, synced_at_once) = match pace() {
            Pace::Stop => return Ok(false),
            Pace::Fast => (CHUNK, SYNCED_AT_ONCE),
            Pace::Gently => (CHUNK / 4, 1),
        };
        let began = Instant::now();
        let part = left.min(at_once.min(zeros.len()) as u64);
        file.write_all(&zeros[..part as usize])?;
        left -= part;
        unsynced += part;
        if unsynced >= synced_at_once {
            file.sync_data()?;
            unsynced = 0;
        }
        if pace() == Pace::Gently {
            std::thread::sleep(began.elapsed());
        }
    }
    file.sync_all()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_reads_back_and_names_newer_formats() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let header = SegmentHeader { number: 3, first: 9, salt: 7, size: 65536, chain: 5 };
        let mut block = header.encode();
        std::fs::write(&path, block).unwrap();
        assert_eq!(SegmentHeader::read(&path, &File::open(&path).unwrap()).unwrap(), header);

        block[20] ^= 1;
        std::fs::write(&path, block).unwrap();
        let read = SegmentHeader::read(&path, &File::open(&path).unwrap());
        assert!(matches!(read, Err(StorageError::Damaged { offset: 0, .. })));

        block[8] = 2;
        std::fs::write(&path, block).unwrap();
        let read = SegmentHeader::read(&path, &File::open(&path).unwrap());
        assert!(matches!(read, Err(StorageError::NewerFormat { found: 2, supported: 1, .. })));

        let mut never = header.encode();
        never[8] = 0;
        let crc = crc32c(&never[..48]);
        never[48..52].copy_from_slice(&crc.to_le_bytes());
        std::fs::write(&path, never).unwrap();
        let read = SegmentHeader::read(&path, &File::open(&path).unwrap());
        assert!(read.unwrap_err().to_string().contains("there never was"));
    }

    #[test]
    fn names() {
        assert_eq!(number_in(&segment_name(12), SEGMENT_SUFFIX), Some(12));
        for name in ["12.seg", "+0000000000000000012.seg", "00000000000000000012.spare", "x.seg"] {
            assert_eq!(number_in(name, SEGMENT_SUFFIX), None, "{name}");
        }
    }

    #[test]
    fn preparing_can_be_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("00000000000000000001.spare");
        assert!(!prepare(&path, 65536, &|| Pace::Stop).unwrap());
        assert_eq!(disk::list(folder.path()).unwrap(), []);
        assert!(prepare(&path, 65536, &|| Pace::Gently).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 65536);
    }
}
