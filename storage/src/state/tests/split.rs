//! Snapshots beside rows: what goes where, what is brought over from one log for both, and how
//! long each log becomes.

use std::{io::Write, path::Path, sync::Arc};

use super::T;
use crate::{
    Journal, LoggedState, Position, SNAPSHOT_TABLE, Snapshots, SplitState, State, StateOptions,
    StorageError, StreamId, conformance,
};

const STREAM: StreamId = StreamId(3);

fn options() -> StateOptions {
    StateOptions { log_segment_bytes: 1 << 20, log_slack_bytes: 0, ..StateOptions::default() }
}

fn open(folder: &Path) -> SplitState {
    SplitState::open(folder, &options()).unwrap()
}

fn save(state: &Arc<dyn State>, position: u64, bytes: &[u8]) {
    let mut saving = Snapshots::new(Arc::clone(state)).begin(STREAM, Position(position)).unwrap();
    saving.write_all(bytes).unwrap();
    saving.finish().unwrap();
}

struct Files(tempfile::TempDir, u32);

impl conformance::StateFactory for Files {
    type Engine = SplitState;

    fn fresh(&mut self) -> Arc<SplitState> {
        self.1 += 1;
        Arc::new(open(&self.0.path().join(self.1.to_string())))
    }

    fn reopen(&mut self, state: Arc<SplitState>) -> Arc<SplitState> {
        drop(Arc::into_inner(state).expect("the only owner"));
        Arc::new(open(&self.0.path().join(self.1.to_string())))
    }
}

#[test]
fn it_is_a_state() {
    conformance::state(&mut Files(tempfile::tempdir().unwrap(), 0));
}

#[test]
fn snapshots_of_a_store_with_one_log_are_brought_over_once() {
    let folder = tempfile::tempdir().unwrap();
    let big: Vec<u8> = (0..700_000_u32).map(|byte| byte as u8).collect();
    let one: Arc<dyn State> = Arc::new(LoggedState::open(folder.path(), &options()).unwrap());
    one.put(T, b"row", b"stays").unwrap();
    save(&one, 10, b"ten");
    save(&one, 20, &big);
    one.flush().unwrap();
    drop(one);
    for _ in 0..2 {
        let state = open(folder.path());
        assert_eq!(state.rows.keys(SNAPSHOT_TABLE, None, 1).unwrap(), [[0_u8; 0]; 0]);
        assert_eq!(state.get(T, b"row").unwrap().unwrap(), b"stays");
        let state: Arc<dyn State> = Arc::new(state);
        let snapshots = Snapshots::new(state);
        assert_eq!(snapshots.list(STREAM).unwrap().len(), 2);
        assert_eq!(snapshots.latest(STREAM).unwrap(), Some((Position(20), big.clone())));
    }
}

/// Between the copy's being durable and the original's going there may be a crash.
#[test]
fn bringing_over_that_was_cut_short_is_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let one: Arc<dyn State> = Arc::new(LoggedState::open(folder.path(), &options()).unwrap());
    save(&one, 10, b"ten");
    let parts: Vec<_> = one.scan(SNAPSHOT_TABLE, b"", None, 9).unwrap();
    drop(one);
    let apart = LoggedState::open(folder.path().join("snapshots"), &options()).unwrap();
    let (key, value) = &parts[0];
    apart.put(SNAPSHOT_TABLE, key, value).unwrap();
    apart.flush().unwrap();
    drop(apart);
    let state: Arc<dyn State> = Arc::new(open(folder.path()));
    let found = Snapshots::new(state).latest(STREAM).unwrap();
    assert_eq!(found, Some((Position(10), b"ten".to_vec())));
}

/// Many rows are not moved for the sake of a few snapshots, which take little more than they are.
#[test]
fn snapshots_come_and_go_and_rows_stay_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let state = Arc::new(open(folder.path()));
    for row in 0..400_u32 {
        state.put(T, &row.to_be_bytes(), &[7; 20_000]).unwrap();
    }
    state.flush().unwrap();
    let rows = state.rows.log.stats().bytes;
    let dynamic: Arc<dyn State> = Arc::clone(&state) as _;
    for round in 1..40 {
        save(&dynamic, round, &vec![round as u8; 2 << 20]);
        dynamic.flush().unwrap();
    }
    assert_eq!(state.rows.log.stats().bytes, rows, "rows were written again");
    let taken = state.snapshots.log.stats().disk_bytes;
    // Two that count, the one that was replaced last, and files that are not full.
    assert!(taken < 14 << 20, "{taken} bytes for two snapshots of 2 MiB");
    assert!(state.disk_bytes() > taken + (8 << 20));
}

#[test]
fn a_log_of_snapshots_that_is_gone_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    std::fs::remove_dir_all(folder.path().join("snapshots/log")).unwrap();
    let error = SplitState::open(folder.path(), &options()).unwrap_err();
    assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
}
