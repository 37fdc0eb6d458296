//! Orders gathered into batches, for systems that commit many at once more cheaply than one by one:
//! while one batch commits, the next gathers. It waits for nobody: a lone order is a batch.

use anyhow::{Result, anyhow};
use tokio::sync::{mpsc, oneshot};

use crate::work::{Order, Outcome};

/// Orders of a batch at most.
pub(crate) const BATCH_MAX: usize = 512;

/// An order, and who waits for its outcome.
pub(crate) type Ask = (Order, oneshot::Sender<Result<Outcome>>);

/// Where orders are handed in.
#[derive(Clone)]
pub(crate) struct Gatherer(mpsc::UnboundedSender<Ask>);

/// Where batches come out.
pub(crate) struct Batches(mpsc::UnboundedReceiver<Ask>);

pub(crate) fn gather() -> (Gatherer, Batches) {
    // Unbounded: there are never more than callers in flight.
    let (sender, receiver) = mpsc::unbounded_channel();
    (Gatherer(sender), Batches(receiver))
}

impl Gatherer {
    pub(crate) async fn place(&self, order: &Order) -> Result<Outcome> {
        let (answer, outcome) = oneshot::channel();
        let gone = |_| anyhow!("who commits the batches has ended");
        self.0.send((order.clone(), answer)).map_err(|_| gone(()))?;
        outcome.await.map_err(|_| gone(()))?
    }
}

impl Batches {
    /// All that waits now, or the first to come; `None` when nobody can ask any more.
    pub(crate) async fn next(&mut self) -> Option<Vec<Ask>> {
        let mut batch = Vec::new();
        (self.0.recv_many(&mut batch, BATCH_MAX).await > 0).then_some(batch)
    }

    /// The same, for a thread of its own.
    pub(crate) fn next_blocking(&mut self) -> Option<Vec<Ask>> {
        let mut batch = Vec::new();
        (self.0.blocking_recv_many(&mut batch, BATCH_MAX) > 0).then_some(batch)
    }
}

/// Tells each of `batch` its outcome, or all of them why there is none.
pub(crate) fn answer(batch: Vec<Ask>, outcomes: Result<Vec<Outcome>>) {
    match outcomes {
        Ok(outcomes) => {
            for ((_, waiting), outcome) in batch.into_iter().zip(outcomes) {
                // Who has gone away need not know.
                let _ = waiting.send(Ok(outcome));
            }
        }
        Err(error) => {
            for (_, waiting) in batch {
                let _ = waiting.send(Err(anyhow!("the batch failed: {error:#}")));
            }
        }
    }
}
