//! A read model of your own, with the public API only: what each user has spent. Its rows follow
//! the events, and change together with how far they are; it is written once for events, and once
//! for what a store holds when the journal no longer tells everything.
//!
//! `cargo run --example own_view`

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate::{
    Adjustment, Event, EventData, Fact, NewOrder, OrderId, PaymentEvent, PaymentKind, Rows,
    SkuPatch, Tidegate, View, ViewFault, machine::Timestamp,
};

/// What users have spent.
struct Spending;

#[derive(Debug, Serialize, Deserialize)]
enum Row {
    /// Minor units, under `user/NAME`.
    Spent(u64),
    /// Whose an order is, under `order/ID`: events of payments name the order only.
    Of(String),
}

impl Spending {
    fn spend(rows: &mut Rows<'_, Row>, user: &str, amount_minor: u64) -> Result<(), ViewFault> {
        let key = format!("user/{user}");
        let before = match rows.get(&key)? {
            Some(Row::Spent(minor)) => minor,
            _ => 0,
        };
        rows.put(key, &Row::Spent(before + amount_minor))
    }

    fn key(order: OrderId) -> String {
        format!("order/{order}")
    }
}

impl View for Spending {
    const NAME: &'static str = "spending";
    const VERSION: u32 = 1;
    type Row = Row;

    fn apply(&self, event: &Event, rows: &mut Rows<'_, Row>) -> Result<(), ViewFault> {
        match &event.data {
            EventData::OrderPlaced { order, user, .. } => {
                rows.put(Self::key(*order), &Row::Of(user.to_string()))
            }
            EventData::PaymentRecorded {
                order, kind: PaymentKind::Captured, amount_minor, ..
            } => match rows.get(Self::key(*order))? {
                Some(Row::Of(user)) => Self::spend(rows, &user, *amount_minor),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn load(&self, fact: &Fact, _at: Timestamp, rows: &mut Rows<'_, Row>) -> Result<(), ViewFault> {
        let Fact::Order(order) = fact else { return Ok(()) };
        rows.put(Self::key(order.id), &Row::Of(order.user.to_string()))?;
        if order.history.captured_minor > 0 {
            Self::spend(rows, order.user.as_str(), order.history.captured_minor)?;
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    for run in 1..=2 {
        // The second run goes on where the first one ended.
        let gate = Tidegate::builder(folder.path()).view(Spending).open().await?;
        gate.stock().define("tea", SkuPatch::default().price_minor(450)).await?;
        gate.stock().adjust(Adjustment::new("tea", 10, "delivery"), "delivery").await?;
        let order = NewOrder::new("ann").line("tea", 2);
        let order = gate.orders().place(order, &format!("order-{run}")).await?;
        gate.orders().pay(order.id, PaymentEvent::captured("bank", "1", 900)).await?;

        // What was answered is in the view once it is where the store was then.
        let spending = gate.view::<Spending>().ok_or("no view")?;
        spending.at_least(gate.position(), Duration::from_secs(5)).await?;
        let spent = spending.get("user/ann").await?;
        println!("run {run}: ann has spent {spent:?}, at position {}", spending.position());
        assert!(matches!(spent, Some(Row::Spent(minor)) if minor == 900 * run));

        // New rows are built beside the old ones, which are read until then.
        let position = spending.rebuild().finished().await?;
        assert!(position <= spending.position());
        assert!(matches!(spending.get("user/ann").await?, Some(Row::Spent(m)) if m == 900 * run));
        gate.close().await?;
    }
    Ok(())
}
