//! Doors to the decoders of this package, for the fuzzers in `tests/fuzz`. Each takes any bytes,
//! and panics if a decoder breaks its promise: what is read is written back as the same bytes. It
//! is no part of the interface, and compiled only with the feature `fuzzing`.

use std::{fs, path::Path};

use crate::{
    FileJournal, Journal, JournalOptions, Opening, Position, StorageError, StreamId, api::Batch,
    journal::fuzz as journal, manifest, state::fuzz as state,
};

pub use journal::{bounds, bounds_of, frame, sealed_frame};
pub use state::{change, change_of, row, rows_of, snapshot_head, snapshot_head_of};

/// The payload of a manifest.
pub fn manifest(bytes: &[u8]) {
    if let Ok(payload) = manifest::decode(Path::new("manifest"), bytes) {
        assert_eq!(manifest::encode(&payload), bytes);
    }
}

/// A whole manifest, as a seed.
#[must_use]
pub fn manifest_of(payload: &[u8]) -> Vec<u8> {
    manifest::encode(payload)
}

/// A journal whose only segment is `bytes`, in the empty folder `scratch`. Looks at it, opens it,
/// reads it, writes to it and reads that again.
///
/// # Panics
/// It opens, and does not hold what was read before and what was written after.
pub fn segment(scratch: &Path, bytes: &[u8]) {
    let path = scratch.join(format!("{:020}.seg", 1));
    let written = fs::write(&path, bytes);
    written.expect("a scratch folder can be written");
    let options = JournalOptions { segment_bytes: 1 << 16, ..JournalOptions::default() };
    let looked = FileJournal::look(scratch).map(|(journal, _)| records(&journal));
    match FileJournal::open_existing(scratch, &options, &Opening::default()) {
        Err(_) => {
            assert!(looked.is_err() || looked.is_ok_and(|records| records.is_err()));
        }
        Ok(opened) => {
            let before = records(&opened);
            assert_eq!(
                before.as_ref().ok(),
                looked.expect("what opens can be looked at").ok().as_ref()
            );
            go_on(&opened, before.ok());
        }
    }
    for entry in fs::read_dir(scratch).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
}

type Records = Result<Vec<(u64, Vec<u8>)>, StorageError>;

fn records(journal: &FileJournal) -> Records {
    let mut reader = journal.read(Position(journal.oldest().0.saturating_sub(1)))?;
    let mut found = Vec::new();
    while let Some(entry) = reader.next()? {
        found.push((entry.position.0, entry.bytes.to_vec()));
    }
    Ok(found)
}

fn go_on(journal: &FileJournal, before: Option<Vec<(u64, Vec<u8>)>>) {
    let mut batch = Batch::new(StreamId(1), 1);
    let pushed = batch.push(|out| {
        out.extend_from_slice(b"one more");
        Ok::<_, ()>(())
    });
    pushed.expect("it has room");
    let appended = journal.append(batch, crate::Urgency::Now, Box::new(|_| {}));
    let durable = appended.and_then(|position| journal.wait_durable(position).map(|()| position));
    if let (Ok(position), Some(mut all)) = (durable, before) {
        all.push((position.0, b"one more".to_vec()));
        assert_eq!(records(journal).expect("it can be read on"), all);
    }
}

/// The first segment of a journal with these records, as a seed.
#[must_use]
pub fn segment_of(scratch: &Path, records: &[&[u8]]) -> Vec<u8> {
    let options = JournalOptions { segment_bytes: 1 << 16, ..JournalOptions::default() };
    if let Ok(journal) = FileJournal::open(scratch, &options) {
        for record in records {
            crate::conformance::commit(&journal, crate::conformance::batch(7, 9, &[record]));
        }
    }
    let bytes = fs::read(scratch.join(format!("{:020}.seg", 1))).unwrap_or_default();
    for entry in fs::read_dir(scratch).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
    bytes
}
