//! A store with orders in it, for whoever reads, and what is read from it. Of the orders half wait
//! for their payment; the others are paid, at rest, and in the archive. It times nothing.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use tidegate::{NewOrder, OrderId, OrderState, PaymentEvent, Tidegate};

use crate::{
    load::{Asked, Until, ask_many},
    peers::tidegate::{InProcess, left},
    work::{Goods, sku_name},
};

/// SKUs with units without end, and the place after them, of one that is sold out.
pub(crate) const SKUS: usize = 1_000;
pub(crate) const SOLD_OUT: usize = SKUS;
pub(crate) const UNITS: u64 = 1_000_000_000;

/// Orders of each user.
pub(crate) const ORDERS_EACH: u64 = 10;

const IN_FLIGHT: u64 = 256;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The orders that are there: even ones wait for their payment, odd ones are paid.
pub(crate) struct Shop {
    pub(crate) gate: Tidegate,
    pub(crate) orders: Vec<OrderId>,
}

impl Shop {
    /// A new store in `data` with about `orders` orders; its last SKU had one unit, which is sold.
    pub(crate) async fn fill(data: &Path, orders: u64) -> Result<Self> {
        let mut stock = vec![UNITS; SKUS];
        stock.push(1);
        let gate = InProcess::start(data, Goods::ample(&stock), None).await?.gate;
        let last = NewOrder::new("somebody").line(sku_name(SOLD_OUT), 1);
        gate.orders().place(last, "the-last-one").await?;
        let of = gate.clone();
        let place = move |n: u64| {
            let gate = of.clone();
            async move {
                let user = format!("user-{}", n / ORDERS_EACH);
                let sku = sku_name((n % SKUS as u64) as usize);
                // None may expire, however long this takes.
                let order = NewOrder::new(user).line_for(sku, 1, n + 1).hold_ms(24 * 3_600_000);
                let receipt = gate.orders().place(order, &format!("shop-{n}")).await?;
                if n % 2 == 1 {
                    pay(&gate, receipt.id, receipt.total_minor).await?;
                }
                Ok(receipt.id)
            }
        };
        let orders = (orders / ORDERS_EACH).max(1) * ORDERS_EACH;
        let placed: Asked<OrderId> = ask_many(IN_FLIGHT, Until::numbers(orders), place).await?;
        let mut placed = placed.answers;
        placed.sort_by_key(|answer| answer.n);
        until_archived(&gate).await;
        Ok(Self { gate, orders: placed.into_iter().map(|answer| answer.outcome).collect() })
    }

    /// Reads the `n`-th order and holds it against what was placed.
    pub(crate) async fn order(&self, n: u64) -> Result<()> {
        let id = self.orders.get(n as usize).context("no such order")?;
        let order = self.gate.orders().get(*id).await?;
        let paid = n % 2 == 1;
        let state = if paid { OrderState::Confirmed } else { OrderState::AwaitingPayment };
        if (order.id, order.total_minor, order.state) != (*id, n + 1, state) {
            bail!("order {n} was read as {order:?}");
        }
        Ok(())
    }

    /// Fails unless each SKU has what the orders in the store have left of it.
    pub(crate) async fn check_stock(&self) -> Result<()> {
        let left = left(&self.gate, SKUS + 1).await?;
        let all = self.orders.len() as u64;
        let sold = |sku: u64| (sku..all).step_by(SKUS).count() as u64;
        let right = (0..SKUS).all(|sku| left[sku] + sold(sku as u64) == UNITS);
        ensure!(right && left[SOLD_OUT] == 0, "stock does not add up");
        Ok(())
    }
}

/// Pays an order in full.
pub(crate) async fn pay(gate: &Tidegate, order: OrderId, total_minor: u64) -> Result<()> {
    let payment = PaymentEvent::captured("bank", "payment", total_minor);
    let paid = gate.orders().pay(order, payment).await?;
    ensure!(paid.state == OrderState::Confirmed, "a paid order is {:?}", paid.state);
    Ok(())
}

/// Waits until all that is at rest has left memory.
pub(crate) async fn until_archived(gate: &Tidegate) {
    while gate.report().projector.backlog > 0 {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
