//! The smallest host: open a store, stock an item, sell one, be paid, close.
//!
//! `cargo run --example embedded [FOLDER]`; run it again on the same folder, and nothing happens
//! twice: every step carries its idempotency key.

use tidegate::{Adjustment, NewOrder, PaymentEvent, SkuPatch, Tidegate};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "target/example-embedded".to_owned());
    let gate = Tidegate::builder(folder).open().await?;

    let price = SkuPatch::default().price_minor(4_900);
    gate.stock().define("ticket", price).await?;
    gate.stock().adjust(Adjustment::new("ticket", 100, "first print run"), "delivery-1").await?;

    // Answered when it is on disk. Ask again with the same key, and get the same answer.
    let order = NewOrder::new("ada").line("ticket", 2);
    let receipt = gate.orders().place(order, "cart-81").await?;
    println!("order {}: {} minor units to pay", receipt.id, receipt.total_minor);

    let payment = PaymentEvent::captured("bank", "event-1", receipt.total_minor);
    let paid = gate.orders().pay(receipt.id, payment).await?;
    println!("order {} is {}", paid.id, paid.state);

    let item = gate.stock().get("ticket").await?;
    println!("{} of {} tickets left", item.available, item.total.on_hand);

    gate.close().await?;
    Ok(())
}
