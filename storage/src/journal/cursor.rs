//! Steps from frame to frame through one segment file and checks each. Shared by readers and by
//! opening. It judges a frame; what a bad one means (torn tail or damage) is for its users to say.

use std::{fs::File, os::unix::fs::FileExt, path::PathBuf, sync::Arc};

use super::{
    frame::{ALIGNMENT, FRAME_HEADER, FrameHeader},
    segment::{BLOCK, Segment},
};
use crate::StorageError;

type Result<T> = std::result::Result<T, StorageError>;

/// Bytes read at once, if there are as many.
const CHUNK: u64 = 1 << 20;

/// What is at the cursor's offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A good frame; the cursor is now after it.
    Frame,
    /// Zeros, a proof, or no room for another frame.
    End,
    /// No good frame; the cursor has not moved.
    Bad {
        what: &'static str,
        /// Whether an interrupted write may have left it so.
        maybe_torn: bool,
    },
}

/// A place in a segment, and the frame before it.
#[derive(Debug)]
pub(crate) struct Cursor {
    file: File,
    path: PathBuf,
    salt: u64,
    /// Where the next frame begins.
    pub(crate) offset: u64,
    /// The position of the next frame's first record.
    pub(crate) position: u64,
    /// What the next frame must name as its predecessor.
    pub(crate) chain: u32,
    frame: Option<(u64, FrameHeader)>,
    /// `window[..filled]` are the file's bytes from `window_at`.
    window: Vec<u8>,
    filled: usize,
    window_at: u64,
    chunk: u64,
}

impl Cursor {
    /// At the first frame of `segment`. Takes over the buffer of an earlier cursor.
    pub(crate) fn open(segment: &Arc<Segment>, window: Vec<u8>) -> Result<Self> {
        let path = segment.path.clone();
        let file = File::open(&path).map_err(|error| StorageError::io("opening", &path, error))?;
        let header = &segment.header;
        Ok(Self {
            file,
            path,
            salt: header.salt,
            offset: BLOCK,
            position: header.first,
            chain: header.chain,
            frame: None,
            window,
            filled: 0,
            window_at: BLOCK,
            chunk: CHUNK,
        })
    }

    /// Reads this many bytes at once from now on, instead of [`CHUNK`].
    pub(crate) fn read_at_once(&mut self, bytes: u64) {
        self.chunk = bytes;
    }

    /// Gives the memory of its buffer back. It has no frame any more, but its place.
    pub(crate) fn shrink(&mut self) {
        drop(self.take_window());
    }

    /// The frame that was stepped over last, with its offset.
    pub(crate) fn frame(&self) -> Option<(u64, FrameHeader)> {
        self.frame
    }

    /// The payload of that frame; empty before the first.
    pub(crate) fn payload(&self) -> &[u8] {
        match self.frame {
            Some((offset, header)) => {
                let start = (offset - self.window_at) as usize + FRAME_HEADER;
                &self.window[start..start + header.length as usize]
            }
            None => &[],
        }
    }

    /// Gives the buffer up for the next cursor; this one has no frame any more.
    pub(crate) fn take_window(&mut self) -> Vec<u8> {
        self.frame = None;
        self.filled = 0;
        std::mem::take(&mut self.window)
    }

    /// An error at the cursor's offset.
    pub(crate) fn damaged(&self, what: &str) -> StorageError {
        StorageError::damaged(&self.path, self.offset, what)
    }

    /// Steps over the next frame, if it is good. Looks at no byte from `end` on.
    pub(crate) fn step(&mut self, end: u64) -> Result<Step> {
        let offset = self.offset;
        if offset + FRAME_HEADER as u64 > end {
            return Ok(Step::End);
        }
        let header_bytes = self.header_at(offset, end)?;
        let Some(header) = FrameHeader::decode(&header_bytes, self.salt) else {
            if header_bytes[..ALIGNMENT] == [0; ALIGNMENT] {
                return Ok(Step::End);
            }
            return Ok(Step::Bad { what: "there is no whole frame header", maybe_torn: true });
        };
        if header.is_proof() {
            return Ok(Step::End);
        }
        // The header's own crc is good, so the length is what was once written; still it is held
        // against the segment's bounds before anything is read or allocated by it.
        if header.size() > end - offset {
            return Ok(Step::Bad { what: "a frame goes beyond its end", maybe_torn: false });
        }
        let salt = self.salt;
        let covered = {
            let frame = self.bytes(offset, header.size(), end)?;
            let payload = &frame[FRAME_HEADER..FRAME_HEADER + header.length as usize];
            header.covers(&header_bytes, payload, salt)
        };
        if !covered {
            return Ok(Step::Bad { what: "a frame's checksum is wrong", maybe_torn: true });
        }
        if header.first != self.position || header.previous != self.chain || header.count == 0 {
            let what = "a frame does not continue the one before it";
            return Ok(Step::Bad { what, maybe_torn: false });
        }
        self.frame = Some((offset, header));
        self.offset += header.size();
        self.position += u64::from(header.count);
        self.chain = header.crc;
        Ok(Step::Frame)
    }

    /// Where, after the cursor and before `end`, another good frame of this segment begins.
    ///
    /// A frame is a whole commit, and the next one is written only after it was synced. So a good
    /// frame beyond a bad one proves that the bad one was once good. A proof proves what it names;
    /// one that was there before the bad frame names less.
    pub(crate) fn find_later_frame(&mut self, end: u64) -> Result<Option<u64>> {
        let mut offset = self.offset + ALIGNMENT as u64;
        while offset + FRAME_HEADER as u64 <= end {
            let header_bytes = self.header_at(offset, end)?;
            if let Some(header) = FrameHeader::decode(&header_bytes, self.salt)
                && header.size() <= end - offset
                && (!header.is_proof() || header.first > self.position)
            {
                let salt = self.salt;
                let frame = self.bytes(offset, header.size(), end)?;
                let payload = &frame[FRAME_HEADER..FRAME_HEADER + header.length as usize];
                if header.covers(&header_bytes, payload, salt) {
                    return Ok(Some(offset));
                }
            }
            offset += ALIGNMENT as u64;
        }
        Ok(None)
    }

    fn header_at(&mut self, offset: u64, end: u64) -> Result<[u8; FRAME_HEADER]> {
        let mut header = [0; FRAME_HEADER];
        header.copy_from_slice(self.bytes(offset, FRAME_HEADER as u64, end)?);
        Ok(header)
    }

    /// The file's bytes from `offset`, which lie before `end`; reads ahead, but not beyond `end`.
    fn bytes(&mut self, offset: u64, length: u64, end: u64) -> Result<&[u8]> {
        let window_end = self.window_at + self.filled as u64;
        if offset < self.window_at || offset + length > window_end {
            self.fill(offset, length.max(self.chunk.min(end - offset)) as usize)?;
        }
        let start = (offset - self.window_at) as usize;
        Ok(&self.window[start..start + length as usize])
    }

    fn fill(&mut self, offset: u64, length: usize) -> Result<()> {
        let window_end = self.window_at + self.filled as u64;
        let mut kept = 0;
        if (self.window_at..window_end).contains(&offset) {
            let start = (offset - self.window_at) as usize;
            self.window.copy_within(start..self.filled, 0);
            kept = self.filled - start;
        }
        if self.window.len() < length {
            self.window.resize(length, 0);
        }
        self.window_at = offset;
        self.filled = kept;
        self.file
            .read_exact_at(&mut self.window[kept..length], offset + kept as u64)
            .map_err(|error| StorageError::io("reading", &self.path, error))?;
        self.filled = length;
        // The frame before may have left the window.
        self.frame = None;
        Ok(())
    }
}
