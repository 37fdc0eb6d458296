//! The log and its index against the suite, and that the index may be lost, torn or left behind.
//! What a power loss may do to all files at once is tried by `tests/reliability`.

use std::{fs, path::Path, sync::Arc};

use tempfile::TempDir;

use super::T;
use crate::{
    Journal, LoggedState, State, StateOptions, Table,
    conformance::{self, StateFactory},
    disk,
    state::trust,
};

#[derive(Default)]
struct Logged {
    folders: Vec<TempDir>,
    /// Whether each process finds what one has left that was not closed.
    unclosed: bool,
}

impl StateFactory for Logged {
    type Engine = LoggedState;

    fn fresh(&mut self) -> Arc<LoggedState> {
        let folder = tempfile::tempdir().unwrap();
        let state = open(folder.path());
        self.folders.push(folder);
        Arc::new(state)
    }

    fn reopen(&mut self, state: Arc<LoggedState>) -> Arc<LoggedState> {
        drop(Arc::into_inner(state).expect("nobody else uses it"));
        let folder = self.folders.last().unwrap().path();
        if self.unclosed {
            trust::withdraw(folder).unwrap();
        }
        Arc::new(open(folder))
    }
}

fn options() -> StateOptions {
    StateOptions { log_segment_bytes: 1 << 20, log_slack_bytes: 0, ..StateOptions::default() }
}

fn open(folder: &Path) -> LoggedState {
    LoggedState::open(folder, &options()).unwrap()
}

fn value(state: &LoggedState, key: &[u8]) -> Option<Vec<u8>> {
    state.get(T, key).unwrap()
}

#[test]
fn conforms() {
    conformance::state(&mut Logged::default());
}

#[test]
fn conforms_when_the_index_is_always_made_again() {
    conformance::state(&mut Logged { unclosed: true, ..Logged::default() });
}

/// As a killed process leaves it: what was flushed is there, whatever the index has of it.
#[test]
fn a_killed_process_loses_nothing_flushed() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let state = open(folder.path());
    for number in 0..2_000_u32 {
        state.put(T, &number.to_be_bytes(), &[7; 300]).unwrap();
    }
    state.put(T, b"gone", b"x").unwrap();
    state.flush().unwrap();
    state.delete(T, b"gone").unwrap();
    state.flush().unwrap();
    state.put(T, b"late", b"never flushed").unwrap();
    let copy = copy.path().join("state");
    disk::copy_folder(folder.path(), &copy).unwrap();
    let killed = open(&copy);
    assert_eq!(killed.scan(T, b"", None, usize::MAX).unwrap().len(), 2_000);
    assert_eq!(value(&killed, b"late"), None);
}

#[test]
fn an_index_that_cannot_be_used_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(folder.path());
    state.put(T, b"k", b"v").unwrap();
    state.flush().unwrap();
    drop(state);
    let index = folder.path().join("index");
    let break_it: [&dyn Fn(); 4] = [
        &|| fs::remove_dir_all(&index).unwrap(),
        &|| fs::write(index.join("conf"), b"nonsense").unwrap(),
        &|| fs::write(index.join("snap.00000000000000FF"), b"nonsense, enough of it").unwrap(),
        &|| fs::write(folder.path().join("index.closed"), b"clo").unwrap(),
    ];
    for (number, break_it) in break_it.into_iter().enumerate() {
        break_it();
        let state = open(folder.path());
        assert_eq!(value(&state, b"k").as_deref(), Some(&b"v"[..]), "{number}");
        drop(state);
        assert!(trust::is_given(folder.path(), &index), "{number}");
    }
}

#[test]
fn damage_met_while_reading_is_mended_by_the_next_open() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(folder.path());
    state.put(T, b"k", b"value").unwrap();
    state.flush().unwrap();
    let index = &state.index.as_ref().unwrap().db;
    let key = crate::state::rows::row_key(T, b"k");
    let mut stored = index.get(&key).unwrap().unwrap().to_vec();
    stored[6] ^= 1;
    index.insert(&key, stored).unwrap();
    state.get(T, b"k").unwrap_err();
    drop(state);
    assert_eq!(value(&open(folder.path()), b"k").unwrap(), b"value");
}

#[test]
fn an_overlong_log_is_cleaned_and_keeps_what_counts() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(folder.path());
    state.put(T, b"old", b"and still good").unwrap();
    state.put(T, b"large", &vec![3; 1 << 20]).unwrap();
    state.put(T, b"gone", b"x").unwrap();
    state.flush().unwrap();
    state.delete(T, b"gone").unwrap();
    for round in 0..100_u32 {
        state.put(Table(9), b"busy", &vec![round as u8; 200_000]).unwrap();
        state.flush().unwrap();
    }
    let index = state.index.as_ref().unwrap().disk_bytes();
    let log = state.log.stats().disk_bytes;
    assert!(log < 2 * index + (8 << 20), "{log} bytes of log, {index} of index");
    assert!(state.log.oldest().0 > 10);
    drop(state);
    trust::withdraw(folder.path()).unwrap();
    let state = open(folder.path());
    assert_eq!(value(&state, b"old").unwrap(), b"and still good");
    assert_eq!(value(&state, b"large").unwrap(), vec![3; 1 << 20]);
    assert_eq!(value(&state, b"gone"), None);
    assert_eq!(state.get(Table(9), b"busy").unwrap().unwrap(), vec![99; 200_000]);
}

#[test]
fn scans_see_what_is_queued_between_what_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(folder.path());
    for key in [b"a", b"c", b"e"] {
        state.put(T, key, b"stored").unwrap();
    }
    state.flush().unwrap();
    state.put(T, b"b", b"queued").unwrap();
    state.put(T, b"f", b"queued").unwrap();
    state.delete(T, b"c").unwrap();
    let scan = |after: Option<&[u8]>, limit| -> String {
        let rows = state.scan(T, b"", after, limit).unwrap();
        rows.iter().map(|(key, _)| char::from(key[0])).collect()
    };
    for (after, limit, expected) in
        [(None, 9, "abef"), (None, 2, "ab"), (None, 3, "abe"), (Some(&b"a"[..]), 2, "be")]
    {
        assert_eq!(scan(after, limit), expected);
        assert_eq!(scan(Some(b"e"), limit), "f");
    }
}
