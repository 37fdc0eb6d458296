//! Writes that end half-way, as on a disk that fills up: poison, nothing wrongly acknowledged, and
//! a next open that finds all that was. Calls that fail as a whole are the reliability tools' part.

use super::*;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Commits `batch` to a journal whose next write ends after `written` bytes; what was told.
fn cut_short(journal: &FileJournal, written: usize, errno: i32, record: &[u8]) -> StorageError {
    journal.shared.faults.written.store(written, Ordering::Relaxed);
    journal.shared.faults.next_write.store(errno, Ordering::Relaxed);
    let (sender, receiver) = mpsc::channel();
    let done = Box::new(move |outcome| sender.send(outcome).unwrap());
    journal.append(batch(1, 0, &[record]), Urgency::Now, done).unwrap();
    let told: Result<Position, StorageError> = receiver.recv().unwrap();
    told.expect_err("half a frame is not acknowledged")
}

#[test]
fn a_write_cut_short_at_any_byte_poisons_and_is_cut_off_at_the_next_open() {
    let sample = written(3);
    let places = frames(&segment(&sample, 1));
    let frame = (places[3] - places[2]) as usize;
    for written in 0..frame + 8 {
        let folder = copy(sample.path());
        let journal = open(folder.path());
        let errno = if written % 2 == 0 { EIO } else { ENOSPC };
        let failure = cut_short(&journal, written, errno, b"record 4");
        assert!(matches!(failure, StorageError::Poisoned { .. }), "{written}: {failure}");
        let after = journal.append(batch(1, 0, &[b"after"]), Urgency::Now, Box::new(drop));
        assert!(after.is_err(), "{written}: nothing is taken any more");
        assert_eq!(journal.durable(), Position(3), "{written}");
        drop(journal);

        let journal = open(folder.path());
        let found = read_all(&journal);
        // A frame that had arrived as a whole may be there: nobody was told that it is not.
        assert!(found.len() == 3 || (found.len() == 4 && written + 8 > frame), "{written}");
        for (record, number) in found.iter().zip(1..) {
            assert_eq!(*record, (number, format!("record {number}").into_bytes()), "{written}");
        }
        let next = journal.durable().next();
        assert_eq!(commit(&journal, batch(1, 0, &[b"on"])), next, "{written}");
    }
}

#[test]
fn a_write_cut_short_in_a_recycled_file_shows_nothing_of_its_former_life() {
    let folder = long(60);
    let mut journal = open(folder.path());
    for round in 0..6_u64 {
        let durable = journal.durable();
        journal.trim(durable).unwrap();
        // Far enough to roll into files that were used before.
        for number in 0..14 {
            commit(&journal, batch(1, number, &[&[round as u8; 5_000]]));
        }
        let kept = journal.durable();
        let failure = cut_short(&journal, 700 * round as usize, ENOSPC, &[0xEE; 5_000]);
        assert!(matches!(failure.root(), StorageError::Full { .. }), "{failure}");
        drop(journal);
        journal = open(folder.path());
        assert_eq!(journal.durable(), kept, "round {round}");
        assert!(read_all(&journal).iter().all(|(_, record)| record[0] != 0xEE));
    }
}
