//! The filter against a set that forgets nothing. What fronts make of it is tested in `tests/`.

use std::collections::BTreeSet;

use siphasher::sip128::SipHasher13;
use tidegate_machines::{Machine, OrdersConfig};

use super::*;

/// As keys are hashed: with a secret.
fn key(number: u64) -> KeyHash {
    KeyHash(SipHasher13::new_with_key(&[7; 16]).hash(&number.to_le_bytes()).as_u128())
}

fn bound(number: u64, at: u64) -> OrderEvent {
    OrderEvent::Placed(tidegate_machines::Placed {
        at: Timestamp(at),
        order: tidegate_machines::OrderId::new(0, number + 1).unwrap(),
        key: key(number),
        fingerprint: tidegate_machines::Fingerprint(0),
        user: tidegate_machines::UserId::new("ada").unwrap(),
        lines: tidegate_machines::Short::new(),
        hold_ms: 1,
        respond_async: true,
    })
}

fn forgotten(cutoff: u64) -> OrderEvent {
    let forget_before = Some(Timestamp(cutoff));
    OrderEvent::Ticked { at: Timestamp(cutoff), expired: Vec::new(), forget_before }
}

/// A shard that was rebuilt without a key.
fn begun(keys_max: usize) -> KnownWriter {
    let mut writer = KnownWriter::new(Arc::new(KnownKeys::new(keys_max)));
    writer.restored(&orders());
    writer
}

fn orders() -> Orders {
    Orders::new(OrdersConfig {
        shard: 0,
        stock_shards: 1,
        idempotency_retention_ms: 1,
        idempotency_keys_max: 1_000,
        intake: None,
    })
}

fn rooms(known: &KnownKeys) -> Vec<u64> {
    known.generations.read().unwrap().iter().map(Generation::room).collect()
}

/// How many of so many keys that nobody has noted are taken for known ones, of a thousand.
fn wrong_per_mille(known: &KnownKeys) -> usize {
    let strangers = (0..100_000).map(|number| key(1 << 40 | number));
    strangers.filter(|key| known.may_know(*key)).count() / 100
}

#[test]
fn every_noted_key_is_known_and_few_others_are() {
    let known = begun(8_000_000).known;
    assert!(!(0..1_000).any(|number| known.may_know(key(number))), "it begins empty");
    (0..KEYS_FIRST).for_each(|number| known.note(key(number)));
    assert!((0..KEYS_FIRST).all(|number| known.may_know(key(number))));
    assert!(wrong_per_mille(&known) < 20, "{}", wrong_per_mille(&known));
}

#[test]
fn it_grows_with_what_is_bound_to_its_bound_and_no_further() {
    let keys_max = 4 * KEYS_FIRST;
    let mut writer = begun(keys_max as usize);
    for number in 0..8 * KEYS_FIRST {
        writer.applying(&bound(number, number));
    }
    let known = writer.known;
    assert_eq!(rooms(&known), [KEYS_FIRST, 4 * KEYS_FIRST], "of at most twice the bound");
    assert!((0..8 * KEYS_FIRST).all(|number| known.may_know(key(number))), "none is lost for it");
}

#[test]
fn a_generation_goes_when_all_in_it_is_durably_forgotten_and_not_before() {
    let mut writer = begun(8_000_000);
    let known = Arc::clone(&writer.known);
    // One key at each moment; a generation takes a few more than it has room for by chance.
    let keys = KEYS_FIRST + KEYS_FIRST / 4;
    for number in 0..keys {
        writer.applying(&bound(number, number));
    }
    let closed = known.generations.read().unwrap()[0].closed.unwrap();
    assert_eq!(rooms(&known).len(), 2);
    let mut durable = 0;
    let mut forget = |writer: &mut KnownWriter, cutoff| {
        writer.applied(&forgotten(cutoff));
        durable += 1;
        writer.durable(Position(durable));
        writer.journalled(Position(durable));
        writer.durable(Position(durable - 1));
        let before = rooms(&known).len();
        writer.durable(Position(durable));
        before
    };
    forget(&mut writer, closed.0);
    let all = |from: u64| (from..keys).all(|number| known.may_know(key(number)));
    assert!(all(0), "the last key of the first generation is still bound");
    assert_eq!(rooms(&known).len(), 2);
    assert_eq!(forget(&mut writer, closed.0 + 1), 2, "not before it is durable");
    assert_eq!(rooms(&known), [GROWTH * KEYS_FIRST]);
    assert!(all(closed.0 + 1), "what was bound later has stayed");
    assert!((0..1_000).filter(|number| known.may_know(key(*number))).count() < 100);
}

#[test]
fn what_a_rebuilt_shard_has_bound_is_known_and_until_then_anything_may_be() {
    let mut orders = orders();
    (0..500).for_each(|number| orders.apply(&bound(number, number)));
    let mut writer = KnownWriter::new(Arc::new(KnownKeys::new(1_000)));
    assert!((0..1_000).all(|number| writer.known.may_know(key(number))), "nobody has told yet");
    writer.restored(&orders);
    let known: BTreeSet<_> = (0..500).filter(|n| writer.known.may_know(key(*n))).collect();
    assert_eq!(known.len(), 500);
    assert_eq!(writer.newest, Timestamp(499));
}

#[test]
fn a_large_generation_is_made_ahead_of_time() {
    let mut writer = begun(8_000_000);
    let mut number = 0;
    let mut bind_while = |writer: &mut KnownWriter, goes_on: &dyn Fn(&KnownWriter) -> bool| {
        while goes_on(writer) {
            writer.bind(key(number), Timestamp(number));
            number += 1;
        }
        number
    };
    let bound = bind_while(&mut writer, &|writer| writer.ahead.is_none());
    let small = [KEYS_FIRST, GROWTH * KEYS_FIRST];
    assert_eq!(rooms(&writer.known), small, "after {bound} keys");
    let bound = bind_while(&mut writer, &|writer| rooms(&writer.known).len() == 2);
    assert!(writer.ahead.is_none());
    assert_eq!(rooms(&writer.known), [small[0], small[1], KEYS_AHEAD]);
    assert!((0..bound).all(|number| writer.known.may_know(key(number))));
}
