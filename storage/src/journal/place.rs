//! Bytes of a record by their place in a file, for whoever has noted it: no frame is stepped over
//! and none is checked, so who notes a place notes a checksum too.

use std::{fs::File, os::unix::fs::FileExt, sync::Arc};

use quick_cache::sync::Cache;

use super::{
    FileJournal,
    reader::{FileReader, Hold},
    segment::Segment,
};
use crate::{Position, StorageError};

type Result<T> = std::result::Result<T, StorageError>;

/// Files that are kept open, of one journal.
const OPEN_FILES_MAX: usize = 64;

/// Where bytes of a record are. It holds until the record is trimmed away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The number of the segment.
    pub(crate) segment: u64,
    /// From the beginning of its file.
    pub(crate) offset: u32,
    /// In bytes.
    pub(crate) length: u32,
}

impl Place {
    /// The same without its first `bytes`.
    pub(crate) fn without(self, bytes: usize) -> Self {
        let bytes = (bytes as u32).min(self.length);
        Self { offset: self.offset + bytes, length: self.length - bytes, ..self }
    }
}

/// Files of segments that were read from lately.
pub(crate) struct Files(Cache<u64, Arc<File>>);

impl Default for Files {
    fn default() -> Self {
        Self(Cache::new(OPEN_FILES_MAX))
    }
}

impl FileJournal {
    /// Like [`read`](crate::Journal::read), but the reader tells the place of each record.
    pub(crate) fn read_places(&self, after: Position) -> Result<FileReader> {
        self.shared.reader(after, Hold::Pinned)
    }

    /// The bytes at `place`, which lie before what is durable; `None` if they were trimmed away.
    ///
    /// # Errors
    /// An IO error.
    pub(crate) fn fetch(&self, place: Place) -> Result<Option<Vec<u8>>> {
        // As long as it is held, the file is not given back.
        let Some(segment) = self.shared.segment(place.segment) else {
            self.files.0.remove(&place.segment);
            return Ok(None);
        };
        let file = self.files.0.get_or_insert_with(&place.segment, || open(&segment))?;
        let mut bytes = vec![0; place.length as usize];
        file.read_exact_at(&mut bytes, u64::from(place.offset))
            .map_err(|error| StorageError::io("reading", &segment.path, error))?;
        Ok(Some(bytes))
    }
}

fn open(segment: &Segment) -> Result<Arc<File>> {
    let path = &segment.path;
    let file = File::open(path).map_err(|error| StorageError::io("opening", path, error))?;
    Ok(Arc::new(file))
}
