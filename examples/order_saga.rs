//! A multi-line order over several shards, all or nothing: placed, paid, shipped in part, sent
//! back, refunded; and one that fails on its last line and leaves nothing behind.
//!
//! `cargo run --example order_saga`

use tidegate::{
    Adjustment, NewOrder, OrderState, PaymentEvent, PaymentStatus, SkuPatch, Tidegate, Units,
};

const SKUS: [&str; 4] = ["shirt", "mug", "poster", "sticker"];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let gate = Tidegate::builder(folder.path()).stock_shards(4).open().await?;
    for sku in SKUS {
        let price = SkuPatch::default().price_minor(1_000);
        gate.stock().define(sku, price).await?;
        gate.stock().adjust(Adjustment::new(sku, 3, "first delivery"), "delivery-1").await?;
    }

    let all = |user| SKUS.iter().fold(NewOrder::new(user), |order, sku| order.line(*sku, 2));
    let receipt = gate.orders().place(all("ada"), "cart-1").await?;
    println!("ada's order {}: {} to pay", receipt.id, receipt.total_minor);

    // One of each is left, so this one must fail; what it had held on other shards is free again
    // when its refusal is answered.
    let refusal = gate.orders().place(all("bob"), "cart-2").await.err();
    println!("bob's order: {}", refusal.map_or("accepted?!".to_owned(), |error| error.to_string()));
    for sku in SKUS {
        assert_eq!(gate.stock().get(sku).await?.available, 1, "bob has left something held");
    }

    let pay = PaymentEvent::captured("bank", "event-1", receipt.total_minor);
    let order = gate.orders().pay(receipt.id, pay).await?;
    assert_eq!(order.state, OrderState::Confirmed);

    let some = vec![Units::new("shirt", 2), Units::new("mug", 1)];
    gate.orders().fulfil(order.id, Some(some), "parcel-1").await?;
    let order = gate.orders().fulfil(order.id, None, "parcel-2").await?;
    println!("shipped in {} parcels: {}", order.history.fulfilments.len(), order.state);

    let back = vec![Units::new("shirt", 1)];
    let order = gate.orders().take_back(order.id, back, true, "return-1").await?;
    println!("one shirt came back: {} due", order.refund_due_minor());
    assert_eq!(order.payment_status(), PaymentStatus::RefundDue);

    let refund = PaymentEvent::refunded("bank", "event-2", order.refund_due_minor());
    let order = gate.orders().pay(order.id, refund).await?;
    println!("refunded: {} due, order {}", order.refund_due_minor(), order.state);
    assert_eq!(order.refund_due_minor(), 0);
    assert_eq!(gate.stock().get("shirt").await?.available, 2);

    gate.close().await?;
    Ok(())
}
