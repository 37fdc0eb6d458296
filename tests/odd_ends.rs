//! What must hold when things end oddly: time that nobody asks about, a machine left out, a state
//! or the end of a journal that is gone, clients that outlive their store. Each was wrong once.

use std::{path::Path, time::Duration};

use tidegate::{
    AskError, NewOrder, OpenError, OrderRejection, OrderState, PaymentEvent, Refusal, RestoreError,
    SkuPatch, StorageError, Tidegate,
};
use tokio::task::JoinSet;

use crate::{
    queue::{self, Queue},
    shop::{Shop, eventually, open, small},
};

/// Long enough for any machine; only a test that would hang for ever meets it.
const HANGS: Duration = Duration::from_secs(60);

async fn open_error(builder: tidegate::Builder) -> OpenError {
    match builder.open().await {
        Ok(_) => panic!("it must not open"),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn time_goes_on_in_a_reopened_store_that_nobody_uses() {
    let shop = Shop::open().await;
    shop.item("mug", 1).await;
    let order = shop.place(NewOrder::new("ada").line("mug", 1).hold_ms(60_000), "1").await;
    let shop = shop.reopened().await;
    shop.time.advance_ms(3_600_000);
    shop.until_state(order.id, OrderState::Expired).await;
    let placed_at = shop.place(NewOrder::new("bob").line("mug", 1), "2").await.placed_at;
    assert!(placed_at.0 >= order.placed_at.0 + 3_600_000, "stamped in the past");
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_does_not_open_without_a_machine_that_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let with_queue = || small(folder.path()).machine(2, Queue::fresh);
    with_queue().open().await.unwrap().close().await.unwrap();
    let error = open_error(small(folder.path())).await;
    assert!(matches!(error, OpenError::MachineMissing { shards: 2, .. }), "{error}");
    with_queue().open().await.unwrap().close().await.unwrap();
    let error = open_error(with_queue().machine(2, Queue::fresh)).await;
    assert!(matches!(error, OpenError::KindTaken { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_can_be_added_when_the_beginning_of_the_journal_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let plain = || small(folder.path()).events_retained_bytes(0);
    let gate = plain().open().await.unwrap();
    let news = gate.topic::<String>("news").unwrap();
    // Some segments full.
    for number in 0..60 {
        let text = format!("{number}").repeat(25_000);
        news.publish(&text).idempotency(format!("i-{number}")).await.unwrap();
    }
    gate.close().await.unwrap();
    plain().open().await.unwrap().close().await.unwrap();

    let with_queue = || plain().machine(2, Queue::fresh);
    for total in 1..=3 {
        let gate = with_queue().open().await.unwrap();
        assert!(gate.report().oldest.0 > 1, "nothing was trimmed");
        let queue = gate.shards_of::<Queue>().unwrap();
        assert_eq!(queue.ask(1, queue::Command::Add(1)).await.unwrap(), total);
        // The first time as after a crash, before it was ever in a snapshot.
        if total > 1 {
            gate.close().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_order_that_was_answered_early_is_the_same_in_memory_and_archived() {
    let shop = Shop::open().await;
    shop.item("mug", 1).await;
    shop.item("cup", 1).await;
    // Two of which only one is there: the board knows of nothing sold out, so it is queued.
    let wish = || NewOrder::new("ada").line("mug", 2).respond_async();
    let queued = shop.place(wish(), "1").await;
    shop.until_state(queued.id, OrderState::Rejected).await;
    for _ in 0..2 {
        let again = shop.place(wish(), "1").await;
        assert_eq!((again.id, again.state), (queued.id, OrderState::Rejected));
        eventually("everything at rest is archived", async || {
            (shop.gate.report().projector.flushes > 0).then_some(())
        })
        .await;
    }
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_gone_is_not_taken_for_an_empty_one() {
    let shop = Shop::open().await;
    let folder = shop.folder().to_owned();
    shop.item("mug", 1).await;
    let order = shop.place(NewOrder::new("ada").line("mug", 1), "1").await;
    shop.gate.close().await.unwrap();
    std::fs::rename(folder.join("state"), folder.join("journal/aside")).unwrap();
    std::fs::rename(folder.join("journal/aside"), folder.with_extension("aside")).unwrap();
    let error = open_error(small(&folder)).await;
    let OpenError::Storage(StorageError::Damaged { path, .. }) = &error else { panic!("{error}") };
    assert!(path.ends_with("state/log"), "{error}");
    std::fs::remove_dir_all(folder.join("state")).unwrap();
    std::fs::rename(folder.with_extension("aside"), folder.join("state")).unwrap();
    let shop = shop.reopened().await;
    assert_eq!(shop.get(order.id).await.state, OrderState::AwaitingPayment);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_older_than_its_snapshots_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (store, older) = (folder.path().join("store"), folder.path().join("older"));
    let define = async |sku: &str| {
        let gate = open(&store).await;
        gate.stock().define(sku, SkuPatch::default()).await.unwrap();
        gate.close().await.unwrap();
    };
    define("mug").await;
    copy(&store.join("journal"), &older);
    define("cup").await;
    std::fs::remove_dir_all(store.join("journal")).unwrap();
    copy(&older, &store.join("journal"));
    let error = open_error(small(&store)).await;
    let behind = matches!(error, OpenError::Restore(RestoreError::JournalBehind { .. }));
    assert!(behind, "{error}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_outlive_their_store_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let gate = open(folder.path()).await;
    let (orders, stock) = (gate.orders().clone(), gate.stock().clone());
    drop(gate);
    let order = orders.place(NewOrder::new("ada").line("mug", 1), "1");
    let placed = tokio::time::timeout(HANGS, order).await.expect("it must not hang");
    assert!(matches!(placed, Err(AskError::Closing)), "{placed:?}");
    let got = tokio::time::timeout(HANGS, stock.get("mug")).await.expect("it must not hang");
    assert!(matches!(got, Err(AskError::Closing)), "{got:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_orders_at_once_fit_a_journal_of_the_smallest_segments() {
    let shop = Shop::open().await;
    shop.item("mug", 3_000).await;
    let mut orders = JoinSet::new();
    for number in 0..3_000 {
        let gate: Tidegate = shop.gate.clone();
        orders.spawn(async move {
            let order = NewOrder::new(format!("user-{number}")).line("mug", 1);
            gate.orders().place(order, &number.to_string()).await.map(|receipt| receipt.id)
        });
    }
    for order in orders.join_all().await {
        order.unwrap();
    }
    assert_eq!(shop.levels("mug").await, (3_000, 3_000, 0));
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shipment_that_is_refused_is_refused_to_nobody_else() {
    let shop = Shop::open().await;
    let ahead =
        SkuPatch { price_minor: Some(Some(100)), backorder_limit: Some(5), ..SkuPatch::default() };
    shop.item_with("mug", 0, ahead).await;
    let receipt = shop.place(NewOrder::new("ada").line("mug", 1), "1").await;
    shop.pay(receipt.id, "captured", 100).await;
    for round in 0..20 {
        let orders = shop.gate.orders();
        let refund = PaymentEvent::refunded("bank", format!("refund-{round}"), 1);
        let key = format!("parcel-{round}");
        let (shipped, refunded) =
            tokio::join!(orders.fulfil(receipt.id, None, &key), orders.pay(receipt.id, refund));
        let refused = shipped.unwrap_err();
        let not_in_stock = OrderRejection::Refused(Refusal::NotInStock {
            sku: "mug".parse().unwrap(),
            location: "main".parse().unwrap(),
            requested: 1,
            on_hand: 0,
        });
        assert_eq!(refused.rejection(), Some(&not_in_stock));
        assert_eq!(refunded.unwrap().history.refunded_minor, round + 1);
    }
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_what_is_sold_out_write_nothing() {
    let shop = Shop::open().await;
    shop.item("mug", 1).await;
    shop.place(NewOrder::new("ada").line("mug", 1), "1").await;
    let written = || shop.gate.report().journal.records;
    let refuse = async |key: String| {
        let refusal = shop.refusal(NewOrder::new("bob").line("mug", 1), &key).await;
        assert!(matches!(refusal, OrderRejection::Refused(Refusal::SoldOut { .. })), "{refusal}");
    };
    // The first ones may still be refused by their stock shard, which writes; then it is known.
    eventually("refused without a write", async || {
        let before = written();
        refuse("early".to_owned()).await;
        (written() == before).then_some(())
    })
    .await;
    let before = written();
    for number in 0..100 {
        refuse(format!("bob-{number}")).await;
    }
    assert_eq!(written(), before);
    // The stock is back: the next order gets it, with a key that was refused before.
    let more = tidegate::Adjustment::new("mug", 1, "found one");
    shop.gate.stock().adjust(more, "more").await.unwrap();
    shop.place(NewOrder::new("bob").line("mug", 1), "bob-7").await;
    // And what was accepted is still the answer to its key, sold out or not.
    let again = shop.place(NewOrder::new("ada").line("mug", 1), "1").await;
    assert_eq!(again.state, OrderState::AwaitingPayment);
    shop.audited().await;
}
