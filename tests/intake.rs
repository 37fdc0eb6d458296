//! Asynchronous intake on real stores: queued orders hold nothing, leave at the rate that is set,
//! and none is lost or released twice over closings and crashes. Time is set by hand, so the rate
//! is exact. The rules themselves are tested with the machine.

use std::collections::BTreeMap;

use tidegate::{
    Intake, NewOrder, OrderId, OrderRejection, OrderState, QueueCounts, Receipt, Refusal, Tidegate,
};

use crate::shop::{Shop, eventually};

/// One order a second over the two order shards of a small store, so one in two seconds of each.
const SLOW: Intake = Intake { orders_per_second: 1, queued_max: 1_000, deadline_ms: 3_600_000 };

fn mug(user: &str) -> NewOrder {
    NewOrder::new(user).line("mug", 1).hold_ms(24 * 3_600_000)
}

async fn queue(shop: &Shop, number: u64) -> Receipt {
    let receipt = shop.place(mug("ann").respond_async(), &format!("cart-{number}")).await;
    assert_eq!((receipt.state, receipt.expires_at), (OrderState::Queued, None));
    receipt
}

async fn queue_all(shop: &Shop, orders: u64) -> Vec<OrderId> {
    let mut ids = Vec::new();
    for number in 0..orders {
        ids.push(queue(shop, number).await.id);
    }
    ids
}

/// What the shards have let be seen, each at its last look at the time.
fn counts(gate: &Tidegate) -> QueueCounts {
    let mut sum = QueueCounts::default();
    for shard in gate.report().shards {
        sum.queued += shard.queue.queued;
        sum.released += shard.queue.released;
        sum.timed_out += shard.queue.timed_out;
        sum.cancelled += shard.queue.cancelled;
    }
    sum
}

/// Waits until so many have been released in all, and nothing of them is still being reserved.
async fn until_released(shop: &Shop, orders: u64) {
    eventually(&format!("{orders} are released"), async || {
        let held = shop.levels("mug").await.1;
        (counts(&shop.gate).released == orders && held == orders).then_some(())
    })
    .await;
}

async fn states(shop: &Shop, ids: &[OrderId]) -> BTreeMap<OrderState, usize> {
    let mut states = BTreeMap::new();
    for id in ids {
        *states.entry(shop.get(*id).await.state).or_default() += 1;
    }
    states
}

/// Goes on, two seconds at a time, until all have been released: one of each shard each time.
async fn drain(shop: &Shop, orders: u64) {
    let known = async || (counts(&shop.gate).queued == orders).then_some(());
    eventually("all are counted", known).await;
    let mut released = counts(&shop.gate).released;
    while released < orders {
        shop.time.advance_ms(2_000);
        let now = eventually("the next is released", async || {
            let now = counts(&shop.gate).released;
            (now > released).then_some(now)
        })
        .await;
        assert!(now <= released + 2, "one of each shard at a time, not {}", now - released);
        released = now;
        // The other shard may look at the time later.
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        released = released.max(counts(&shop.gate).released);
    }
    until_released(shop, orders).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queued_orders_hold_nothing_and_leave_at_the_rate_over_closings_and_crashes() {
    let mut shop = Shop::taking_in(SLOW).await;
    shop.item("mug", 100).await;
    let ids = queue_all(&shop, 12).await;
    let first = eventually("the first of each shard are released", async || {
        let counts = counts(&shop.gate);
        (counts.queued == 12 && counts.released > 0).then_some(counts.released)
    })
    .await;
    assert!(first <= 2, "{first}");
    shop = shop.reopened().await;
    // The last of all is the first of no shard: it waits still.
    let again = queue(&shop, 11).await;
    assert_eq!(again.id, ids[11], "the same key is the same order");
    let before = states(&shop, &ids).await;
    let released = before[&OrderState::AwaitingPayment];
    assert!(released <= 2 && before[&OrderState::Queued] == 12 - released, "{before:?}");
    shop = shop.crashed().await;
    assert_eq!(states(&shop, &ids).await, before, "no time has passed");
    shop.time.advance_ms(2_000);
    eventually("the queue goes on", async || {
        (counts(&shop.gate).released > released as u64).then_some(())
    })
    .await;
    shop = shop.crashed().await;
    drain(&shop, 12).await;
    assert_eq!(states(&shop, &ids).await, BTreeMap::from([(OrderState::AwaitingPayment, 12)]));
    assert_eq!(counts(&shop.gate).queued, 12);
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_counts_down_to_its_turn() {
    let shop = Shop::taking_in(SLOW).await;
    shop.item("mug", 100).await;
    queue_all(&shop, 8).await;
    let last = queue(&shop, 8).await;
    let place = last.queue.expect("its place");
    assert_eq!(place.deadline.0, last.placed_at.0 + SLOW.deadline_ms);
    assert!(place.position <= 17 && place.expected_wait_ms <= 18_000, "{place:?}");
    let (order, found) = shop.gate.orders().get_with_place(last.id).await.unwrap();
    assert!(order.waits_in_queue() && order.open_ops.is_empty());
    let found = found.expect("its place");
    assert!(found.position <= place.position, "{found:?} after {place:?}");
    drain(&shop, 9).await;
    shop.until_state(last.id, OrderState::AwaitingPayment).await;
    assert_eq!(shop.gate.orders().get_with_place(last.id).await.unwrap().1, None);
    // Whoever waits for the answer does not wait in the queue.
    for number in 100..120 {
        queue(&shop, number).await;
    }
    let receipt = shop.place(mug("bob"), "at-once").await;
    assert_eq!((receipt.state, receipt.queue), (OrderState::AwaitingPayment, None));
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_their_deadline_queued_orders_are_rejected_also_while_the_store_was_closed() {
    let mut shop = Shop::taking_in(SLOW).await;
    shop.item("mug", 100).await;
    let ids = queue_all(&shop, 10).await;
    shop = shop.reopened().await;
    let released = states(&shop, &ids).await.get(&OrderState::AwaitingPayment).copied();
    let released = released.unwrap_or(0);
    let last = *ids.last().unwrap();
    shop.pay(last, "early", 100).await;
    shop.time.advance_ms(SLOW.deadline_ms);
    shop = shop.crashed().await;
    let order = shop.until_state(last, OrderState::Rejected).await;
    assert_eq!(order.rejection.as_deref(), Some(&Refusal::QueueTimeout));
    assert_eq!(order.refund_due_minor(), 100, "what was paid for it goes back");
    eventually("all have left", async || (counts(&shop.gate).waiting() == 0).then_some(())).await;
    let counts = counts(&shop.gate);
    assert_eq!((counts.queued, counts.timed_out), (10, 10 - released as u64));
    assert_eq!(shop.levels("mug").await, (100, released as u64, 0), "nothing was held for them");
    let again = shop.place(mug("ann").respond_async(), "cart-9").await;
    assert_eq!((again.id, again.state), (last, OrderState::Rejected));
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_the_key_stays_free() {
    let shop = Shop::taking_in(Intake { queued_max: 4, ..SLOW }).await;
    shop.item("mug", 100).await;
    let (mut queued, mut refused) = (0, Vec::new());
    for number in 0..30 {
        let key = format!("cart-{number}");
        match shop.gate.orders().place(mug("ann").respond_async(), &key).await {
            Ok(_) => queued += 1,
            Err(error) => match error.rejection() {
                Some(OrderRejection::QueueFull { queued_max: 2, expected_wait_ms }) => {
                    assert!(*expected_wait_ms > 0);
                    refused.push(key);
                }
                _ => panic!("{error}"),
            },
        }
    }
    assert!(queued <= 6, "two wait in each shard, and one of each has gone: {queued}");
    assert_eq!(queued + refused.len(), 30);
    eventually("refusals leave nothing", async || {
        (counts(&shop.gate).queued == queued as u64).then_some(())
    })
    .await;
    drain(&shop, queued as u64).await;
    let receipt = shop.place(mug("ann").respond_async(), &refused[0]).await;
    assert_eq!(receipt.state, OrderState::Queued);
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cancelled_in_the_queue_held_nothing() {
    let shop = Shop::taking_in(SLOW).await;
    shop.item("mug", 100).await;
    let ids = queue_all(&shop, 9).await;
    let mut cancelled = 0;
    for id in &ids[5..] {
        let waits = shop.gate.orders().get_with_place(*id).await.unwrap().1.is_some();
        let order = shop.gate.orders().cancel(*id, "no").await.unwrap();
        assert_eq!(order.state, OrderState::Cancelled);
        cancelled += u64::from(waits);
    }
    eventually("the queue knows", async || {
        (counts(&shop.gate).cancelled == cancelled).then_some(())
    })
    .await;
    assert!(cancelled >= 2, "most of them waited");
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_rate_or_none_holds_from_the_next_opening_on() {
    let mut shop = Shop::taking_in(SLOW).await;
    shop.item("mug", 1_000).await;
    let ids = queue_all(&shop, 40).await;
    shop.intake = Some(Intake { orders_per_second: 10, ..SLOW });
    shop = shop.reopened().await;
    let before = counts(&shop.gate).released;
    shop.time.advance_ms(1_000);
    eventually("more go in a second", async || {
        (counts(&shop.gate).released >= before + 5).then_some(())
    })
    .await;
    assert!(counts(&shop.gate).released <= 2 + 20, "a burst of each shard, and a second's worth");
    shop.intake = None;
    shop = shop.reopened().await;
    until_released(&shop, 40).await;
    assert_eq!(states(&shop, &ids).await, BTreeMap::from([(OrderState::AwaitingPayment, 40)]));
    let receipt = shop.place(mug("ann").respond_async(), "more").await;
    assert_eq!(receipt.queue, None, "it asks for its stock at once");
    shop.audited().await;
}

/// The short form of `tidegate-reliability surge`, in seconds of a clock that the test sets.
#[tokio::test(flavor = "multi_thread")]
async fn ten_times_the_rate_is_taken_in_and_worked_off_at_the_rate() {
    const RATE: u64 = 40;
    const SECONDS: u64 = 3;
    let intake = Intake { orders_per_second: RATE as u32, ..SLOW };
    let shop = Shop::taking_in(Intake { queued_max: 10_000, ..intake }).await;
    shop.item("mug", 10_000).await;
    let begun = (10 * RATE * SECONDS) as usize;
    let mut queued = 0;
    for second in 1..=SECONDS {
        for number in queued..queued + 10 * RATE {
            queue(&shop, number).await;
        }
        queued += 10 * RATE;
        shop.time.advance_ms(1_000);
        // The bucket was full to begin with; from then on it is the rate, to the order.
        until_released(&shop, RATE * (second + 1)).await;
        assert_eq!(counts(&shop.gate).waiting(), queued - RATE * (second + 1));
    }
    let mut released = RATE * (SECONDS + 1);
    while released < begun as u64 / 2 {
        shop.time.advance_ms(1_000);
        released += RATE;
        until_released(&shop, released).await;
    }
    // Towards the end one shard's queue is empty before the other's.
    while counts(&shop.gate).waiting() > 0 {
        let before = counts(&shop.gate).released;
        shop.time.advance_ms(1_000);
        eventually("it goes on", async || (counts(&shop.gate).released > before).then_some(()))
            .await;
        assert!(counts(&shop.gate).released <= before + RATE);
    }
    until_released(&shop, begun as u64).await;
    assert_eq!(counts(&shop.gate).timed_out, 0);
    shop.audited().await;
}
