//! What becomes of an accepted order: paid, cancelled, expired, paid too late, shipped, returned,
//! refunded, and found again by its user. How it gets accepted is in `orders`.

use tidegate::{
    FulfilmentStatus, NewOrder, Order, OrderError, OrderId, OrderRejection, OrderState,
    PaymentEvent, PaymentKind, PaymentStatus, Units,
};

use crate::shop::{Shop, eventually, orders_of};

const MINUTE_MS: u64 = 60_000;

fn mug(units: u64) -> NewOrder {
    NewOrder::new("ada").line("mug", units).hold_ms(MINUTE_MS)
}

async fn shop_with_mugs(units: i64) -> Shop {
    let shop = Shop::open().await;
    shop.item("mug", units).await;
    shop
}

async fn cancel(shop: &Shop, order: OrderId) -> Result<Order, OrderError> {
    shop.gate.orders().cancel(order, "cancel").await
}

/// An order that has run out of time.
async fn expired(shop: &Shop, order: NewOrder, key: &str) -> OrderId {
    let id = shop.place(order, key).await.id;
    shop.time.advance_ms(MINUTE_MS);
    shop.until_state(id, OrderState::Expired).await;
    id
}

#[tokio::test]
async fn payments_count_once_in_any_order_and_confirm_when_they_cover_the_total() {
    let shop = shop_with_mugs(10).await;
    let id = shop.place(mug(3), "k").await.id;
    let event = |kind, event_id: &str, amount_minor| PaymentEvent {
        kind,
        ..PaymentEvent::captured("bank", event_id, amount_minor)
    };
    let tell = async |event| shop.gate.orders().pay(id, event).await;
    let order = tell(event(PaymentKind::Authorized, "1", 300)).await.unwrap();
    assert_eq!(order.payment_status(), PaymentStatus::Authorized);
    let order = tell(event(PaymentKind::Failed, "2", 300)).await.unwrap();
    assert_eq!(order.state, OrderState::AwaitingPayment);
    let order = shop.pay(id, "3", 100).await;
    assert_eq!(order.payment_status(), PaymentStatus::PartiallyPaid);
    let order = shop.pay(id, "3", 100).await;
    assert_eq!(order.history.captured_minor, 100, "told twice, it counts once");
    let conflict = tell(event(PaymentKind::Captured, "3", 200)).await.unwrap_err();
    assert!(matches!(conflict.rejection(), Some(OrderRejection::PaymentConflict { .. })));
    let order = shop.pay(id, "4", 200).await;
    assert_eq!((order.state, order.payment_status()), (OrderState::Confirmed, PaymentStatus::Paid));
    assert_eq!(shop.levels("mug").await, (10, 0, 3));

    let shop = shop.reopened().await;
    assert_eq!(
        shop.pay(id, "4", 200).await.history.captured_minor,
        300,
        "archived, and told again"
    );
    let late = event(PaymentKind::Failed, "5", 300);
    let order = shop.gate.orders().pay(id, late).await.unwrap();
    assert_eq!(order.state, OrderState::Confirmed, "never downgraded");
    let order = shop.pay(id, "6", 50).await;
    assert_eq!(order.refund_due_minor(), 50, "paid too much");
    shop.audited().await;
}

#[tokio::test]
async fn a_cancelled_order_frees_its_stock_and_owes_what_was_paid() {
    let shop = shop_with_mugs(10).await;
    let unpaid = shop.place(mug(3), "a").await.id;
    let order = cancel(&shop, unpaid).await.unwrap();
    assert_eq!((order.state, order.refund_due_minor()), (OrderState::Cancelled, 0));
    assert_eq!(shop.levels("mug").await, (10, 0, 0), "free when the answer is there");
    cancel(&shop, unpaid).await.unwrap();

    let paid = shop.place(mug(3), "b").await.id;
    shop.pay(paid, "e", 300).await;
    let order = cancel(&shop, paid).await.unwrap();
    assert_eq!(order.payment_status(), PaymentStatus::RefundDue);
    assert_eq!(order.refund_due_minor(), 300);
    assert_eq!(shop.levels("mug").await, (10, 0, 0));
    let shipped = shop.gate.orders().fulfil(paid, None, "ship").await.unwrap_err();
    assert!(matches!(shipped.rejection(), Some(OrderRejection::WrongState { .. })), "{shipped}");
    shop.audited().await;
}

#[tokio::test]
async fn a_late_payment_on_a_cancelled_order_is_always_due_as_a_refund() {
    let shop = shop_with_mugs(10).await;
    let id = shop.place(mug(3), "a").await.id;
    cancel(&shop, id).await.unwrap();
    let shop = shop.reopened().await;
    let order = shop.pay(id, "late", 300).await;
    assert_eq!((order.state, order.refund_due_minor()), (OrderState::Cancelled, 300));
    assert_eq!(shop.levels("mug").await, (10, 0, 0), "it takes nothing from the shelf");
    let shop = shop.crashed().await;
    let refund = PaymentEvent::refunded("bank", "back", 300);
    let order = shop.gate.orders().pay(id, refund).await.unwrap();
    assert_eq!(order.payment_status(), PaymentStatus::Refunded);
    assert_eq!((order.state, order.refund_due_minor()), (OrderState::Cancelled, 0));
    shop.audited().await;
}

#[tokio::test]
async fn an_unpaid_order_expires_and_its_stock_is_free() {
    let shop = shop_with_mugs(5).await;
    let receipt = shop.place(mug(5), "a").await;
    let held_until = receipt.expires_at.unwrap().0;
    assert_eq!(held_until, receipt.placed_at.0 + MINUTE_MS);
    shop.time.advance_ms(MINUTE_MS - 1);
    assert_eq!(shop.get(receipt.id).await.state, OrderState::AwaitingPayment);
    // Expiry is not lost with the process that had set the alarm.
    let shop = shop.crashed().await;
    shop.time.advance_ms(1);
    shop.until_state(receipt.id, OrderState::Expired).await;
    assert_eq!(shop.levels("mug").await, (5, 0, 0));
    let error = cancel(&shop, receipt.id).await.unwrap_err();
    assert!(matches!(error.rejection(), Some(OrderRejection::WrongState { .. })), "{error}");
    shop.place(mug(5), "b").await;
    shop.audited().await;
}

#[tokio::test]
async fn a_late_payment_on_an_expired_order_tries_once_more_to_reserve() {
    let shop = shop_with_mugs(5).await;
    let lucky = expired(&shop, mug(2), "lucky").await;
    let order = shop.pay(lucky, "e", 200).await;
    assert_eq!((order.state, order.refund_due_minor()), (OrderState::Confirmed, 0));
    assert_eq!(shop.levels("mug").await, (5, 0, 2));

    let late = expired(&shop, mug(3), "late").await;
    shop.place(NewOrder::new("bob").line("mug", 3), "bob").await;
    let shop = shop.reopened().await;
    let order = shop.pay(late, "e", 300).await;
    assert_eq!((order.state, order.refund_due_minor()), (OrderState::Expired, 300));
    let refusal = order.rejection.expect("a reason").to_string();
    assert!(refusal.contains("is sold out"), "{refusal}");
    shop.gate.stock().adjust(tidegate::Adjustment::new("mug", 50, "more"), "m").await.unwrap();
    let order = shop.pay(late, "e2", 300).await;
    assert_eq!((order.state, order.refund_due_minor()), (OrderState::Expired, 600), "only once");
    assert_eq!(shop.levels("mug").await, (55, 3, 2));
    shop.audited().await;
}

#[tokio::test]
async fn shipped_in_parts_an_order_is_completed_by_the_last() {
    let shop = shop_with_mugs(10).await;
    shop.item("cup", 10).await;
    let id = shop.place(mug(3).line("cup", 2), "k").await.id;
    let fulfil =
        async |shop: &Shop, lines, key: &str| shop.gate.orders().fulfil(id, lines, key).await;
    let unpaid = fulfil(&shop, None, "early").await.unwrap_err();
    assert!(matches!(unpaid.rejection(), Some(OrderRejection::WrongState { .. })), "{unpaid}");
    shop.pay(id, "e", 500).await;

    let too_many = fulfil(&shop, Some(vec![Units::new("mug", 4)]), "x").await.unwrap_err();
    assert!(matches!(too_many.rejection(), Some(OrderRejection::TooMany { at_most: 3, .. })));
    let unknown = fulfil(&shop, Some(vec![Units::new("pot", 1)]), "x").await.unwrap_err();
    assert!(matches!(unknown.rejection(), Some(OrderRejection::UnknownLine { .. })));
    for nothing in [vec![], vec![Units::new("mug", 0)], vec![Units::new("m g", 1)]] {
        let error = fulfil(&shop, Some(nothing), "x").await.unwrap_err();
        assert!(matches!(error.rejection(), Some(OrderRejection::Invalid(_))), "{error}");
    }
    assert_eq!(shop.levels("mug").await, (10, 0, 3));

    let order = fulfil(&shop, Some(vec![Units::new("mug", 2)]), "x").await.unwrap();
    assert_eq!(order.fulfilment_status(), FulfilmentStatus::Partial);
    assert_eq!(shop.levels("mug").await, (8, 0, 1));
    let shop = shop.crashed().await;
    let cancelled = cancel(&shop, id).await.unwrap_err();
    assert!(matches!(cancelled.rejection(), Some(OrderRejection::AlreadyShipped { .. })));
    let order = fulfil(&shop, None, "rest").await.unwrap();
    assert_eq!(order.state, OrderState::Completed);
    assert_eq!(order.fulfilment_status(), FulfilmentStatus::Fulfilled);
    assert_eq!((shop.levels("mug").await, shop.levels("cup").await), ((7, 0, 0), (8, 0, 0)));
    shop.audited().await;
}

#[tokio::test]
async fn returns_are_refunded_and_go_back_on_the_shelf_if_asked() {
    let shop = shop_with_mugs(10).await;
    let id = shop.place(mug(3), "k").await.id;
    shop.pay(id, "e", 300).await;
    let give_back = async |shop: &Shop, units, restock, key: &str| {
        let lines = vec![Units::new("mug", units)];
        shop.gate.orders().take_back(id, lines, restock, key).await
    };
    let early = give_back(&shop, 1, true, "r").await.unwrap_err();
    assert!(matches!(early.rejection(), Some(OrderRejection::TooMany { at_most: 0, .. })));
    shop.gate.orders().fulfil(id, None, "ship").await.unwrap();
    let shop = shop.reopened().await;

    let order = give_back(&shop, 1, true, "r").await.unwrap();
    assert_eq!(order.refund_due_minor(), 100);
    assert_eq!(order.fulfilment_status(), FulfilmentStatus::PartiallyReturned);
    assert_eq!(shop.levels("mug").await, (8, 0, 0));
    assert_eq!(give_back(&shop, 1, true, "r").await.unwrap().history.returns.len(), 1, "same key");
    let broken = give_back(&shop, 2, false, "broken").await.unwrap();
    assert_eq!((broken.refund_due_minor(), broken.history.returns.len()), (300, 2));
    assert_eq!(shop.levels("mug").await, (8, 0, 0), "broken ones don't go back");
    let more = give_back(&shop, 1, true, "more").await.unwrap_err();
    assert!(matches!(more.rejection(), Some(OrderRejection::TooMany { at_most: 0, .. })));

    let refund = |event: &str, amount| PaymentEvent::refunded("bank", event, amount);
    let order = shop.gate.orders().pay(id, refund("b1", 100)).await.unwrap();
    assert_eq!(order.payment_status(), PaymentStatus::RefundDue);
    let shop = shop.reopened().await;
    let order = shop.gate.orders().pay(id, refund("b2", 200)).await.unwrap();
    assert_eq!(order.payment_status(), PaymentStatus::Refunded);
    assert_eq!((order.state, order.refund_due_minor()), (OrderState::Completed, 0));
    shop.audited().await;
}

#[tokio::test]
async fn an_archived_order_is_read_as_it_was() {
    let shop = shop_with_mugs(10).await;
    let id = shop.place(mug(1), "k").await.id;
    shop.pay(id, "e", 100).await;
    let order = shop.gate.orders().fulfil(id, None, "ship").await.unwrap();
    eventually("the order is archived", async || {
        (shop.gate.report().projector.rows > 0 && shop.gate.report().projector.backlog == 0)
            .then_some(())
    })
    .await;
    assert_eq!(shop.get(id).await, order);
    let shop = shop.reopened().await;
    assert_eq!(shop.get(id).await, order);
    let shop = shop.crashed().await;
    assert_eq!(shop.get(id).await, order);
    assert_eq!(orders_of(&shop.gate, "ada", 10).await, [order]);
    shop.audited().await;
}

#[tokio::test]
async fn a_users_orders_are_paged_newest_first_over_memory_and_archive() {
    let mut shop = shop_with_mugs(100).await;
    let mut ids = Vec::new();
    for number in 0_u64..23 {
        // Some share a millisecond; those that are paid go to the archive.
        shop.time.advance_ms(number % 3);
        let id = shop.place(mug(1).hold_ms(86_400_000), &format!("k{number}")).await.id;
        ids.push(id);
        if number % 2 == 0 {
            shop.pay(id, "e", 100).await;
        }
        shop.place(NewOrder::new("ada2").line("mug", 1), &format!("other{number}")).await;
        if number == 8 {
            shop = shop.reopened().await;
        }
        if number == 15 {
            shop = shop.crashed().await;
        }
    }
    for page in [1, 2, 5, 22, 23, 24, 100] {
        let orders = orders_of(&shop.gate, "ada", page).await;
        let mut found: Vec<_> = orders.iter().map(|order| order.id).collect();
        let times: Vec<_> = orders.iter().map(|order| order.placed_at).collect();
        assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");
        found.sort_unstable();
        let mut all = ids.clone();
        all.sort_unstable();
        assert_eq!(found, all, "pages of {page}");
        assert!(orders.iter().all(|order| order.user.as_str() == "ada"));
    }
    assert_eq!(orders_of(&shop.gate, "nobody", 10).await, []);
    let bad = shop.gate.orders().by_user("no body", None, 10).await.unwrap_err();
    assert!(matches!(bad.rejection(), Some(OrderRejection::Invalid(_))), "{bad}");
    shop.audited().await;
}

#[tokio::test]
async fn orders_called_back_from_the_archive_leave_memory_again() {
    let shop = shop_with_mugs(100).await;
    let mut ids = Vec::new();
    for number in 0..20 {
        let id = shop.place(mug(1), &format!("k{number}")).await.id;
        shop.pay(id, "e", 100).await;
        ids.push(id);
    }
    let shop = shop.reopened().await;
    for id in ids {
        // Told again, it changes nothing; refused, neither.
        shop.pay(id, "e", 100).await;
        let ghost = Some(vec![Units::new("ghost", 1)]);
        shop.gate.orders().fulfil(id, ghost, "x").await.unwrap_err();
    }
    let folder = shop.folder().to_owned();
    shop.gate.close().await.unwrap();
    let report = tidegate::audit(folder).unwrap();
    let found = report.checks.iter().find(|check| check.name == "conservation").unwrap();
    assert_eq!(found.detail, "0 orders in memory, 20 archived");
}
