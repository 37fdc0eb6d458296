//! The process that is killed: it sells, publishes, consumes with effects, and keeps PostgreSQL up
//! to date. It says what it was told is done, and decides nothing about when it ends.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tidegate::Tidegate;
use tidegate_postgres_tests::{Made, run as change, stock_up};

use super::{follow, store, watch};
use crate::{Verdict, messages::work::begin, random::Random};

/// Changes of each caller, and a pause between them, so that consumers keep up.
const CHANGES: u64 = 2;
const PAUSE: Duration = Duration::from_millis(10);

/// Sell, publish, consume and write until killed, for the tool that does.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Where the store is.
    folder: PathBuf,
    /// Where PostgreSQL is.
    #[arg(long)]
    postgres: String,
    /// How many messages of each publisher are known to be published.
    #[arg(long, value_delimiter = ',')]
    from: Vec<u64>,
    /// Where the luck of who buys comes from.
    #[arg(long)]
    seed: u64,
}

/// Never comes to an end by itself.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let gate = store(&arguments.folder).open().await?;
        let mut tasks = begin(&gate, &arguments.from).await?;
        watch::begin(&gate, &mut tasks).await?;
        tasks.spawn(sell(gate.clone(), arguments.seed));
        let worker = follow(&arguments.postgres)?;
        tasks.spawn(async move {
            worker.run(gate).await?;
            anyhow::bail!("the worker for PostgreSQL has ended")
        });
        let ended = tasks.join_next().await.map(|ended| ended.map_err(anyhow::Error::from));
        ended.unwrap_or_else(|| Err(anyhow::anyhow!("there was no task")))?
    })
}

/// Orders that are paid, shipped, cancelled, returned or expire, holds, and stock that moves.
async fn sell(gate: Tidegate, seed: u64) -> anyhow::Result<Verdict> {
    let mut random = Random::new(seed);
    let made = Arc::new(Made::telling(|what| println!("{what}")));
    made.take_up(&gate).await;
    stock_up(&gate, &seed.to_string()).await;
    loop {
        change(&gate, &made, random.number(), CHANGES).await;
        tokio::time::sleep(PAUSE).await;
    }
}
