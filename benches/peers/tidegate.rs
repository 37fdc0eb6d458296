//! Tidegate in process: the library, as a host embeds it, with its defaults.

use std::path::Path;

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use tidegate::{
    Adjustment, AskError, IdempotencyError, NewOrder, OrderError, OrderRejection, Receipt, Refusal,
    SkuPatch, Tidegate,
};

use crate::{
    contender::{Contender, Logged, Waiting},
    work::{Goods, Order, Outcome, sku_name},
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

/// SKUs that are stocked up, or looked at, at a time.
const FILL_IN_FLIGHT: usize = 1_024;

/// What a unit costs.
pub(crate) const PRICE_MINOR: u64 = 1_990;

/// What an order became.
pub(crate) fn outcome(placed: Result<Receipt, OrderError>) -> Result<Outcome> {
    match placed {
        Ok(receipt) => Ok(Outcome::Accepted(receipt.id.0)),
        Err(AskError::Rejected(rejection)) => match rejection {
            OrderRejection::Refused(Refusal::SoldOut { .. }) => Ok(Outcome::SoldOut),
            OrderRejection::Refused(Refusal::LimitExceeded { .. }) => Ok(Outcome::LimitReached),
            OrderRejection::Idempotency(IdempotencyError::Conflict) => Ok(Outcome::Conflict),
            other => Err(other.into()),
        },
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn asked(order: &Order) -> (NewOrder, String) {
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
        Ok(Self::over(builder.open().await?))
    }

    /// A store that is open.
    pub(crate) fn over(gate: Tidegate) -> Self {
        Self { gate, at_once: 1 }
    }

    /// The same for a new store, and stocks it up.
    pub(crate) async fn start(
        data: &Path,
        goods: Goods<'_>,
        snapshot_every_bytes: Option<u64>,
    ) -> Result<Self> {
        let this = Self::open(data, snapshot_every_bytes).await?;
        fill(&this.gate, goods).await?;
        Ok(this)
    }

    /// The same for callers that place many orders at a time.
    pub(crate) async fn bulk(data: &Path, goods: Goods<'_>) -> Result<Self> {
        Ok(Self { at_once: BULK, ..Self::start(data, goods, None).await? })
    }
}

/// Stocks a new store up.
pub(crate) async fn fill(gate: &Tidegate, goods: Goods<'_>) -> Result<()> {
    let define = |(sku, units): (usize, u64)| async move {
        let (name, stock) = (sku_name(sku), gate.stock());
        let patch = SkuPatch::default().price_minor(PRICE_MINOR).limit_per_user(goods.limit);
        stock.define(&name, patch).await?;
        if units > 0 {
            let delivery = Adjustment::new(name, i64::try_from(units)?, "delivery");
            stock.adjust(delivery, "delivery").await?;
        }
        anyhow::Ok(())
    };
    let skus = stream::iter(goods.stock.iter().copied().enumerate());
    skus.map(define).buffer_unordered(FILL_IN_FLIGHT).try_collect().await
}

/// Units left of SKUs 0 to `skus` − 1.
pub(crate) async fn left(gate: &Tidegate, skus: usize) -> Result<Vec<u64>> {
    let left = |sku: usize| async move {
        let item = gate.stock().get(&sku_name(sku)).await?;
        u64::try_from(item.total.available()).context("below nothing")
    };
    stream::iter(0..skus).map(left).buffered(FILL_IN_FLIGHT).try_collect().await
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
        Box::pin(left(&self.gate, skus))
    }

    fn logged(&self) -> Option<Logged> {
        let journal = self.gate.report().journal;
        Some(Logged { syncs: journal.commits, bytes: Some(journal.bytes) })
    }

    fn end(&self) -> Waiting<'_, ()> {
        Box::pin(async { Ok(self.gate.close().await?) })
    }
}
