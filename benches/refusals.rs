//! Refusals of what is sold out, in process: one by one, and many at a time. In a sale most orders
//! are these. No order is accepted here.

use std::{ops::Range, path::Path, sync::Arc};

use anyhow::{Result, ensure};

use crate::{
    load::{Asked, Until, ask_in_blocks},
    peers::tidegate::{asked, outcome},
    row::Row,
    shop::{SOLD_OUT, Shop},
    work::{Order, Outcome, hashed},
};

const IN_FLIGHT: u64 = 1_024;
/// Orders that are placed together.
const AT_ONCE: [u64; 2] = [1, 64];

/// A row for each of [`AT_ONCE`].
pub(crate) async fn run(dir: &Path, seconds: f64) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let folder = tempfile::tempdir_in(dir)?;
    let shop = Arc::new(Shop::fill(folder.path(), 0).await?);
    for at_once in AT_ONCE {
        let of = Arc::clone(&shop);
        let until = Until::seconds(seconds / 4.0, seconds);
        let ask = move |numbers: Range<u64>| {
            let shop = Arc::clone(&of);
            async move { refused(&shop, numbers).await }
        };
        let told: Asked<()> = ask_in_blocks(IN_FLIGHT / at_once, at_once, until, ask).await?;
        let who = match at_once {
            1 => "refused, one by one".to_owned(),
            _ => format!("refused, {at_once} together"),
        };
        let mut row = Row::of("refusals", &who, "refusal").with_load(&told, |()| true)?;
        row.durability = "shows what is synced".to_owned();
        row.skew = "hot".to_owned();
        row.in_flight = IN_FLIGHT;
        // Each was held against this when it came, and none has left anything behind.
        row.hash = format!("{:016x}", hashed(&[0]));
        rows.push(row);
    }
    shop.check_stock().await?;
    shop.gate.close().await?;
    Ok(rows)
}

/// Orders what is not there; an error if it is sold.
async fn refused(shop: &Shop, numbers: Range<u64>) -> Result<Vec<()>> {
    let order = |n| asked(&Order { key: n, user: hashed(&[n]), sku: SOLD_OUT, quantity: 1 });
    let orders = shop.gate.orders();
    let placed = if numbers.end - numbers.start == 1 {
        let (new, key) = order(numbers.start);
        vec![orders.place(new, &key).await]
    } else {
        orders.place_many(numbers.map(order)).await
    };
    let mut refused = Vec::with_capacity(placed.len());
    for placed in placed {
        let outcome = outcome(placed)?;
        ensure!(outcome == Outcome::SoldOut, "what is sold out was answered {outcome:?}");
        refused.push(());
    }
    Ok(refused)
}
