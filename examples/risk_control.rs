//! Risk control behind a sale. Each accepted order is judged by a consumer of the topic `events`:
//! it is approved, which another consumer answers with the payment, or cancelled, and then its
//! stock is free again. One judgement needs three attempts, one never succeeds, and the process is
//! ended in the middle of one. What follows from a judgement happens once all the same.
//!
//! `cargo run --example risk_control`

use std::{path::Path, process::Command, time::Duration};

use serde_json::Value;
use tidegate::{
    Adjustment, ConsumerGroup, Effects, Leased, NewOrder, OrderId, OrderState, PaymentEvent, Retry,
    SkuPatch, Tidegate, Topic, Whence,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Who buys, and what will be said of it.
const BUYERS: [(&str, &str); 5] = [
    ("ada", "approved"),
    ("bob", "approved, though the process ends while he is judged"),
    ("cleo", "approved at the third attempt"),
    ("mallory", "cancelled"),
    ("nobody", "a dead letter, until somebody looks at it"),
];

const LEASE: Duration = Duration::from_secs(30);
const WAIT: Duration = Duration::from_millis(100);

/// What a judge is like.
#[derive(Clone, Copy, PartialEq)]
enum Judge {
    /// Ends the process over bob.
    Fatal,
    /// Knows nothing of nobody.
    Sound,
    /// Has learned what to do about nobody.
    Mended,
}

#[tokio::main]
async fn main() -> Result<()> {
    if let Some(folder) = std::env::args().nth(1) {
        // The child, which does not come to an end.
        return sell(Path::new(&folder), Judge::Fatal).await;
    }
    let folder = tempfile::tempdir()?;
    let child = Command::new(std::env::current_exe()?).arg(folder.path()).output()?;
    assert!(!child.status.success(), "it was to end in the middle: {child:?}");
    println!("the process has ended while it judged; once more:");
    sell(folder.path(), Judge::Sound).await?;
    let report = tidegate::audit(folder.path())?;
    println!("audit: {}", if report.ok { "ok" } else { "NOT ok" });
    assert!(report.ok);
    Ok(())
}

/// Sells one mug to each buyer, and has risk control and cashier do their work.
async fn sell(folder: &Path, judge: Judge) -> Result<()> {
    let gate = Tidegate::builder(folder).open().await?;
    let retry = Retry { attempts_max: 3, backoff_ms: 10, backoff_ms_max: 100 };
    let events: Topic<Value> = gate.topic("events")?;
    let risk = events.group("risk").begin(Whence::Oldest).retry(retry).open().await?;
    let approved: Topic<String> = gate.topic("approved")?;
    let cashier = approved.group("cashier").begin(Whence::Oldest).retry(retry).open().await?;

    // The same keys, so that a second time nothing is sold again.
    gate.stock().define("mug", SkuPatch::default().price_minor(1_200)).await?;
    gate.stock().adjust(Adjustment::new("mug", 5, "arrival"), "arrival").await?;
    let mut orders = Vec::new();
    for (buyer, _) in BUYERS {
        let order = NewOrder::new(buyer).line("mug", 1);
        orders.push(
            gate.orders().place(order, &format!("cart of {buyer}").replace(' ', "-")).await?.id,
        );
    }

    // All but nobody's order find an end.
    until(&gate, &orders[..4], &risk, &cashier, judge).await?;
    let mut dead = risk.dead_letters(None, 10).await?;
    while dead.is_empty() {
        step(&gate, &risk, &cashier, judge).await?;
        dead = risk.dead_letters(None, 10).await?;
    }
    println!(
        "dead letter {}: {} attempts, {:?}",
        dead[0].letter.id, dead[0].attempts, dead[0].cause
    );
    risk.replay(dead[0].letter.id).await?;
    until(&gate, &orders, &risk, &cashier, Judge::Mended).await?;

    for ((buyer, expected), order) in BUYERS.iter().zip(&orders) {
        let state = gate.orders().get(*order).await?.state.to_string();
        println!("{buyer:>8}: {state:<9}  ({expected})");
    }
    let mug = gate.stock().get("mug").await?;
    assert_eq!((mug.total.allocated, mug.total.held, mug.available), (3, 0, 2));
    assert_eq!(cashier.view().await?.done, 3, "each approval was published once");
    drop((risk, cashier));
    gate.close().await?;
    Ok(())
}

/// Works until each of `orders` is paid or cancelled.
async fn until(
    gate: &Tidegate,
    orders: &[OrderId],
    risk: &ConsumerGroup<Value>,
    cashier: &ConsumerGroup<String>,
    judge: Judge,
) -> Result<()> {
    for order in orders {
        while gate.orders().get(*order).await?.state == OrderState::AwaitingPayment {
            step(gate, risk, cashier, judge).await?;
        }
    }
    Ok(())
}

/// Both consumers, as far as there is something to do.
async fn step(
    gate: &Tidegate,
    risk: &ConsumerGroup<Value>,
    cashier: &ConsumerGroup<String>,
    judge: Judge,
) -> Result<()> {
    for leased in risk.lease(16, WAIT, LEASE).await? {
        match judged(gate, &leased, judge).await {
            // What follows is on disk with the acknowledgement, or neither is.
            Ok(effects) => leased.ack_with(effects).await?,
            Err(cause) => leased.fail(&cause.to_string()).await?,
        }
    }
    for leased in cashier.lease(16, WAIT, LEASE).await? {
        let order: OrderId = leased.value()?.parse()?;
        let total = gate.orders().get(order).await?.total_minor;
        // A message may come twice; the id of the payment is that of the message.
        let event = PaymentEvent::captured("bank", leased.id().to_string(), total);
        gate.orders().pay(order, event).await?;
        leased.ack().await?;
    }
    Ok(())
}

/// What follows from an event, if anything does.
async fn judged(gate: &Tidegate, leased: &Leased<Value>, judge: Judge) -> Result<Effects> {
    let event = leased.value()?;
    if event["kind"] != "order.accepted" {
        return Ok(Effects::new());
    }
    let order: OrderId = event["data"]["order"].as_str().unwrap_or_default().parse()?;
    let buyer = gate.orders().get(order).await?.user.to_string();
    let approve = Effects::new().publish(&gate.topic("approved")?, &order.to_string(), None);
    match buyer.as_str() {
        "bob" if judge == Judge::Fatal => std::process::abort(),
        "cleo" if leased.attempt() < 3 => Err("the register of debtors does not answer".into()),
        "mallory" => Ok(Effects::new().cancel(order)),
        "nobody" if judge != Judge::Mended => Err("there is no such person".into()),
        "nobody" => Ok(Effects::new().cancel(order)),
        _ => Ok(approve),
    }
}
