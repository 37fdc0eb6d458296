//! What is asked of a [`Journal`]. Crashes in the middle of a write are left to the engines' tests.

use std::sync::{Arc, mpsc};

use super::{JournalFactory, batch, commit, rest};
use crate::{Journal, Position, StorageError, StreamId, Urgency};

/// Everything that is asked of a [`Journal`].
pub fn journal(factory: &mut impl JournalFactory) {
    positions(factory);
    reads_back(factory);
    done_in_order(factory);
    done_may_append(factory);
    empty_batches_are_barriers(factory);
    readers_go_on(factory);
    trim_keeps_what_is_needed(factory);
    followers_are_in_nobodys_way(factory);
    watches_are_told(factory);
    retention_is_counted_from_the_end(factory);
    close_commits_and_ends(factory);
    reopening_goes_on(factory);
    failure_poisons(factory);
}
fn read_after(journal: &dyn Journal, after: u64) -> Vec<(u64, Vec<u8>)> {
    rest(&mut *journal.read(Position(after)).expect("a reader"))
}

fn positions(factory: &mut impl JournalFactory) {
    let journal = factory.fresh();
    let zero = (Position::ZERO, Position::ZERO, Position(1));
    assert_eq!((journal.appended(), journal.durable(), journal.oldest()), zero);
    assert!(journal.wait_durable(Position::ZERO).is_ok());
    for (records, expected) in [(&[&b"a"[..]][..], 1), (&[b"b", b"c"], 3), (&[b"d", b"", b"f"], 6)]
    {
        let records = batch(1, 0, records);
        let position = journal.append(records, Urgency::Soon, Box::new(drop)).expect("append");
        assert_eq!(position, Position(expected));
    }
    assert_eq!(journal.appended(), Position(6));
    journal.wait_durable(Position(6)).expect("durable");
    assert_eq!(journal.durable(), Position(6));
    let stats = journal.stats();
    assert_eq!(stats.records, 6);
    assert!((1..=3).contains(&stats.commits) && stats.bytes > 0);
}

fn reads_back(factory: &mut impl JournalFactory) {
    let journal = factory.fresh();
    let long = vec![7; 10_000];
    let batches = [
        (5, 50, vec![&b"one"[..], b""]),
        (u32::MAX, u64::MAX, vec![&long[..]]),
        (0, 0, vec![b"four", b"five"]),
    ];
    let mut expected = Vec::new();
    for (stream, stamp, records) in &batches {
        commit(&*journal, batch(*stream, *stamp, records));
        expected.extend(records.iter().map(|record| (StreamId(*stream), *stamp, *record)));
    }
    for after in 0..=6 {
        let mut reader = journal.read(Position(after)).expect("a reader");
        for (place, (stream, stamp, bytes)) in expected.iter().enumerate().skip(after as usize) {
            let entry = reader.next().expect("readable").expect("an entry");
            assert_eq!(entry.position, Position(place as u64 + 1));
            assert_eq!((entry.stream, entry.stamp, entry.bytes), (*stream, *stamp, *bytes));
        }
        assert!(reader.next().expect("readable").is_none());
        assert!(reader.next().expect("readable").is_none());
    }
}

fn done_in_order(factory: &mut impl JournalFactory) {
    const EACH: u64 = 200;
    let journal = factory.fresh();
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let (journal, sender) = (&journal, sender.clone());
            scope.spawn(move || {
                for number in 0..EACH {
                    let urgency = [Urgency::Now, Urgency::Soon][(number % 2) as usize];
                    let (seen, sender) = (Arc::clone(journal), sender.clone());
                    let done = Box::new(move |outcome: Result<Position, StorageError>| {
                        let position = outcome.expect("durable");
                        assert!(seen.durable() >= position, "told before it was durable");
                        sender.send(position).expect("a receiver");
                    });
                    let record = format!("{thread} {number}");
                    let batch = batch(thread, number, &[record.as_bytes()]);
                    journal.append(batch, urgency, done).expect("append");
                }
            });
        }
    });
    drop(sender);
    let told: Vec<_> = receiver.into_iter().collect();
    let expected: Vec<_> = (1..=4 * EACH).map(Position).collect();
    assert_eq!(told, expected);

    // Records of one thread are in the order in which it appended them.
    let mut next = [0; 4];
    let mut reader = journal.read(Position::ZERO).expect("a reader");
    while let Some(entry) = reader.next().expect("readable") {
        let thread = entry.stream.0 as usize;
        assert_eq!(entry.stamp, next[thread]);
        next[thread] += 1;
    }
    assert_eq!(next, [EACH; 4]);
}

fn done_may_append(factory: &mut impl JournalFactory) {
    let journal = factory.fresh();
    let (sender, receiver) = mpsc::channel();
    let inner = Arc::clone(&journal);
    let done = Box::new(move |outcome: Result<Position, StorageError>| {
        sender.send(outcome.expect("durable")).expect("a receiver");
        let done = Box::new(move |outcome: Result<Position, StorageError>| {
            sender.send(outcome.expect("durable")).expect("a receiver");
        });
        inner.append(batch(2, 0, &[b"second"]), Urgency::Now, done).expect("append");
    });
    journal.append(batch(1, 0, &[b"first"]), Urgency::Now, done).expect("append");
    let told: Vec<_> = receiver.into_iter().collect();
    assert_eq!(told, [Position(1), Position(2)]);
}

fn empty_batches_are_barriers(factory: &mut impl JournalFactory) {
    let journal = factory.fresh();
    let (sender, receiver) = mpsc::channel();
    journal.append(batch(1, 0, &[b"a"]), Urgency::Soon, Box::new(drop)).expect("append");
    let done = Box::new(move |outcome| sender.send(outcome).expect("a receiver"));
    let position = journal.append(batch(1, 0, &[]), Urgency::Now, done).expect("append");
    assert_eq!(position, Position(1));
    assert_eq!(receiver.recv().expect("told").expect("durable"), Position(1));
    assert_eq!(commit(&*journal, batch(1, 0, &[b"b"])), Position(2));
    assert_eq!(read_after(&*journal, 0).len(), 2);
}

fn readers_go_on(factory: &mut impl JournalFactory) {
    let journal = factory.fresh();
    let mut early = journal.read(Position::ZERO).expect("a reader");
    let mut ahead = journal.read(Position(5)).expect("a reader");
    assert!(early.next().expect("readable").is_none());
    let filler = vec![1; 3_000];
    for number in 1..=200_u64 {
        commit(&*journal, batch(1, number, &[&filler, &number.to_le_bytes()]));
        let seen = rest(&mut *early);
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[1], (2 * number, number.to_le_bytes().to_vec()));
    }
    assert_eq!(rest(&mut *ahead).first().map(|found| found.0), Some(6));
}

fn trim_keeps_what_is_needed(factory: &mut impl JournalFactory) {
    let journal = factory.fresh();
    let filler = vec![1; 8_000];
    for _ in 0..50 {
        commit(&*journal, batch(1, 0, &[&filler]));
    }
    let mut reader = journal.read(Position::ZERO).expect("a reader");
    assert!(reader.next().expect("readable").is_some());
    journal.trim(Position(30)).expect("trim");
    assert_eq!(rest(&mut *reader).len(), 49, "trimmed away under a reader");
    drop(reader);

    journal.trim(Position(30)).expect("trim");
    let oldest = journal.oldest().0;
    assert!((2..=31).contains(&oldest), "oldest is {oldest}");
    assert_eq!(read_after(&*journal, oldest - 1).len() as u64, 51 - oldest);
    match journal.read(Position(oldest - 2)).map(|_| ()) {
        Err(StorageError::Trimmed { asked, oldest: kept }) => {
            assert_eq!((asked.0, kept.0), (oldest - 1, oldest));
        }
        other => panic!("reading what is trimmed gave {other:?}"),
    }
    journal.trim(Position::ZERO).expect("trim");
    journal.trim(Position(u64::MAX)).expect("trim");
    assert!(journal.oldest() <= Position(51));
    assert_eq!(commit(&*journal, batch(1, 0, &[b"on"])), Position(51));

    let journal = factory.reopen(journal);
    assert_eq!(read_after(&*journal, 50), [(51, b"on".to_vec())]);
    assert_eq!(journal.appended(), Position(51));
}

fn followers_are_in_nobodys_way(factory: &mut impl JournalFactory) {
    let journal = factory.fresh();
    let filler = vec![1; 8_000];
    let fill = |records: u64| {
        for number in 0..records {
            commit(&*journal, batch(1, number, &[&filler, &number.to_le_bytes()]));
        }
    };
    fill(40);
    let mut slow = journal.follow(Position::ZERO).expect("a follower");
    let mut late = journal.follow(Position::ZERO).expect("a follower");
    let mut quick = journal.follow(Position(20)).expect("a follower");
    assert_eq!(slow.next().expect("readable").expect("an entry").position, Position(1));
    assert_eq!(rest(&mut *quick).len(), 60);
    journal.trim(Position(60)).expect("trim");
    let oldest = journal.oldest();
    assert!(oldest > Position(40), "a follower was in the way: oldest is {oldest}");

    // Enough to write every trimmed file anew.
    fill(80);
    for reader in [&mut slow, &mut late] {
        let ended = loop {
            match reader.next() {
                // What it has read ahead it may still give.
                Ok(entry) => assert!(entry.is_some_and(|entry| entry.position < oldest)),
                Err(error) => break error,
            }
        };
        let again = reader.next().map(|_| ());
        for error in [Err(ended), again] {
            assert!(matches!(error, Err(StorageError::Trimmed { .. })), "{error:?}");
        }
    }
    assert_eq!(rest(&mut *quick).len(), 160, "who keeps up misses nothing");
    let from_oldest = journal.follow(Position(oldest.0 - 1)).expect("a follower");
    drop(from_oldest);
    let gone = journal.follow(Position(oldest.0 - 2)).map(|_| ());
    assert!(matches!(gone, Err(StorageError::Trimmed { .. })), "{gone:?}");
}

fn watches_are_told(factory: &mut impl JournalFactory) {
    let journal = factory.fresh();
    let (sender, receiver) = mpsc::channel();
    let seen = Arc::downgrade(&journal);
    journal.watch(Box::new(move |position| {
        let durable = seen.upgrade().map_or(position, |journal| journal.durable());
        assert!(durable >= position, "told before it was durable");
        sender.send(position).expect("a receiver");
    }));
    for number in 0..50 {
        commit(&*journal, batch(1, number, &[b"a", b"b"]));
    }
    let mut before = Position::ZERO;
    while before < Position(100) {
        let told = receiver.recv().expect("told");
        assert!(told > before, "{told} after {before}");
        before = told;
    }
    journal.close().expect("close");
    assert!(receiver.recv().is_err(), "the watch is dropped, so that who waits for it learns it");
    let (sender, receiver) = mpsc::channel();
    journal.watch(Box::new(move |position| sender.send(position).expect("a receiver")));
    assert!(receiver.recv().is_err());
}

fn retention_is_counted_from_the_end(factory: &mut impl JournalFactory) {
    let journal = factory.fresh();
    assert_eq!(journal.before_last(0), Position::ZERO);
    for number in 0..50 {
        commit(&*journal, batch(1, number, &[&[1; 8_000]]));
    }
    assert_eq!(journal.before_last(0), Position(50));
    assert_eq!(journal.before_last(u64::MAX), Position::ZERO);
    let kept = journal.before_last(80_000);
    assert!((Position(10)..=Position(40)).contains(&kept), "{kept}");
    journal.trim(kept).expect("trim");
    let bytes: usize = read_after(&*journal, kept.0).iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(bytes >= 80_000, "only {bytes} bytes are left");
}

fn close_commits_and_ends(factory: &mut impl JournalFactory) {
    let journal = factory.fresh();
    let (sender, receiver) = mpsc::channel();
    for _ in 0..3 {
        let sender = sender.clone();
        let done = Box::new(move |outcome| sender.send(outcome).expect("a receiver"));
        journal.append(batch(1, 0, &[b"late"]), Urgency::Soon, done).expect("append");
    }
    journal.close().expect("close");
    journal.close().expect("close again");
    assert_eq!(receiver.try_iter().filter(Result::is_ok).count(), 3);
    assert_eq!(journal.durable(), Position(3));
    let refused = journal.append(batch(1, 0, &[b"x"]), Urgency::Now, Box::new(drop));
    assert!(matches!(refused, Err(StorageError::Closed)));
    assert!(matches!(journal.wait_durable(Position(4)), Err(StorageError::Closed)));
    assert!(matches!(journal.trim(Position(1)), Err(StorageError::Closed)));
    assert_eq!(read_after(&*journal, 0).len(), 3);
}

fn reopening_goes_on(factory: &mut impl JournalFactory) {
    let mut journal = factory.fresh();
    for round in 0..5_u64 {
        assert_eq!(journal.appended(), Position(round * 20));
        assert_eq!(journal.durable(), journal.appended());
        for _ in 0..10 {
            commit(&*journal, batch(1, round, &[&[round as u8; 2_500], b"end"]));
        }
        let found = read_after(&*journal, 0);
        assert_eq!(found.len() as u64, (round + 1) * 20);
        assert!(found.iter().enumerate().all(|(place, entry)| entry.0 == place as u64 + 1));
        journal = factory.reopen(journal);
    }
}

fn failure_poisons(factory: &mut impl JournalFactory) {
    let journal = factory.fresh();
    commit(&*journal, batch(1, 0, &[b"safe"]));
    if !factory.fail_next_sync(&journal) {
        return;
    }
    let (sender, receiver) = mpsc::channel();
    for _ in 0..3 {
        let sender = sender.clone();
        let done = Box::new(move |outcome| sender.send(outcome).expect("a receiver"));
        match journal.append(batch(1, 0, &[b"lost?"]), Urgency::Soon, done) {
            Ok(_) | Err(StorageError::Poisoned { .. }) => {}
            Err(other) => panic!("append after a failure gave {other}"),
        }
    }
    drop(sender);
    let waited = journal.wait_durable(Position(2));
    assert!(matches!(waited, Err(StorageError::Poisoned { .. })), "{waited:?}");
    let told: Vec<_> = receiver.into_iter().collect();
    assert!(!told.is_empty());
    assert!(told.iter().all(|told| matches!(told, Err(StorageError::Poisoned { .. }))));
    let refused = journal.append(batch(1, 0, &[b"x"]), Urgency::Now, Box::new(drop));
    assert!(matches!(refused, Err(StorageError::Poisoned { .. })));
    assert_eq!(journal.durable(), Position(1));
    assert_eq!(read_after(&*journal, 0).len(), 1);
    assert!(matches!(journal.close(), Err(StorageError::Poisoned { .. })));

    let journal = factory.reopen(journal);
    assert_eq!(read_after(&*journal, 0)[0], (1, b"safe".to_vec()));
    let next = journal.durable().next();
    assert_eq!(commit(&*journal, batch(1, 0, &[b"on"])), next);
}
