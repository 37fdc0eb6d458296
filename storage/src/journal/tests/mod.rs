//! The journal's files against crashes, damage and random use. What all engines promise alike is in
//! `conformance`.

mod damage;
mod random;
mod recycling;
mod short;

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering, mpsc},
};

use tempfile::TempDir;

use super::{
    FileJournal, JournalOptions, bounds, frame,
    segment::{BLOCK, segment_name},
};
use crate::{
    Journal, Position, StorageError, Urgency,
    conformance::{self, JournalFactory, batch, commit, rest},
    disk,
};

const SEGMENT: u64 = 64 << 10;

#[derive(Default)]
struct Files {
    folders: Vec<TempDir>,
}

impl JournalFactory for Files {
    type Engine = FileJournal;

    fn fresh(&mut self) -> Arc<FileJournal> {
        self.folders.push(tempfile::tempdir().unwrap());
        Arc::new(open(self.folders.last().unwrap().path()))
    }

    fn reopen(&mut self, journal: Arc<FileJournal>) -> Arc<FileJournal> {
        drop(Arc::into_inner(journal).expect("nobody else uses it"));
        Arc::new(open(self.folders.last().unwrap().path()))
    }

    fn fail_next_sync(&mut self, journal: &FileJournal) -> bool {
        journal.shared.faults.next_sync.store(5, Ordering::Relaxed);
        true
    }
}

fn options() -> JournalOptions {
    JournalOptions { segment_bytes: SEGMENT, spare_segments_max: 2, soon_ms_max: 1 }
}

fn try_open(folder: &Path) -> Result<FileJournal, StorageError> {
    FileJournal::open(folder, &options())
}

fn open(folder: &Path) -> FileJournal {
    try_open(folder).unwrap()
}

fn read_all(journal: &FileJournal) -> Vec<(u64, Vec<u8>)> {
    rest(&mut *journal.read(Position(journal.oldest().0 - 1)).unwrap())
}

/// A journal with `records` small records, one frame each, closed again.
fn written(records: u64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    for number in 1..=records {
        commit(&journal, batch(1, number, &[format!("record {number}").as_bytes()]));
    }
    drop(journal);
    folder
}

/// A journal over several segments, closed again; record `n` holds `n`.
fn long(records: u64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    for number in 1..=records {
        let mut record = vec![0; 5_000];
        record[..8].copy_from_slice(&number.to_le_bytes());
        commit(&journal, batch(1, number, &[&record]));
    }
    drop(journal);
    folder
}

fn segment(folder: &TempDir, number: u64) -> PathBuf {
    folder.path().join(segment_name(number))
}

fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for (name, _) in disk::list(from).unwrap() {
        fs::copy(from.join(&name), to.path().join(&name)).unwrap();
    }
    to
}

fn patch(path: &Path, offset: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

/// Takes back what only a close or a trim notes.
fn unnoted(folder: &TempDir) {
    fs::remove_file(folder.path().join(bounds::NAME)).unwrap();
}

/// The bytes of a segment as a kill leaves them, before its last frame has a proof.
fn unproven(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    let end = *frames(path).last().unwrap() as usize;
    bytes[end..].fill(0);
    bytes
}

/// Where the frames of a segment begin, and where the last one ends.
fn frames(path: &Path) -> Vec<u64> {
    let bytes = fs::read(path).unwrap();
    let mut at = BLOCK as usize;
    let mut found = vec![at as u64];
    while at + 12 <= bytes.len() && bytes[at..at + 4] == *b"TgF1" {
        let length = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap());
        at += frame::framed(length as usize);
        found.push(at as u64);
    }
    found
}
#[test]
fn conforms() {
    conformance::journal(&mut Files::default());
}
#[test]
fn bounds() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    let fits = SEGMENT as usize / 4 - frame::BATCH_HEADER - 4;
    assert_eq!(batch(1, 0, &[&vec![1; fits]]).size(), journal.batch_bytes_max());
    let large = journal.append(batch(1, 0, &[&vec![0; fits + 1]]), Urgency::Now, Box::new(drop));
    assert!(matches!(large, Err(StorageError::TooLarge { max: 16384, size: 16385 })), "{large:?}");
    assert_eq!(journal.appended(), Position::ZERO);
    // Far more than a frame or a segment takes, queued at once.
    for number in 1..=60 {
        let batch = batch(1, 0, &[&vec![1; fits]]);
        let queued = journal.append(batch, Urgency::Soon, Box::new(drop)).unwrap();
        assert_eq!(queued, Position(number));
    }
    journal.wait_durable(Position(60)).unwrap();
    assert_eq!(read_all(&journal).len(), 60);
}

#[test]
fn a_full_disk_is_named_and_survived() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    commit(&journal, batch(1, 0, &[b"safe"]));
    journal.shared.faults.next_write.store(28, Ordering::Relaxed);
    let (sender, receiver) = mpsc::channel();
    let done = Box::new(move |outcome| sender.send(outcome).unwrap());
    journal.append(batch(1, 0, &[b"no room"]), Urgency::Now, done).unwrap();
    let told: Result<Position, StorageError> = receiver.recv().unwrap();
    let failure = told.unwrap_err();
    assert!(matches!(failure.root(), StorageError::Full { .. }), "{failure}");
    assert!(matches!(failure, StorageError::Poisoned { .. }));
    drop(journal);
    assert_eq!(open(folder.path()).durable(), Position(1));
}

#[test]
fn a_panicking_callback_harms_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    let done = Box::new(|_| panic!("a test's panic"));
    journal.append(batch(1, 0, &[b"a"]), Urgency::Now, done).unwrap();
    assert_eq!(commit(&journal, batch(1, 0, &[b"b"])), Position(2));
}

#[test]
fn a_callback_may_drop_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(open(folder.path()));
    let (sender, receiver) = mpsc::channel();
    let (held, wait) = (journal.clone(), mpsc::channel::<()>());
    let (go, ready) = wait;
    let done = Box::new(move |_| {
        ready.recv().unwrap();
        drop(held);
        sender.send(()).unwrap();
    });
    journal.append(batch(1, 0, &[b"a"]), Urgency::Now, done).unwrap();
    drop(journal);
    go.send(()).unwrap();
    receiver.recv().unwrap();
}
