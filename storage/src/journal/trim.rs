//! Gives old segments back: whole ones only, oldest first, never one that a reader still needs. It
//! does not decide how far; whoever holds the snapshots does.

use std::{path::Path, sync::Arc};

use super::Shared;
use crate::{Position, StorageError, disk};

type Result<T> = std::result::Result<T, StorageError>;

/// Drops the segments whose records all are at or before `through`.
pub(crate) fn trim(shared: &Shared, folder: &Path, through: Position) -> Result<()> {
    let _one_at_a_time = disk::lock(&shared.trimming);
    loop {
        let spare = shared.spares.new_path();
        let size = {
            let mut segments = disk::lock(&shared.segments);
            let (Some(oldest), Some(second)) = (segments.front(), segments.get(1)) else {
                return Ok(());
            };
            // Readers take their `Arc` under this lock, so a count of one stays one.
            if second.header.first > through.0.saturating_add(1) || Arc::strong_count(oldest) > 1 {
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
