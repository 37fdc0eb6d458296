//! Many callers at once, for `tidegate demo`: each asks, waits for its answer, and asks again. It
//! counts and times; it doesn't know what is asked.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use quanta::Clock;
use tokio::task::JoinSet;

/// What the callers saw.
pub(super) struct Load {
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) seconds: f64,
    micros: Histogram<u64>,
}

impl Load {
    /// Answers per second, refusals included.
    pub(super) fn per_second(&self) -> u64 {
        ((self.accepted + self.refused) as f64 / self.seconds.max(f64::MIN_POSITIVE)) as u64
    }

    /// A quantile of the time to the durable answer, in microseconds.
    pub(super) fn quantile_us(&self, quantile: f64) -> u64 {
        self.micros.value_at_quantile(quantile)
    }
}

/// Calls `ask` with 0 to `total − 1`, from `callers` tasks. `ask` says whether it was accepted.
///
/// # Errors
/// The first error of `ask`.
pub(super) async fn drive<Fut>(
    total: u64,
    callers: u64,
    progress: &ProgressBar,
    ask: impl Fn(u64) -> Fut + Clone + Send + 'static,
) -> anyhow::Result<Load>
where
    Fut: Future<Output = anyhow::Result<bool>> + Send,
{
    let clock = Clock::new();
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    let start = clock.now();
    for _ in 0..callers.min(total) {
        let (clock, next, ask, progress) =
            (clock.clone(), Arc::clone(&next), ask.clone(), progress.clone());
        tasks.spawn(async move {
            // Plain numbers: a histogram for each of thousands of callers would cost more than they.
            let mut mine = (0u64, 0u64, Vec::new());
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= total {
                    return anyhow::Ok(mine);
                }
                let begun = clock.now();
                let accepted = ask(number).await?;
                mine.2.push((clock.now() - begun).as_micros() as u64);
                if accepted {
                    mine.0 += 1
                } else {
                    mine.1 += 1
                }
                if number.is_multiple_of(1_024) {
                    progress.set_position(number);
                }
            }
        });
    }
    let mut load = Load { accepted: 0, refused: 0, seconds: 0.0, micros: Histogram::new(3)? };
    let mut micros = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let (accepted, refused, mine) = done??;
        load.accepted += accepted;
        load.refused += refused;
        micros.push(mine);
    }
    load.seconds = (clock.now() - start).as_secs_f64();
    micros.into_iter().flatten().for_each(|one| load.micros += one);
    Ok(load)
}
