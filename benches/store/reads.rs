//! Reads: orders in memory, orders in the archive, the orders of a user, stock. Each is held
//! against what was written. Nothing is written meanwhile.

use std::{path::Path, sync::Arc};

use anyhow::{Result, bail};
use tidegate::OrderId;

use crate::{
    load::{Asked, Until, ask_many},
    row::Row,
    shop::{ORDERS_EACH, SKUS, Shop, UNITS},
    work::{hashed, sku_name},
};

const IN_FLIGHT: [u64; 2] = [1, 1_024];

/// What is read.
#[derive(Clone, Copy, Debug)]
enum What {
    LiveOrder,
    ArchivedOrder,
    OrdersOfUser,
    Stock,
}

impl What {
    const ALL: [Self; 4] = [Self::LiveOrder, Self::ArchivedOrder, Self::OrdersOfUser, Self::Stock];

    fn name(self) -> &'static str {
        match self {
            Self::LiveOrder => "an order in memory",
            Self::ArchivedOrder => "an order in the archive",
            Self::OrdersOfUser => "10 orders of a user",
            Self::Stock => "stock of a SKU",
        }
    }
}

/// A row for each kind of read and number of readers, over `orders` orders.
pub(crate) async fn run(dir: &Path, seconds: f64, orders: u64) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let folder = tempfile::tempdir_in(dir)?;
    let shop = Arc::new(Shop::fill(folder.path(), orders).await?);
    for what in What::ALL {
        for in_flight in IN_FLIGHT {
            let of = Arc::clone(&shop);
            let until = Until::seconds(seconds / 4.0, seconds);
            let reads = ask_many(in_flight, until, move |n| {
                let (shop, which) = (Arc::clone(&of), hashed(&[n]));
                async move { read(&shop, what, which).await }
            });
            let asked: Asked<()> = reads.await?;
            let mut row = Row::of("reads", what.name(), "read").with_load(&asked, |()| true)?;
            row.durability = "shows what is synced".to_owned();
            row.skew = "spread".to_owned();
            row.in_flight = in_flight;
            // Each read was held against this when it came.
            let totals: Vec<u64> = (1..=shop.orders.len() as u64).collect();
            row.hash = format!("{:016x}", hashed(&totals));
            rows.push(row);
        }
    }
    shop.gate.close().await?;
    Ok(rows)
}

async fn read(shop: &Shop, what: What, which: u64) -> Result<()> {
    let all = shop.orders.len() as u64;
    let even = which % (all / 2) * 2;
    match what {
        What::LiveOrder => shop.order(even).await,
        What::ArchivedOrder => shop.order(even + 1).await,
        What::OrdersOfUser => {
            let user = which % (all / ORDERS_EACH);
            let found = shop.gate.orders().by_user(&format!("user-{user}"), None, 100).await?;
            let mut found: Vec<OrderId> = found.orders.iter().map(|order| order.id).collect();
            let mine = user * ORDERS_EACH..(user + 1) * ORDERS_EACH;
            let mut mine = shop.orders[mine.start as usize..mine.end as usize].to_vec();
            found.sort();
            mine.sort();
            if found != mine {
                bail!("user {user} has {mine:?}, and {found:?} was read");
            }
            Ok(())
        }
        What::Stock => {
            let sku = which % SKUS as u64;
            let sold = (sku..all).step_by(SKUS).count() as i128;
            let item = shop.gate.stock().get(&sku_name(sku as usize)).await?;
            let left = i128::from(item.total.available());
            if left + sold != i128::from(UNITS) {
                bail!("SKU {sku}: {sold} are sold, and {left} left was read");
            }
            Ok(())
        }
    }
}
