//! Reads sled's log before sled does, and refuses what sled would take for its end or skip: bytes
//! that were on disk at the last flush and are no longer what was written. It writes nothing. What
//! lies before sled's own summary is left to sled, which checks it when it is read.
//!
//! sled's file is a row of segments. A segment begins with a header that names its place in the
//! log (its LSN); then messages follow, each with a checksum and the number of its segment. A
//! segment whose pages have all moved on is given out again, with a later number. All of this is
//! the format of sled 0.34, which is pinned.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use memchr::memmem;

use super::mark::{MARK_NAME, Mark};
use crate::{StorageError, disk};

type Result<T> = std::result::Result<T, StorageError>;

/// The name of sled's log in its folder.
pub(crate) const DATA_NAME: &str = "db";
const SUMMARY_PREFIX: &str = "snap.";

/// sled's default, which is never changed here.
const SEGMENT_BYTES: u64 = 512 << 10;
const SEGMENT_HEADER_BYTES: usize = 20;
/// No message begins closer to the end of its segment.
const MESSAGE_HEADER_BYTES_MAX: usize = 32;
const KIND_CAP: u8 = 2;
const KIND_LAST: u8 = 11;

/// A message that is what was written.
struct Message<'a> {
    kind: u8,
    segment: u64,
    /// Header included.
    length: usize,
    body: &'a [u8],
}

/// A segment of the part that sled replays.
struct Walked {
    /// Its place in the file.
    at: u64,
    /// Its place in the log.
    lsn: u64,
    /// Where in it the first message is that is not what was written.
    bad: Option<u64>,
    /// The last segment, by number, that has messages behind that: the file's next life may have
    /// begun there, before its header was written.
    behind: Option<u64>,
}

/// A message without a segment: the header that it belongs to is damaged.
struct Stray {
    /// The place of its segment in the file.
    at: u64,
    /// Its place in the log.
    lsn: u64,
}

struct Log<'a> {
    file: &'a File,
    path: PathBuf,
    bytes: u64,
    /// What sled replays begins in the segment with this LSN.
    first: u64,
    walked: Vec<Walked>,
    strays: Vec<Stray>,
    /// Where in the log the message with the marked tick ends.
    tick_end: Option<u64>,
}

/// An error if `file`, the log in `folder`, no longer holds what `mark` says, or what sled's
/// summary says.
pub(crate) fn check(folder: &Path, file: &File, mark: Mark) -> Result<()> {
    let path = folder.join(DATA_NAME);
    let summary = summary_end(folder)?;
    check_summary(folder, summary)?;
    let failed = |error| StorageError::io("reading", &path, error);
    let bytes = file.metadata().map_err(failed)?.len();
    let first = summary / SEGMENT_BYTES * SEGMENT_BYTES;
    let (walked, strays, tick_end) = (Vec::new(), Vec::new(), None);
    let mut log = Log { file, path: path.clone(), bytes, first, walked, strays, tick_end };
    log.read(&mark.tick_row()).map_err(failed)?;
    // A later summary than the marked one was made from a log that had passed this check, and
    // nothing was flushed since. An earlier one, or none, may be left by a power loss while sled
    // replaced it: then sled replays more of its log.
    let ticked = mark.tick > 0 && summary <= mark.summary;
    log.judge(summary, ticked)
}

/// Up to where in its log sled has a summary: that is its file's name.
pub(crate) fn summary_end(folder: &Path) -> Result<u64> {
    let names = disk::list(folder)?;
    let ends = names.iter().filter_map(|(name, _)| {
        let digits = name.strip_prefix(SUMMARY_PREFIX).filter(|digits| digits.len() == 16)?;
        u64::from_str_radix(digits, 16).ok()
    });
    Ok(ends.max().unwrap_or(0))
}

/// An error if the summary that ends at `end` is not what was written. Its last bytes are its
/// length, u64, and its crc.
fn check_summary(folder: &Path, end: u64) -> Result<()> {
    let path = folder.join(format!("{SUMMARY_PREFIX}{end:016X}"));
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound && end == 0 => return Ok(()),
        Err(error) => return Err(StorageError::io("reading", &path, error)),
    };
    let whole = bytes.split_last_chunk::<4>().is_some_and(|(rest, crc)| {
        let body = rest.split_last_chunk::<8>().map(|(body, _)| body);
        body.is_some_and(|body| crc32fast::hash(body) == u32::from_le_bytes(*crc))
    });
    let what = "sled's summary of its log is not what was written";
    if whole { Ok(()) } else { Err(StorageError::damaged(&path, 0, what)) }
}

impl Log<'_> {
    fn read(&mut self, tick: &[u8]) -> std::io::Result<()> {
        let mut buffer = Vec::new();
        for at in (0..self.bytes).step_by(SEGMENT_BYTES as usize) {
            let length = SEGMENT_BYTES.min(self.bytes - at) as usize;
            buffer.resize(length.min(SEGMENT_HEADER_BYTES), 0);
            self.file.read_exact_at(&mut buffer, at)?;
            let lsn = segment_lsn(&buffer);
            if lsn.is_some_and(|lsn| lsn < self.first) {
                continue;
            }
            buffer.resize(length, 0);
            self.file.read_exact_at(&mut buffer, at)?;
            match lsn {
                Some(lsn) => self.walk(at, lsn, &buffer, tick),
                None if buffer.iter().all(|byte| *byte == 0) => {}
                None => {
                    let from = self.first / SEGMENT_BYTES;
                    let strays = messages_anywhere(&buffer, 0, from)
                        .map(|(place, segment)| segment * SEGMENT_BYTES + place);
                    self.strays.extend(strays.min().map(|lsn| Stray { at, lsn }));
                }
            }
        }
        Ok(())
    }

    fn walk(&mut self, at: u64, lsn: u64, segment: &[u8], tick: &[u8]) {
        let number = lsn / SEGMENT_BYTES;
        let mut place = SEGMENT_HEADER_BYTES;
        let mut bad = None;
        while place <= SEGMENT_BYTES as usize - MESSAGE_HEADER_BYTES_MAX {
            let Some(message) = message_at(segment, place).filter(|m| m.segment == number) else {
                bad = Some(place as u64);
                break;
            };
            place += message.length;
            if message.kind == KIND_CAP {
                break;
            }
            let end = lsn + place as u64;
            // Pages are written anew now and then, and with them their rows: the first one counts.
            if self.tick_end.is_none_or(|found| end < found)
                && memmem::find(message.body, tick).is_some()
            {
                self.tick_end = Some(end);
            }
        }
        let behind = bad.and_then(|bad| {
            let later = messages_anywhere(segment, bad as usize, number + 1);
            later.map(|(_, segment)| segment).max()
        });
        self.walked.push(Walked { at, lsn, bad, behind });
    }

    /// Holds what was found against what must be there. Behind that an interrupted write may have
    /// left anything.
    fn judge(&mut self, summary: u64, ticked: bool) -> Result<()> {
        let tick_lost = ticked && self.tick_end.is_none();
        let ticked_end = self.tick_end.filter(|_| ticked).unwrap_or(0);
        let durable = if tick_lost { u64::MAX } else { ticked_end.max(summary) };

        // A segment that was being given out again when the process ended: nothing in it was needed
        // any more. Its new number is later than all that was flushed, and nowhere else.
        let reused = |number: u64| {
            let lsn = number.saturating_mul(SEGMENT_BYTES);
            lsn > durable && self.walked.iter().all(|segment| segment.lsn != lsn)
        };
        let bad = self.walked.iter().filter(|segment| !segment.behind.is_some_and(reused));
        let bad = bad.filter_map(|found| Some((found.lsn + found.bad?, found.at + found.bad?)));
        let strays = self.strays.iter().map(|stray| (stray.lsn, stray.at));
        let suspect = bad.chain(strays).filter(|(lsn, _)| *lsn < durable).min();
        if let Some((_, offset)) = suspect {
            let what = "sled's log is not what was on disk at the last flush";
            return Err(self.damaged(offset, what));
        }
        if tick_lost {
            let what = format!("it ends before the last flush that {MARK_NAME} tells of");
            return Err(self.damaged(self.bytes, &what));
        }
        // sled goes on writing where its summary ends. If the header before that is gone, what is
        // written next would be skipped at the next open.
        let inside = !summary.is_multiple_of(SEGMENT_BYTES);
        if inside && self.walked.is_empty() {
            return Err(self.damaged(0, "the segment of sled's log that was written last is gone"));
        }
        Ok(())
    }

    fn damaged(&self, offset: u64, what: &str) -> StorageError {
        StorageError::damaged(&self.path, offset, what)
    }
}

/// The place in the log that a segment's header names; `None` if it is no header.
fn segment_lsn(header: &[u8]) -> Option<u64> {
    let (crc, rest) = header.split_first_chunk::<4>()?;
    let body = rest.get(..SEGMENT_HEADER_BYTES - 4)?;
    if u32::from_le_bytes(*crc) ^ u32::MAX != crc32fast::hash(body) {
        return None;
    }
    let lsn = u64::from_le_bytes(*body.first_chunk()?) ^ i64::MAX as u64;
    lsn.is_multiple_of(SEGMENT_BYTES).then_some(lsn)
}

/// The message at `place`, if it is what was written: crc u32, kind u8, then length, segment and
/// page in a variable form, then the body. The crc covers the body and then the rest.
fn message_at(segment: &[u8], place: usize) -> Option<Message<'_>> {
    let bytes = segment.get(place..)?;
    let (crc, rest) = bytes.split_first_chunk::<4>()?;
    let (&kind, mut rest) = rest.split_first()?;
    if !(1..=KIND_LAST).contains(&kind) {
        return None;
    }
    let length = number(&mut rest)?;
    let segment = number(&mut rest)?;
    let _page = number(&mut rest)?;
    let body = rest.get(..usize::try_from(length).ok()?)?;
    let header = &bytes[4..bytes.len() - rest.len()];
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(body);
    hasher.update(header);
    if u32::from_le_bytes(*crc) != hasher.finalize() ^ u32::MAX {
        return None;
    }
    Some(Message { kind, segment, length: 4 + header.len() + body.len(), body })
}

/// Places and segment numbers of all messages from `place` on that are whole and name a segment
/// with number `from` or later, wherever they begin.
fn messages_anywhere(
    segment: &[u8],
    place: usize,
    from: u64,
) -> impl Iterator<Item = (u64, u64)> + '_ {
    (place..segment.len()).filter_map(move |place| {
        // The cheap part first: most places are no message.
        let mut rest = segment.get(place + 5..)?;
        (1..=KIND_LAST).contains(&segment[place + 4]).then_some(())?;
        number(&mut rest)?;
        (number(&mut rest)? >= from).then_some(())?;
        message_at(segment, place).map(|message| (place as u64, message.segment))
    })
}

/// A number in sled's variable form, from the front of `bytes`.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    let (value, used) = match first {
        0..=240 => (u64::from(first), 0),
        241..=248 => (240 + 256 * (u64::from(first) - 241) + u64::from(*rest.first()?), 1),
        249 => (2288 + 256 * u64::from(*rest.first()?) + u64::from(*rest.get(1)?), 2),
        _ => {
            let used = usize::from(first) - 247;
            let mut eight = [0; 8];
            eight[..used].copy_from_slice(rest.get(..used)?);
            (u64::from_le_bytes(eight), used)
        }
    };
    *bytes = &rest[used..];
    Some(value)
}

/// For the fuzzers: no bytes do harm, and no message is longer than they are.
#[cfg(feature = "fuzzing")]
pub(super) fn check_message(bytes: &[u8]) {
    let _ = segment_lsn(bytes);
    if let Some(message) = message_at(bytes, 0) {
        assert!(message.length <= bytes.len() && message.body.len() < message.length);
    }
    assert!(messages_anywhere(bytes, 0, 0).count() <= bytes.len());
}

/// For the fuzzers: a message as sled writes it.
#[cfg(feature = "fuzzing")]
pub(super) fn message_of(segment: u64, body: &[u8]) -> Vec<u8> {
    let mut header = vec![10];
    for number in [body.len() as u64, segment, 3] {
        header.push(u8::MAX);
        header.extend_from_slice(&number.to_le_bytes());
    }
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(body);
    hasher.update(&header);
    let crc = hasher.finalize() ^ u32::MAX;
    [&crc.to_le_bytes()[..], &header, body].concat()
}
