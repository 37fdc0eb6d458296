//! How views lie in the state: for each a head that names the generation of rows that is served,
//! and for each generation a note of how far it is, and its rows. It knows no event.
//!
//! The state has no batches of rows. What a crash leaves of it is what was changed up to some
//! moment, in the order in which it was asked for. So a batch is written twice: first as one row,
//! the generation's note, together with the position that it leads to; then row by row. Whoever
//! finds a note writes its changes again, which changes nothing if they were all there.

use std::sync::Arc;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tidegate_actors::codec;
use tidegate_storage::{Row, State, StorageError, Table};

use super::{error::Halt, rows::Change};
use crate::Position;

const VIEWS: Table = Table(b'v');

/// Rows deleted at a time. They are read for it, and may be as large as any.
const DROPPED_AT_ONCE: usize = 16;

const HEAD: u8 = b'h';
const NOTE: u8 = b'n';
const ROW: u8 = b'r';
/// Ends the name in a key; no name contains it.
const END: u8 = 0;

/// Which generations of a view there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The one that is read.
    pub(super) serving: Option<u32>,
    /// The one that is to follow it.
    pub(super) building: Option<u32>,
    /// The number of the next one.
    pub(super) next: u32,
}

impl Head {
    /// The same without what is of no use and will be deleted: another version of the view would
    /// take what is left of it for the whole. What was asked for stays so, under a number that has
    /// no rows yet.
    pub(super) fn naming(&self, serving_is_of_use: bool, building_is_of_use: bool) -> Self {
        let unused = self.building.filter(|_| !building_is_of_use).map(|_| self.next);
        Self {
            serving: self.serving.filter(|_| serving_is_of_use),
            building: unused.or(self.building),
            next: self.next + u32::from(unused.is_some()),
        }
    }
}

/// How far a generation is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// The version of the view that made it.
    pub(super) version: u32,
    /// `None` until everything is loaded: what there is then is of no use.
    pub(super) position: Option<u64>,
    /// How many rows there are.
    pub(super) rows: u64,
    /// What was changed last. It may not have been, yet.
    changes: Vec<Change>,
}

impl Note {
    pub(super) fn new(version: u32, position: Option<Position>, rows: u64) -> Self {
        let position = position.map(|position| position.0);
        Self { version, position, rows, changes: Vec::new() }
    }

    pub(super) fn position(&self) -> Option<Position> {
        self.position.map(Position)
    }
}

/// One view's place in the state.
#[derive(Clone)]
pub(super) struct Kept {
    state: Arc<dyn State>,
    name: Arc<str>,
}

impl Kept {
    pub(super) fn new(state: Arc<dyn State>, name: &str) -> Self {
        Self { state, name: name.into() }
    }

    /// Every view that has rows in `state`.
    pub(super) fn all(state: &Arc<dyn State>) -> Result<Vec<Self>, StorageError> {
        const VIEWS_MAX: usize = 1 << 16;
        let rows = state.scan(VIEWS, &[HEAD], None, VIEWS_MAX)?;
        let name = |key: &[u8]| String::from_utf8_lossy(&key[1..key.len() - 1]).into_owned();
        let keys = rows.iter().map(|(key, _)| key).filter(|key| key.len() > 2);
        Ok(keys.map(|key| Self::new(Arc::clone(state), &name(key))).collect())
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn head(&self) -> Result<Head, Halt> {
        Ok(read(&*self.state, &self.key(HEAD, None, &[]))?.unwrap_or_default())
    }

    pub(super) fn set_head(&self, head: &Head) -> Result<(), Halt> {
        write(&*self.state, &self.key(HEAD, None, &[]), head)
    }

    /// Notes that new rows are wanted, if it is not noted: the next open builds them, whatever
    /// happens. Waits for the disk.
    pub(super) fn want_new(&self) -> Result<(), Halt> {
        let head = self.head()?;
        if head.building.is_none() {
            // A number that has no rows yet.
            self.set_head(&Head { building: Some(head.next), next: head.next + 1, ..head })?;
        }
        self.flush()
    }

    /// Waits until everything that was changed is on disk.
    pub(super) fn flush(&self) -> Result<(), Halt> {
        Ok(self.state.flush()?)
    }

    pub(super) fn generation(&self, number: u32) -> Generation {
        Generation { of: self.clone(), number }
    }

    /// The generations that there are rows of, or may be.
    pub(super) fn generations(&self) -> Result<Vec<Generation>, StorageError> {
        const GENERATIONS_MAX: usize = 1 << 16;
        let prefix = self.key(NOTE, None, &[]);
        let rows = self.state.scan(VIEWS, &prefix, None, GENERATIONS_MAX)?;
        let number = |key: &[u8]| key.last_chunk::<4>().map(|last| u32::from_be_bytes(*last));
        let numbers = rows.iter().filter_map(|(key, _)| number(key));
        Ok(numbers.map(|number| self.generation(number)).collect())
    }

    fn key(&self, kind: u8, generation: Option<u32>, key: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.name.len() + key.len() + 6);
        bytes.push(kind);
        bytes.extend_from_slice(self.name.as_bytes());
        bytes.push(END);
        bytes.extend(generation.into_iter().flat_map(u32::to_be_bytes));
        bytes.extend_from_slice(key);
        bytes
    }
}

/// One generation of a view's rows.
#[derive(Clone)]
pub(super) struct Generation {
    of: Kept,
    pub(super) number: u32,
}

impl Generation {
    pub(super) fn note(&self) -> Result<Option<Note>, Halt> {
        read(&*self.of.state, &self.of.key(NOTE, Some(self.number), &[]))
    }

    pub(super) fn set_note(&self, note: &Note) -> Result<(), Halt> {
        write(&*self.of.state, &self.of.key(NOTE, Some(self.number), &[]), note)
    }

    /// Keeps a batch: after a crash all of it is there, or none.
    pub(super) fn keep(&self, mut note: Note, changes: Vec<Change>) -> Result<(), Halt> {
        note.changes = changes;
        self.set_note(&note)?;
        self.write(&note.changes)
    }

    /// Brings the batch of `note` to its end, if a crash has kept it from that.
    pub(super) fn keep_again(&self, note: &Note) -> Result<(), Halt> {
        self.write(&note.changes)
    }

    /// Writes rows of a generation that is not whole yet.
    pub(super) fn write(&self, changes: &[Change]) -> Result<(), Halt> {
        for (key, value) in changes {
            let key = self.row_key(key);
            match value {
                Some(value) => self.of.state.put(VIEWS, &key, value)?,
                None => self.of.state.delete(VIEWS, &key)?,
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.of.state.get(VIEWS, &self.row_key(key))
    }

    /// Up to `limit` rows whose key starts with `prefix`, in key order, after the key `after`.
    pub(super) fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StorageError> {
        let (skipped, after) = (self.row_key(&[]).len(), after.map(|after| self.row_key(after)));
        let rows = self.of.state.scan(VIEWS, &self.row_key(prefix), after.as_deref(), limit)?;
        Ok(rows.into_iter().map(|(key, row)| (key[skipped..].to_vec(), row)).collect())
    }

    /// Deletes some of the rows; whether that was all of it.
    pub(super) fn drop_some(&self) -> Result<bool, StorageError> {
        let state = &*self.of.state;
        let rows = state.scan(VIEWS, &self.row_key(&[]), None, DROPPED_AT_ONCE)?;
        for (key, _) in &rows {
            state.delete(VIEWS, key)?;
        }
        if rows.len() < DROPPED_AT_ONCE {
            // Last: it says that there may be rows.
            state.delete(VIEWS, &self.of.key(NOTE, Some(self.number), &[]))?;
            return Ok(true);
        }
        Ok(false)
    }

    fn row_key(&self, key: &[u8]) -> Vec<u8> {
        self.of.key(ROW, Some(self.number), key)
    }
}

fn read<T: DeserializeOwned>(state: &dyn State, key: &[u8]) -> Result<Option<T>, Halt> {
    let row = state.get(VIEWS, key)?;
    Ok(row.map(|row| codec::decode(&row)).transpose()?)
}

fn write<T: Serialize>(state: &dyn State, key: &[u8], value: &T) -> Result<(), Halt> {
    let mut bytes = Vec::new();
    codec::encode(value, &mut bytes)?;
    Ok(state.put(VIEWS, key, &bytes)?)
}

#[cfg(test)]
mod tests {
    use tidegate_storage::MemoryState;

    use super::*;

    fn rows(generation: &Generation) -> Vec<(Vec<u8>, Vec<u8>)> {
        generation.scan(&[], None, 99).unwrap()
    }

    fn put(key: &str, value: &str) -> Change {
        (key.into(), Some(value.into()))
    }

    fn at(position: u64) -> Note {
        Note::new(1, Some(Position(position)), 0)
    }

    #[test]
    fn of_a_batch_a_crash_leaves_all_or_nothing() {
        let state = Arc::new(MemoryState::new());
        let kept = Kept::new(Arc::clone(&state) as _, "v");
        let first = [put("a", "1"), put("b", "1"), put("c", "1")];
        kept.generation(0).keep(at(5), first.to_vec()).unwrap();
        state.flush().unwrap();
        let before = rows(&kept.generation(0));
        let second = vec![put("a", "2"), (b"b".to_vec(), None), put("d", "2")];
        kept.generation(0).keep(at(9), second).unwrap();
        let after = rows(&kept.generation(0));
        for written in 0..=state.unflushed() {
            let image = Arc::new(state.crash_image_keeping(written));
            let found = Kept::new(image, "v").generation(0);
            let note = found.note().unwrap().unwrap();
            found.keep_again(&note).unwrap();
            let expected = if note.position == Some(9) { &after } else { &before };
            assert_eq!(rows(&found), *expected, "{written} changes were written");
            assert_eq!(note.position == Some(9), written > 0);
        }
    }

    #[test]
    fn new_rows_that_are_wanted_are_so_after_a_crash() {
        let state = Arc::new(MemoryState::new());
        let kept = Kept::new(Arc::clone(&state) as _, "v");
        let serving = Head { serving: Some(0), building: None, next: 1 };
        kept.set_head(&serving).unwrap();
        kept.want_new().unwrap();
        let wanted = Head { building: Some(1), next: 2, ..serving };
        let crashed = Kept::new(Arc::new(state.crash_image_keeping(0)), "v");
        assert_eq!(crashed.head().unwrap(), wanted);
        // Whoever wants them, too, begins nothing.
        kept.want_new().unwrap();
        assert_eq!(kept.head().unwrap(), wanted);
    }

    #[test]
    fn what_will_be_deleted_is_not_named_any_more() {
        let head = Head { serving: Some(3), building: Some(4), next: 5 };
        assert_eq!(head.naming(true, true), head);
        let old = Head { serving: None, building: Some(4), next: 5 };
        assert_eq!(head.naming(false, true), old);
        let begun_anew = Head { serving: Some(3), building: Some(5), next: 6 };
        assert_eq!(head.naming(true, false), begun_anew);
        let fresh = Head::default();
        assert_eq!(fresh.naming(false, false), fresh);
    }

    #[test]
    fn generations_and_views_are_apart_and_leave_nothing() {
        let state: Arc<dyn State> = Arc::new(MemoryState::new());
        let (one, other) =
            (Kept::new(Arc::clone(&state), "v"), Kept::new(Arc::clone(&state), "vv"));
        let many = (0..600).map(|number| put(&format!("{number}"), "x")).collect::<Vec<_>>();
        for kept in [&one, &other] {
            kept.set_head(&Head { serving: Some(0), building: None, next: 2 }).unwrap();
            for number in [0, 1] {
                kept.generation(number).keep(at(1), many.clone()).unwrap();
            }
        }
        let numbers = |kept: &Kept| -> Vec<_> {
            kept.generations().unwrap().iter().map(|generation| generation.number).collect()
        };
        assert_eq!(numbers(&one), [0, 1]);
        let mut turns = 1;
        while !one.generation(0).drop_some().unwrap() {
            turns += 1;
        }
        assert_eq!((turns, numbers(&one), numbers(&other)), (38, vec![1], vec![0, 1]));
        assert_eq!(one.generation(1).scan(b"59", None, 99).unwrap().len(), 11);
        let page = one.generation(1).scan(b"59", Some(b"597"), 1).unwrap();
        assert_eq!(page, [(b"598".to_vec(), b"x".to_vec())]);
        let names: Vec<_> =
            Kept::all(&state).unwrap().iter().map(|k| k.name().to_owned()).collect();
        assert_eq!(names, ["v", "vv"]);
    }
}
