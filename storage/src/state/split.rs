//! The state of a store: rows in one log, snapshots in another. Rows stay and snapshots follow each
//! other: in one log, what is left of old snapshots would be cleaned away by moving all rows. It
//! looks into neither.

use std::{fmt, path::Path};

use tracing::{info, warn};

use super::{LoggedState, SNAPSHOT_TABLE, StateOptions};
use crate::{Opening, Row, State, StorageError, Table};

type Result<T> = std::result::Result<T, StorageError>;

/// In the folder of the rows.
const SNAPSHOTS_NAME: &str = "snapshots";

/// Memory for cached pages of the snapshots' index, which has a row for each 256 KiB of them.
const SNAPSHOTS_CACHE_BYTES: u64 = 4 << 20;

/// Rows that are brought over at a time, which may take 256 KiB each.
const BROUGHT_AT_ONCE: usize = 64;

/// The state of a store: two [`LoggedState`]s that look like one. All in [`SNAPSHOT_TABLE`] is in
/// the one, and all else in the other.
pub struct SplitState {
    pub(super) rows: LoggedState,
    pub(super) snapshots: LoggedState,
}

impl SplitState {
    /// Opens the state in `folder`, or begins one there.
    ///
    /// # Errors
    /// As [`LoggedState::open`].
    pub fn open(folder: impl AsRef<Path>, options: &StateOptions) -> Result<Self> {
        let folder = folder.as_ref();
        Self::of(LoggedState::open(folder, options)?, folder, options, &Opening::default())
    }

    /// Like [`SplitState::open`], but a folder without a log is damage.
    pub(crate) fn open_existing(
        folder: &Path,
        options: &StateOptions,
        opening: &Opening,
    ) -> Result<Self> {
        let rows = LoggedState::open_existing(folder, options, opening)?;
        Self::of(rows, folder, options, opening)
    }

    fn of(
        rows: LoggedState,
        folder: &Path,
        options: &StateOptions,
        opening: &Opening,
    ) -> Result<Self> {
        let folder = folder.join(SNAPSHOTS_NAME);
        let options = StateOptions { cache_bytes: SNAPSHOTS_CACHE_BYTES, ..options.clone() };
        let snapshots = LoggedState::open_short(&folder, &options, opening)?;
        bring_over(&rows, &snapshots)?;
        Ok(Self { rows, snapshots })
    }

    fn of_table(&self, table: Table) -> &LoggedState {
        if table == SNAPSHOT_TABLE { &self.snapshots } else { &self.rows }
    }
}

/// The snapshots of a store that had one log for all. May be cut short and done again: until all
/// are durable where they belong, none is taken away.
fn bring_over(rows: &LoggedState, snapshots: &LoggedState) -> Result<()> {
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page = rows.keys(SNAPSHOT_TABLE, after.as_deref(), BROUGHT_AT_ONCE)?;
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        for key in &page {
            match rows.get(SNAPSHOT_TABLE, key) {
                Ok(Some(value)) => snapshots.put(SNAPSHOT_TABLE, key, &value)?,
                Ok(None) => {}
                // The snapshot that it is of will not be taken for whole; there is another.
                Err(error @ StorageError::Damaged { .. }) => {
                    warn!(%error, "a part of a snapshot is damaged");
                }
                Err(error) => return Err(error),
            }
        }
        keys.extend(page);
    }
    if keys.is_empty() {
        return Ok(());
    }
    snapshots.flush()?;
    keys.iter().try_for_each(|key| rows.delete(SNAPSHOT_TABLE, key))?;
    rows.flush()?;
    info!(rows = keys.len(), "snapshots have a log of their own now");
    Ok(())
}

impl State for SplitState {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.of_table(table).get(table, key)
    }

    fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.of_table(table).put(table, key, value)
    }

    fn delete(&self, table: Table, key: &[u8]) -> Result<()> {
        self.of_table(table).delete(table, key)
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>> {
        self.of_table(table).scan(table, prefix, after, limit)
    }

    fn flush(&self) -> Result<()> {
        self.rows.flush()?;
        self.snapshots.flush()
    }

    fn disk_bytes(&self) -> u64 {
        self.rows.disk_bytes() + self.snapshots.disk_bytes()
    }
}

impl fmt::Debug for SplitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SplitState").field("rows", &self.rows).finish_non_exhaustive()
    }
}
