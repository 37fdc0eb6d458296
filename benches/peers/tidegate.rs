//! Tidegate in process: the library, as a host embeds it, with its defaults.

use std::path::Path;

use anyhow::{Context, Result};
use futures_util::future::{BoxFuture, try_join_all};
use tidegate::{
    Adjustment, AskError, IdempotencyError, NewOrder, OrderError, OrderRejection, Receipt, Refusal,
    SkuPatch, Tidegate,
};

use crate::{
    contender::{Contender, Logged, Waiting},
    work::{Order, Outcome, sku_name},
};

/// Orders that a caller of `tidegate-bulk` asks for together, if as many are in flight.
const BULK: u64 = 64;

pub(crate) fn bulk_settings() -> String {
    format!("defaults; in process; `place_many` of {BULK}")
}

pub(crate) struct InProcess {
    pub(crate) gate: Tidegate,
    at_once: u64,
}

/// What an order became.
fn outcome(placed: Result<Receipt, OrderError>) -> Result<Outcome> {
    match placed {
        Ok(receipt) => Ok(Outcome::Accepted(receipt.id.0)),
        Err(AskError::Rejected(rejection)) => match rejection {
            OrderRejection::Refused(Refusal::SoldOut { .. }) => Ok(Outcome::SoldOut),
            OrderRejection::Idempotency(IdempotencyError::Conflict) => Ok(Outcome::Conflict),
            other => Err(other.into()),
        },
        Err(error) => Err(error.into()),
    }
}

fn asked(order: &Order) -> (NewOrder, String) {
    let new = NewOrder::new(order.user_name()).line(order.sku_name(), order.quantity);
    (new, order.key_name())
}

impl InProcess {
    /// Opens the store in `data`. `snapshot_every_bytes` is for who measures snapshots.
    pub(crate) async fn open(data: &Path, snapshot_every_bytes: Option<u64>) -> Result<Self> {
        let mut builder = Tidegate::builder(data);
        if let Some(bytes) = snapshot_every_bytes {
            builder = builder.snapshot_every_bytes(bytes);
        }
        Ok(Self { gate: builder.open().await?, at_once: 1 })
    }

    /// The same for a new store, and stocks it up.
    pub(crate) async fn start(
        data: &Path,
        stock: &[u64],
        snapshot_every_bytes: Option<u64>,
    ) -> Result<Self> {
        let this = Self::open(data, snapshot_every_bytes).await?;
        let filling: Vec<BoxFuture<'_, Result<()>>> =
            (0..).zip(stock).map(|(sku, units)| this.fill(sku, *units)).collect();
        try_join_all(filling).await?;
        Ok(this)
    }

    /// The same for callers that place many orders at a time.
    pub(crate) async fn bulk(data: &Path, stock: &[u64]) -> Result<Self> {
        Ok(Self { at_once: BULK, ..Self::start(data, stock, None).await? })
    }

    fn fill(&self, sku: usize, units: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let (name, stock) = (sku_name(sku), self.gate.stock());
            stock.define(&name, SkuPatch::default().price_minor(1_990)).await?;
            if units > 0 {
                let delivery = Adjustment::new(name, i64::try_from(units)?, "delivery");
                stock.adjust(delivery, "delivery").await?;
            }
            Ok(())
        })
    }
}

impl Contender for InProcess {
    fn place<'a>(&'a self, order: &'a Order) -> Waiting<'a, Outcome> {
        Box::pin(async {
            let (new, key) = asked(order);
            outcome(self.gate.orders().place(new, &key).await)
        })
    }

    fn at_once(&self) -> u64 {
        self.at_once
    }

    fn place_many<'a>(&'a self, orders: &'a [Order]) -> Waiting<'a, Vec<Outcome>> {
        Box::pin(async {
            let placed = self.gate.orders().place_many(orders.iter().map(asked)).await;
            placed.into_iter().map(outcome).collect()
        })
    }

    fn left(&self, skus: usize) -> Waiting<'_, Vec<u64>> {
        Box::pin(async move {
            let mut left = Vec::new();
            for sku in 0..skus {
                let item = self.gate.stock().get(&sku_name(sku)).await?;
                left.push(u64::try_from(item.total.available()).context("below nothing")?);
            }
            Ok(left)
        })
    }

    fn logged(&self) -> Option<Logged> {
        let journal = self.gate.report().journal;
        Some(Logged { syncs: journal.commits, bytes: Some(journal.bytes) })
    }

    fn end(&self) -> Waiting<'_, ()> {
        Box::pin(async { Ok(self.gate.close().await?) })
    }
}
