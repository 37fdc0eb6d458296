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

/// What counts of the log.
fn live(state: &LoggedState) -> u64 {
    disk::lock(&state.committing).tail.live_bytes()
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
    let (log, live) = (state.log.stats().disk_bytes, 1 << 20);
    assert!(log < 2 * live + (8 << 20), "{log} bytes of log, {live} of which count");
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

/// Rows are read while others are written, the log is cleaned, and its files are used again.
#[test]
fn readers_find_every_value_while_the_log_moves() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(folder.path());
    let resting = |number: u32| vec![number as u8; 40 + number as usize % 900];
    for number in 0..600_u32 {
        state.put(T, &number.to_be_bytes(), &resting(number)).unwrap();
    }
    state.put(Table(9), b"busy", &[0; 300_000]).unwrap();
    state.flush().unwrap();
    let before = state.log.oldest();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 1..150_usize {
                let value = vec![round as u8; 5_000 + round * 2_000];
                state.put(Table(9), b"busy", &value).unwrap();
                state.flush().unwrap();
            }
        });
        while !writer.is_finished() {
            let busy = state.get(Table(9), b"busy").unwrap().unwrap();
            assert!(busy.iter().all(|byte| *byte == busy[0]), "parts of two values");
            for number in (0..600_u32).step_by(7) {
                let found = state.get(T, &number.to_be_bytes()).unwrap();
                assert_eq!(found, Some(resting(number)));
            }
            assert_eq!(state.scan(T, b"", None, usize::MAX).unwrap().len(), 600);
        }
        writer.join().unwrap();
    });
    assert!(state.log.oldest() > before, "the log was not cleaned");
}

/// The log is as long as what counts in it allows, also in the next process, which is told how much
/// that is, and in one that must count.
#[test]
fn what_counts_is_known_after_each_open() {
    let folder = tempfile::tempdir().unwrap();
    let mut counted = Vec::new();
    for made_again in [false, false, true] {
        if made_again {
            trust::withdraw(folder.path()).unwrap();
        }
        let state = open(folder.path());
        counted.push(live(&state));
        state.put(T, b"k", &[1; 1_000]).unwrap();
        state.put(T, b"small", b"s").unwrap();
        state.put(T, b"parts", &vec![1; 400_000]).unwrap();
        state.put(T, b"gone", &[1; 1_000]).unwrap();
        state.delete(T, b"gone").unwrap();
        state.flush().unwrap();
    }
    let live = (10 + 1 + 1_000) + (10 + 5 + 1) + (10 + 5 + 400_000);
    assert_eq!(counted, [0, live, live]);
}

/// Only the newest record of a row counts, also where each says the same.
#[test]
fn rows_written_again_with_the_same_value_are_cleaned_away() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(folder.path());
    for _ in 0..30 {
        for number in 0..5_000_u32 {
            state.put(T, &[&number.to_be_bytes()[..], &[7; 90]].concat(), b"").unwrap();
        }
        state.flush().unwrap();
    }
    let (log, live) = (state.log.stats().disk_bytes, live(&state));
    assert!(log < 2 * live + (5 << 20), "{log} bytes of log, {live} of which count");
}

/// Who never flushes makes the log no longer than others.
#[test]
fn what_is_never_flushed_is_cleaned_too() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(folder.path());
    for round in 0..200 {
        state.put(T, b"key", &vec![round; 200 << 10]).unwrap();
    }
    let log = state.log.stats().disk_bytes;
    assert!(log < 16 << 20, "{log} bytes of log for one row");
}

/// However much a flush writes, and however large files are, cleaning keeps up.
#[test]
fn no_writer_outruns_the_cleaning() {
    for log_segment_bytes in [1 << 20, 8 << 20] {
        let folder = tempfile::tempdir().unwrap();
        let options = StateOptions { log_segment_bytes, ..options() };
        let state = LoggedState::open(folder.path(), &options).unwrap();
        let allowed = 2 * (20 << 20) + 3 * log_segment_bytes + (20 << 20);
        for round in 0..8 {
            for number in 0..80_u32 {
                state.put(T, &number.to_be_bytes(), &vec![round; 256 << 10]).unwrap();
            }
            state.flush().unwrap();
            let log = state.log.stats().disk_bytes;
            assert!(log < allowed, "{log} bytes of log in round {round}");
        }
    }
}
