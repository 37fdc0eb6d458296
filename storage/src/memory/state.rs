//! [`MemoryState`]: the state of tests and simulation. It keeps nothing beyond the process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use crate::{Row, State, StorageError, Table, disk};

type Result<T> = std::result::Result<T, StorageError>;

/// A state in memory. What was not flushed is missing from its crash images.
#[derive(Debug, Default)]
pub struct MemoryState {
    rows: Mutex<Rows>,
}

type Key = (Table, Vec<u8>);

#[derive(Clone, Debug, Default)]
struct Rows {
    live: BTreeMap<Key, Arc<[u8]>>,
    flushed: BTreeMap<Key, Arc<[u8]>>,
    /// Changes since the last flush, oldest first; `None` for a removal.
    changes: Vec<(Key, Option<Arc<[u8]>>)>,
    fail_next_flush: bool,
    failure: Option<StorageError>,
}

impl MemoryState {
    /// Empty.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What a power loss now would leave at least: what was flushed.
    #[must_use]
    pub fn crash_image(&self) -> Self {
        self.crash_image_keeping(0)
    }

    /// What a power loss now might leave as well: what was flushed, and the first `changes` of the
    /// unflushed changes. A real engine may have written them in the background.
    #[must_use]
    pub fn crash_image_keeping(&self, changes: usize) -> Self {
        let rows = disk::lock(&self.rows);
        let mut left = rows.flushed.clone();
        for (key, value) in rows.changes.iter().take(changes) {
            change(&mut left, key.clone(), value.clone());
        }
        let image = Rows { live: left.clone(), flushed: left, ..Rows::default() };
        Self { rows: Mutex::new(image) }
    }

    /// How many changes have not been flushed.
    #[must_use]
    pub fn unflushed(&self) -> usize {
        disk::lock(&self.rows).changes.len()
    }

    /// The next flush fails, and so do all later ones.
    pub fn fail_next_flush(&self) {
        disk::lock(&self.rows).fail_next_flush = true;
    }

    fn set(&self, key: Key, value: Option<Arc<[u8]>>) {
        let mut rows = disk::lock(&self.rows);
        change(&mut rows.live, key.clone(), value.clone());
        rows.changes.push((key, value));
    }
}

fn change(rows: &mut BTreeMap<Key, Arc<[u8]>>, key: Key, value: Option<Arc<[u8]>>) {
    match value {
        Some(value) => rows.insert(key, value),
        None => rows.remove(&key),
    };
}

impl State for MemoryState {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let rows = disk::lock(&self.rows);
        Ok(rows.live.get(&(table, key.to_vec())).map(|value| value.to_vec()))
    }

    fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.set((table, key.to_vec()), Some(value.into()));
        Ok(())
    }

    fn delete(&self, table: Table, key: &[u8]) -> Result<()> {
        self.set((table, key.to_vec()), None);
        Ok(())
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>> {
        let rows = disk::lock(&self.rows);
        let start = after.map_or(prefix, |after| after.max(prefix));
        Ok(rows
            .live
            .range((table, start.to_vec())..)
            .take_while(|((found, key), _)| *found == table && key.starts_with(prefix))
            .filter(|((_, key), _)| after.is_none_or(|after| key.as_slice() > after))
            .take(limit)
            .map(|((_, key), value)| (key.clone(), value.to_vec()))
            .collect())
    }

    fn flush(&self) -> Result<()> {
        let mut rows = disk::lock(&self.rows);
        if std::mem::take(&mut rows.fail_next_flush) {
            let error = std::io::Error::other("a failure on demand");
            rows.failure = Some(StorageError::io("flushing", "memory".as_ref(), error));
        }
        if let Some(failure) = &rows.failure {
            return Err(failure.clone());
        }
        let rows = &mut *rows;
        for (key, value) in rows.changes.drain(..) {
            change(&mut rows.flushed, key, value);
        }
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        0
    }
}
