//! Streams durable records back: to recovery, to audits, to feeds. It sees nothing that is not
//! durable yet, and it never waits for more.

use std::sync::Arc;

use super::{
    Shared,
    cursor::{Cursor, Step},
    frame::{FRAME_HEADER, Walk},
    place::Place,
    segment::Segment,
};
use crate::{Entry, Position, Reader, StorageError};

type Result<T> = std::result::Result<T, StorageError>;

/// Bytes that a loose reader reads at once: there may be very many of them.
const LOOSE_CHUNK: u64 = 64 << 10;

/// What a reader keeps from being trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// All that it has not passed.
    Pinned,
    /// Nothing. A file may be taken away and written anew under it: the salt of its old life then
    /// makes every frame bad, and the list of segments says why.
    Loose,
}

/// A reader with a file handle and a buffer of its own.
pub(crate) struct FileReader {
    shared: Arc<Shared>,
    /// The number of the segment it is in.
    number: u64,
    /// Holding it keeps trim from reusing the file, and with it all later ones.
    pin: Option<Arc<Segment>>,
    cursor: Cursor,
    walk: Walk,
    /// Whether `walk` is inside the cursor's frame.
    in_frame: bool,
    /// Records up to here are skipped.
    after: u64,
}

impl FileReader {
    pub(super) fn new(
        shared: Arc<Shared>,
        segment: Arc<Segment>,
        after: u64,
        hold: Hold,
    ) -> Result<Self> {
        let mut cursor = Cursor::open(&segment, Vec::new())?;
        let number = segment.header.number;
        let pin = (hold == Hold::Pinned).then_some(segment);
        if pin.is_none() {
            cursor.read_at_once(LOOSE_CHUNK);
        }
        Ok(Self { shared, number, pin, cursor, walk: Walk::default(), in_frame: false, after })
    }

    /// Where the durable frames of the present segment end.
    fn end(&self) -> Result<u64> {
        match &self.pin {
            Some(segment) => Ok(segment.end()),
            None => self.shared.end_of(self.number).ok_or_else(|| self.trimmed()),
        }
    }

    fn trimmed(&self) -> StorageError {
        let asked = Position(self.after.saturating_add(1));
        StorageError::Trimmed { asked, oldest: self.shared.oldest() }
    }

    /// `error`, unless it comes of the file having been taken away.
    fn judge(&self, error: StorageError) -> StorageError {
        let gone = self.pin.is_none() && self.shared.end_of(self.number).is_none();
        if gone { self.trimmed() } else { error }
    }

    /// Steps to the next durable frame; `false` if there is none now.
    fn next_frame(&mut self) -> Result<bool> {
        loop {
            // In this order: see `Segment::end`.
            if self.cursor.position > self.shared.durable().0 {
                if self.pin.is_none() {
                    self.cursor.shrink();
                }
                return Ok(false);
            }
            let end = self.end()?;
            if self.cursor.offset == end {
                self.enter_next_segment()?;
                continue;
            }
            match self.cursor.step(end).map_err(|error| self.judge(error))? {
                Step::Frame => {
                    if let Some((_, header)) = self.cursor.frame() {
                        self.walk = Walk::new(header.first);
                    }
                    if self.cursor.position > self.after.saturating_add(1) {
                        return Ok(true);
                    }
                    // The whole frame is to be skipped.
                }
                Step::Bad { what, .. } => return Err(self.judge(self.cursor.damaged(what))),
                Step::End => {
                    return Err(self.judge(self.cursor.damaged("a durable frame is gone")));
                }
            }
        }
    }

    fn enter_next_segment(&mut self) -> Result<()> {
        let Some(next) = self.shared.segment(self.number + 1) else {
            return Err(self.judge(self.cursor.damaged("the segment after this one is gone")));
        };
        let mut cursor = Cursor::open(&next, self.cursor.take_window())?;
        if self.pin.is_none() {
            cursor.read_at_once(LOOSE_CHUNK);
        }
        if cursor.position != self.cursor.position || cursor.chain != self.cursor.chain {
            return Err(cursor.damaged("the segment does not continue the one before it"));
        }
        self.cursor = cursor;
        self.number = next.header.number;
        if let Some(pin) = &mut self.pin {
            *pin = next;
        }
        Ok(())
    }

    /// The next record and its place, or `None` at the end of what is durable now.
    ///
    /// # Errors
    /// As for [`Reader::next`].
    pub(crate) fn next_placed(&mut self) -> Result<Option<(Entry<'_>, Place)>> {
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
        self.after = found.position.0;
        let frame = self.cursor.frame().map_or(0, |(offset, _)| offset);
        let place = Place {
            segment: self.number,
            // A segment has no more than 1 GiB.
            offset: (frame as usize + FRAME_HEADER + found.place.start) as u32,
            length: found.place.len() as u32,
        };
        Ok(Some((found.entry(self.cursor.payload()), place)))
    }
}

impl Reader for FileReader {
    fn next(&mut self) -> Result<Option<Entry<'_>>> {
        Ok(self.next_placed()?.map(|(entry, _)| entry))
    }
}
