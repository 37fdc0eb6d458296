//! The event feed, as a subscriber meets it: what it is told of a shop's life, where it can go on,
//! and what becomes of it when it is slow. What each stored event is called is a table in `feed`.

use std::time::Duration;

use serde_json::Value;
use tidegate::{
    Adjustment, Cursor, Event, EventData, EventKind, Feed, FeedError, NewHold, NewOrder, Position,
    SkuPatch, StockRejection, Tidegate, Units,
};

use crate::shop::{self, Shop};

/// A guard against hanging, not a promise about speed.
const PATIENCE: Duration = Duration::from_secs(30);

async fn next(feed: &mut Feed) -> Event {
    try_next(feed).await.expect("an event")
}

async fn try_next(feed: &mut Feed) -> Result<Event, FeedError> {
    tokio::time::timeout(PATIENCE, feed.next()).await.expect("an event or an error in time")
}

/// Events up to and including the first that `is_last` picks.
async fn until(feed: &mut Feed, is_last: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        events.push(next(feed).await);
        if events.last().is_some_and(&is_last) {
            return events;
        }
    }
}

/// Everything that is durable now.
async fn all(gate: &Tidegate) -> Vec<Event> {
    let marker = format!("marker-{}", gate.report().journal.records);
    gate.stock().define(&marker, SkuPatch::default()).await.unwrap();
    let is_marker = |event: &Event| match &event.data {
        EventData::StockDefined { sku, .. } => sku.as_str() == marker,
        _ => false,
    };
    until(&mut gate.events().from_oldest(), is_marker).await
}

fn kinds(events: &[Event]) -> Vec<&'static str> {
    events.iter().map(|event| event.kind().as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_life_of_an_order_is_told_in_order() {
    let shop = Shop::open().await;
    let mut orders = shop
        .gate
        .events()
        .clone()
        .only(EventKind::ALL.iter().copied().filter(|kind| !kind.as_str().starts_with("stock.")))
        .from_now();
    shop.item("tea", 5).await;
    let placed = shop.place(NewOrder::new("ann").line("tea", 2), "k-1").await;
    shop.pay(placed.id, "e-1", 200).await;
    shop.gate.orders().fulfil(placed.id, None, "f-1").await.unwrap();
    let back = vec![Units::new("tea", 1)];
    shop.gate.orders().take_back(placed.id, back, true, "r-1").await.unwrap();
    let events = until(&mut orders, |event| event.kind() == EventKind::OrderRefundDue).await;
    let expected = [
        "order.placed",
        "order.accepted",
        "payment.recorded",
        "order.confirmed",
        "order.fulfilled",
        "order.completed",
        "order.returned",
        "order.refund_due",
    ];
    assert_eq!(kinds(&events), expected);
    assert!(events.windows(2).all(|pair| pair[0].position <= pair[1].position));
    let json: Vec<Value> =
        events.iter().map(|event| serde_json::to_value(event).unwrap()).collect();
    assert_eq!(json[0]["kind"], "order.placed");
    assert_eq!(json[0]["at_ms"], shop::BEGIN_MS);
    assert_eq!(json[0]["data"]["order"], placed.id.to_string());
    assert_eq!(json[1]["data"]["total_minor"], 200);
    assert_eq!(json[7]["data"]["refund_due_minor"], 100);
    for event in &json {
        assert_eq!(event["id"].as_str().map(str::is_empty), Some(false), "{event}");
    }
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_expiry_cancellation_and_holds_are_told() {
    let shop = Shop::open().await;
    shop.item("tea", 3).await;
    // Some is left, so this refusal is decided by a stock shard and not by the board.
    let _ = shop.refusal(NewOrder::new("ann").line("tea", 4), "k-1").await;
    let late = shop.place(NewOrder::new("bob").line("tea", 1).hold_ms(1_000), "k-2").await;
    let partly = tidegate::PaymentEvent::captured("bank", "e-1", 1);
    shop.gate.orders().pay(late.id, partly).await.unwrap();
    let regretted = shop.place(NewOrder::new("eve").line("tea", 1), "k-3").await;
    shop.gate.orders().cancel(regretted.id, "c-1").await.unwrap();
    let hold = shop.gate.stock().hold(NewHold::new("ann", "tea", 1, 1_000), "h-1").await.unwrap();
    let sold = shop.gate.stock().hold(NewHold::new("ann", "tea", 1, 1_000), "h-2").await.unwrap();
    shop.gate.stock().extend_hold(hold.id, 2_000).await.unwrap();
    shop.gate.stock().confirm_hold(sold.id).await.unwrap();
    shop.gate.stock().ship_hold(sold.id).await.unwrap();
    shop.time.advance_ms(10_000);
    let mut feed = shop.gate.events().from_oldest();
    let (mut seen, mut left) = (Vec::new(), 2);
    while left > 0 {
        let event = next(&mut feed).await;
        let last = [EventKind::HoldExpired, EventKind::OrderRefundDue].contains(&event.kind());
        left -= usize::from(last);
        seen.push(event);
    }
    let of = |prefix: &str| -> Vec<_> {
        let told = seen.iter().filter(|event| event.kind().as_str().starts_with(prefix));
        told.map(|event| event.kind().as_str()).collect()
    };
    let expected = [
        "hold.placed",
        "hold.placed",
        "hold.extended",
        "hold.confirmed",
        "hold.shipped",
        "hold.expired",
    ];
    assert_eq!(of("hold."), expected);
    let mut orders = of("order.");
    orders.sort_unstable();
    let expected = [
        "order.accepted",
        "order.accepted",
        "order.cancelled",
        "order.expired",
        "order.placed",
        "order.placed",
        "order.placed",
        "order.refund_due",
        "order.rejected",
    ];
    assert_eq!(orders, expected);
    let due = seen.iter().find_map(|event| match event.data {
        EventData::OrderRefundDue { order, refund_due_minor } => Some((order, refund_due_minor)),
        _ => None,
    });
    assert_eq!(due, Some((late.id, 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_cursor_goes_on_where_it_was_also_over_a_crash() {
    let shop = Shop::open().await;
    shop.item("tea", 50).await;
    for number in 0..20 {
        let order = NewOrder::new(format!("u-{number}")).line("tea", 1).hold_ms(1_000);
        shop.place(order, &format!("k-{number}")).await;
    }
    // One record with many events.
    shop.time.advance_ms(5_000);
    let mut feed = shop.gate.events().clone().only([EventKind::OrderExpired]).from_oldest();
    for _ in 0..20 {
        next(&mut feed).await;
    }
    let shop = shop.crashed().await;
    let events = all(&shop.gate).await;
    let texts: Vec<_> = events.iter().map(|event| event.cursor().to_string()).collect();
    assert!(texts.iter().any(|text| text.contains('.')), "no record has several events");
    for (place, text) in texts.iter().enumerate() {
        let cursor: Cursor = text.parse().unwrap();
        let mut feed = shop.gate.events().after(cursor);
        for expected in events.iter().skip(place + 1).take(3) {
            assert_eq!(next(&mut feed).await, *expected, "after {text}");
        }
    }
    let again = all(&shop.gate).await;
    assert_eq!(again[..events.len()], events[..], "the same events, once each");
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_may_be_given_up_at_any_moment_and_loses_nothing() {
    let shop = Shop::open().await;
    shop.item("tea", 1_000).await;
    let mut feed = shop.gate.events().clone().only([EventKind::StockAdjusted]).from_now();
    let writer = {
        let gate = shop.gate.clone();
        tokio::spawn(async move {
            for number in 0..300 {
                let more = Adjustment::new("tea", 1, number.to_string());
                gate.stock().adjust(more, &format!("a-{number}")).await.unwrap();
            }
        })
    };
    let mut seen = Vec::new();
    while seen.len() < 300 {
        // Far too short to wait for anything.
        let tried = tokio::time::timeout(Duration::from_micros(300), feed.next()).await;
        if let Ok(event) = tried {
            let EventData::StockAdjusted { reason, .. } = event.unwrap().data else { panic!() };
            seen.push(reason);
        }
    }
    writer.await.unwrap();
    assert_eq!(seen, (0..300).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_durable_is_told_and_a_filter_moves_the_cursor_on() {
    let shop = Shop::open().await;
    shop.item("tea", 1).await;
    let mut feed = shop.gate.events().clone().only([EventKind::HoldShipped]).from_oldest();
    let waited = tokio::time::timeout(Duration::from_millis(300), feed.next()).await;
    assert!(waited.is_err(), "nothing was shipped: {waited:?}");
    let looked_at = feed.cursor().position;
    assert!(looked_at > Position::ZERO);
    let refused = shop.gate.stock().adjust(Adjustment::new("tea", -5, "no"), "a").await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused.rejection(), Some(StockRejection::BelowCommitted { .. })));
    // A refusal is no event.
    assert_eq!(shop.gate.report().journal.records, looked_at.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_of_another_store_and_a_closed_store_are_named() {
    let shop = Shop::open().await;
    shop.item("tea", 1).await;
    let mut ahead = shop.gate.events().after(Position(1_000_000));
    let error = try_next(&mut ahead).await.unwrap_err();
    assert!(matches!(error, FeedError::Ahead { asked: Position(1_000_000), .. }), "{error}");

    let (mut waiting, mut behind) =
        (shop.gate.events().from_now(), shop.gate.events().from_oldest());
    let first = next(&mut behind).await;
    assert_eq!(first.kind(), EventKind::StockDefined);
    let task = tokio::spawn(async move { try_next(&mut waiting).await });
    shop.gate.close().await.unwrap();
    let error = task.await.unwrap().unwrap_err();
    assert!(matches!(error, FeedError::Closed), "{error}");
    // What was durable before is still given.
    assert_eq!(next(&mut behind).await.kind(), EventKind::StockAdjusted);
    let error = try_next(&mut behind).await.unwrap_err();
    assert!(matches!(error, FeedError::Closed), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_a_feed_finds_its_place_and_loses_nothing() {
    let shop = Shop::open().await;
    shop.item("tea", 5).await;
    let mut ahead = shop.gate.events().after(Position(1_000_000));
    let error = ahead.open().await.unwrap_err();
    assert!(matches!(error, FeedError::Ahead { .. }), "{error}");

    let mut feed = shop.gate.events().from_oldest();
    for _ in 0..3 {
        feed.open().await.unwrap();
        assert_eq!(feed.cursor(), Cursor::default(), "before the first event");
    }
    let (defined, adjusted) = (next(&mut feed).await, next(&mut feed).await);
    assert_eq!(kinds(&[defined.clone(), adjusted]), ["stock.defined", "stock.adjusted"]);
    feed.open().await.unwrap();

    // After the last that passes, the place is behind what does not.
    let mut filtered = shop.gate.events().clone().only([EventKind::StockDefined]).from_oldest();
    assert_eq!(next(&mut filtered).await, defined);
    assert_eq!(filtered.cursor(), shop.gate.report().durable.into());
}

/// Writes about `bytes` of journal.
async fn write(gate: &Tidegate, round: u64, bytes: u64) {
    let (reason, from) = ("r".repeat(200), gate.report().journal.bytes);
    let mut number = 0;
    while gate.report().journal.bytes < from + bytes {
        let each = (0..128).map(|lane| {
            let more = Adjustment::new("tea", 1, reason.clone());
            let key = format!("{round}-{number}-{lane}");
            async move { gate.stock().adjust(more, &key).await.map(drop) }
        });
        futures_util::future::try_join_all(each).await.expect("stock is moved");
        number += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_feeds_keep_nothing_on_disk_and_are_told_what_they_missed() {
    const RETAINED: u64 = 2 << 20;
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let small = shop::small(folder.path()).stock_shards(3);
        small.events_retained_bytes(RETAINED).snapshot_every_bytes(1 << 20).open()
    };
    let gate = open().await.unwrap();
    gate.stock().define("tea", SkuPatch::default()).await.unwrap();
    write(&gate, 0, 1 << 20).await;
    // One is in the middle of the journal, one has never begun, one is forgotten.
    let (mut slow, mut idle) = (gate.events().from_oldest(), gate.events().after(Position(1)));
    let seen = next(&mut slow).await;
    std::mem::forget(gate.events().from_oldest());
    for round in 1..6 {
        write(&gate, round, 4 << 20).await;
        // Longer than the snapshotter's looks are apart.
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let disk_bytes = gate.report().journal.disk_bytes;
    assert!(disk_bytes < 16 << 20, "{disk_bytes} bytes of journal after 20 MiB were written");
    let error = loop {
        // What was read ahead is still given.
        match try_next(&mut slow).await {
            Ok(event) => assert!(event.position > seen.position),
            Err(error) => break error,
        }
    };
    let FeedError::Trimmed { asked, oldest } = error else { panic!("{error}") };
    assert!(asked < oldest, "{asked} is kept, from {oldest} on");
    assert!(matches!(try_next(&mut slow).await, Err(FeedError::Trimmed { .. })), "and again");
    assert!(matches!(try_next(&mut idle).await, Err(FeedError::Trimmed { .. })));
    let first = next(&mut gate.events().from_oldest()).await;
    assert!(first.position >= oldest, "{} before {oldest}", first.position);

    // What is to be retained is, over a close with its snapshots as well.
    gate.close().await.unwrap();
    drop(gate);
    let gate = open().await.unwrap();
    gate.close().await.unwrap();
    drop(gate);
    let gate = open().await.unwrap();
    let kept = all(&gate).await;
    let bytes: usize = kept.iter().map(|event| serde_json::to_string(event).unwrap().len()).sum();
    assert!(bytes as u64 > RETAINED, "only {bytes} bytes of events are left");
    gate.close().await.unwrap();
    drop(gate);
    shop::assert_sound(folder.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_idle_feeds_cost_the_store_little() {
    let shop = Shop::open().await;
    shop.item("tea", 1).await;
    let mut feeds: Vec<_> = (0..500).map(|_| shop.gate.events().from_now()).collect();
    let reading: Vec<_> = feeds
        .drain(..)
        .map(|mut feed| {
            tokio::spawn(async move {
                let mut seen = 0;
                while seen < 200 {
                    next(&mut feed).await;
                    seen += 1;
                }
            })
        })
        .collect();
    let begun = std::time::Instant::now();
    for number in 0..200 {
        let more = Adjustment::new("tea", 1, "more");
        shop.gate.stock().adjust(more, &format!("a-{number}")).await.unwrap();
    }
    println!("200 adjustments one by one under 500 feeds: {:?}", begun.elapsed());
    for reader in reading {
        reader.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_report_tells_how_long_answers_took() {
    let shop = Shop::open().await;
    shop.item("tea", 100).await;
    for number in 0..40 {
        shop.place(NewOrder::new("ann").line("tea", 1), &format!("k-{number}")).await;
    }
    let _ = shop.refusal(NewOrder::new("ann").line("coffee", 1), "k-none").await;
    let report = shop.gate.report();
    let of = |name: &'static str| report.shards.iter().filter(move |shard| shard.name == name);
    let answers: u64 = of("orders").map(|shard| shard.answer_us.count()).sum();
    assert_eq!(answers, 41, "each order and refusal once");
    assert_eq!(of("stock").map(|shard| shard.answer_us.count()).sum::<u64>(), 2);
    for shard in &report.shards {
        assert_eq!(shard.batch_records.count(), shard.batches, "{shard:?}");
        assert_eq!(shard.batch_records.sum, shard.events, "{shard:?}");
        let (p50, p99) = (shard.answer_us.quantile(0.5), shard.answer_us.quantile(0.99));
        assert!(p50 <= p99 && p99 < 60_000_000, "{p50} {p99}");
    }
    assert!(report.durable <= report.appended && report.oldest <= report.durable);
    let page = tidegate::admin::metrics::render(&report);
    assert!(page.contains("tidegate_answer_seconds_count{machine=\"orders\"} 41\n"), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marks_are_kept_over_a_crash_and_have_bounds() {
    let shop = Shop::open().await;
    assert_eq!(shop.gate.marks().get("reader").await.unwrap(), None);
    shop.gate.marks().set("reader", "17.2").await.unwrap();
    shop.gate.marks().set("reader", "18").await.unwrap();
    let shop = shop.crashed().await;
    assert_eq!(shop.gate.marks().get("reader").await.unwrap().as_deref(), Some("18"));
    for (name, value) in
        [("", "1"), ("n", ""), (&*"n".repeat(256), "1"), ("n", &*"v".repeat(4_097))]
    {
        let error = shop.gate.marks().set(name, value).await.unwrap_err();
        assert!(error.rejection().is_some(), "{error}");
    }
    shop.gate.close().await.unwrap();
    let error = shop.gate.marks().get("reader").await.unwrap_err();
    assert!(matches!(error, tidegate::AskError::Closing), "{error}");
}
