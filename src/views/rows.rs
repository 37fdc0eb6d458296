//! The rows of a view while events are applied: what is stored, under the changes that are not
//! stored yet. It writes nothing.

use std::{collections::BTreeMap, marker::PhantomData};

use serde::{Serialize, de::DeserializeOwned};
use tidegate_actors::codec;

use super::{ViewFault, kept::Generation};

/// Longest key of a row, in bytes.
pub const ROW_KEY_BYTES_MAX: usize = 512;

/// Largest row, encoded, in bytes. Those over 512 KiB are kept in parts and cost more.
pub const ROW_BYTES_MAX: usize = 1 << 20;

/// Most that one batch may change, in bytes: it is also written as one row.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// Rows that were looked at or changed since the last batch was kept.
#[derive(Default)]
pub(super) struct Changes {
    rows: BTreeMap<Vec<u8>, Touched>,
    /// Of all of them, about.
    bytes: usize,
    /// Of those that were changed.
    changed: usize,
}

struct Touched {
    /// Whether there was a row.
    was: bool,
    now: Option<Vec<u8>>,
    changed: bool,
}

impl Touched {
    fn len(&self) -> usize {
        self.now.as_ref().map_or(0, Vec::len)
    }
}

/// A row that gets a value, or loses it.
pub(super) type Change = (Vec<u8>, Option<Vec<u8>>);

impl Changes {
    /// Bytes of what is in memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The changes, and by how many rows there are more then.
    pub(super) fn take(&mut self) -> (Vec<Change>, i64) {
        (self.bytes, self.changed) = (0, 0);
        let mut more = 0;
        let rows = std::mem::take(&mut self.rows).into_iter();
        let changed = rows.filter(|(_, row)| row.changed && (row.was || row.now.is_some()));
        let changes = changed.map(|(key, row)| {
            more += i64::from(row.now.is_some()) - i64::from(row.was);
            (key, row.now)
        });
        (changes.collect(), more)
    }
}

/// The rows of a view, as it sees and changes them while it takes in an event.
pub struct Rows<'a, R> {
    stored: &'a Generation,
    changes: &'a mut Changes,
    row: PhantomData<fn() -> R>,
}

impl<'a, R: Serialize + DeserializeOwned> Rows<'a, R> {
    pub(super) fn new(stored: &'a Generation, changes: &'a mut Changes) -> Self {
        Self { stored, changes, row: PhantomData }
    }

    /// The row under `key`, with every change up to now.
    ///
    /// # Errors
    /// The state can't be read, or the key is longer than [`ROW_KEY_BYTES_MAX`].
    pub fn get(&mut self, key: impl AsRef<[u8]>) -> Result<Option<R>, ViewFault> {
        let row = self.touch(key.as_ref())?.now.as_deref();
        Ok(row.map(codec::decode).transpose()?)
    }

    /// Puts `row` under `key`, over what may be there.
    ///
    /// # Errors
    /// The key or the row is too large ([`ROW_BYTES_MAX`]), or the state can't be read.
    pub fn put(&mut self, key: impl AsRef<[u8]>, row: &R) -> Result<(), ViewFault> {
        let mut bytes = Vec::new();
        codec::encode(row, &mut bytes)?;
        if bytes.len() > ROW_BYTES_MAX {
            let is = bytes.len();
            return Err(ViewFault::new(format_args!("a row of {is} bytes; {ROW_BYTES_MAX} fit")));
        }
        self.change(key.as_ref(), Some(bytes))
    }

    /// Removes the row under `key`, if there is one.
    ///
    /// # Errors
    /// As [`Rows::get`].
    pub fn remove(&mut self, key: impl AsRef<[u8]>) -> Result<(), ViewFault> {
        self.change(key.as_ref(), None)
    }

    /// What it was before does not count any more, however often it changes.
    fn change(&mut self, key: &[u8], now: Option<Vec<u8>>) -> Result<(), ViewFault> {
        let touched = self.touch(key)?;
        let old = touched.len();
        let old_change = if touched.changed { key.len() + old } else { 0 };
        (touched.now, touched.changed) = (now, true);
        let new = touched.len();
        self.changes.bytes = self.changes.bytes - old + new;
        self.changes.changed = self.changes.changed - old_change + key.len() + new;
        if self.changes.changed > BATCH_BYTES_MAX {
            return Err(ViewFault::new(format_args!(
                "the events of one record change more than {BATCH_BYTES_MAX} bytes of rows"
            )));
        }
        Ok(())
    }

    fn touch(&mut self, key: &[u8]) -> Result<&mut Touched, ViewFault> {
        if key.len() > ROW_KEY_BYTES_MAX {
            let is = key.len();
            return Err(ViewFault::new(format_args!("a key of {is} bytes")));
        }
        if !self.changes.rows.contains_key(key) {
            let now = self.stored.get(key).map_err(ViewFault::of_store)?;
            self.changes.bytes += key.len() + now.as_ref().map_or(0, Vec::len);
            let touched = Touched { was: now.is_some(), now, changed: false };
            self.changes.rows.insert(key.to_vec(), touched);
        }
        let touched = self.changes.rows.get_mut(key);
        touched.ok_or_else(|| ViewFault::new("a row that was just read is gone"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_storage::MemoryState;

    use super::{super::kept::Kept, *};

    #[test]
    fn only_what_is_written_in_the_end_counts() {
        let stored = Kept::new(Arc::new(MemoryState::new()), "v").generation(0);
        let large = "x".repeat(ROW_BYTES_MAX - 100);
        let mut changes = Changes::default();
        let mut rows = Rows::<String>::new(&stored, &mut changes);
        for _ in 0..40 {
            rows.put("one", &large).unwrap();
        }
        for number in 0..14 {
            rows.put(format!("{number}"), &large).unwrap();
        }
        assert!(changes.bytes() > 14 * large.len() && changes.bytes() < 16 * ROW_BYTES_MAX);
        stored.write(&changes.take().0).unwrap();
        assert_eq!(changes.bytes(), 0);

        // Those that are only looked at are not written; those that are removed have no bytes.
        let mut rows = Rows::<String>::new(&stored, &mut changes);
        for number in 0..14 {
            assert!(rows.get(format!("{number}")).unwrap().is_some());
        }
        for number in 0..100 {
            rows.put(format!("new {number}"), &large).unwrap();
            rows.remove(format!("new {number}")).unwrap();
        }
        let fault = (0..17).find_map(|number| rows.put(format!("more {number}"), &large).err());
        assert!(format!("{:?}", fault.unwrap()).contains("16777216"));
    }
}
