//! What is asked of a [`State`], and of snapshots in it. Nothing is assumed of rows never flushed.

use std::io::Write;

use super::StateFactory;
use crate::{Position, SNAPSHOT_TABLE, Snapshots, State, StorageError, StreamId, Table};

/// Everything that is asked of a [`State`].
pub fn state(factory: &mut impl StateFactory) {
    rows(factory);
    scans(factory);
    large_values(factory);
    flushed_rows_survive(factory);
    snapshots(factory);
    damaged_snapshots(factory);
}
const A: Table = Table(0);
const B: Table = Table(1);

fn rows(factory: &mut impl StateFactory) {
    let state = factory.fresh();
    assert_eq!(state.get(A, b"k").expect("get"), None);
    state.put(A, b"k", b"1").expect("put");
    state.put(B, b"k", b"2").expect("put");
    state.put(A, b"", b"empty key").expect("put");
    state.put(A, b"empty value", b"").expect("put");
    assert_eq!(state.get(A, b"k").expect("get").expect("a row"), b"1");
    assert_eq!(state.get(B, b"k").expect("get").expect("a row"), b"2");
    assert_eq!(state.get(A, b"").expect("get").expect("a row"), b"empty key");
    assert_eq!(state.get(A, b"empty value").expect("get").expect("a row"), b"");
    state.put(A, b"k", b"3").expect("put");
    state.delete(B, b"k").expect("delete");
    state.delete(B, b"never there").expect("delete");
    assert_eq!(state.get(A, b"k").expect("get").expect("a row"), b"3");
    assert_eq!(state.get(B, b"k").expect("get"), None);
}

fn scans(factory: &mut impl StateFactory) {
    let state = factory.fresh();
    for key in ["a1", "a2", "a", "b", "a3", "a\u{7f}"] {
        state.put(A, key.as_bytes(), key.as_bytes()).expect("put");
    }
    state.put(A, &[0xFF, 0xFF], b"last").expect("put");
    state.put(B, b"a9", b"elsewhere").expect("put");
    let scan = |prefix: &[u8], after: Option<&[u8]>, limit| -> Vec<String> {
        let found = state.scan(A, prefix, after, limit).expect("scan");
        found.into_iter().map(|(key, _)| String::from_utf8_lossy(&key).into_owned()).collect()
    };
    assert_eq!(scan(b"a", None, 99), ["a", "a1", "a2", "a3", "a\u{7f}"]);
    assert_eq!(scan(b"a", None, 2), ["a", "a1"]);
    assert_eq!(scan(b"a", Some(b"a1"), 2), ["a2", "a3"]);
    assert_eq!(scan(b"a", Some(b"a11"), 1), ["a2"]);
    assert_eq!(scan(b"a", Some(b"0"), 1), ["a"], "after a key before the prefix");
    assert_eq!(scan(b"a", Some(b"z"), 9), [""; 0]);
    assert_eq!(scan(b"", None, 99).len(), 7);
    assert_eq!(scan(&[0xFF], None, 99).len(), 1);
    assert_eq!(scan(b"a", None, 0), [""; 0]);
    let (key, value) = state.scan(A, b"b", None, 1).expect("scan").remove(0);
    assert_eq!((key, value), (b"b".to_vec(), b"b".to_vec()));
}

fn large_values(factory: &mut impl StateFactory) {
    let state = factory.fresh();
    let value = |length: usize| (0..length).map(|at| (at * 31 % 251) as u8).collect::<Vec<_>>();
    let lengths = [7_000, 7_163, 7_164, 7_168, 7_169, 14_328, 14_329, 100_000, 1_000_003, 10, 0];
    for length in lengths {
        // One key is the beginning of the other.
        state.put(A, b"big", &value(length)).expect("put");
        state.put(A, b"bigger", &value(length / 2)).expect("put");
        assert_eq!(state.get(A, b"big").expect("get").expect("a row"), value(length));
        let found = state.scan(A, b"big", None, 9).expect("scan");
        let lengths: Vec<_> = found.iter().map(|(_, value)| value.len()).collect();
        assert_eq!(lengths, [length, length / 2]);
    }
    state.put(A, b"big", &value(50_000)).expect("put");
    state.put(A, b"bigger", &value(60_000)).expect("put");
    state.delete(A, b"big").expect("delete");
    assert_eq!(state.get(A, b"big").expect("get"), None);
    state.flush().expect("flush");
    let state = factory.reopen(state);
    assert_eq!(state.get(A, b"big").expect("get"), None);
    assert_eq!(state.get(A, b"bigger").expect("get").expect("a row"), value(60_000));
}

fn flushed_rows_survive(factory: &mut impl StateFactory) {
    let mut state = factory.fresh();
    for round in 0..3_u32 {
        for number in 0..500_u32 {
            state.put(A, &number.to_be_bytes(), &(number + round).to_be_bytes()).expect("put");
        }
        state.put(B, &round.to_be_bytes(), &vec![round as u8; 30_000]).expect("put");
        state.flush().expect("flush");
        state = factory.reopen(state);
        let found = state.scan(A, b"", None, usize::MAX).expect("scan");
        let expected = (0..500_u32)
            .map(|number| (number.to_be_bytes().to_vec(), (number + round).to_be_bytes().to_vec()));
        assert!(found.into_iter().eq(expected));
        assert_eq!(state.scan(B, b"", None, 9).expect("scan").len() as u32, round + 1);
    }
}

const STREAM: StreamId = StreamId(3);
const OTHER: StreamId = StreamId(4);

/// Saves `bytes`, bit by bit.
fn save(shots: &Snapshots, stream: StreamId, position: Position, bytes: &[u8]) {
    let mut saving = shots.begin(stream, position).expect("begin");
    bytes.chunks(70_001).for_each(|bytes| saving.write_all(bytes).expect("write"));
    assert_eq!(saving.finish().expect("save"), bytes.len() as u64);
}

fn snapshots(factory: &mut impl StateFactory) {
    let state = factory.fresh();
    let shots = Snapshots::new(state.clone());
    let latest = |stream| shots.latest(stream).expect("latest");
    assert_eq!(latest(STREAM), None);
    assert_eq!(shots.oldest_needed(&[]).expect("needed"), Position::ZERO);
    assert_eq!(shots.oldest_needed(&[STREAM]).expect("needed"), Position::ZERO);

    save(&shots, STREAM, Position(10), b"ten");
    assert_eq!(latest(STREAM), Some((Position(10), b"ten".to_vec())));
    assert_eq!(shots.oldest_needed(&[STREAM]).expect("needed"), Position::ZERO);
    let big = vec![9; 600_000];
    save(&shots, STREAM, Position(20), &big);
    assert_eq!(shots.oldest_needed(&[STREAM]).expect("needed"), Position(10));
    assert_eq!(shots.oldest_needed(&[STREAM, OTHER]).expect("needed"), Position::ZERO);
    assert_eq!(latest(STREAM), Some((Position(20), big)));

    save(&shots, STREAM, Position(30), b"");
    assert_eq!(shots.oldest_needed(&[STREAM]).expect("needed"), Position(20));
    assert_eq!(latest(STREAM), Some((Position(30), Vec::new())));
    save(&shots, STREAM, Position(40), b"forty");
    let pieces = state.scan(SNAPSHOT_TABLE, b"p", None, 99).expect("scan");
    assert_eq!(pieces.len(), 1, "dropped snapshots leave nothing behind");

    // An idle stream may save again where it is.
    save(&shots, OTHER, Position(33), b"idle");
    save(&shots, OTHER, Position(33), b"idle");
    assert_eq!(shots.oldest_needed(&[STREAM, OTHER]).expect("needed"), Position(30));

    let reopened = Snapshots::new(factory.reopen({
        drop(shots);
        state
    }));
    let found = reopened.latest(STREAM).expect("latest");
    assert_eq!(found, Some((Position(40), b"forty".to_vec())));
}

fn damaged_snapshots(factory: &mut impl StateFactory) {
    let state = factory.fresh();
    let shots = Snapshots::new(state.clone());
    save(&shots, STREAM, Position(10), b"ten");
    save(&shots, STREAM, Position(20), b"twenty");
    let damage = |value: &[u8]| {
        let pieces = state.scan(SNAPSHOT_TABLE, b"p", None, 99).expect("scan");
        let (key, _) = pieces.iter().find(|(_, found)| found == value).expect("a piece");
        state.put(SNAPSHOT_TABLE, key, b"damage").expect("put");
    };
    damage(b"twenty");
    let found = shots.latest(STREAM).expect("the older one");
    assert_eq!(found, Some((Position(10), b"ten".to_vec())));
    // The damaged one must not push the good one out.
    save(&shots, STREAM, Position(30), b"thirty");
    assert_eq!(shots.oldest_needed(&[STREAM]).expect("needed"), Position(10));
    damage(b"thirty");
    assert_eq!(
        shots.latest(STREAM).expect("the older one").map(|found| found.0),
        Some(Position(10))
    );
    damage(b"ten");
    assert!(matches!(shots.latest(STREAM), Err(StorageError::Damaged { .. })));
    save(&shots, STREAM, Position(40), b"forty");
    assert_eq!(shots.latest(STREAM).expect("latest").map(|found| found.0), Some(Position(40)));
}
