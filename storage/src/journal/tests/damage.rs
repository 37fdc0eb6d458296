//! Torn tails, damage, and files that are missing or too new. Recycling has a file of its own.

use std::fs;

use super::*;
use crate::Opening;

#[test]
fn a_tail_torn_at_any_byte_is_cut() {
    let folder = written(4);
    let path = segment(&folder, 1);
    let places = frames(&path);
    let (start, end) = (places[3], places[4]);
    let whole = unproven(&path);
    for at in start..end {
        for kind in ["missing from here", "flipped", "missing up to here"] {
            let mut bytes = whole.clone();
            let (from, to) = (start as usize, end as usize);
            match kind {
                "missing from here" => bytes[at as usize..to].fill(0),
                "missing up to here" => bytes[from..=at as usize].fill(0),
                _ => bytes[at as usize] ^= 0x10,
            }
            if bytes == whole {
                continue;
            }
            fs::write(&path, &bytes).unwrap();
            unnoted(&folder);
            let journal = try_open(folder.path()).unwrap_or_else(|e| panic!("{kind} {at}: {e}"));
            let found = read_all(&journal);
            // Only zeros that end the frame are not missed when they are missing.
            let expected = if found.len() == 4 { 4 } else { 3 };
            assert_eq!(found.len(), expected, "{kind} {at}");
            assert!(found.len() == 3 || at + 8 > end, "{kind} {at}");
            assert_eq!(found[2], (3, b"record 3".to_vec()));
            let next = journal.durable().next();
            assert_eq!(commit(&journal, batch(1, 0, &[b"on"])), next);
            drop(journal);
            assert_eq!(read_all(&open(folder.path())).len() as u64, next.0, "{kind} {at}");
        }
    }
}

#[test]
fn damage_of_a_last_frame_with_a_proof_is_refused() {
    let folder = written(4);
    let path = segment(&folder, 1);
    let places = frames(&path);
    let (start, end) = (places[3] as usize, places[4] as usize);
    let whole = fs::read(&path).unwrap();
    let refused_at = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        match try_open(folder.path()) {
            Err(StorageError::Damaged { offset, .. }) => offset,
            other => panic!("{what}: {other:?}"),
        }
    };
    for at in start..end {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        if at + 8 <= end {
            assert_eq!(refused_at(&bytes, &format!("flipped {at}")), places[3]);
        }
        let mut bytes = whole.clone();
        bytes[at..end].fill(0);
        if bytes != whole {
            assert_eq!(refused_at(&bytes, &format!("missing from {at}")), places[3]);
        }
    }
    let mut bytes = whole.clone();
    bytes[4096..8192].fill(0);
    assert_eq!(refused_at(&bytes, "a block is gone"), 4096);
    // Damage of the proof itself loses nothing.
    let mut bytes = whole;
    bytes[8192..].fill(0);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(read_all(&open(folder.path())).len(), 4);
}

#[test]
fn an_idle_journal_proves_its_last_frame_and_old_proofs_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    let path = segment(&folder, 1);
    for round in 0..3 {
        commit(&journal, batch(1, 0, &[b"record"]));
        // It comes by itself; a journal that never writes one hangs this test.
        let before = fs::read(&path).unwrap()[8192..8192 + 32].to_vec();
        while fs::read(&path).unwrap()[8192..8192 + 32] == before {
            std::thread::yield_now();
        }
        let killed = copy(folder.path());
        let last = frames(&segment(&killed, 1))[round];
        patch(&segment(&killed, 1), last + 60, b"!");
        let opened = try_open(killed.path()).map(|_| ());
        assert!(
            matches!(opened, Err(StorageError::Damaged { offset, .. }) if offset == last),
            "round {round}: {opened:?}"
        );
    }
    // A frame that was begun after the proof may be torn all the same.
    let killed = copy(folder.path());
    let end = *frames(&segment(&killed, 1)).last().unwrap();
    patch(&segment(&killed, 1), end, b"TgF1 half a header");
    assert_eq!(read_all(&open(killed.path())).len(), 3);
}

#[test]
fn damage_before_the_tail_is_refused_at_its_offset() {
    let folder = written(5);
    let path = segment(&folder, 1);
    let places = frames(&path);
    let whole = fs::read(&path).unwrap();
    for frame in 0..4 {
        for at in places[frame]..places[frame + 1] {
            let mut bytes = whole.clone();
            bytes[at as usize] ^= 0x04;
            fs::write(&path, &bytes).unwrap();
            match try_open(folder.path()) {
                Err(StorageError::Damaged { offset, .. }) => assert_eq!(offset, places[frame]),
                // Padding is not part of what was written.
                Ok(_) => assert!(at + 8 > places[frame + 1], "{at}"),
                Err(other) => panic!("{other}"),
            }
            assert_eq!(fs::read(&path).unwrap()[at as usize], bytes[at as usize], "left as it is");
        }
    }
    // A whole frame gone is no clean end either.
    let mut bytes = whole;
    bytes[places[1] as usize..places[2] as usize].fill(0);
    fs::write(&path, &bytes).unwrap();
    let opened = try_open(folder.path()).map(|_| ());
    assert!(matches!(opened, Err(StorageError::Damaged { offset, .. }) if offset == places[1]));
}

#[test]
fn damage_in_an_older_segment_is_refused() {
    let folder = long(40);
    let last = frames(&segment(&folder, 1));
    let last_frame = last[last.len() - 2];
    patch(&segment(&folder, 1), last_frame + 100, b"!");
    // Segments are read side by side; what is told is the oldest damage.
    patch(&segment(&folder, 2), 4_096 + 100, b"!");
    patch(&segment(&folder, 3), 4_096 + 100, b"!");
    match try_open(folder.path()).map(|_| ()) {
        Err(StorageError::Damaged { path, offset, .. }) => {
            assert_eq!((path, offset), (segment(&folder, 1), last_frame));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn damage_under_a_reader_is_an_error_not_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    for _ in 0..3 {
        commit(&journal, batch(1, 0, &[b"record"]));
    }
    let places = frames(&segment(&folder, 1));
    patch(&segment(&folder, 1), places[1] + 60, b"!");
    let mut reader = journal.read(Position::ZERO).unwrap();
    assert!(reader.next().unwrap().is_some());
    for _ in 0..2 {
        let failed = reader.next().map(|_| ());
        assert!(matches!(failed, Err(StorageError::Damaged { offset, .. }) if offset == places[1]));
    }
}

#[test]
fn missing_segments() {
    let folder = long(60);
    let count = (1..).find(|number| !segment(&folder, *number).exists()).unwrap() - 1;
    assert!(count >= 4);

    let journal = open(folder.path());
    let killed = copy(folder.path());
    drop(journal);
    for whole in [&folder, &killed] {
        for gone in [1, count] {
            let folder = copy(whole.path());
            fs::remove_file(segment(&folder, gone)).unwrap();
            let opened = try_open(folder.path());
            assert!(matches!(opened, Err(StorageError::Damaged { .. })), "{opened:?}");
            let looked = FileJournal::look(folder.path());
            assert!(matches!(looked, Err(StorageError::Damaged { .. })), "{looked:?}");
        }
    }

    let gap = copy(folder.path());
    fs::remove_file(segment(&gap, 2)).unwrap();
    assert!(matches!(try_open(gap.path()), Err(StorageError::Damaged { .. })));

    let swapped = copy(folder.path());
    fs::copy(segment(&swapped, 3), segment(&swapped, 2)).unwrap();
    assert!(matches!(try_open(swapped.path()), Err(StorageError::Damaged { .. })));

    let cut = copy(folder.path());
    let file = fs::OpenOptions::new().write(true).open(segment(&cut, 2)).unwrap();
    file.set_len(SEGMENT - 1).unwrap();
    assert!(matches!(try_open(cut.path()), Err(StorageError::Damaged { .. })));

    let empty = tempfile::tempdir().unwrap();
    let opened = FileJournal::open_existing(empty.path(), &options(), &Opening::default());
    assert!(matches!(opened, Err(StorageError::Damaged { .. })));
}

#[test]
fn a_newer_format_is_named() {
    let folder = written(1);
    patch(&segment(&folder, 1), 8, &[2]);
    let opened = try_open(folder.path());
    assert!(matches!(opened, Err(StorageError::NewerFormat { found: 2, supported: 1, .. })));
}
