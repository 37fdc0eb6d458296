//! The desk by itself. How it goes together with the machine is in `interleaved`.

#![allow(clippy::unwrap_used)]

use tidegate_machines::Payload;

use super::*;

const NOW: Timestamp = Timestamp(100);

fn letter(position: u64, key: &str, bytes: usize) -> Letter {
    Letter {
        id: MessageId::after(position),
        at: Timestamp(0),
        number: None,
        key: MessageKey::new(key).ok(),
        payload: Payload::of_own(vec![0; bytes]),
    }
}

fn empty() -> GroupView {
    GroupView {
        born: 1,
        moved: 1,
        cursor: MessageId::after(0),
        read_to: MessageId::after(0),
        pending: Vec::new(),
        resolved: Vec::new(),
        again: Vec::new(),
        dead: 0,
        done: 0,
        paused: false,
    }
}

fn pending(position: u64, not_before: u64) -> Pending {
    Pending {
        id: MessageId::after(position),
        attempts: 1,
        token: None,
        not_before: Timestamp(not_before),
    }
}

/// The positions of what is offered.
fn offer(desk: &mut Desk, max: usize) -> Vec<u64> {
    let offer = desk.offer(max, NOW);
    offer.map_or(Vec::new(), |offer| offer.letters.iter().map(|l| l.id.position).collect())
}

/// Somebody has what was offered, by a token of the same number, and resolves it.
fn done(desk: &mut Desk, position: u64) {
    let (id, token) = (MessageId::after(position), LeaseToken(position));
    assert!(desk.lease(id, token, Timestamp(200)).is_some(), "{position} was not offered");
    desk.resolve(id, token);
}

#[test]
fn the_first_of_each_key_is_offered_once() {
    let mut desk = Desk::new(empty());
    for (position, key) in [(1, "a"), (2, "a"), (3, "b"), (4, ""), (5, "")] {
        desk.read(letter(position, key, 1));
    }
    let first = desk.offer(2, NOW).unwrap();
    assert_eq!(first.read, [1, 2, 3].map(MessageId::after), "all up to the last, in order");
    assert_eq!(offer(&mut desk, 9), [4, 5], "those without a key wait for nobody");
    desk.known(MessageId::after(5));
    desk.withdraw(MessageId::after(3), Timestamp(0));
    assert_eq!(offer(&mut desk, 9), [3]);
    done(&mut desk, 1);
    assert_eq!(offer(&mut desk, 9), [2]);
    assert_eq!(desk.counts(), (4, 0));
}

#[test]
fn leases_end_and_failed_ones_wait() {
    let mut desk = Desk::new(empty());
    desk.read(letter(1, "a", 1));
    assert_eq!(offer(&mut desk, 1), [1]);
    let (id, until) = (MessageId::after(1), Timestamp(150));
    desk.lease(id, LeaseToken(1), until);
    assert!(!desk.extend(id, LeaseToken(2), (NOW, until)), "another attempt");
    assert!(desk.extend(id, LeaseToken(1), (NOW, Timestamp(160))));
    assert!(!desk.extend(id, LeaseToken(1), (Timestamp(160), Timestamp(170))), "it is over");
    assert!(desk.overdue(9, until, Timestamp(200)).is_empty());
    assert_eq!(desk.overdue(9, Timestamp(160), Timestamp(200)).len(), 1);
    assert!(desk.overdue(9, Timestamp(161), Timestamp(200)).is_empty(), "told of once");
    assert!(!desk.extend(id, LeaseToken(1), (Timestamp(160), until)), "it is being taken back");
    assert!(desk.leased(id, LeaseToken(1)).is_none());
    assert_eq!(desk.overdue(9, Timestamp(200), Timestamp(300)).len(), 1, "once more");
    desk.failed(id, LeaseToken(1), Timestamp(101));
    assert!(offer(&mut desk, 1).is_empty(), "not before its time");
    desk.failed(id, LeaseToken(1), NOW);
    assert!(offer(&mut desk, 1).is_empty(), "only once");
    assert_eq!(desk.offer(1, Timestamp(101)).unwrap().letters.len(), 1);
    desk.lease(id, LeaseToken(2), until);
    desk.resolve(id, LeaseToken(1));
    assert_eq!(desk.counts(), (1, 1), "an older lease says nothing about this one");
}

#[test]
fn some_are_taken_back_at_once() {
    let mut desk = Desk::new(empty());
    (1..=5).for_each(|position| desk.read(letter(position, "", 1)));
    assert_eq!(offer(&mut desk, 5).len(), 5);
    (1..=5).for_each(|n| drop(desk.lease(MessageId::after(n), LeaseToken(n), NOW)));
    let mut overdue = || desk.overdue(3, NOW, Timestamp(200)).len();
    assert_eq!([overdue(), overdue(), overdue()], [3, 2, 0]);
}

#[test]
fn a_dead_letter_comes_again_once_and_beside_none_of_its_key() {
    let mut desk = Desk::new(empty());
    desk.read(letter(2, "a", 1));
    assert_eq!(offer(&mut desk, 1), [2]);
    desk.lease(MessageId::after(2), LeaseToken(2), Timestamp(200));
    let replayed = || GroupView { again: vec![(pending(1, 0), letter(1, "a", 1))], ..empty() };
    desk.agree(replayed(), LeaseToken(2));
    assert!(offer(&mut desk, 9).is_empty(), "2 is in hands");
    desk.resolve(MessageId::after(2), LeaseToken(2));
    assert_eq!(offer(&mut desk, 9), [1]);
    desk.lease(MessageId::after(1), LeaseToken(3), Timestamp(200));
    desk.agree(replayed(), LeaseToken(2));
    assert!(offer(&mut desk, 9).is_empty(), "it was leased after the machine was asked");
    // It was given up and replayed, and this is heard before the end of the lease is.
    desk.agree(replayed(), LeaseToken(3));
    desk.resolve(MessageId::after(1), LeaseToken(3));
    assert_eq!(offer(&mut desk, 9), [1]);
    done(&mut desk, 1);
    assert_eq!(desk.bytes, 0);
}

#[test]
fn a_doubt_is_settled_by_what_the_machine_knows() {
    let mut desk = Desk::new(empty());
    (1..=4).for_each(|position| desk.read(letter(position, "", 1)));
    assert_eq!(offer(&mut desk, 3), [1, 2, 3]);
    let token = LeaseToken(7);
    (1..=2).for_each(|n| drop(desk.lease(MessageId::after(n), token, Timestamp(200))));
    desk.set_changing(true);
    assert!(offer(&mut desk, 9).is_empty());
    let view = GroupView {
        read_to: MessageId::after(3),
        pending: vec![pending(1, 150), Pending { token: Some(token), ..pending(2, 0) }],
        ..empty()
    };
    desk.agree(view, token);
    assert_eq!(offer(&mut desk, 9), [4], "1 has failed and waits; 2 is in hands; 3 is over");
    assert_eq!(desk.counts(), (3, 1));
    assert_eq!(desk.offer(9, Timestamp(150)).unwrap().letters[0].id.position, 1);
    desk.agree(GroupView { paused: true, read_to: MessageId::after(4), ..empty() }, token);
    assert_eq!((desk.counts(), desk.bytes), ((0, 0), 0));
    desk.read(letter(5, "", 1));
    assert!(offer(&mut desk, 9).is_empty(), "it is paused");
}

#[test]
fn room_is_made_by_what_the_machine_knows() {
    let mut desk = Desk::new(empty());
    for position in 1..=bounds::WINDOW_MAX as u64 {
        assert!(desk.has_room());
        desk.read(letter(position, "", 1));
    }
    assert!(!desk.has_room());
    assert_eq!(desk.can_pass(1), None, "not before all is resolved");
    assert_eq!(offer(&mut desk, 1), [1]);
    done(&mut desk, 1);
    assert!(!desk.has_room(), "the machine does not know that it was read");
    desk.known(MessageId::after(1));
    assert!(desk.has_room());
    let mut desk = Desk::new(empty());
    desk.read(letter(1, "", AT_HAND_BYTES_MAX));
    assert!(!desk.has_room());
}

#[test]
fn a_desk_made_anew_knows_what_was_resolved_and_what_waits() {
    let mut desk = Desk::new(GroupView {
        read_to: MessageId::after(3),
        pending: vec![pending(1, 101), pending(3, 0)],
        resolved: vec![MessageId::after(2)],
        again: vec![(pending(0, 0), letter(0, "a", 1))],
        ..empty()
    });
    assert_eq!(desk.can_pass(0), None, "what waits was not read again yet");
    (1..=4).for_each(|position| desk.read(letter(position, "a", 1)));
    assert_eq!(offer(&mut desk, 9), [0], "first what is tried again");
    done(&mut desk, 0);
    assert!(offer(&mut desk, 9).is_empty(), "the first of its key has to wait");
    assert_eq!(desk.offer(9, Timestamp(101)).unwrap().letters[0].id.position, 1);
    done(&mut desk, 1);
    let last = desk.offer(9, NOW).unwrap();
    assert_eq!((last.letters[0].id.position, last.read.len()), (3, 0), "2 was resolved");
    done(&mut desk, 3);
    let new = desk.offer(9, NOW).unwrap();
    assert_eq!((new.after.position, new.read.len()), (3, 1));
    desk.set_changing(true);
    desk.withdraw(MessageId::after(4), Timestamp(0));
    assert!(offer(&mut desk, 9).is_empty());
}

#[test]
fn a_desk_knows_when_it_is_to_be_looked_at() {
    let mut desk = Desk::new(empty());
    for position in [1, 2, 3] {
        desk.read(letter(position, "", 1));
    }
    assert_eq!(desk.due(), NEVER, "all may be had now");
    assert_eq!(offer(&mut desk, 3), [1, 2, 3]);
    let (first, second) = (MessageId::after(1), MessageId::after(2));
    desk.lease(first, LeaseToken(1), Timestamp(300)).unwrap();
    desk.lease(second, LeaseToken(2), Timestamp(200)).unwrap();
    assert_eq!(desk.due(), Timestamp(200));
    desk.withdraw(MessageId::after(3), Timestamp(150));
    assert_eq!(desk.due(), Timestamp(150));
    assert_eq!(desk.next_due(Timestamp(150)), Timestamp(200), "that may be had now");
    assert!(desk.extend(first, LeaseToken(1), (NOW, Timestamp(190))));
    assert_eq!(desk.due(), Timestamp(190));
    assert_eq!(desk.overdue(1, Timestamp(190), Timestamp(400)).len(), 1);
    assert_eq!(desk.next_due(Timestamp(190)), Timestamp(200));
    desk.failed(second, LeaseToken(2), Timestamp(700));
    assert_eq!(desk.next_due(Timestamp(200)), Timestamp(400), "it is told of once more");
    desk.resolve(first, LeaseToken(1));
    assert_eq!(desk.next_due(Timestamp(400)), Timestamp(700));
    assert_eq!(desk.next_due(Timestamp(700)), NEVER);
}
