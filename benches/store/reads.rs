//! Reads: orders in memory, orders in the archive, the orders of a user, stock. Each is held
//! against what was written. Nothing is written meanwhile.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use tidegate::{NewOrder, OrderId, OrderState, PaymentEvent, Tidegate};

use crate::{
    load::{Asked, Until, ask_many},
    peers::tidegate::InProcess,
    row::Row,
    work::{Goods, hashed, sku_name},
};

const SKUS: u64 = 1_000;
const UNITS: u64 = 1_000_000;
/// Orders of each user, half of them paid and so in the archive.
const ORDERS_EACH: u64 = 10;
const IN_FLIGHT: [u64; 2] = [1, 64];
const LOOK_AGAIN: Duration = Duration::from_millis(20);

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

/// The orders that are there: even ones wait for their payment, odd ones are paid.
struct Shop {
    gate: Tidegate,
    orders: Vec<OrderId>,
}

/// A row for each kind of read and number of readers, over `orders` orders.
pub(crate) async fn run(dir: &Path, seconds: f64, orders: u64) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let folder = tempfile::tempdir_in(dir)?;
    let shop = Arc::new(fill(folder.path(), orders / ORDERS_EACH * ORDERS_EACH).await?);
    for what in What::ALL {
        for in_flight in IN_FLIGHT {
            let of = Arc::clone(&shop);
            let until = Until::seconds(seconds / 4.0, seconds);
            let reads = ask_many(in_flight, until, move |n| {
                let (shop, which) = (Arc::clone(&of), hashed(&[n]));
                async move { shop.read(what, which).await }
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

async fn fill(data: &Path, orders: u64) -> Result<Shop> {
    let stock = vec![UNITS; SKUS as usize];
    let gate = InProcess::start(data, Goods::ample(&stock), None).await?.gate;
    let of = gate.clone();
    let place = move |n: u64| {
        let gate = of.clone();
        async move {
            let user = format!("user-{}", n / ORDERS_EACH);
            let order = NewOrder::new(user).line_for(sku_name((n % SKUS) as usize), 1, n + 1);
            let receipt = gate.orders().place(order, &format!("order-{n}")).await?;
            if n % 2 == 1 {
                let payment = PaymentEvent::captured("bank", "payment", receipt.total_minor);
                gate.orders().pay(receipt.id, payment).await?;
            }
            Ok(receipt.id)
        }
    };
    let placed: Asked<OrderId> = ask_many(256, Until::numbers(orders), place).await?;
    let mut placed = placed.answers;
    placed.sort_by_key(|answer| answer.n);
    while gate.report().projector.backlog > 0 {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(Shop { gate, orders: placed.into_iter().map(|answer| answer.outcome).collect() })
}

impl Shop {
    async fn read(&self, what: What, which: u64) -> Result<()> {
        let all = self.orders.len() as u64;
        let even = which % (all / 2) * 2;
        match what {
            What::LiveOrder => self.order(even, OrderState::AwaitingPayment).await,
            What::ArchivedOrder => self.order(even + 1, OrderState::Confirmed).await,
            What::OrdersOfUser => {
                let user = which % (all / ORDERS_EACH);
                let found = self.gate.orders().by_user(&format!("user-{user}"), None, 100).await?;
                let mut found: Vec<OrderId> = found.orders.iter().map(|order| order.id).collect();
                let mine = user * ORDERS_EACH..(user + 1) * ORDERS_EACH;
                let mut mine = self.orders[mine.start as usize..mine.end as usize].to_vec();
                found.sort();
                mine.sort();
                if found != mine {
                    bail!("user {user} has {mine:?}, and {found:?} was read");
                }
                Ok(())
            }
            What::Stock => {
                let sku = which % SKUS;
                let sold = (sku..all).step_by(SKUS as usize).count() as i128;
                let item = self.gate.stock().get(&sku_name(sku as usize)).await?;
                let left = i128::from(item.total.available());
                if left + sold != i128::from(UNITS) {
                    bail!("SKU {sku}: {sold} are sold, and {left} left was read");
                }
                Ok(())
            }
        }
    }

    async fn order(&self, n: u64, state: OrderState) -> Result<()> {
        let id = self.orders.get(n as usize).context("no such order")?;
        let order = self.gate.orders().get(*id).await?;
        if (order.id, order.total_minor, order.state) != (*id, n + 1, state) {
            bail!("order {n} was read as {order:?}");
        }
        Ok(())
    }
}
