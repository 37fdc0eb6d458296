//! The index in sled: what it says, and what it says of damage. That it can be lost is tried in
//! [`logged`], and damage to all files of a state in [`damage`].

mod damage;
mod logged;
mod split;

use std::{fs, time::Duration};

use tempfile::TempDir;

use super::{
    StateOptions,
    index::Index,
    rows::{self, Kept},
};
use crate::{Position, StorageError, Table, disk, journal::Place};

fn open(folder: &TempDir) -> Index {
    Index::open(folder.path().join("index"), &StateOptions::default()).unwrap()
}

fn here(value: &[u8]) -> Kept {
    Kept::Here { at: Position(7), value: value.to_vec() }
}

const T: Table = Table(5);

#[test]
fn the_newest_place_counts_and_the_one_before_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(&folder);
    let place = Place { segment: 1, offset: 4_096, length: 99 };
    let (record, here) = (Kept::Record { place, crc: 3 }, here(b"v"));
    let parts = Kept::Parts { first: Position(4), length: 1 << 20 };
    assert_eq!(index.put(T, b"k", &record).unwrap(), None);
    assert_eq!(index.put(T, b"k", &here).unwrap(), Some(record));
    assert_eq!(index.put(T, b"l", &parts).unwrap(), None);
    let rows = [(b"k".to_vec(), here.clone()), (b"l".to_vec(), parts.clone())];
    assert_eq!(index.scan(T, b"", None, 9).unwrap(), rows);
    assert_eq!(index.scan(T, b"", None, 1).unwrap(), rows[..1]);
    assert_eq!(index.scan(T, b"", Some(b"k"), 9).unwrap(), rows[1..]);
    assert_eq!(index.scan(Table(T.0 + 1), b"", None, 9).unwrap(), []);
    assert_eq!(index.delete(T, b"k").unwrap(), Some(here));
    assert_eq!((index.get(T, b"k").unwrap(), index.delete(T, b"k").unwrap()), (None, None));
    index.close().unwrap();
    assert_eq!(open(&folder).get(T, b"l").unwrap(), Some(parts));
}

#[test]
fn is_locked_while_open() {
    let folder = tempfile::tempdir().unwrap();
    let _index = open(&folder);
    let path = folder.path().join("index");
    let second = Index::open_within(&path, &StateOptions::default(), Duration::ZERO);
    assert!(matches!(second, Err(StorageError::Locked { .. })), "{second:?}");
}

#[test]
fn a_folder_that_sled_refuses_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(&folder));
    let summary = folder.path().join("index/snap.00000000000000FF");
    fs::write(&summary, b"nonsense, and enough of it").unwrap();
    let opened = Index::open(folder.path().join("index"), &StateOptions::default());
    assert!(matches!(opened, Err(StorageError::StateUnusable { .. })), "{opened:?}");
    assert_eq!(fs::read(&summary).unwrap(), b"nonsense, and enough of it");
}

#[test]
fn changed_bytes_are_damage() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(&folder);
    let key = rows::row_key(T, b"k");
    index.put(T, b"k", &here(b"value")).unwrap();
    let mut stored = index.db.get(&key).unwrap().unwrap().to_vec();
    stored[6] ^= 1;
    index.db.insert(&key, stored).unwrap();
    assert!(matches!(index.get(T, b"k"), Err(StorageError::Damaged { .. })));
    assert!(matches!(index.scan(T, b"", None, 9), Err(StorageError::Damaged { .. })));
}

#[test]
fn nothing_goes_where_sled_does_not_sync() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(&folder);
    for number in 0..300_u32 {
        let key = [&number.to_be_bytes()[..], &[7; 1_000]].concat();
        index.put(T, &key, &here(&[7; rows::HERE_BYTES_MAX])).unwrap();
    }
    index.close().unwrap();
    assert_eq!(disk::list(&folder.path().join("index/blobs")).unwrap(), []);
}
