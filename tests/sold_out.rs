//! Orders for what is sold out: refused on their callers' own threads, and told no other answer
//! than the shards would give. How the board and the known keys are kept is tested beside their
//! code.

use std::{
    pin::Pin,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tidegate::{
    Adjustment, AskError, IdempotencyError, NewHold, NewOrder, OrderError, OrderRejection,
    OrderState, Refusal, SkuPatch, Tidegate,
};

use crate::{
    queue::{Command, Post, Queue},
    shop::{Shop, assert_sound, at_once, eventually, small},
};

fn mug(user: &str) -> NewOrder {
    NewOrder::new(user).line("mug", 1)
}

fn is_sold_out(outcome: &Result<tidegate::Receipt, OrderError>) -> bool {
    let rejection = outcome.as_ref().err().and_then(AskError::rejection);
    matches!(rejection, Some(OrderRejection::Refused(Refusal::SoldOut { .. })))
}

/// Asks with new keys until one is refused at once, which is then how it stays.
async fn until_known_to_be_gone(gate: &Tidegate, order: &NewOrder) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let _refusal = eventually("refused on the caller's thread", async || {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let key = format!("early-{number}");
        at_once(gate.orders().place(order.clone(), &key)).filter(is_sold_out)
    })
    .await;
}

/// A store whose only mug is sold, with the order of that.
async fn sold_out() -> (Shop, tidegate::Receipt) {
    let shop = Shop::open().await;
    shop.item("mug", 1).await;
    shop.item("cup", 100).await;
    let sold = shop.place(mug("ada"), "sold").await;
    until_known_to_be_gone(&shop.gate, &mug("bob")).await;
    (shop, sold)
}

#[tokio::test]
async fn who_has_bought_before_gets_the_same_answer_from_any_life_of_the_store() {
    let (mut shop, sold) = sold_out().await;
    for round in 0..4 {
        assert_eq!(shop.place(mug("ada"), "sold").await, sold, "round {round}");
        let conflict = OrderRejection::Idempotency(IdempotencyError::Conflict);
        assert_eq!(shop.refusal(mug("bob"), "sold").await, conflict, "round {round}");
        let other = shop.gate.orders().for_caller("other").place(mug("ada"), "sold").await;
        assert!(is_sold_out(&other), "another caller's key is another one");
        if round == 1 {
            shop.pay(sold.id, "e", 0).await;
        }
        shop = if round % 2 == 0 { shop.reopened().await } else { shop.crashed().await };
        until_known_to_be_gone(&shop.gate, &mug("bob")).await;
    }
    shop.audited().await;
}

#[tokio::test]
async fn what_is_wrong_with_an_order_is_said_before_that_it_is_sold_out() {
    let (shop, _) = sold_out().await;
    let order = |sku: &str| NewOrder::new("bob").line(sku, 1);
    let wrong = |sku: &'static str| {
        vec![
            order(sku).line(sku, 0),
            order(sku).line(sku, 1_000_001),
            order(sku).line(sku, 1_000_000),
            order(sku).line_for(sku, 1, 5),
            order(sku).line_for("jar", 1, u64::MAX),
            order(sku).line_for("jar", 1, 9_007_199_254_740_991).line_for("pot", 1, 1),
            order(sku).hold_ms(0),
            order(sku).hold_ms(u64::MAX),
            order(sku).line(sku, 0).hold_ms(0),
            (0..256).fold(order(sku), |order, _| order.line(sku, 1)),
            order(sku).line("no such\u{7f}", 1),
            NewOrder::new("").line(sku, 1),
        ]
    };
    for (number, (gone, there)) in wrong("mug").into_iter().zip(wrong("cup")).enumerate() {
        let key = format!("wrong-{number}");
        let told = shop.refusal(there, &format!("asked-{number}")).await;
        assert!(
            matches!(told, OrderRejection::Invalid(_) | OrderRejection::MixedAmounts { .. }),
            "{number}: {told}"
        );
        let said = at_once(shop.gate.orders().place(gone.clone(), &key));
        let said = said.unwrap_or_else(|| panic!("{number}: not at once")).unwrap_err();
        assert_eq!(
            said.to_string().replace("mug", "cup"),
            AskError::Rejected(told).to_string(),
            "{number}"
        );
        let together = shop.gate.orders().place_many([(gone, &key)]).await;
        assert_eq!(together[0].as_ref().unwrap_err().to_string(), said.to_string(), "{number}");
    }
    shop.audited().await;
}

#[tokio::test]
async fn stock_that_is_back_is_sold_at_once_and_with_any_key() {
    let (shop, _) = sold_out().await;
    for round in 0..20 {
        let key = format!("bob-{round}");
        let asked = shop.gate.orders().place(mug("bob"), &key).await;
        assert!(is_sold_out(&asked), "{asked:?}");
        let queued = shop.gate.orders().place(mug("bob").respond_async(), &key).await;
        assert!(is_sold_out(&queued), "{queued:?}");
        let back = Adjustment::new("mug", 1, "found one");
        shop.gate.stock().adjust(back, &format!("found-{round}")).await.unwrap();
        let bought = shop.place(mug("bob"), &key).await;
        assert_eq!(shop.place(mug("bob"), &key).await, bought);
        until_known_to_be_gone(&shop.gate, &mug("eve")).await;
        assert_eq!(shop.place(mug("bob"), &key).await, bought);
    }
    shop.audited().await;
}

#[tokio::test]
async fn what_is_defined_and_never_had_stock_is_refused_at_once_until_it_has_some() {
    let (shop, _) = sold_out().await;
    let preview = NewOrder::new("bob").line("preview", 1);
    let unknown = shop.refusal(preview.clone(), "before").await;
    assert!(matches!(unknown, OrderRejection::Refused(Refusal::UnknownSku { .. })), "{unknown}");
    shop.gate.stock().define("preview", SkuPatch::default().price_minor(1)).await.unwrap();
    until_known_to_be_gone(&shop.gate, &preview).await;
    let ahead = SkuPatch::default().backorder_limit(1);
    shop.gate.stock().define("preview", ahead).await.unwrap();
    shop.place(preview.clone(), "ahead").await;
    until_known_to_be_gone(&shop.gate, &preview).await;
    shop.gate.stock().adjust(Adjustment::new("preview", 2, "made"), "made").await.unwrap();
    shop.place(preview, "stocked").await;
    shop.audited().await;
}

#[tokio::test]
async fn refusals_are_counted_wherever_they_are_made_and_a_closed_store_makes_none() {
    let (shop, sold) = sold_out().await;
    let counts = || {
        let orders = shop.gate.report().shards.into_iter().filter(|shard| shard.name == "orders");
        orders.fold((0, 0), |sum, shard| (sum.0 + shard.commands, sum.1 + shard.rejections))
    };
    let before = counts();
    let asked = (0..100).map(|number| (mug("bob"), format!("bob-{number}")));
    let outcomes = shop.gate.orders().place_many(asked).await;
    assert!(outcomes.iter().all(is_sold_out));
    let after = counts();
    assert!(after.0 >= before.0 + 100 && after.1 == before.1 + 100, "{before:?} {after:?}");
    // In one batch with what is not refused.
    let orders =
        [(mug("bob"), "b"), (NewOrder::new("bob").line("cup", 1), "c"), (mug("ada"), "sold")];
    let outcomes = shop.gate.orders().place_many(orders).await;
    assert!(is_sold_out(&outcomes[0]) && outcomes[1].is_ok());
    assert_eq!(outcomes[2].as_ref().unwrap(), &sold);
    shop.gate.close().await.unwrap();
    let late = shop.gate.orders().place(mug("bob"), "late").await.unwrap_err();
    assert!(matches!(late, AskError::Closing), "{late}");
    assert_sound(shop.folder());
}

/// One order shard and a machine that hangs are on one thread, stock is on another.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_comes_behind_the_first_that_is_still_on_its_way() {
    let folder = tempfile::tempdir().unwrap();
    let cut = Arc::new(AtomicBool::new(false));
    let gate = small(folder.path())
        .stock_shards(2)
        .order_shards(1)
        .machine_with(1, Queue::fresh, move |group| Box::new(Post { group, cut: Arc::clone(&cut) }))
        .open()
        .await
        .unwrap();
    let name = (0..).map(|number| format!("mug-{number}"));
    let on_the_other = |name: &String| tidegate::machine::shard_of(name.as_bytes(), 2) == 1;
    let mug = name.into_iter().find(on_the_other).unwrap();
    let stock = gate.stock();
    stock.define(&mug, SkuPatch::default()).await.unwrap();
    stock.adjust(Adjustment::new(&mug, 1, "one"), "one").await.unwrap();

    let barrier = Arc::new(Barrier::new(2));
    let group = gate.shards_of::<Queue>().unwrap();
    let hanging = group.ask(0, Command::Block(Arc::clone(&barrier)));
    let order = |user: &str| NewOrder::new(user).line(&*mug, 1);
    let mut first = Box::pin(gate.orders().place(order("ada"), "k"));
    let poll = |asked: Pin<&mut _>| at_once(asked);
    assert!(poll(first.as_mut()).is_none(), "its shard hangs");
    let held = stock.hold(NewHold::new("eve", &*mug, 1, 60_000), "h").await.unwrap();
    // New keys are refused though the shard hangs; the key of the first has to wait for it.
    until_known_to_be_gone(&gate, &order("bob")).await;
    let mut again = Box::pin(gate.orders().place(order("ada"), "k"));
    assert!(poll(again.as_mut()).is_none(), "a repeat was told before the first was");
    stock.release_hold(held.id).await.unwrap();
    tokio::task::spawn_blocking(move || barrier.wait()).await.unwrap();
    hanging.await.unwrap();
    let receipt = first.await.unwrap();
    assert_eq!(again.await.unwrap(), receipt);
    assert_eq!(receipt.state, OrderState::AwaitingPayment);
    gate.close().await.unwrap();
    assert_sound(folder.path());
}
