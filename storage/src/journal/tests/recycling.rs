//! Segments that live again, and crashes between any two steps of that. No frame is damaged here.

use std::fs;

use super::*;
use crate::journal::segment::SegmentHeader;

#[test]
fn recycled_segments_never_show_old_frames() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path());
    // Always the same record, so that old frames lie exactly where new ones go.
    let record = vec![42; 4_000];
    let mut last = 0;
    for round in 0..12 {
        for _ in 0..10 {
            last = commit(&journal, batch(1, 0, &[&record])).0;
        }
        journal.trim(Position(last)).unwrap();
        assert!(journal.stats().disk_bytes <= SEGMENT * 5, "round {round}");
        if round % 3 == 0 {
            drop(journal);
            journal = open(folder.path());
        }
        let found = read_all(&journal);
        assert_eq!(found.last().unwrap().0, last);
        assert_eq!(found.len() as u64, last + 1 - journal.oldest().0);
    }
    assert!(journal.oldest() > Position(80));
    let active = disk::list(folder.path()).unwrap();
    assert!(active.iter().any(|(name, _)| name.ends_with(".spare")), "{active:?}");
}

#[test]
fn crashes_between_the_steps_of_recycling() {
    let folder = long(60);
    type Step<'a> = (&'a str, &'a dyn Fn(&TempDir));
    let images: [Step<'_>; 7] = [
        ("a spare is half prepared", &|image| {
            fs::write(image.path().join("00000000000000000090.tmp"), vec![0; 5_000]).unwrap();
        }),
        ("a spare of another size", &|image| {
            fs::write(image.path().join("00000000000000000091.spare"), vec![0; 5_000]).unwrap();
        }),
        ("the oldest is renamed and not yet reused", &|image| {
            let spare = image.path().join("00000000000000000092.spare");
            fs::rename(segment(image, 1), spare).unwrap();
        }),
        ("its new header is written and its name is not yet new", &|image| {
            let spare = image.path().join("00000000000000000092.spare");
            fs::rename(segment(image, 1), &spare).unwrap();
            let header = SegmentHeader { number: 77, first: 61, salt: 5, size: SEGMENT, chain: 1 };
            patch(&spare, 0, &header.encode());
        }),
        ("its new header is torn", &|image| {
            let spare = image.path().join("00000000000000000092.spare");
            fs::rename(segment(image, 1), &spare).unwrap();
            patch(&spare, 10, b"torn");
        }),
        ("many spares", &|image| {
            for number in 93..99 {
                let spare = image.path().join(format!("{number:020}.spare"));
                fs::copy(segment(image, 1), spare).unwrap();
            }
        }),
        ("a foreign file", &|image| fs::write(image.path().join("notes.txt"), b"x").unwrap()),
    ];
    for (name, damage) in images {
        let image = copy(folder.path());
        unnoted(&image);
        damage(&image);
        let journal = open(image.path());
        assert_eq!(journal.durable(), Position(60), "{name}");
        let oldest = journal.oldest().0;
        for number in 61..=100 {
            let expected = Position(number);
            assert_eq!(commit(&journal, batch(1, 0, &[&[7; 5_000]])), expected, "{name}");
        }
        drop(journal);
        let journal = open(image.path());
        assert_eq!(read_all(&journal).len() as u64, 101 - oldest, "{name}");
    }
}

#[test]
fn an_empty_new_segment_after_a_crash() {
    let folder = long(20);
    // The end of segment 1 is full; segment 2 was begun and its frames never came.
    let path = segment(&folder, 2);
    let mut bytes = fs::read(&path).unwrap();
    bytes[BLOCK as usize..].fill(0xAB);
    fs::write(&path, &bytes).unwrap();
    unnoted(&folder);
    let header = SegmentHeader::read(&path, &fs::File::open(&path).unwrap()).unwrap();
    let journal = open(folder.path());
    assert_eq!(journal.durable().0, header.first - 1);
    assert_eq!(read_all(&journal).len() as u64, header.first - 1);
    commit(&journal, batch(1, 0, &[b"on"]));
    drop(journal);
    assert_eq!(open(folder.path()).durable().0, header.first);
}

#[test]
fn tailing_while_committing_and_trimming() {
    const RECORDS: u64 = 1_500;
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    std::thread::scope(|scope| {
        let tail = scope.spawn(|| {
            let mut reader = journal.read(Position::ZERO).unwrap();
            let mut next = 1;
            while next <= RECORDS {
                journal.wait_durable(Position(next)).unwrap();
                while let Some(entry) = reader.next().unwrap() {
                    assert_eq!((entry.position.0, entry.stamp), (next, next));
                    assert_eq!(entry.bytes.len() as u64, next % 4_000);
                    next += 1;
                }
                journal.trim(Position(next - 1)).unwrap();
            }
        });
        for number in 1..=RECORDS {
            let record = vec![number as u8; (number % 4_000) as usize];
            let urgency = if number % 7 == 0 { Urgency::Now } else { Urgency::Soon };
            journal.append(batch(1, number, &[&record]), urgency, Box::new(drop)).unwrap();
            if number % 40 == 0 {
                journal.wait_durable(Position(number - 20)).unwrap();
            }
        }
        tail.join().unwrap();
    });
    assert!(journal.oldest() > Position(1_000));
}

#[test]
fn segments_of_another_size_go_on() {
    let folder = long(30);
    let larger = JournalOptions { segment_bytes: 2 * SEGMENT, ..options() };
    let journal = FileJournal::open(folder.path(), &larger).unwrap();
    for _ in 0..60 {
        commit(&journal, batch(1, 0, &[&vec![1; 20_000]]));
    }
    drop(journal);
    let journal = open(folder.path());
    assert_eq!(read_all(&journal).len(), 90);
    for _ in 0..10 {
        commit(&journal, batch(1, 0, &[&vec![1; 16_000]]));
    }
    journal.trim(Position(100)).unwrap();
    assert!(journal.oldest() > Position(80));
}

#[test]
fn a_segment_waits_for_a_file_descriptor() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    journal.shared.faults.without_descriptor.store(2, Ordering::Relaxed);
    for number in 1..=10 {
        let committed = commit(&journal, batch(1, 0, &[&[7; 16_000]]));
        assert_eq!(committed, Position(number));
    }
    assert_eq!(journal.shared.faults.without_descriptor.load(Ordering::Relaxed), 0);
    drop(journal);
    assert_eq!(read_all(&open(folder.path())).len(), 10);
}
