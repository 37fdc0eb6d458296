//! Asynchronous intake by scenarios: the queue of one of two shards, which releases an order every
//! 100 ms unless said otherwise, rejects one after 700 ms, and holds 20. It deliberately looks at
//! no stock shard's reasons: a released order is one like any other.

use tidegate_machines::*;

use crate::network::{INTAKE, Network, bytes, orders_config};
use crate::scenario::check;

#[test]
fn a_queued_order_holds_nothing_until_its_turn() {
    // After a pause as many may go at once as go in a second, and at least one.
    check(
        "intake 2 | stock A 5 | queue ann A 1 | waits #1 => true | state #1 => queued \
         | level A => 5 0 0 | deliver | level A => 5 0 0 | sleep 0 | state #1 => awaiting_payment \
         | level A => 5 1 0 | queues => 1 1 0 0 | sleep 1000 | state #1 => expired",
    );
    check(
        "intake 2 | stock A 5 | queue ann A 1 | queue bob A 1 | queue cid A 1 | waits #1 => false \
         | get #2 => 1 1000 | get #3 => 3 2000 | cancel #2 | get #3 => 1 1000",
    );
}

#[test]
fn the_rate_is_kept() {
    check(
        "intake 2 | stock A 5 | queue ann A 1 | sleep 0 | queue bob A 1 | queue cid A 1 \
         | sleep 600 | queues => 3 1 0 0 | intake 4 | sleep 0 | queues => 3 2 0 0 \
         | level A => 5 2 0 | waits #3 => true",
    );
    // Switched off, nobody waits any longer.
    check(
        "intake 2 | stock A 5 | queue ann A 1 | queue bob A 1 | queue cid A 1 | intake off \
         | sleep 0 | queues => 3 3 0 0 | level A => 5 3 0 \
         | queue dan A 1 | waits #4 => false | deliver | level A => 5 4 0",
    );
}

#[test]
fn at_its_deadline_a_queued_order_is_rejected_and_held_nothing() {
    check(
        "intake 2 | stock A 5 | queue ann A 1 | queue bob A 1@9 | sleep 699 \
         | state #2 => queued | pay #2 9 e1 | waits #2 => true | refund_due #2 => 0 \
         | sleep 1 | state #2 => rejected | why #2 => queue_timeout | refund_due #2 => 9 \
         | level A => 5 1 0 | queues => 2 1 1 0 | forget | memory #2 => forgotten \
         | cancel #2 => wrong_state",
    );
}

#[test]
fn a_queued_order_can_be_cancelled_and_paid() {
    check(
        "intake 2 | stock A 5 | queue ann A 1 | queue bob A 1 | cancel #2 | state #2 => cancelled \
         | sleep 600 | queues => 2 1 0 1 | level A => 5 1 0 | forget | memory #2 => forgotten",
    );
    check(
        "intake 4 | stock A 5 | queue ann A 1 | queue bob A 1 | queue cid A 2@9 | pay #3 9 e1 \
         | waits #3 => true | payment #3 => paid | deliver | level A => 5 2 0 | sleep 500 \
         | state #3 => confirmed | level A => 5 2 2",
    );
    check("intake 20 | stock A 1 | queue ann A 2 | sleep 0 | state #1 => rejected");
    check("intake 20 | stock A 1 | queue ann A 1 | ship #1 => wrong_state");
}

#[test]
fn others_do_not_wait_for_the_queue() {
    check(
        "intake 4 | stock A 2 | queue ann A 1 | sleep 0 | queue bob A 1 | sleep 0 | queue cid A 1 \
         | place dan A 1 => sold_out | level A => 2 2 0 | waits #3 => true \
         | adjust A 1 | place eve A 1 | state #5 => awaiting_payment | level A => 3 3 0 \
         | sleep 500 | state #3 => rejected | why #3 => sold_out",
    );
}

fn order(key: u128) -> PlaceOrder {
    PlaceOrder {
        key: KeyHash(key),
        fingerprint: Fingerprint(key as u64),
        user: UserId::new("ann").unwrap(),
        lines: vec![NewLine {
            sku: Sku::new("A").unwrap(),
            location: Location::default(),
            quantity: 1,
            amount_minor: None,
        }],
        hold_ms: 1_000,
        respond_async: true,
        hint: None,
    }
}

fn queued(network: &mut Network, key: u128) -> Result<Receipt, OrderRejection> {
    match network.ask_orders(0, &OrderCommand::Place(order(key)))? {
        Answer::Now(OrderReply::Placed(receipt)) => Ok(receipt),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_full_queue_refuses_and_leaves_the_key_free() {
    let mut network = Network::new();
    network.set_intake(Some(IntakeConfig { orders_per_second: 2, ..INTAKE }));
    queued(&mut network, 1).unwrap();
    for key in 2..=21 {
        // The first was released by then.
        let place = queued(&mut network, key).unwrap().queue.unwrap();
        let ahead = key as u64 - 2;
        assert_eq!((place.position, place.expected_wait_ms), (2 * ahead + 1, 1_000 * (ahead + 1)));
    }
    let journalled = network.orders[0].journal.len();
    let refused = queued(&mut network, 22).unwrap_err();
    let expected_wait_ms = 21_000;
    assert_eq!(refused, OrderRejection::QueueFull { queued_max: 20, expected_wait_ms });
    assert_eq!(network.orders[0].journal.len(), journalled, "a refusal writes nothing");
    let known = queued(&mut network, 7).unwrap();
    assert_eq!(known.queue.unwrap().position, 11, "a repeat is no new order, and told anew");
    network.check();
    network.now = network.now.plus_ms(INTAKE.deadline_ms);
    assert_eq!(queued(&mut network, 22).unwrap().queue.unwrap().position, 1, "the others are out");
}

#[test]
fn shards_without_a_queue_are_written_as_they_always_were() {
    let plain = Orders::new(orders_config(1));
    let written = bytes(&plain);
    assert_eq!(written[..2], [1, 3], "it begins with its number");
    let with = Orders::new(OrdersConfig { intake: Some(INTAKE), ..orders_config(1) });
    assert_eq!(bytes(&with)[..6], [252, 2, 0, 1, 0, 1], "it begins with its format");
    let read = |bytes: &[u8]| {
        let config = bincode::config::standard();
        bincode::serde::decode_from_slice::<Orders, _>(bytes, config).map(|(read, used)| {
            assert_eq!(used, bytes.len());
            read
        })
    };
    assert_eq!(read(&written).unwrap(), plain);
    assert_eq!(read(&bytes(&with)).unwrap(), with);
    let newer = [&[252, 3, 0, 1, 0][..], &written].concat();
    let error = read(&newer).unwrap_err().to_string();
    assert!(error.contains("format 3") && error.contains("newer"), "{error}");
}
