//! Topics and consumer groups as a host uses them, on real stores: what is published once, who gets
//! what and when, what becomes of messages that fail, and what a crash may not undo. Changes of a
//! group are in `groups`; what it decides by itself is tested beside its machine.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tidegate::{
    AskError, ConsumeError, ConsumerGroup, ConsumersRejection, Effects, Handler, HandlerError,
    IdempotencyError, Leased, Message, NewOrder, NewSchedule, OrderState, Retry, SkuPatch,
    Tidegate, Topic, TopicsRejection, Whence,
};

use crate::shop::{self, Shop, eventually};

/// A guard against hanging, not a promise about speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Long enough that no lease ends by itself: these are of the tests' own clock.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Long enough to be sure that nothing comes which should not.
pub(crate) const A_MOMENT: Duration = Duration::from_millis(150);

pub(crate) const AT_ONCE: Retry = Retry { attempts_max: 3, backoff_ms: 0, backoff_ms_max: 0 };

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    text: String,
}

pub(crate) fn note(text: &str) -> Note {
    Note { text: text.to_owned() }
}

pub(crate) fn notes(gate: &Tidegate) -> Topic<Note> {
    gate.topic("notes").unwrap()
}

pub(crate) async fn group(gate: &Tidegate, name: &str) -> ConsumerGroup<Note> {
    notes(gate).group(name).begin(Whence::Oldest).retry(AT_ONCE).open().await.unwrap()
}

/// Up to `max` messages; there must be one.
async fn lease(group: &ConsumerGroup<Note>, max: usize) -> Vec<Leased<Note>> {
    let leased = group.lease(max, PATIENCE, LONG).await.unwrap();
    assert!(!leased.is_empty(), "no message in time");
    leased
}

pub(crate) async fn one(group: &ConsumerGroup<Note>) -> Leased<Note> {
    lease(group, 1).await.remove(0)
}

pub(crate) async fn assert_none(group: &ConsumerGroup<Note>) {
    let leased = group.lease(9, A_MOMENT, LONG).await.unwrap();
    assert_eq!(leased.iter().map(text).collect::<Vec<_>>(), Vec::<String>::new());
}

pub(crate) fn text(leased: &Leased<Note>) -> String {
    leased.value().unwrap().text
}

/// Acknowledges `count` messages, one by one; their texts.
pub(crate) async fn take(group: &ConsumerGroup<Note>, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < count {
        let leased = one(group).await;
        texts.push(text(&leased));
        leased.ack().await.unwrap();
    }
    texts
}

pub(crate) fn assert_late(result: Result<(), ConsumeError>) {
    let error = result.expect_err("it must come too late");
    let late =
        matches!(error, ConsumeError::Ask(AskError::Rejected(ConsumersRejection::Late { .. })));
    assert!(late, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_is_idempotent_by_key_over_a_close_and_a_crash() {
    let mut shop = Shop::open().await;
    let publish = |gate: &Tidegate| notes(gate).publish(&note("a")).key("k").idempotency("i-1");
    let first = publish(&shop.gate).await.unwrap();
    assert_eq!((first.number, first.at.0, first.due.0), (1, shop::BEGIN_MS, shop::BEGIN_MS));
    for crash in [true, false] {
        shop = if crash { shop.crashed().await } else { shop.reopened().await };
        assert_eq!(publish(&shop.gate).await.unwrap(), first);
    }
    let other = notes(&shop.gate).publish(&note("b")).idempotency("i-1").await.unwrap_err();
    let conflict = TopicsRejection::Idempotency(IdempotencyError::Conflict);
    assert_eq!(other.rejection(), Some(&conflict));
    notes(&shop.gate).for_caller("bob").publish(&note("b")).idempotency("i-1").await.unwrap();
    let events: Topic<Note> = shop.gate.topic("events").unwrap();
    let built_in = events.publish(&note("x")).await.unwrap_err();
    assert_eq!(built_in.rejection(), Some(&TopicsRejection::BuiltIn));
    let large = notes(&shop.gate).publish(&note(&"x".repeat(65_536))).await.unwrap_err();
    assert!(large.to_string().contains("payload must be at most 65536 bytes"), "{large}");
    assert!(shop.gate.topic::<Note>("with space").is_err());

    let group = group(&shop.gate, "g").await;
    let leased = [one(&group).await, one(&group).await];
    let (letter, attempt) = (leased[0].letter().clone(), leased[0].attempt());
    assert_eq!((letter.number, attempt), (Some(1), 1));
    assert_eq!(letter.key.unwrap().as_str(), "k");
    assert_eq!(leased.iter().map(text).collect::<Vec<_>>(), ["a", "b"]);
    drop(group);
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn competing_consumers_keep_the_order_of_each_key() {
    let shop = Shop::open().await;
    for number in 0..60 {
        let publish = notes(&shop.gate).publish(&note(&format!("{number:02}")));
        publish.key(format!("k-{}", number % 5)).await.unwrap();
    }
    let seen: Arc<Mutex<BTreeMap<String, Vec<String>>>> = Arc::default();
    let in_hand: Arc<Mutex<Vec<String>>> = Arc::default();
    let consumers = (0..4).map(|consumer: usize| {
        let (gate, seen, in_hand) = (shop.gate.clone(), Arc::clone(&seen), Arc::clone(&in_hand));
        tokio::spawn(async move {
            let group = group(&gate, "g").await;
            loop {
                let leased = group.lease(1 + consumer, A_MOMENT, LONG).await.unwrap();
                if leased.is_empty() {
                    return;
                }
                let keys: Vec<_> = leased.iter().map(|one| one.letter().key.clone()).collect();
                let keys: Vec<_> = keys.into_iter().map(|key| key.unwrap().to_string()).collect();
                for (key, leased) in keys.iter().zip(&leased) {
                    let mut in_hand = in_hand.lock().unwrap();
                    assert!(!in_hand.contains(key), "two have messages of {key}");
                    in_hand.push(key.clone());
                    seen.lock().unwrap().entry(key.clone()).or_default().push(text(leased));
                }
                tokio::task::yield_now().await;
                for (key, leased) in keys.iter().zip(&leased) {
                    // Before the acknowledgement: right after it the next of the key may be had.
                    in_hand.lock().unwrap().retain(|held| held != key);
                    leased.ack().await.unwrap();
                }
            }
        })
    });
    for consumer in consumers.collect::<Vec<_>>() {
        consumer.await.unwrap();
    }
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(seen.len(), 5);
    for texts in seen.values() {
        assert_eq!(texts.len(), 12, "each once: {texts:?}");
        assert!(texts.is_sorted(), "{texts:?}");
    }
    let view = group(&shop.gate, "g").await.view().await.unwrap();
    assert_eq!((view.cursor, view.done, view.dead), (view.read_to, 60, 0));
    shop.audited().await;
}

/// Fails or panics on some notes until it is mended.
struct Scribe {
    mended: Arc<AtomicBool>,
    handled: Arc<Mutex<Vec<String>>>,
}

impl Handler<Note> for Scribe {
    async fn handle(&self, message: &Message<Note>) -> Result<(), HandlerError> {
        let text = message.value.text.clone();
        if !self.mended.load(Ordering::SeqCst) {
            match &*text {
                "fails" => return Err(HandlerError::new("no ink")),
                "panics" => panic!("no paper"),
                _ => {}
            }
        }
        self.handled.lock().unwrap().push(text);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_always_fails_becomes_a_dead_letter_and_can_be_replayed() {
    let shop = Shop::open().await;
    for text in ["one", "fails", "two", "panics", "three"] {
        notes(&shop.gate).publish(&note(text)).key("same").await.unwrap();
    }
    // Not even a note.
    shop.gate.topic::<u8>("notes").unwrap().publish(&7).await.unwrap();
    let (mended, handled) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let group = group(&shop.gate, "g").await;
    let scribe = Scribe { mended: Arc::clone(&mended), handled: Arc::clone(&handled) };
    let workers = group.run(3, PATIENCE, scribe);
    let handled = || handled.lock().unwrap().clone();
    eventually("all others are handled", async || (handled().len() == 3).then_some(())).await;
    assert_eq!(handled(), ["one", "two", "three"], "in the order of their key");
    let dead = eventually("three are given up", async || {
        let dead = group.dead_letters(None, 10).await.unwrap();
        (dead.len() == 3).then_some(dead)
    })
    .await;
    let causes: Vec<_> = dead.iter().map(|dead| dead.cause.as_str()).collect();
    assert_eq!(causes[..2], ["no ink", "the handler panicked: no paper"]);
    assert!(causes[2].contains("invalid type: integer `7`"), "{causes:?}");
    assert!(dead.iter().all(|dead| dead.attempts == 3 && dead.died_at.0 >= shop::BEGIN_MS));
    assert_eq!(dead[0].letter.payload.bytes(), br#"{"text":"fails"}"#);

    mended.store(true, Ordering::SeqCst);
    group.replay(dead[1].letter.id).await.unwrap();
    eventually("it is handled at last", async || (handled().len() == 4).then_some(())).await;
    assert_eq!(handled()[3], "panics");
    workers.stop().await;
    group.discard(dead[2].letter.id).await.unwrap();
    let unknown = group.discard(dead[2].letter.id).await.unwrap_err();
    assert!(unknown.to_string().contains("is no dead letter"), "{unknown}");
    drop(group);

    let shop = shop.crashed().await;
    let group = self::group(&shop.gate, "g").await;
    let left = group.dead_letters(None, 10).await.unwrap();
    assert_eq!(left, dead[..1]);
    group.replay(dead[0].letter.id).await.unwrap();
    drop(group);
    let shop = shop.reopened().await;
    let group = self::group(&shop.gate, "g").await;
    let again = one(&group).await;
    assert_eq!((text(&again).as_str(), again.attempt()), ("fails", 1));
    again.ack().await.unwrap();
    assert_none(&group).await;
    drop((again, group));
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hangs_loses_the_message_and_is_told_so() {
    let shop = Shop::open().await;
    notes(&shop.gate).publish(&note("a")).key("k").await.unwrap();
    notes(&shop.gate).publish(&note("b")).key("k").await.unwrap();
    let group = group(&shop.gate, "g").await;
    let hangs = one(&group).await;
    assert_none(&group).await;
    shop.time.advance_ms(40_000);
    hangs.extend(LONG).unwrap();
    shop.time.advance_ms(40_000);
    assert_none(&group).await;
    shop.time.advance_ms(20_000);
    let second = one(&group).await;
    assert_eq!((second.id(), second.attempt()), (hangs.id(), 2));
    assert_late(hangs.ack().await);
    assert_late(hangs.fail("late").await);
    assert_late(hangs.extend(LONG));
    second.ack().await.unwrap();
    assert_late(second.ack().await);
    let third = one(&group).await;
    assert_eq!(text(&third), "b");
    third.fail("not now").await.unwrap();
    // Who goes away while it acknowledges may have done so.
    let fourth = one(&group).await;
    assert!(fourth.ack().now_or_never().is_none());
    notes(&shop.gate).publish(&note("c")).key("k").await.unwrap();
    shop.time.advance_ms(60_000);
    assert_eq!(take(&group, 1).await, ["c"]);
    assert_eq!(group.counts(), (0, 0, 0));
    drop((hangs, second, third, fourth, group));
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_before_the_acknowledgement_gives_it_again_and_the_effect_is_one() {
    let mut shop = Shop::open().await;
    shop.item("tea", 10).await;
    notes(&shop.gate).publish(&note("ann")).await.unwrap();
    let mut orders = Vec::new();
    for attempt in 1..=2 {
        let group = group(&shop.gate, "buyers").await;
        let leased = one(&group).await;
        assert_eq!(leased.attempt(), attempt);
        let order = NewOrder::new(text(&leased)).line("tea", 1);
        orders.push(shop.place(order, &format!("buyers-{}", leased.id())).await.id);
        drop((leased, group));
        shop = shop.crashed().await;
    }
    assert_eq!(orders[0], orders[1]);
    assert_eq!(shop.levels("tea").await, (10, 1, 0));
    // A third crash, and it is given up, since it may be what kills the process.
    let group = group(&shop.gate, "buyers").await;
    assert_eq!(one(&group).await.attempt(), 3);
    drop(group);
    let shop = shop.crashed().await;
    notes(&shop.gate).publish(&note("bob")).await.unwrap();
    let group = self::group(&shop.gate, "buyers").await;
    assert_eq!(take(&group, 1).await, ["bob"]);
    let dead = group.dead_letters(None, 10).await.unwrap();
    assert!(dead[0].cause.contains("did not end") && dead[0].attempts == 3, "{dead:?}");
    drop(group);
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_commit_with_the_acknowledgement_and_happen_once() {
    let shop = Shop::open().await;
    shop.item("tea", 10).await;
    let order = shop.place(NewOrder::new("ann").line("tea", 1), "k-1").await.id;
    let replies: Topic<Note> = shop.gate.topic("replies").unwrap();
    notes(&shop.gate).publish(&note("cancel it")).await.unwrap();
    let group = group(&shop.gate, "g").await;
    let leased = one(&group).await;
    let effects = || {
        let effects = Effects::new().publish(&replies, &note("cancelled"), Some("ann"));
        effects.publish(&replies, &note("told"), None).cancel(order)
    };
    leased.ack_with(effects()).await.unwrap();
    assert_late(leased.ack_with(effects()).await);
    let events: Topic<Note> = shop.gate.topic("events").unwrap();
    let refused = leased.ack_with(Effects::new().publish(&events, &note("x"), None)).await;
    assert!(refused.unwrap_err().to_string().contains("built in"));
    drop((leased, group));
    let shop = shop.crashed().await;
    shop.until_state(order, OrderState::Cancelled).await;
    assert_eq!(shop.levels("tea").await, (10, 0, 0));
    let shop = shop.reopened().await;
    let replies: Topic<Note> = shop.gate.topic("replies").unwrap();
    let group = replies.group("g").begin(Whence::Oldest).open().await.unwrap();
    assert_eq!(take(&group, 2).await, ["cancelled", "told"]);
    assert_none(&group).await;
    drop(group);
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_falls_behind_retention_is_told_until_it_says_where_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let open = |unconsumed_bytes: u64| {
        let small = shop::small(folder.path()).events_retained_bytes(0);
        small.unconsumed_retained_bytes(unconsumed_bytes).open()
    };
    let gate = open(64 << 20).await.unwrap();
    let group = group(&gate, "g").await;
    notes(&gate).publish(&note("first")).await.unwrap();
    let first = one(&group).await;
    // It has not read any of what follows when the store is closed.
    group.pause().await.unwrap();
    drop((first, group));
    let large = note(&"x".repeat(60_000));
    for _ in 0..60 {
        notes(&gate).publish(&large).await.unwrap();
    }
    let close = async |gate: Tidegate| gate.close().await.unwrap();
    close(gate).await;
    // Two snapshots of each shard, so that nothing else keeps the journal.
    close(open(64 << 20).await.unwrap()).await;
    let gate = open(0).await.unwrap();
    let group = self::group(&gate, "g").await;
    group.resume().await.unwrap();
    let kept = one(&group).await;
    assert_eq!((text(&kept).as_str(), kept.attempt()), ("first", 2), "kept for the group alone");
    drop((kept, group));
    close(gate).await;
    close(open(0).await.unwrap()).await;

    let gate = open(0).await.unwrap();
    let group = self::group(&gate, "g").await;
    for _ in 0..2 {
        let error = group.lease(1, PATIENCE, LONG).await.map(drop).unwrap_err();
        let ConsumeError::Trimmed { oldest, .. } = error else { panic!("{error}") };
        assert!(oldest.0 > 1);
    }
    assert_eq!(group.counts(), (0, 0, 1));
    group.seek(Whence::Oldest).await.unwrap();
    notes(&gate).publish(&note("last")).await.unwrap();
    while take(&group, 1).await != ["last"] {}
    group.seek(Whence::Now).await.unwrap();
    assert_none(&group).await;
    notes(&gate).publish(&note("new")).await.unwrap();
    assert_eq!(take(&group, 1).await, ["new"]);
    drop(group);
    close(gate).await;
    shop::assert_sound(folder.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delayed_and_periodic_messages_come_in_time_over_a_close() {
    let shop = Shop::open().await;
    let hour = 3_600_000;
    let delayed = notes(&shop.gate).publish(&note("later")).delay_ms(hour).await.unwrap();
    assert_eq!(delayed.due.0, shop::BEGIN_MS + hour);
    notes(&shop.gate).publish(&note("sooner")).delay_ms(hour / 2).await.unwrap();
    let group = group(&shop.gate, "g").await;
    assert_none(&group).await;
    shop.time.advance_ms(hour / 2);
    assert_eq!(take(&group, 1).await, ["sooner"]);
    let daily = || NewSchedule::every_ms(24 * hour).phase_ms(6 * hour).key("k");
    notes(&shop.gate).schedule("daily", &note("good morning"), daily()).await.unwrap();
    drop(group);
    let shop = shop.reopened().await;
    let group = self::group(&shop.gate, "g").await;
    assert_none(&group).await;
    shop.time.advance_ms(hour);
    assert_eq!(take(&group, 1).await, ["later"]);
    let schedules = notes(&shop.gate).schedules().await.unwrap();
    assert_eq!(schedules[0].1.next.0, shop::BEGIN_MS + 6 * hour);
    drop(group);
    shop.gate.close().await.unwrap();
    // Closed for three days: it is made up for once.
    shop.time.advance_ms(72 * hour);
    let shop = shop.crashed().await;
    let group = self::group(&shop.gate, "g").await;
    assert_eq!(take(&group, 1).await, ["good morning"]);
    assert_none(&group).await;
    notes(&shop.gate).unschedule("daily").await.unwrap();
    assert!(notes(&shop.gate).unschedule("daily").await.is_err());
    assert!(notes(&shop.gate).schedules().await.unwrap().is_empty());
    drop(group);
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_and_stock_events_are_a_topic_like_any_other() {
    let shop = Shop::open().await;
    shop.item("tea", 10).await;
    let order = shop.place(NewOrder::new("ann").line("tea", 1), "k-1").await.id;
    let mut feed = shop.gate.events().from_oldest();
    let events: Topic<serde_json::Value> = shop.gate.topic("events").unwrap();
    let group = events.group("books").begin(Whence::Oldest).open().await.unwrap();
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "order.accepted") {
        let event = feed.next().await.unwrap();
        let leased = group.lease(1, PATIENCE, LONG).await.unwrap().remove(0);
        assert_eq!(leased.value().unwrap(), serde_json::to_value(&event).unwrap());
        assert_eq!(leased.id().to_string(), event.cursor().to_string());
        let stock = event.kind().as_str() == "stock.defined" || kinds.len() == 1;
        let key = if stock { "tea".to_owned() } else { order.to_string() };
        assert_eq!(leased.letter().key.as_ref().map(ToString::to_string), Some(key));
        leased.ack().await.unwrap();
        kinds.push(event.kind().as_str().to_owned());
    }
    drop((feed, group));
    let shop = shop.reopened().await;
    let (events, count): (Topic<serde_json::Value>, _) =
        (shop.gate.topic("events").unwrap(), Arc::new(AtomicUsize::new(0)));
    let group = events.group("books").open().await.unwrap();
    let told = Arc::clone(&count);
    struct Count(Arc<AtomicUsize>);
    impl Handler<serde_json::Value> for Count {
        async fn handle(&self, event: &Message<serde_json::Value>) -> Result<(), HandlerError> {
            assert_eq!(event.value["kind"], "stock.defined");
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }
    let workers = group.run(2, PATIENCE, Count(told));
    for sku in ["cup", "mug"] {
        shop.gate.stock().define(sku, SkuPatch::default()).await.unwrap();
    }
    eventually("both are told", async || (count.load(Ordering::SeqCst) == 2).then_some(())).await;
    // The workers end with the store.
    shop.gate.close().await.unwrap();
    tokio::time::timeout(PATIENCE, workers.stop()).await.expect("the workers end");
    let closed = group.lease(1, PATIENCE, LONG).await.map(drop).unwrap_err();
    assert!(matches!(closed, ConsumeError::Ask(AskError::Closing)), "{closed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_apart_and_can_be_paused_and_removed() {
    let shop = Shop::open().await;
    notes(&shop.gate).publish(&note("a")).await.unwrap();
    let (one_group, other) = (group(&shop.gate, "one").await, group(&shop.gate, "other").await);
    assert_eq!(
        (take(&one_group, 1).await, take(&other, 1).await),
        (vec!["a".into()], vec!["a".into()])
    );
    one_group.pause().await.unwrap();
    notes(&shop.gate).publish(&note("b")).await.unwrap();
    assert_none(&one_group).await;
    assert_eq!(take(&other, 1).await, ["b"]);
    let groups = shop.gate.consumer_groups().await.unwrap();
    let told: Vec<_> =
        groups.iter().map(|(of, group)| (of.to_string(), group.done, group.paused)).collect();
    assert_eq!(told, [("notes/one".into(), 1, true), ("notes/other".into(), 2, false)]);
    one_group.resume().await.unwrap();
    assert_eq!(take(&one_group, 1).await, ["b"]);
    other.remove().await.unwrap();
    let gone = other.lease(1, PATIENCE, LONG).await.map(drop).unwrap_err();
    assert!(gone.to_string().contains("no group notes/other"), "{gone}");
    assert_eq!(shop.gate.consumer_groups().await.unwrap().len(), 1);
    let anew = group(&shop.gate, "other").await;
    assert_eq!(take(&anew, 2).await, ["a", "b"]);
    drop((one_group, other, anew));
    shop.audited().await;
}
