//! From a folder to a journal that may be trusted: finds the end of what was committed, and tells a
//! torn tail (which is cut) from damage (which is refused). It never removes a segment.

use std::{
    collections::VecDeque,
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tracing::{info, warn};

use super::{
    bounds::{self, Bounds},
    committer::new_salt,
    cursor::{Cursor, Step},
    frame::{FRAME_HEADER, FrameHeader, TERMINATOR},
    segment::{
        Active, BLOCK, Pace, SEGMENT_SUFFIX, SPARE_SUFFIX, Segment, SegmentHeader,
        UNFINISHED_SUFFIX, activate, number_in, open_for_writing, prepare,
    },
};
use crate::{Opening, Position, StorageError, disk};

type Result<T> = std::result::Result<T, StorageError>;

/// What was found in a folder, ready to go on.
pub(crate) struct Recovered {
    pub(crate) segments: VecDeque<Arc<Segment>>,
    pub(crate) active: Active,
    pub(crate) chain: u32,
    pub(crate) last: Position,
    pub(crate) spares: VecDeque<PathBuf>,
    /// Names of spares up to here may be taken.
    pub(crate) spare_id: u64,
}

/// The files of a journal's folder.
#[derive(Default)]
struct Listing {
    segments: Vec<(u64, PathBuf, u64)>,
    spares: VecDeque<PathBuf>,
    spare_id: u64,
}

/// The end of what was committed.
struct End {
    offset: u64,
    position: u64,
    chain: u32,
    /// The last frame, if the last segment has one.
    frame: Option<(u64, FrameHeader)>,
}

/// The end of a journal that was read through.
struct Found<'a> {
    last: &'a Arc<Segment>,
    end: End,
    /// Why the last write is taken for interrupted, if it is.
    torn: Option<&'static str>,
}

/// What a journal looks like, with nothing in its folder changed.
pub(crate) struct Looked {
    pub(crate) segments: VecDeque<Arc<Segment>>,
    pub(crate) last: Position,
    pub(crate) torn: bool,
}

/// Checks the journal in `folder` and changes nothing: a torn tail stays where it is.
pub(crate) fn look(folder: &Path, bounds: &Bounds) -> Result<Looked> {
    let files = disk::list(folder)?.into_iter().filter_map(|(name, length)| {
        Some((number_in(&name, SEGMENT_SUFFIX)?, folder.join(&name), length))
    });
    let files: Vec<_> = files.collect();
    if files.is_empty() {
        return Err(StorageError::damaged(folder, 0, "all journal segments are gone"));
    }
    let segments = read_headers(&files)?;
    let Found { end, torn, .. } = find_end(&segments, &Opening::default())?;
    let (last, torn) = (Position(end.position - 1), torn.is_some());
    bounds.check(oldest_of(&segments), last)?;
    Ok(Looked { segments, last, torn })
}

/// Opens the journal in `folder`, or begins one there if it holds no segment and `may_begin`.
pub(crate) fn recover(
    folder: &Path,
    segment_bytes: u64,
    spares_max: usize,
    may_begin: bool,
    bounds: &Bounds,
    opening: &Opening,
) -> Result<Recovered> {
    disk::create_folder(folder)?;
    let Listing { segments, spares, spare_id } = sort_files(folder, segment_bytes, spares_max)?;
    // A rename that the last process did not live to sync is made durable before it is relied on.
    disk::sync_folder(folder)?;
    if segments.is_empty() {
        if !may_begin {
            return Err(StorageError::damaged(folder, 0, "all journal segments are gone"));
        }
        // A journal that has held something does not begin anew.
        bounds.check(Position(1), Position::ZERO)?;
        return begin(folder, segment_bytes, spares, spare_id);
    }
    let segments = read_headers(&segments)?;
    let Found { last, end, torn } = find_end(&segments, opening)?;
    bounds.check(oldest_of(&segments), Position(end.position - 1))?;
    if let Some(what) = torn {
        warn!(
            path = %last.path.display(),
            offset = end.offset,
            after = end.position - 1,
            "the journal's last write was interrupted ({what}); nothing of it was acknowledged, \
             cut off"
        );
    }
    let active = settle(last, &end, torn.is_some())?;
    info!(
        segments = segments.len(),
        last = end.position - 1,
        path = %active.segment.path.display(),
        "journal opened"
    );
    Ok(Recovered {
        segments,
        active,
        chain: end.chain,
        last: Position(end.position - 1),
        spares,
        spare_id,
    })
}

fn sort_files(folder: &Path, segment_bytes: u64, spares_max: usize) -> Result<Listing> {
    let mut listing = Listing::default();
    for (name, length) in disk::list(folder)? {
        let path = folder.join(&name);
        if let Some(number) = number_in(&name, SEGMENT_SUFFIX) {
            listing.segments.push((number, path, length));
        } else if let Some(id) = number_in(&name, SPARE_SUFFIX) {
            listing.spare_id = listing.spare_id.max(id);
            if length == segment_bytes && listing.spares.len() < spares_max {
                listing.spares.push_back(path);
            } else {
                disk::remove(&path)?;
            }
        } else if number_in(&name, UNFINISHED_SUFFIX).is_some() || name == bounds::UNFINISHED_NAME {
            disk::remove(&path)?;
        } else if name != bounds::NAME {
            warn!(path = %path.display(), "a file that is not the journal's lies in its folder");
        }
    }
    Ok(listing)
}

fn begin(
    folder: &Path,
    segment_bytes: u64,
    mut spares: VecDeque<PathBuf>,
    mut spare_id: u64,
) -> Result<Recovered> {
    let spare = match spares.pop_front() {
        Some(spare) => spare,
        None => {
            spare_id += 1;
            let path = folder.join(format!("{spare_id:020}{SPARE_SUFFIX}"));
            prepare(&path, segment_bytes, &|| Pace::Fast)?;
            path
        }
    };
    let salt = new_salt(folder)?;
    let header = SegmentHeader { number: 1, first: 1, salt, size: segment_bytes, chain: 0 };
    let active = activate(folder, &spare, header)?;
    Ok(Recovered {
        segments: VecDeque::from([active.segment.clone()]),
        active,
        chain: 0,
        last: Position::ZERO,
        spares,
        spare_id,
    })
}

/// Reads the headers and checks what can be checked without the frames.
fn read_headers(found: &[(u64, PathBuf, u64)]) -> Result<VecDeque<Arc<Segment>>> {
    let mut segments: VecDeque<Arc<Segment>> = VecDeque::new();
    for (number, path, length) in found {
        if let Some(before) = segments.back()
            && before.header.number + 1 != *number
        {
            let what = format!("segments between {} and this one are gone", before.header.number);
            return Err(StorageError::damaged(path, 0, what));
        }
        let file = File::open(path).map_err(|error| StorageError::io("opening", path, error))?;
        let header = SegmentHeader::read(path, &file)?;
        if header.number != *number {
            let what = format!("its header says that it is segment {}", header.number);
            return Err(StorageError::damaged(path, 0, what));
        }
        if header.size != *length || header.first == 0 {
            let what = format!("it has {length} bytes, its header says {}", header.size);
            return Err(StorageError::damaged(path, (*length).min(header.size), what));
        }
        segments.push_back(Arc::new(Segment::new(header, path.clone(), BLOCK)));
    }
    Ok(segments)
}

fn oldest_of(segments: &VecDeque<Arc<Segment>>) -> Position {
    segments.front().map_or(Position(1), |segment| Position(segment.header.first))
}

/// Checks every frame. Segments are read side by side, and then judged from the oldest on.
fn find_end<'a>(segments: &'a VecDeque<Arc<Segment>>, opening: &Opening) -> Result<Found<'a>> {
    opening.expect(segments.iter().map(|segment| segment.header.size).sum());
    let mut ahead = segments.iter().skip(1);
    for (segment, read) in segments.iter().zip(read_all(segments, opening)) {
        let (end, step) = read?;
        segment.publish_end(end.offset);
        match ahead.next() {
            Some(next) => check_link(segment, &end, step, next)?,
            None => {
                let torn = judge_tail(segment, &end, step)?;
                return Ok(Found { last: segment, end, torn });
            }
        }
    }
    unreachable!("a journal that is opened has a segment")
}

/// For each of `segments`, where its good frames end and what comes then. They are read by as many
/// threads as there are cores: checking is work for the processor, more than for the disk.
fn read_all(segments: &VecDeque<Arc<Segment>>, opening: &Opening) -> Vec<Result<(End, Step)>> {
    let results: Vec<OnceLock<_>> = segments.iter().map(|_| OnceLock::new()).collect();
    let drawn = AtomicUsize::new(0);
    let work = || {
        let mut window = Vec::new();
        loop {
            let place = drawn.fetch_add(1, Ordering::Relaxed);
            let Some(segment) = segments.get(place) else { break };
            // Each place is drawn once.
            let _ = results[place].set(read_to_end(segment, &mut window));
            opening.add(segment.header.size);
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(segments.len());
        for _ in 1..threads {
            // Without it, the others read its share.
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    results.into_iter().map(|read| read.into_inner().unwrap_or(Err(StorageError::Closed))).collect()
}

fn read_to_end(segment: &Arc<Segment>, window: &mut Vec<u8>) -> Result<(End, Step)> {
    let mut cursor = Cursor::open(segment, std::mem::take(window))?;
    let mut frame = None;
    let step = loop {
        match cursor.step(segment.header.size)? {
            Step::Frame => frame = cursor.frame(),
            step => break step,
        }
    };
    *window = cursor.take_window();
    let Cursor { offset, position, chain, .. } = cursor;
    Ok((End { offset, position, chain, frame }, step))
}

/// The next segment was begun after the last frame of this one was durable, and names it.
fn check_link(segment: &Segment, end: &End, step: Step, next: &Segment) -> Result<()> {
    if next.header.first == end.position && next.header.chain == end.chain {
        return Ok(());
    }
    let what = match step {
        Step::Bad { what, .. } => what,
        _ => "frames are missing",
    };
    let what = format!("{what}; the next segment begins at position {}", next.header.first);
    Err(StorageError::damaged(&segment.path, end.offset, what))
}

/// Why the last segment ends in a torn frame, if it does. An error if a frame that was once durable
/// is bad.
///
/// The very last frame is the one that this cannot tell, as long as it has no proof: if it rots
/// after it was acknowledged, it looks as if its write had been interrupted.
fn judge_tail(segment: &Arc<Segment>, end: &End, step: Step) -> Result<Option<&'static str>> {
    let mut cursor = Cursor::open(segment, Vec::new())?;
    (cursor.offset, cursor.position, cursor.chain) = (end.offset, end.position, end.chain);
    if let Step::Bad { what, maybe_torn: false } = step {
        return Err(cursor.damaged(what));
    }
    if let Some(later) = cursor.find_later_frame(segment.header.size)? {
        let what = match step {
            Step::Bad { what, .. } => what,
            _ => "a frame is gone",
        };
        return Err(cursor.damaged(&format!("{what}, yet a good frame follows at {later}")));
    }
    match step {
        Step::Bad { what, .. } => Ok(Some(what)),
        _ => Ok(None),
    }
}

/// Makes the end that was found the end on disk as well.
fn settle(segment: &Arc<Segment>, end: &End, torn: bool) -> Result<Active> {
    let path = &segment.path;
    let file = open_for_writing(path)?;
    let rewrite = || -> std::io::Result<()> {
        // If the last process met a failed sync, the system may have marked the pages clean though
        // the disk never got them: what was just read is then only in memory, and a sync alone
        // would write nothing. Written anew they are dirty again, and this sync tells the truth.
        if let Some((offset, header)) = end.frame {
            let mut frame = vec![0; header.size() as usize];
            file.read_exact_at(&mut frame, offset)?;
            file.write_all_at(&frame, offset)?;
        }
        // The header of a torn frame must never look like a frame again.
        let room = segment.header.size - end.offset;
        let blank = if torn { FRAME_HEADER } else { TERMINATOR }.min(room as usize);
        file.write_all_at(&[0; FRAME_HEADER][..blank], end.offset)?;
        file.sync_data()
    };
    rewrite().map_err(|error| StorageError::io("settling the end of", path, error))?;
    Ok(Active { segment: segment.clone(), file, offset: end.offset })
}
