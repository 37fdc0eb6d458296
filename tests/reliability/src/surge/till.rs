//! Pays for orders as they are accepted, as a provider's webhook does: told by events, once each.
//! It knows nothing of the queue.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tidegate::{AskError, EventData, EventKind, OrderId, PaymentEvent, Tidegate};
use tokio::task::{JoinHandle, JoinSet};

/// Payments under way at a time.
const UNDER_WAY_MAX: usize = 256;

/// A till that is open.
pub(super) struct Till {
    paid: Arc<AtomicU64>,
    work: JoinHandle<anyhow::Result<()>>,
}

impl Till {
    /// Pays for all that `gate` accepts from now on.
    pub(super) fn open(gate: &Tidegate) -> Self {
        let paid = Arc::new(AtomicU64::new(0));
        let work = tokio::spawn(work(gate.clone(), Arc::clone(&paid)));
        Self { paid, work }
    }

    /// How many orders are paid.
    pub(super) fn paid(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.paid)
    }

    /// Pays for no more. An error if a payment was not taken.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        self.work.abort();
        match self.work.await {
            Ok(result) => result,
            Err(aborted) if aborted.is_cancelled() => Ok(()),
            Err(panicked) => Err(panicked.into()),
        }
    }
}

async fn work(gate: Tidegate, paid: Arc<AtomicU64>) -> anyhow::Result<()> {
    let mut feed = gate.events().clone().only([EventKind::OrderAccepted]).from_oldest();
    let mut under_way = JoinSet::new();
    loop {
        let event = feed.next().await?;
        let EventData::OrderAccepted { order, total_minor, .. } = event.data else { continue };
        under_way.spawn(pay(gate.clone(), order, total_minor, Arc::clone(&paid)));
        while under_way.len() >= UNDER_WAY_MAX {
            under_way.join_next().await.transpose()?.transpose()?;
        }
    }
}

async fn pay(
    gate: Tidegate,
    order: OrderId,
    total_minor: u64,
    paid: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let event = PaymentEvent::captured("bank", order.to_string(), total_minor);
    while let Err(error) = gate.orders().pay(order, event.clone()).await {
        if !matches!(error, AskError::Overloaded { .. }) {
            return Err(error.into());
        }
        tokio::task::yield_now().await;
    }
    paid.fetch_add(1, Ordering::Relaxed);
    Ok(())
}
