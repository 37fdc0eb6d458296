//! The reference engines: journal and state in memory, with crash images and faults on demand, for
//! tests and simulation. They stand where the files would; they measure nothing.

mod journal;
mod state;

pub use journal::MemoryJournal;
pub use state::MemoryState;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        Journal, Position, State, StorageError, Table, Urgency,
        conformance::{self, JournalFactory, StateFactory, batch, rest},
    };

    struct Memory;

    impl JournalFactory for Memory {
        type Engine = MemoryJournal;

        fn fresh(&mut self) -> Arc<MemoryJournal> {
            Arc::default()
        }

        fn reopen(&mut self, journal: Arc<MemoryJournal>) -> Arc<MemoryJournal> {
            Arc::new(journal.crash_image())
        }

        fn fail_next_sync(&mut self, journal: &MemoryJournal) -> bool {
            journal.fail_next_sync();
            true
        }
    }

    impl StateFactory for Memory {
        type Engine = MemoryState;

        fn fresh(&mut self) -> Arc<MemoryState> {
            Arc::default()
        }

        fn reopen(&mut self, state: Arc<MemoryState>) -> Arc<MemoryState> {
            Arc::new(state.crash_image())
        }
    }

    #[test]
    fn journal_conforms() {
        conformance::journal(&mut Memory);
    }

    #[test]
    fn state_conforms() {
        conformance::state(&mut Memory);
    }

    #[test]
    fn a_manual_journal_loses_what_was_not_committed() {
        let journal = MemoryJournal::manual();
        let append = |record: &[u8]| {
            journal.append(batch(1, 0, &[record]), Urgency::Now, Box::new(drop)).unwrap()
        };
        append(b"kept");
        journal.commit();
        append(b"lost");
        assert_eq!((journal.appended(), journal.durable()), (Position(2), Position(1)));
        let image = journal.crash_image();
        assert_eq!(image.appended(), Position(1));
        assert_eq!(rest(&mut *image.read(Position::ZERO).unwrap()), [(1, b"kept".to_vec())]);
        journal.fail_next_append(StorageError::Full { path: "memory".into() });
        let refused = journal.append(batch(1, 0, &[b"x"]), Urgency::Now, Box::new(drop));
        assert!(matches!(refused, Err(StorageError::Full { .. })));
        assert_eq!(append(b"third"), Position(3));
    }

    #[test]
    fn a_crash_may_keep_a_beginning_of_what_was_not_committed() {
        let journal = MemoryJournal::manual();
        for record in [&b"first"[..], b"second", b"third"] {
            journal.append(batch(1, 0, &[record]), Urgency::Now, Box::new(drop)).unwrap();
        }
        journal.fail_next_sync();
        journal.commit();
        assert_eq!((journal.durable(), journal.unsynced()), (Position::ZERO, 3));
        let image = journal.crash_image_keeping(2);
        assert_eq!((image.durable(), image.unsynced()), (Position(2), 0));
        let kept = rest(&mut *image.read(Position::ZERO).unwrap());
        assert_eq!(kept, [(1, b"first".to_vec()), (2, b"second".to_vec())]);
        let append =
            |record: &[u8]| image.append(batch(1, 0, &[record]), Urgency::Now, Box::new(drop));
        assert_eq!(append(b"after").unwrap(), Position(3));
    }

    #[test]
    fn a_state_loses_what_was_not_flushed() {
        let state = MemoryState::new();
        let table = Table(1);
        state.put(table, b"a", b"1").unwrap();
        state.flush().unwrap();
        state.put(table, b"a", b"2").unwrap();
        state.delete(table, b"a").unwrap();
        let get = |state: MemoryState| state.get(table, b"a").unwrap();
        assert_eq!(get(state.crash_image()).unwrap(), b"1");
        assert_eq!(get(state.crash_image_keeping(1)).unwrap(), b"2");
        assert_eq!(get(state.crash_image_keeping(2)), None);
        state.fail_next_flush();
        assert!(state.flush().is_err());
        assert!(state.flush().is_err());
        assert_eq!(get(state.crash_image()).unwrap(), b"1");
    }
}
