//! A flash sale: thousands of buyers at the same moment, two tickets each at most, one process.
//!
//! `cargo run --release --example flash_sale [BUYERS]`

use std::time::Instant;

use tidegate::{
    Adjustment, AskError, NewOrder, OrderRejection, PaymentEvent, Refusal, SkuPatch, Tidegate,
};
use tokio::task::JoinSet;

const TICKETS: i64 = 1_000;

#[derive(Debug, PartialEq)]
enum Outcome {
    Sold,
    SoldOut,
    OverLimit,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let buyers: u32 = std::env::args().nth(1).map_or(Ok(5_000), |buyers| buyers.parse())?;
    let folder = tempfile::tempdir()?;
    let gate = Tidegate::builder(folder.path()).open().await?;

    let rules = SkuPatch::default().price_minor(7_500).limit_per_user(2);
    gate.stock().define("ticket", rules).await?;
    gate.stock().adjust(Adjustment::new("ticket", TICKETS, "the hall"), "hall").await?;

    let start = Instant::now();
    let mut sale = JoinSet::new();
    for buyer in 0..buyers {
        let gate = gate.clone();
        // Some come back for more than they may have.
        let user = buyer % (buyers / 2 + 1);
        sale.spawn(async move { buy(&gate, user, buyer).await });
    }
    let (mut sold, mut sold_out, mut over_limit) = (0, 0, 0);
    for outcome in sale.join_all().await {
        match outcome? {
            Outcome::Sold => sold += 2,
            Outcome::SoldOut => sold_out += 1,
            Outcome::OverLimit => over_limit += 1,
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{buyers} buyers in {seconds:.2} s: {sold} tickets sold and paid,");
    println!("{sold_out} buyers found it sold out, {over_limit} had their two already");

    let item = gate.stock().get("ticket").await?;
    assert_eq!(item.total.allocated, sold, "every sold ticket is allocated, and no other");
    assert!(sold <= TICKETS as u64, "oversold");
    gate.close().await?;
    Ok(())
}

async fn buy(gate: &Tidegate, user: u32, cart: u32) -> Result<Outcome, tidegate::OrderError> {
    let order = NewOrder::new(format!("user-{user}")).line("ticket", 2);
    let receipt = match gate.orders().place(order, &format!("cart-{cart}")).await {
        Ok(receipt) => receipt,
        Err(AskError::Rejected(OrderRejection::Refused(Refusal::SoldOut { .. }))) => {
            return Ok(Outcome::SoldOut);
        }
        Err(AskError::Rejected(OrderRejection::Refused(Refusal::LimitExceeded { .. }))) => {
            return Ok(Outcome::OverLimit);
        }
        Err(error) => return Err(error),
    };
    let payment = PaymentEvent::captured("bank", format!("event-{cart}"), receipt.total_minor);
    gate.orders().pay(receipt.id, payment).await?;
    Ok(Outcome::Sold)
}
