//! Gives old segments back: whole ones only, oldest first, never one that a reader still needs. It
//! does not decide how far; whoever holds the snapshots does.

use std::{path::Path, sync::Arc};

use super::{Shared, segment::Segment};
use crate::{Position, StorageError, disk};

type Result<T> = std::result::Result<T, StorageError>;

/// Drops the segments whose records all are at or before `through`.
pub(crate) fn trim(shared: &Shared, folder: &Path, through: Position) -> Result<()> {
    let _one_at_a_time = disk::lock(&shared.trimming);
    if shared.queue.is_closing() {
        // The folder may be open elsewhere by now.
        return Err(StorageError::Closed);
    }
    if !disk::lock(&shared.segments).get(1).is_some_and(|second| is_given_back(second, through)) {
        return Ok(());
    }
    shared.bounds.allow_trim(through)?;
    loop {
        let spare = shared.spares.new_path();
        let size = {
            let mut segments = disk::lock(&shared.segments);
            let (Some(oldest), Some(second)) = (segments.front(), segments.get(1)) else {
                return Ok(());
            };
            // Readers take their `Arc` under this lock, so a count of one stays one.
            if !is_given_back(second, through) || Arc::strong_count(oldest) > 1 {
                return Ok(());
            }
            disk::rename(&oldest.path, &spare)?;
            let size = oldest.header.size;
            segments.pop_front();
            size
        };
        // One by one: were the renames of two segments lost in part, a gap would stay. And the file
        // is not reused before its old name is surely gone.
        disk::sync_folder(folder)?;
        shared.spares.give(spare, size)?;
    }
}

/// Whether all that is before segment `second` is at or before `through`.
fn is_given_back(second: &Segment, through: Position) -> bool {
    second.header.first <= through.0.saturating_add(1)
}
