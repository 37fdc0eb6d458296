//! What each stored event becomes, as a table: the JSON here is the contract with subscribers, so a
//! line may be added but not changed. That machines write such events is shown where they are run.

use tidegate_machines::{
    Accepted, Currency, EventId, Fingerprint, HoldId, KeyHash, Location, NewLine, OpId, OrderId,
    Payment, PaymentKind, Provider, Refusal, Sku, SkuPatch, StockLine, UserId,
};

use super::*;

const STAMP: Timestamp = Timestamp(99);
const AT: Timestamp = Timestamp(7);
const KEY: KeyHash = KeyHash(1);
const PRINT: Fingerprint = Fingerprint(2);

/// The public events of `event`, each as `kind at data`.
fn told<M: Durable>(event: &M::Event) -> Vec<String> {
    let mut bytes = Vec::new();
    codec::encode(event, &mut bytes).unwrap();
    let mut out = Vec::new();
    publish(M::KIND.stream(3), STAMP, &bytes, &mut out).unwrap();
    let line = |(at, data): (Timestamp, EventData)| {
        format!("{} {} {}", data.kind(), at.0, serde_json::to_string(&data).unwrap())
    };
    out.into_iter().map(line).collect()
}

#[track_caller]
fn check<M: Durable>(event: M::Event, expected: &[&str]) {
    let told = told::<M>(&event);
    let order = r#""order":"o-0000000000001""#;
    let line = r#"{"sku":"A","location":"main","quantity":2}"#;
    let hold = r#""hold":"h-0000000000002""#;
    let full = |text: &&str| {
        text.replace("ORDER", order).replace("LINES", &format!("[{line}]")).replace("HOLD", hold)
    };
    assert_eq!(told, expected.iter().map(full).collect::<Vec<_>>());
}

fn order() -> OrderId {
    OrderId(1)
}

fn sku() -> Sku {
    Sku::new("A").unwrap()
}

fn user() -> UserId {
    UserId::new("u").unwrap()
}

fn lines() -> Vec<StockLine> {
    vec![StockLine { sku: sku(), location: Location::default(), quantity: 2 }]
}

fn answered(outcome: OpOutcome) -> OrderEvent {
    OrderEvent::Answered { at: AT, op: OpId(1), order: order(), outcome }
}

fn told_with(event: OrderEvent, upshot: Upshot) -> OrderEvent {
    OrderEvent::Told { event: Box::new(event), upshot }
}

fn sold_out() -> OpOutcome {
    let location = Location::default();
    OpOutcome::Refused(Refusal::SoldOut { sku: sku(), location, requested: 2, available: 1 })
}

fn paid() -> OrderEvent {
    let payment = Payment {
        provider: Provider::new("p").unwrap(),
        event_id: EventId::new("e-1").unwrap(),
        kind: PaymentKind::Captured,
        amount_minor: 50,
        at: AT,
    };
    OrderEvent::Paid { order: order(), payment }
}

#[test]
fn orders_in_the_queue() {
    let orders = || vec![order()];
    check::<Orders>(
        OrderEvent::Released { at: AT, orders: orders(), credit: 3 },
        &["order.released 7 {ORDER}"],
    );
    let timed_out = OrderEvent::TimedOut { at: AT, orders: orders() };
    let rejected = concat!(
        r#"order.rejected 7 {ORDER,"reason":{"code":"queue_timeout","sku":null,"#,
        r#""message":"its turn in the queue did not come before its deadline"}}"#,
    );
    check::<Orders>(timed_out.clone(), &[rejected]);
    let upshot = Upshot { refunds_due: vec![(order(), 5)], ..Upshot::default() };
    let due = r#"order.refund_due 7 {ORDER,"refund_due_minor":5}"#;
    check::<Orders>(told_with(timed_out, upshot), &[rejected, due]);
}

#[test]
fn orders_on_their_way() {
    let line =
        NewLine { sku: sku(), location: Location::default(), quantity: 2, amount_minor: None };
    let placed = Placed {
        at: AT,
        order: order(),
        key: KEY,
        fingerprint: PRINT,
        user: user(),
        lines: vec![(line, 0)].into(),
        hold_ms: 60,
        respond_async: false,
    };
    let was_placed = concat!(
        r#"order.placed 7 {ORDER,"user":"u","lines":[{"sku":"A","#,
        r#""location":"main","quantity":2,"amount_minor":null,"stock_shard":0}],"hold_ms":60}"#,
    );
    check::<Orders>(OrderEvent::Placed(placed.clone()), &[was_placed]);
    check::<Orders>(OrderEvent::Enqueued { placed, deadline: Timestamp(70) }, &[was_placed]);
    let held = answered(OpOutcome::Held { unit_prices: UnitPrices::new() });
    check::<Orders>(held.clone(), &[]);
    let accepted = Accepted { total_minor: 5, expires_at: Timestamp(67) };
    let (state, accepted) = (Some(OrderState::AwaitingPayment), Some(accepted));
    let upshot = Upshot { accepted, state, ..Upshot::default() };
    let was_accepted = r#"order.accepted 7 {ORDER,"total_minor":5,"expires_at_ms":67}"#;
    check::<Orders>(told_with(held.clone(), upshot.clone()), &[was_accepted]);
    // It was paid before its stock was held.
    let at_once = Upshot { state: Some(OrderState::Confirmed), ..upshot };
    check::<Orders>(told_with(held, at_once), &[was_accepted, "order.confirmed 7 {ORDER}"]);

    let rejected = Upshot { state: Some(OrderState::Rejected), ..Upshot::default() };
    check::<Orders>(
        told_with(answered(sold_out()), rejected.clone()),
        &[concat!(
            r#"order.rejected 7 {ORDER,"reason":{"code":"sold_out","sku":"A","#,
            r#""message":"sku A at main is sold out: 2 requested, 1 available"}}"#,
        )],
    );
    check::<Orders>(
        told_with(answered(OpOutcome::Done), rejected),
        &[concat!(
            r#"order.rejected 7 {ORDER,"reason":{"code":"amount_overflow","#,
            r#""sku":null,"message":"the amount of the order is too large"}}"#,
        )],
    );
    check::<Orders>(
        OrderEvent::Ticked { at: AT, expired: vec![order()], forget_before: Some(AT) },
        &["order.expired 7 {ORDER}"],
    );
    let cancelled = OrderEvent::Cancelled { at: AT, order: order(), key: KEY, fingerprint: PRINT };
    let refunds_due = vec![(order(), 50)];
    let upshot = Upshot { state: Some(OrderState::Cancelled), refunds_due, ..Upshot::default() };
    check::<Orders>(
        told_with(cancelled, upshot),
        &["order.cancelled 7 {ORDER}", r#"order.refund_due 7 {ORDER,"refund_due_minor":50}"#],
    );
    check::<Orders>(OrderEvent::Forgotten { orders: vec![order()] }, &[]);
}

#[test]
fn orders_paid_and_shipped() {
    let recorded = concat!(
        r#"payment.recorded 7 {ORDER,"provider":"p","event_id":"e-1","kind":"captured","#,
        r#""amount_minor":50}"#,
    );
    check::<Orders>(paid(), &[recorded]);
    let confirmed = Upshot { state: Some(OrderState::Confirmed), ..Upshot::default() };
    check::<Orders>(told_with(paid(), confirmed), &[recorded, "order.confirmed 7 {ORDER}"]);
    check::<Orders>(
        OrderEvent::Fulfilled {
            at: AT,
            order: order(),
            key: KEY,
            fingerprint: PRINT,
            lines: lines(),
        },
        &[r#"order.fulfilled 7 {ORDER,"lines":LINES}"#],
    );
    let completed = Upshot { state: Some(OrderState::Completed), ..Upshot::default() };
    check::<Orders>(
        told_with(answered(OpOutcome::Done), completed),
        &["order.completed 7 {ORDER}"],
    );
    let location = Location::default();
    let refusal = Refusal::NotInStock { sku: sku(), location, requested: 2, on_hand: 0 };
    let refused = Upshot { unshipped: lines(), ..Upshot::default() };
    check::<Orders>(
        told_with(answered(OpOutcome::Refused(refusal)), refused),
        &[concat!(
            r#"order.fulfilment_refused 7 {ORDER,"lines":LINES,"reason":{"#,
            r#""code":"not_in_stock","sku":"A","message":"sku A at main: 2 to ship,"#,
            r#" but only 0 on hand"}}"#,
        )],
    );
    check::<Orders>(
        OrderEvent::Returned {
            at: AT,
            order: order(),
            key: KEY,
            fingerprint: PRINT,
            lines: lines(),
            restock: true,
        },
        &[r#"order.returned 7 {ORDER,"lines":LINES,"restock":true}"#],
    );
}

#[test]
fn stock_that_is_defined_moved_and_held() {
    let patch = SkuPatch {
        price_minor: Some(Some(5)),
        currency: Some(Some(Currency::new("EUR").unwrap())),
        limit_per_user: Some(None),
        backorder_limit: None,
    };
    check::<Stock>(
        StockEvent::Defined { sku: sku(), patch },
        &[r#"stock.defined 99 {"sku":"A","price_minor":5,"currency":"EUR","limit_per_user":null}"#],
    );
    check::<Stock>(
        StockEvent::Adjusted {
            at: AT,
            key: KEY,
            fingerprint: PRINT,
            sku: sku(),
            location: Location::default(),
            delta: -3,
            reason: "broken".to_owned(),
        },
        &[r#"stock.adjusted 7 {"sku":"A","location":"main","delta":-3,"reason":"broken"}"#],
    );
    let hold = HoldId(2);
    let placed = StockEvent::HoldPlaced {
        at: AT,
        key: KEY,
        fingerprint: PRINT,
        hold,
        user: user(),
        line: lines().remove(0),
        expires_at: Timestamp(8),
    };
    check::<Stock>(
        placed,
        &[concat!(
            r#"hold.placed 7 {HOLD,"user":"u","sku":"A","location":"main","#,
            r#""quantity":2,"expires_at_ms":8}"#,
        )],
    );
    check::<Stock>(
        StockEvent::HoldExtended { hold, expires_at: Timestamp(9) },
        &[r#"hold.extended 99 {HOLD,"expires_at_ms":9}"#],
    );
    check::<Stock>(StockEvent::HoldConfirmed { at: AT, hold }, &["hold.confirmed 7 {HOLD}"]);
    check::<Stock>(StockEvent::HoldReleased { at: AT, hold }, &["hold.released 7 {HOLD}"]);
    check::<Stock>(StockEvent::HoldShipped { at: AT, hold }, &["hold.shipped 7 {HOLD}"]);
    check::<Stock>(
        StockEvent::Ticked { at: AT, expired: vec![hold, hold], forget_before: None },
        &["hold.expired 7 {HOLD}", "hold.expired 7 {HOLD}"],
    );
}

#[test]
fn stock_of_orders() {
    let (user, restock) = (user(), false);
    for (action, expected) in [
        (
            OpAction::Reserve { user: user.clone(), lines: lines().into() },
            concat!(
                r#"stock.held 99 {ORDER,"stock_shard":3,"user":"u","lines":[{"sku":"A","#,
                r#""location":"main","quantity":2,"unit_price_minor":50}]}"#,
            ),
        ),
        (OpAction::Release, r#"stock.released 99 {ORDER,"stock_shard":3}"#),
        (OpAction::Allocate, r#"stock.allocated 99 {ORDER,"stock_shard":3}"#),
        (
            OpAction::Deallocate { user: user.clone(), lines: lines().into() },
            r#"stock.deallocated 99 {ORDER,"stock_shard":3,"lines":LINES}"#,
        ),
        (
            OpAction::Ship { lines: lines().into() },
            r#"stock.shipped 99 {ORDER,"stock_shard":3,"lines":LINES}"#,
        ),
        (
            OpAction::Return { user, lines: lines().into(), restock },
            r#"stock.returned 99 {ORDER,"stock_shard":3,"lines":LINES,"restock":false}"#,
        ),
    ] {
        let op = OrderOp { op: OpId(1), from: 0, acked_below: OpId(1), order: order(), action };
        let outcome = match op.action {
            OpAction::Reserve { .. } => {
                OpOutcome::Held { unit_prices: [Some(50)].into_iter().collect() }
            }
            _ => OpOutcome::Done,
        };
        check::<Stock>(StockEvent::OpApplied { op, outcome }, &[expected]);
    }
}

#[test]
fn records_of_other_machines_are_passed_over_and_bad_ones_named() {
    let mut out = Vec::new();
    publish(StreamId(256 << 16), STAMP, b"?", &mut out).unwrap();
    assert!(out.is_empty());
    assert!(publish(Stock::KIND.stream(0), STAMP, b"?", &mut out).is_err());
}
