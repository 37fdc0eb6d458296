//! Changes of consumer groups on real stores: moves, pauses, replays and removals, against each
//! other and against those who consume, also by callers who go away. Every order of events is gone
//! through beside the group's desk; here the parts are the real ones, and few.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{FutureExt, future::join_all};
use tidegate::{
    ConsumeError, ConsumerGroup, ConsumersRejection, Effects, FeedError, NewOrder, OrderState,
    Retry, SkuPatch, Tidegate, Whence,
};

use crate::{
    shop::{self, Shop, eventually},
    topics::{
        A_MOMENT, LONG, Note, PATIENCE, assert_late, assert_none, group, note, notes, one, take,
        text,
    },
};

async fn publish(gate: &Tidegate, texts: &[&str]) {
    for text in texts {
        notes(gate).publish(&note(text)).await.unwrap();
    }
}

fn assert_gone<T>(result: Result<T, ConsumeError>) {
    let error = result.err().expect("the group is gone");
    let gone = matches!(error.rejection(), Some(ConsumersRejection::UnknownGroup { .. }));
    assert!(gone, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_names_one_lease_over_moves_removals_and_opens() {
    let mut shop = Shop::open().await;
    publish(&shop.gate, &["a", "b"]).await;
    let mut tokens = BTreeSet::new();
    let mut old = Vec::new();
    for round in 0..4 {
        let group = group(&shop.gate, "g").await;
        let first = one(&group).await;
        assert_eq!((text(&first).as_str(), first.attempt()), ("a", 1 + u32::from(round == 3)));
        assert!(tokens.last().is_none_or(|last| first.token() > *last), "only counts up");
        assert!(tokens.insert(first.token()));
        for token in &old {
            assert_late(group.ack(first.id(), *token, Effects::new()).await);
            assert_late(group.fail(first.id(), *token, "late").await);
            assert_late(group.extend(first.id(), *token, LONG));
        }
        old.push(first.token());
        match round {
            0 => group.seek(Whence::Oldest).await.unwrap(),
            1 => group.remove().await.unwrap(),
            2 => {
                drop((first, group));
                shop = shop.crashed().await;
            }
            _ => first.ack().await.unwrap(),
        }
    }
    // The last lease of all still counts after the store was opened anew, as nobody else has it.
    let group = group(&shop.gate, "g").await;
    let last = one(&group).await;
    let (id, token) = (last.id(), last.token());
    drop((last, group));
    let shop = shop.reopened().await;
    let group = self::group(&shop.gate, "g").await;
    group.ack(id, token, Effects::new()).await.unwrap();
    assert_late(group.ack(id, token, Effects::new()).await);
    assert_none(&group).await;
    let view = group.view().await.unwrap();
    assert_eq!((view.cursor, view.done), (view.read_to, 2));
    drop(group);
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_that_is_kept_over_a_removal_is_useless() {
    let shop = Shop::open().await;
    publish(&shop.gate, &["a", "b"]).await;
    let old = group(&shop.gate, "g").await;
    let leased = one(&old).await;
    old.remove().await.unwrap();
    let anew = group(&shop.gate, "g").await;
    let token = one(&anew).await.token();
    assert!(token > leased.token());
    assert_late(leased.ack().await);
    assert_late(leased.fail("late").await);
    assert_gone(old.lease(1, A_MOMENT, LONG).await.map(drop));
    assert_gone(old.seek(Whence::Now).await);
    assert_gone(old.pause().await);
    assert_gone(old.replay(leased.id()).await);
    assert_gone(old.discard(leased.id()).await);
    assert_gone(old.view().await);
    assert_gone(old.remove().await);
    anew.ack(leased.id(), token, Effects::new()).await.unwrap();
    assert_eq!(take(&anew, 1).await, ["b"]);
    drop((old, leased, anew));
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_comes_to_its_end_though_nobody_waits_for_it() {
    let shop = Shop::open().await;
    publish(&shop.gate, &["a", "b"]).await;
    let group = group(&shop.gate, "g").await;
    assert_eq!(take(&group, 2).await, ["a", "b"]);
    let paused = async |group: &ConsumerGroup<Note>| group.view().await.unwrap().paused;
    assert!(group.pause().now_or_never().is_none());
    eventually("it is paused", async || paused(&group).await.then_some(())).await;
    assert!(group.seek(Whence::Oldest).now_or_never().is_none());
    assert!(group.resume().now_or_never().is_none());
    assert_eq!(take(&group, 1).await, ["a"]);
    for _ in 0..3 {
        one(&group).await.fail("no").await.unwrap();
    }
    let dead = group.dead_letters(None, 9).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert!(group.replay(dead[0].letter.id).now_or_never().is_none());
    assert_eq!(take(&group, 1).await, ["b"]);
    assert!(group.remove().now_or_never().is_none());
    eventually("it is removed", async || group.view().await.is_err().then_some(())).await;
    assert_gone(group.lease(1, A_MOMENT, LONG).await.map(drop));
    drop(group);
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_beside_each_other_and_beside_consumers_leave_a_group_whole() {
    let shop = Shop::open().await;
    let texts: Vec<_> = (0..40).map(|number| number.to_string()).collect();
    for (number, text) in texts.iter().enumerate() {
        notes(&shop.gate).publish(&note(text)).key(format!("k-{}", number % 5)).await.unwrap();
    }
    let group = group(&shop.gate, "g").await;
    let middle = {
        let leased = group.lease(9, PATIENCE, LONG).await.unwrap();
        leased.last().unwrap().id()
    };
    let consumer = |number: usize| {
        let group = group.clone();
        tokio::spawn(async move {
            for _ in 0..40 {
                let wait = Duration::from_millis(5);
                for leased in group.lease(3, wait, LONG).await.unwrap() {
                    let told =
                        if number == 0 { leased.fail("no").await } else { leased.ack().await };
                    // Some are late, since the group is moved all the time.
                    let late = told.as_ref().err().and_then(ConsumeError::rejection);
                    let late = matches!(late, Some(ConsumersRejection::Late { .. }));
                    assert!(told.is_ok() || late, "{told:?}");
                }
            }
        })
    };
    let consumers: Vec<_> = (0..3).map(consumer).collect();
    for round in 0..30 {
        let dead = group.dead_letters(None, 1).await.unwrap().first().map(|dead| dead.letter.id);
        let whence = [Whence::Oldest, Whence::After(middle), Whence::Now][round % 3];
        let (seek, pause, resume) = (group.seek(whence), group.pause(), group.resume());
        let replay = async {
            if let Some(id) = dead {
                // It may be on its way by itself again.
                let _ = group.replay(id).await;
            }
        };
        if round % 2 == 0 {
            let (sought, paused, resumed, ()) = tokio::join!(seek, pause, resume, replay);
            sought.and(paused).and(resumed).unwrap();
        } else {
            // Nobody waits for these.
            let _ = (seek.now_or_never(), replay.now_or_never());
            let _ = (pause.now_or_never(), resume.now_or_never());
        }
    }
    for consumer in consumers {
        consumer.await.unwrap();
    }
    group.resume().await.unwrap();
    group.seek(Whence::Oldest).await.unwrap();
    let mut all = take(&group, texts.len()).await;
    all.sort_by_key(|text| text.parse::<u32>().unwrap());
    assert_eq!(all, texts, "each once");
    assert_none(&group).await;
    let view = group.view().await.unwrap();
    assert_eq!((view.cursor, view.pending.len()), (view.read_to, 0));
    drop(group);
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_goes_on_where_the_journal_has_not_been() {
    let shop = Shop::open().await;
    publish(&shop.gate, &["a"]).await;
    let group = group(&shop.gate, "g").await;
    let id = one(&group).await.id();
    let beyond = tidegate::MessageId { position: id.position + 1_000, within: None };
    let refused = group.seek(Whence::After(beyond)).await.unwrap_err();
    assert!(matches!(refused, ConsumeError::Feed(FeedError::Ahead { .. })), "{refused}");
    let opening = notes(&shop.gate).group("other").begin(Whence::After(beyond)).open().await;
    let refused = opening.map(drop).unwrap_err();
    assert!(matches!(refused, ConsumeError::Feed(FeedError::Ahead { .. })), "{refused}");
    group.seek(Whence::After(id)).await.unwrap();
    publish(&shop.gate, &["b"]).await;
    assert_eq!(take(&group, 1).await, ["b"]);
    drop(group);
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_cancellation_is_one_of_its_own_and_waits_for_room() {
    let folder = tempfile::tempdir().unwrap();
    let time = tidegate::ManualTime::at_ms(shop::BEGIN_MS);
    let small = shop::small(folder.path()).order_shards(1).idempotency_keys_max(3);
    let gate = small.time(std::sync::Arc::clone(&time)).open().await.unwrap();
    gate.stock().define("tea", SkuPatch::default()).await.unwrap();
    let arrival = tidegate::Adjustment::new("tea", 10, "arrival");
    gate.stock().adjust(arrival, "arrival").await.unwrap();
    let mut orders = Vec::new();
    for key in ["k-1", "k-2"] {
        let order = NewOrder::new("ann").line("tea", 1);
        let order = gate.orders().place(order, key).await.unwrap().id;
        // A paid one doesn't expire.
        let paid = tidegate::PaymentEvent::captured("bank", key, 0);
        gate.orders().pay(order, paid).await.unwrap();
        orders.push(order);
    }
    publish(&gate, &["cancel"]).await;
    let group = group(&gate, "g").await;
    let state = async |order| gate.orders().get(order).await.unwrap().state;
    let cancelled = async |order| {
        eventually("it is cancelled", async || {
            (state(order).await == OrderState::Cancelled).then_some(())
        })
        .await;
    };
    one(&group).await.ack_with(Effects::new().cancel(orders[0])).await.unwrap();
    cancelled(orders[0]).await;
    // The same message again, which is of another mind; and no key has room.
    group.seek(Whence::Oldest).await.unwrap();
    one(&group).await.ack_with(Effects::new().cancel(orders[1])).await.unwrap();
    tokio::time::sleep(A_MOMENT).await;
    assert_eq!(state(orders[1]).await, OrderState::Confirmed);
    time.advance_ms(25 * 3_600_000);
    cancelled(orders[1]).await;
    drop(group);
    gate.close().await.unwrap();
    shop::assert_sound(folder.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_at_their_bound_hold_up_nobody_else() {
    let shop = Shop::open().await;
    let once = Retry { attempts_max: 1, backoff_ms: 0, backoff_ms_max: 0 };
    let open = async |gate: &Tidegate| {
        let group = notes(gate).group("g").begin(Whence::Oldest).retry(once);
        group.open().await.unwrap()
    };
    let (group, max) = (open(&shop.gate).await, tidegate::bounds::DEAD_LETTERS_MAX);
    let mut dead = 0;
    while dead < max {
        let publishing = (0..100).map(|_| notes(&shop.gate).publish(&note("x")).into_future());
        join_all(publishing).await.into_iter().for_each(|published| drop(published.unwrap()));
        let mut left = 100;
        while left > 0 {
            let leased = group.lease(left, PATIENCE, LONG).await.unwrap();
            let failed = join_all(leased.iter().map(|leased| leased.fail("no"))).await;
            failed.into_iter().for_each(|failed| failed.unwrap());
            (left, dead) = (left - leased.len(), dead + leased.len());
        }
    }
    publish(&shop.gate, &["kills"]).await;
    drop((one(&group).await, group));
    let shop = shop.crashed().await;
    let group = open(&shop.gate).await;
    let full = group.lease(1, PATIENCE, LONG).await.map(drop).unwrap_err();
    assert!(matches!(full.rejection(), Some(ConsumersRejection::DeadLettersFull)), "{full}");
    publish(&shop.gate, &["other"]).await;
    assert_eq!(take(&group, 1).await, ["other"]);
    let first = group.dead_letters(None, 1).await.unwrap().remove(0);
    group.discard(first.letter.id).await.unwrap();
    shop.time.advance_ms(1_000);
    assert_none(&group).await;
    let last = eventually("it is given up", async || {
        let dead = group.view().await.unwrap().dead;
        (dead == max).then_some(())
    });
    last.await;
    drop(group);
    shop.audited().await;
}
