//! The sled engine against the suite, and what only it promises. Power loss is not simulated here.

mod damage;
mod logged;

use std::{fs, sync::Arc, time::Duration};

use tempfile::TempDir;

use super::{SledState, StateOptions, rows};
use crate::{
    State, StorageError, Table,
    conformance::{self, StateFactory},
    disk,
};

#[derive(Default)]
struct Sled {
    folders: Vec<TempDir>,
}

impl StateFactory for Sled {
    type Engine = SledState;

    fn fresh(&mut self) -> Arc<SledState> {
        let folder = tempfile::tempdir().unwrap();
        let state = open(&folder);
        self.folders.push(folder);
        Arc::new(state)
    }

    fn reopen(&mut self, state: Arc<SledState>) -> Arc<SledState> {
        drop(Arc::into_inner(state).expect("nobody else uses it"));
        Arc::new(open(self.folders.last().unwrap()))
    }
}

fn open(folder: &TempDir) -> SledState {
    SledState::open(folder.path().join("state"), &StateOptions::default()).unwrap()
}

const T: Table = Table(5);

#[test]
fn conforms() {
    conformance::state(&mut Sled::default());
}

#[test]
fn is_locked_while_open() {
    let folder = tempfile::tempdir().unwrap();
    let _state = open(&folder);
    let path = folder.path().join("state");
    let second = SledState::open_within(&path, &StateOptions::default(), Duration::ZERO);
    assert!(matches!(second, Err(StorageError::Locked { .. })), "{second:?}");
}

#[test]
fn a_folder_that_sled_refuses_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(&folder));
    let summary = folder.path().join("state/snap.00000000000000FF");
    fs::write(&summary, b"nonsense, and enough of it").unwrap();
    let opened = SledState::open(folder.path().join("state"), &StateOptions::default());
    assert!(matches!(opened, Err(StorageError::StateUnusable { .. })), "{opened:?}");
    assert_eq!(fs::read(&summary).unwrap(), b"nonsense, and enough of it");
}

#[test]
fn changed_bytes_are_damage() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(&folder);
    let key = rows::row_key(T, b"k");
    state.put(T, b"k", b"value").unwrap();
    let mut stored = state.db.get(&key).unwrap().unwrap().to_vec();
    stored[6] ^= 1;
    state.db.insert(&key, stored).unwrap();
    assert!(matches!(state.get(T, b"k"), Err(StorageError::Damaged { .. })));
    assert!(matches!(state.scan(T, b"", None, 9), Err(StorageError::Damaged { .. })));

    state.put(T, b"k", &[1; 20_000]).unwrap();
    let piece = state.db.scan_prefix(rows::pieces_of_row(&key)).keys().next().unwrap().unwrap();
    state.db.remove(&piece).unwrap();
    assert!(matches!(state.get(T, b"k"), Err(StorageError::Damaged { .. })));
    state.put(T, b"k", b"mended").unwrap();
    assert_eq!(state.get(T, b"k").unwrap().unwrap(), b"mended");
}

#[test]
fn large_values_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(&folder);
    for length in [50_000, 90_000, 20, 90_000, 8_000] {
        state.put(T, b"k", &vec![1; length]).unwrap();
    }
    state.delete(T, b"k").unwrap();
    assert_eq!(state.db.iter().count(), 0);

    // A writer that died between its pieces and its head.
    state.put(T, b"k", &[1; 20_000]).unwrap();
    let key = rows::row_key(T, b"k");
    let before = state.db.iter().count();
    state.db.insert(rows::intent_key(&key), Vec::new()).unwrap();
    for number in 0..3 {
        let orphan = rows::piece_key(&rows::pieces_prefix(&key, 77), number);
        state.db.insert(orphan, rows::encode_piece(b"orphan")).unwrap();
    }
    state.flush().unwrap();
    drop(state);
    let state = open(&folder);
    assert_eq!(state.db.iter().count(), before);
    assert_eq!(state.get(T, b"k").unwrap().unwrap(), [1; 20_000]);
}

#[test]
fn no_value_goes_where_sled_does_not_sync() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(&folder);
    for number in 0..300_u32 {
        state.put(T, &number.to_be_bytes(), &vec![number as u8; 7_163]).unwrap();
    }
    state.put(T, b"big", &vec![3; 2_000_000]).unwrap();
    state.flush().unwrap();
    assert_eq!(disk::list(&folder.path().join("state/blobs")).unwrap(), []);
    assert!(state.disk_bytes() > 2_000_000);
}

#[test]
fn readers_never_see_half_a_large_value() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(&folder);
    state.put(T, b"k", &[0; 30_000]).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 1..150_usize {
                state.put(T, b"k", &vec![round as u8; 5_000 + round * 200]).unwrap();
            }
        });
        while !writer.is_finished() {
            let value = state.get(T, b"k").unwrap().unwrap();
            assert!(value.iter().all(|byte| *byte == value[0]));
            let found = state.scan(T, b"", None, 9).unwrap();
            assert!(found.len() <= 1);
        }
    });
}
