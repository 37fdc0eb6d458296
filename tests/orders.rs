//! Placing orders: what is refused and leaves everything as it was, what is summed, what is
//! limited, and what a repeated key means. What becomes of accepted orders is in `lifecycle`.

use tidegate::{
    Adjustment, AskError, IdempotencyError, NewOrder, OrderRejection, OrderState, Refusal,
    SkuPatch, StockRejection, Tidegate, Units, bounds,
};

use crate::shop::{Shop, eventually, small};

fn mug(units: u64) -> NewOrder {
    NewOrder::new("ada").line("mug", units)
}

async fn shop_with_a_mug() -> Shop {
    let shop = Shop::open().await;
    shop.item("mug", 10).await;
    shop.item("cup", 10).await;
    shop.place(mug(2), "first").await;
    shop
}

/// The field of a request that is out of bounds.
fn field(rejection: OrderRejection) -> &'static str {
    match rejection {
        OrderRejection::Invalid(error) => error.field,
        other => panic!("not out of bounds: {other:?}"),
    }
}

#[tokio::test]
async fn what_is_out_of_bounds_is_named_and_changes_nothing() {
    let shop = shop_with_a_mug().await;
    let before = shop.picture(&["mug", "cup"], &["ada", "bob"]).await;
    let many =
        |lines: usize| (0..lines).fold(NewOrder::new("ada"), |order, _| order.line("mug", 1));
    let too_long = "x".repeat(65);
    let amount = bounds::AMOUNT_MINOR_MAX;
    let cases = [
        (NewOrder::new("ada"), "lines"),
        (many(bounds::LINES_MAX + 1), "lines"),
        (mug(0), "quantity"),
        (mug(2).line("cup", 0), "quantity"),
        (mug(bounds::QUANTITY_MAX + 1), "quantity"),
        (mug(u64::MAX), "quantity"),
        (mug(bounds::QUANTITY_MAX).line("mug", 1), "quantity"),
        (NewOrder::new("").line("mug", 1), "user"),
        (NewOrder::new("ada b").line("mug", 1), "user"),
        (NewOrder::new("\u{e4}da").line("mug", 1), "user"),
        (NewOrder::new(&too_long).line("mug", 1), "user"),
        (NewOrder::new("ada").line("", 1), "sku"),
        (NewOrder::new("ada").line("mug\n", 1), "sku"),
        (NewOrder::new("ada").line(&too_long, 1), "sku"),
        (mug(1).at(""), "location"),
        (mug(1).at("on the shelf"), "location"),
        (mug(1).at(&too_long), "location"),
        (mug(1).hold_ms(0), "hold_ms"),
        (mug(1).hold_ms(bounds::HOLD_MS_MAX + 1), "hold_ms"),
        (NewOrder::new("ada").line_for("mug", 1, amount + 1), "amount_minor"),
        (NewOrder::new("ada").line_for("mug", 1, u64::MAX), "amount_minor"),
        (NewOrder::new("ada").line_for("mug", 1, amount).line_for("mug", 1, 1), "amount_minor"),
        (NewOrder::new("ada").line_for("mug", 1, amount).line_for("cup", 1, 1), "total_minor"),
    ];
    for (order, expected) in cases {
        let shown = format!("{order:?}");
        assert_eq!(field(shop.refusal(order, "second").await), expected, "{shown}");
    }
    for key in ["", "with space", "m\u{fc}g", "\u{7f}", "a\nb", &"x".repeat(256)] {
        assert_eq!(field(shop.refusal(mug(1), key).await), "idempotency key", "{key:?}");
    }
    assert_eq!(shop.picture(&["mug", "cup"], &["ada", "bob"]).await, before);
    // The bounds themselves are fine.
    shop.place(mug(1), &"x".repeat(255)).await;
    let one = NewOrder::new("x".repeat(64)).line_for("mug", 1, amount);
    assert_eq!(shop.place(one, "second").await.total_minor, amount);
    shop.audited().await;
}

#[tokio::test]
async fn what_stock_refuses_leaves_nothing_held_on_any_shard() {
    let shop = shop_with_a_mug().await;
    let skus = ["a", "b", "c", "d", "e", "f"];
    for sku in skus {
        shop.item(sku, 5).await;
    }
    let dear = SkuPatch { price_minor: Some(Some(1 << 50)), ..SkuPatch::default() };
    shop.item_with("gold", 100, dear).await;
    let before = shop.picture(&skus, &["bob"]).await;
    let all = || skus.iter().fold(NewOrder::new("bob"), |order, sku| order.line(*sku, 1));

    let unknown = shop.refusal(all().line("ghost", 1), "k").await;
    assert!(
        matches!(&unknown, OrderRejection::Refused(Refusal::UnknownSku { sku })
            if sku.as_str() == "ghost"),
        "{unknown}"
    );
    let out = shop.refusal(all().line("mug", 9), "k").await;
    assert_eq!(out.to_string(), "sku mug at main is sold out: 9 requested, 8 available");
    let elsewhere = shop.refusal(all().line("mug", 1).at("cellar"), "k").await;
    let OrderRejection::Refused(Refusal::SoldOut { location, available, .. }) = elsewhere else {
        panic!("{elsewhere}");
    };
    assert_eq!((location.as_str(), available), ("cellar", 0));
    let overflow = shop.refusal(all().line("gold", 9), "k").await;
    assert!(matches!(overflow, OrderRejection::Refused(Refusal::AmountOverflow { .. })));
    let mixed = shop.refusal(all().line_for("a", 1, 5), "k").await;
    assert!(matches!(mixed, OrderRejection::MixedAmounts { .. }), "{mixed}");

    assert_eq!(shop.picture(&skus, &["bob"]).await, before);
    assert_eq!(shop.levels("gold").await, (100, 0, 0));
    // All these refusals have left the key free.
    shop.place(all(), "k").await;
    shop.audited().await;
}

#[tokio::test]
async fn lines_of_the_same_sku_and_location_are_summed_before_the_check() {
    let shop = Shop::open().await;
    shop.item("mug", 3).await;
    let refusal = shop.refusal(mug(2).line("mug", 2), "k").await;
    assert_eq!(refusal.to_string(), "sku mug at main is sold out: 4 requested, 3 available");
    let receipt = shop.place(mug(1).line("mug", 1).line("mug", 1).at("main"), "k").await;
    let order = shop.get(receipt.id).await;
    assert_eq!(order.lines.len(), 1);
    assert_eq!((order.lines[0].quantity, receipt.total_minor), (3, 300));
    assert_eq!(shop.levels("mug").await, (3, 3, 0));
    shop.audited().await;
}

#[tokio::test]
async fn the_same_key_and_order_give_the_same_receipt_whatever_happens() {
    let shop = Shop::open().await;
    shop.item("mug", 10).await;
    let receipt = shop.place(mug(2), "k").await;
    assert_eq!(receipt.state, OrderState::AwaitingPayment);
    assert_eq!(shop.place(mug(2), "k").await, receipt);
    let shop = shop.crashed().await;
    assert_eq!(shop.place(mug(2), "k").await, receipt, "after a crash");
    shop.pay(receipt.id, "e", 200).await;
    assert_eq!(shop.place(mug(2), "k").await, receipt, "paid");
    let shop = shop.reopened().await;
    assert_eq!(shop.place(mug(2), "k").await, receipt, "reopened, archived");
    shop.gate.orders().fulfil(receipt.id, None, "ship").await.unwrap();
    let shop = shop.reopened().await.crashed().await;
    assert_eq!(shop.place(mug(2), "k").await, receipt, "completed");
    assert_eq!(shop.levels("mug").await, (8, 0, 0));
    shop.audited().await;
}

#[tokio::test]
async fn the_same_key_at_the_same_moment_orders_once() {
    let shop = Shop::open().await;
    shop.item("mug", 10).await;
    shop.item("cup", 10).await;
    let mut asks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let orders = shop.gate.orders().clone();
        asks.spawn(async move { orders.place(mug(1).line("cup", 1), "k").await.unwrap() });
    }
    let receipts = asks.join_all().await;
    assert!(receipts.iter().all(|receipt| *receipt == receipts[0]));
    assert_eq!(shop.levels("mug").await, (10, 1, 0));
    shop.audited().await;
}

#[tokio::test]
async fn the_same_key_with_another_order_is_a_conflict() {
    let mut shop = Shop::open().await;
    shop.item("mug", 10).await;
    let receipt = shop.place(mug(2), "k").await;
    for round in 0..3 {
        let others = [
            mug(3),
            mug(2).hold_ms(1),
            mug(2).line("mug", 1),
            NewOrder::new("bob").line("mug", 2),
            NewOrder::new("ada").line_for("mug", 2, 200),
        ];
        for other in others {
            let shown = format!("round {round}: {other:?}");
            let refusal = shop.refusal(other, "k").await;
            let conflict = OrderRejection::Idempotency(IdempotencyError::Conflict);
            assert_eq!(refusal, conflict, "{shown}");
        }
        assert_eq!(shop.place(mug(2), "k").await, receipt);
        shop = if round == 0 { shop.crashed().await } else { shop.reopened().await };
    }
    // Another caller's keys are others.
    let other = shop.gate.orders().for_caller("partner").place(mug(3), "k").await.unwrap();
    assert_ne!(other.id, receipt.id);
    shop.audited().await;
}

#[tokio::test]
async fn keys_of_changes_and_adjustments_work_alike() {
    let mut shop = Shop::open().await;
    shop.item("mug", 10).await;
    let id = shop.place(mug(3), "k").await.id;
    shop.pay(id, "e", 300).await;
    let some = |units| Some(vec![Units::new("mug", units)]);
    let adjust = |delta| Adjustment::new("mug", delta, "recount");
    let shipped = shop.gate.orders().fulfil(id, some(1), "ship").await.unwrap();
    let receipt = shop.gate.stock().adjust(adjust(-2), "count").await.unwrap();
    for _ in 0..2 {
        let orders = shop.gate.orders();
        assert_eq!(orders.fulfil(id, some(1), "ship").await.unwrap().lines, shipped.lines);
        let conflict = orders.fulfil(id, some(2), "ship").await.unwrap_err();
        assert_eq!(
            conflict.rejection(),
            Some(&OrderRejection::Idempotency(IdempotencyError::Conflict))
        );
        let stock = shop.gate.stock();
        assert_eq!(stock.adjust(adjust(-2), "count").await.unwrap(), receipt);
        // Where it is, when nothing is said.
        assert_eq!(stock.adjust(adjust(-2).at("main"), "count").await.unwrap(), receipt);
        let conflict = stock.adjust(adjust(-1), "count").await.unwrap_err();
        assert_eq!(
            conflict.rejection(),
            Some(&StockRejection::Idempotency(IdempotencyError::Conflict))
        );
        shop = shop.crashed().await;
    }
    assert_eq!(shop.levels("mug").await, (10 - 2 - 1, 0, 2));
    shop.audited().await;
}

#[tokio::test]
async fn a_users_limit_counts_all_orders_unpaid_ones_too() {
    let shop = Shop::open().await;
    let limited = SkuPatch { limit_per_user: Some(Some(3)), ..SkuPatch::default() };
    shop.item_with("mug", 100, limited).await;
    let paid = shop.place(mug(1), "a").await.id;
    shop.pay(paid, "e", 0).await;
    let unpaid = shop.place(mug(1), "b").await.id;
    let refusal = shop.refusal(mug(2), "c").await;
    assert_eq!(refusal.to_string(), "sku mug is limited to 3 per user; 2 already held or bought");
    let at_once = NewOrder::new("bob").line("mug", 2).line("mug", 2);
    let refusal = shop.refusal(at_once, "d").await;
    assert!(matches!(refusal, OrderRejection::Refused(Refusal::LimitExceeded { .. })));

    let shop = shop.crashed().await;
    let hold = tidegate::NewHold::new("ada", "mug", 2, 60_000);
    let refusal = shop.gate.stock().hold(hold, "h").await.unwrap_err();
    assert!(matches!(
        refusal.rejection(),
        Some(StockRejection::Refused(Refusal::LimitExceeded { already: 2, .. }))
    ));
    shop.gate.orders().cancel(unpaid, "no").await.unwrap();
    shop.place(mug(2), "c").await;
    shop.refusal(mug(1), "f").await;
    shop.place(NewOrder::new("bob").line("mug", 3), "g").await;
    shop.audited().await;
}

#[tokio::test]
async fn a_backorder_cap_lets_that_much_be_sold_ahead() {
    let shop = Shop::open().await;
    let ahead = |units| SkuPatch { backorder_limit: Some(units), ..SkuPatch::default() };
    shop.item_with("mug", 2, ahead(3)).await;
    let id = shop.place(mug(5), "a").await.id;
    assert_eq!(shop.stock("mug").await.available, -3);
    let refusal = shop.refusal(mug(1), "b").await;
    assert!(matches!(
        refusal,
        OrderRejection::Refused(Refusal::SoldOut { requested: 1, available: 0, .. })
    ));
    let in_use = shop.gate.stock().define("mug", ahead(2)).await.unwrap_err();
    assert!(matches!(
        in_use.rejection(),
        Some(StockRejection::BackorderInUse { in_use: 3, given: 2, .. })
    ));
    shop.pay(id, "e", 0).await;
    let short = shop.gate.orders().fulfil(id, None, "ship").await.unwrap_err();
    assert!(matches!(
        short.rejection(),
        Some(OrderRejection::Refused(Refusal::NotInStock { requested: 5, on_hand: 2, .. }))
    ));
    let shop = shop.reopened().await;
    shop.gate.stock().adjust(Adjustment::new("mug", 3, "late"), "late").await.unwrap();
    let order = shop.gate.orders().fulfil(id, None, "ship").await.unwrap();
    assert_eq!(order.state, OrderState::Completed);
    assert_eq!(shop.levels("mug").await, (0, 0, 0));
    shop.audited().await;
}

#[tokio::test]
async fn stock_that_is_promised_can_not_be_taken_away() {
    let shop = shop_with_a_mug().await;
    let take = |delta| Adjustment::new("mug", delta, "breakage");
    let error = shop.gate.stock().adjust(take(-9), "b").await.unwrap_err();
    assert!(matches!(error.rejection(), Some(StockRejection::BelowCommitted { .. })), "{error}");
    for delta in [0, i64::MIN, bounds::DELTA_UNITS_MAX as i64 + 1] {
        let error = shop.gate.stock().adjust(take(delta), "b").await.unwrap_err();
        assert!(matches!(error.rejection(), Some(StockRejection::Invalid(_))), "{delta}: {error}");
    }
    let ghost = Adjustment::new("ghost", 1, "arrival");
    let error = shop.gate.stock().adjust(ghost, "b").await.unwrap_err();
    let unknown =
        matches!(error.rejection(), Some(StockRejection::Refused(Refusal::UnknownSku { .. })));
    assert!(unknown, "{error}");
    assert_eq!(shop.levels("mug").await, (10, 2, 0));
    shop.gate.stock().adjust(take(-8), "b").await.unwrap();
    shop.audited().await;
}

#[tokio::test]
async fn an_order_can_be_answered_when_it_is_queued() {
    let shop = Shop::open().await;
    shop.item("mug", 1).await;
    let good = shop.place(mug(1).respond_async(), "a").await;
    shop.until_state(good.id, OrderState::AwaitingPayment).await;
    // What is known to be sold out may be refused at once; else the order tells it later.
    match shop.gate.orders().place(mug(1).respond_async(), "b").await {
        Ok(queued) => {
            let bad = shop.until_state(queued.id, OrderState::Rejected).await;
            let refusal = bad.rejection.as_ref().expect("a reason").to_string();
            assert!(refusal.contains("is sold out"), "{refusal}");
            let again = shop.place(mug(1).respond_async(), "b").await;
            assert_eq!((again.id, again.state), (bad.id, OrderState::Rejected));
        }
        Err(error) => assert!(error.to_string().contains("is sold out"), "{error}"),
    }
    assert_eq!(shop.levels("mug").await, (1, 1, 0));
    shop.audited().await;
}

#[tokio::test]
async fn what_was_never_placed_is_unknown() {
    let shop = shop_with_a_mug().await;
    for shard in [0, 1, 9] {
        let id = tidegate::OrderId::new(shard, 1_000_000).unwrap();
        let error = shop.gate.orders().get(id).await.unwrap_err();
        assert_eq!(error.rejection(), Some(&OrderRejection::UnknownOrder { order: id }));
        let error = shop.gate.orders().cancel(id, "k").await.unwrap_err();
        assert_eq!(error.rejection(), Some(&OrderRejection::UnknownOrder { order: id }));
    }
    let error = shop.gate.stock().get("ghost").await.unwrap_err();
    assert!(matches!(error, AskError::Rejected(_)), "{error}");
    shop.audited().await;
}

#[tokio::test]
async fn a_full_memory_of_keys_refuses_new_keys_and_serves_old_ones() {
    let folder = tempfile::tempdir().unwrap();
    let builder = crate::shop::small(folder.path()).order_shards(1).idempotency_keys_max(2);
    let gate: Tidegate = builder.open().await.unwrap();
    gate.stock().define("mug", SkuPatch::default()).await.unwrap();
    gate.stock().adjust(Adjustment::new("mug", 10, "arrival"), "arrival").await.unwrap();
    let first = gate.orders().place(mug(1), "a").await.unwrap();
    gate.orders().place(mug(1), "b").await.unwrap();
    let full = gate.orders().place(mug(1), "c").await.unwrap_err();
    assert_eq!(
        full.rejection(),
        Some(&OrderRejection::Idempotency(IdempotencyError::MemoryFull { keys_max: 2 }))
    );
    assert_eq!(gate.orders().place(mug(1), "a").await.unwrap(), first);
    eventually("nothing is in flight", async || {
        gate.report().shards.iter().all(|shard| shard.in_flight == 0).then_some(())
    })
    .await;
    gate.close().await.unwrap();
    crate::shop::assert_sound(folder.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_are_placed_together_become_what_they_would_become_alone() {
    let shop = Shop::open().await;
    shop.item("mug", 5).await;
    shop.item("cup", 40).await;
    let user = |number: u64| NewOrder::new(format!("user-{number}"));
    let orders = vec![
        (user(0).line("mug", 3), "a"),
        (user(1).line("mug", 0), "bad"),
        (user(2).line("mug", 30), "b"),
        (user(0).line("mug", 3), "a"),
        (user(0).line("mug", 2), "a"),
        (user(3).line("mug", 2).line("cup", 1), "c"),
        (user(4).line("pot", 1), "d"),
    ];
    let placed = shop.gate.orders().place_many(orders).await;
    let ids: Vec<_> = placed.iter().map(|it| it.as_ref().ok().map(|it| it.id)).collect();
    assert_eq!(
        ids.iter().map(Option::is_some).collect::<Vec<_>>(),
        [true, false, false, true, false, true, false]
    );
    assert_eq!(ids[0], ids[3], "one key, one order");
    let rejection = |index: usize| placed[index].as_ref().unwrap_err().rejection().unwrap();
    assert_eq!(field(rejection(1).clone()), "quantity");
    assert!(matches!(rejection(2), OrderRejection::Refused(Refusal::SoldOut { .. })));
    assert!(matches!(rejection(4), OrderRejection::Idempotency(IdempotencyError::Conflict)));
    assert!(matches!(rejection(6), OrderRejection::Refused(Refusal::UnknownSku { .. })));
    assert!(shop.gate.orders().place_many(Vec::<(NewOrder, &str)>::new()).await.is_empty());
    shop.audited().await;

    // More than may be in flight: those are told so, and the others are placed.
    let folder = tempfile::tempdir().unwrap();
    let gate = small(folder.path()).in_flight_max(8).open().await.unwrap();
    gate.stock().define("cup", SkuPatch::default().backorder_limit(1_000)).await.unwrap();
    let orders = (0..500).map(|number| (user(number).line("cup", 1), format!("k-{number}")));
    let placed = gate.orders().place_many(orders).await;
    let good = placed.iter().filter(|it| it.is_ok()).count();
    let over = |it: &&Result<_, _>| matches!(it, Err(AskError::Overloaded { .. }));
    assert!(good >= 8, "{good} were placed");
    assert_eq!(placed.iter().filter(over).count(), 500 - good);
    assert_eq!(gate.stock().get("cup").await.unwrap().total.held, good as u64);
    gate.close().await.unwrap();
    let closed = gate.orders().place_many([(user(1).line("cup", 1), "late")]).await;
    assert!(matches!(closed[..], [Err(AskError::Closing)]), "{closed:?}");
}
