//! A view and one generation of its rows: what events and facts make of them. Every fault of a
//! view's own code ends here. It waits for nothing.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError, atomic::Ordering},
};

use tidegate_storage::{Journal, Reader};

use super::{
    Fact, Rows, View, ViewFault,
    cut::Cut,
    error::Halt,
    figures::Shared,
    kept::{Generation, Note},
    rows::Changes,
};
use crate::{Event, Position};

/// Bytes of rows in memory after which they are kept, at the end of a record.
const BATCH_BYTES: usize = 2 << 20;

/// The journal may be kept from so many records before where the rows are.
const ANCHOR_RECORDS: u64 = 4_096;

/// See the module.
pub(super) struct Fold<V> {
    view: Arc<V>,
    shared: Arc<Shared>,
    pub(super) generation: Generation,
    pub(super) position: Position,
    pub(super) rows: u64,
    /// Whether its rows are those that are read.
    pub(super) serves: bool,
    /// Keeps what comes next from being trimmed while they are built.
    anchor: Option<Anchor>,
}

/// A reader that reads nothing: the journal is kept from where it is on.
struct Anchor {
    at: Position,
    _reader: Box<dyn Reader>,
}

impl<V: View> Fold<V> {
    /// Of rows that hold everything up to the position in `note`.
    pub(super) fn resumed(
        view: &Arc<V>,
        shared: &Arc<Shared>,
        generation: Generation,
        note: &Note,
    ) -> Result<Self, Halt> {
        generation.keep_again(note)?;
        let (view, shared) = (Arc::clone(view), Arc::clone(shared));
        let position = note.position().unwrap_or_default();
        let (rows, serves) = (note.rows, false);
        Ok(Self { view, shared, generation, position, rows, serves, anchor: None })
    }

    /// Of no rows, before the first event.
    pub(super) fn empty(view: &Arc<V>, shared: &Arc<Shared>, generation: Generation) -> Self {
        let (view, shared) = (Arc::clone(view), Arc::clone(shared));
        let (position, rows, serves) = (Position::ZERO, 0, false);
        Self { view, shared, generation, position, rows, serves, anchor: None }
    }

    /// Keeps `journal` from being trimmed from where the rows are on, until they are read or
    /// dropped. To be called again as they go on.
    pub(super) fn hold(&mut self, journal: &dyn Journal) -> Result<(), Halt> {
        let near = |anchor: &Anchor| self.position.0 - anchor.at.0 < ANCHOR_RECORDS;
        if !self.anchor.as_ref().is_some_and(near) {
            let reader = journal.read(self.position)?;
            self.anchor = Some(Anchor { at: self.position, _reader: reader });
        }
        Ok(())
    }

    /// Takes in the events up to `through`, which are whole records. What came before a fault is
    /// kept.
    pub(super) fn apply(&mut self, events: &[Event], through: Position) -> Result<(), Halt> {
        let mut changes = Changes::default();
        let mut begun = 0;
        for (number, event) in events.iter().enumerate() {
            if self.shared.ending.load(Ordering::Relaxed) {
                return Err(Halt::Closed);
            }
            if let Err(fault) = self.apply_one(event, &mut changes) {
                let halt = fault.at(Some(event.position));
                self.apply_before(&events[begun..number], event.position)?;
                return Err(halt);
            }
            let record_ends = event.cursor().within.is_none();
            if record_ends && changes.bytes() >= BATCH_BYTES {
                self.keep(&mut changes, event.position)?;
                begun = number + 1;
            }
        }
        self.keep(&mut changes, through)?;
        let mut counted = self.shared.count();
        counted.events += events.len() as u64;
        Ok(())
    }

    /// Once more what came before a record that can't be taken in: it did well the first time.
    fn apply_before(&mut self, events: &[Event], record: Position) -> Result<(), Halt> {
        let events = events.iter().take_while(|event| event.position < record);
        let mut changes = Changes::default();
        for event in events {
            let taken = self.apply_one(event, &mut changes);
            taken.map_err(|fault| fault.at(Some(event.position)))?;
        }
        let before = Position(record.0.saturating_sub(1)).max(self.position);
        self.keep(&mut changes, before)
    }

    fn apply_one(&self, event: &Event, changes: &mut Changes) -> Result<(), ViewFault> {
        let mut rows = Rows::new(&self.generation, changes);
        guarded(|| self.view.apply(event, &mut rows))
    }

    /// Takes in all that `cut` holds, and is then where it is. After a crash in between all of it
    /// is to be thrown away.
    pub(super) fn load(
        &mut self,
        cut: Cut,
        journal: &dyn Journal,
        mut on: impl FnMut(u64) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        self.position = cut.position;
        // Before the cut lets go of it.
        self.hold(journal)?;
        let at = cut.at;
        let (mut changes, mut told, mut rows) = (Changes::default(), 0, 0_i64);
        let mut write = |generation: &Generation, changes: &mut Changes| {
            let (changed, more) = changes.take();
            rows += more;
            generation.write(&changed)
        };
        cut.tell(|fact: Fact| {
            let mut rows = Rows::new(&self.generation, &mut changes);
            let loaded = guarded(|| self.view.load(&fact, at, &mut rows));
            loaded.map_err(|fault| fault.at(None))?;
            told += 1;
            if changes.bytes() >= BATCH_BYTES {
                write(&self.generation, &mut changes)?;
            }
            on(told)
        })?;
        write(&self.generation, &mut changes)?;
        self.rows = rows.unsigned_abs();
        self.note()
    }

    /// Notes how far the rows are.
    pub(super) fn note(&self) -> Result<(), Halt> {
        self.generation.set_note(&Note::new(V::VERSION, Some(self.position), self.rows))
    }

    fn keep(&mut self, changes: &mut Changes, position: Position) -> Result<(), Halt> {
        let (changed, more) = changes.take();
        let rows = self.rows.saturating_add_signed(more);
        let note = Note::new(V::VERSION, Some(position), rows);
        // A reader that has panicked has changed nothing.
        let served = || self.shared.served.write().unwrap_or_else(PoisonError::into_inner);
        let mut served = self.serves.then(served);
        let kept = self.generation.keep(note, changed);
        match (&kept, &mut served) {
            // While nobody reads: rows and position are of one moment.
            (Ok(()), Some(_)) => self.shared.reached(position, rows),
            // Perhaps half of it is written: nobody may read that. The next open mends it.
            (Err(_), Some(served)) => **served = None,
            (_, None) => {}
        }
        drop(served);
        kept?;
        (self.position, self.rows) = (position, rows);
        self.shared.count().batches += 1;
        Ok(())
    }

    /// From now on its rows are those that are read.
    pub(super) fn serve(&mut self) {
        let mut served = self.shared.served.write().unwrap_or_else(PoisonError::into_inner);
        *served = Some(self.generation.clone());
        self.serves = true;
        self.anchor = None;
        self.shared.reached(self.position, self.rows);
    }
}

/// Runs a view's own code; a panic of it is a fault like any other.
fn guarded(run: impl FnOnce() -> Result<(), ViewFault>) -> Result<(), ViewFault> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let text = text.unwrap_or_else(|| "without a message".to_owned());
        Err(ViewFault::new(format_args!("it panicked: {text}")))
    })
}
