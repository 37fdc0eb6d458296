//! Streams durable records back: to recovery, to projectors, to audits. It sees nothing that is not
//! durable yet, and it never waits for more.

use std::sync::Arc;

use super::{
    Shared,
    cursor::{Cursor, Step},
    frame::Walk,
    segment::Segment,
};
use crate::{Entry, Reader, StorageError};

type Result<T> = std::result::Result<T, StorageError>;

/// A reader with a file handle and a buffer of its own.
pub(crate) struct FileReader {
    shared: Arc<Shared>,
    /// Holding it keeps trim from reusing the file, and with it all later ones.
    segment: Arc<Segment>,
    cursor: Cursor,
    walk: Walk,
    /// Whether `walk` is inside the cursor's frame.
    in_frame: bool,
    /// Records up to here are skipped.
    after: u64,
}

impl FileReader {
    pub(crate) fn new(shared: Arc<Shared>, segment: Arc<Segment>, after: u64) -> Result<Self> {
        let cursor = Cursor::open(&segment, Vec::new())?;
        Ok(Self { shared, segment, cursor, walk: Walk::default(), in_frame: false, after })
    }

    /// Steps to the next durable frame; `false` if there is none now.
    fn next_frame(&mut self) -> Result<bool> {
        loop {
            // In this order: see `Segment::end`.
            if self.cursor.position > self.shared.durable().0 {
                return Ok(false);
            }
            let end = self.segment.end();
            if self.cursor.offset == end {
                self.enter_next_segment()?;
                continue;
            }
            match self.cursor.step(end)? {
                Step::Frame => {
                    if let Some((_, header)) = self.cursor.frame() {
                        self.walk = Walk::new(header.first);
                    }
                    if self.cursor.position > self.after.saturating_add(1) {
                        return Ok(true);
                    }
                    // The whole frame is to be skipped.
                }
                Step::Bad { what, .. } => return Err(self.cursor.damaged(what)),
                Step::End => return Err(self.cursor.damaged("a durable frame is gone")),
            }
        }
    }

    fn enter_next_segment(&mut self) -> Result<()> {
        let Some(next) = self.shared.segment_after(&self.segment) else {
            return Err(self.cursor.damaged("the segment after this one is gone"));
        };
        let cursor = Cursor::open(&next, self.cursor.take_window())?;
        if cursor.position != self.cursor.position || cursor.chain != self.cursor.chain {
            return Err(cursor.damaged("the segment does not continue the one before it"));
        }
        self.cursor = cursor;
        self.segment = next;
        Ok(())
    }
}

impl Reader for FileReader {
    fn next(&mut self) -> Result<Option<Entry<'_>>> {
        let found = loop {
            if !self.in_frame && !self.next_frame()? {
                return Ok(None);
            }
            self.in_frame = true;
            match self.walk.next(self.cursor.payload()) {
                Ok(Some(found)) if found.position.0 <= self.after => {}
                Ok(Some(found)) => break found,
                Ok(None) => self.in_frame = false,
                Err(what) => return Err(self.cursor.damaged(what)),
            }
        };
        Ok(Some(found.entry(self.cursor.payload())))
    }
}
