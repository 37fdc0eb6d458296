//! What it costs that much is stored: orders a second beside few finished orders and beside many,
//! the disk that a finished order takes, and the memory that a live one takes. Each order goes
//! through its life by the library or the server, as everywhere.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use tidegate::{OrderId, OrderState, Tidegate};

use crate::{
    contender::Contender,
    load::{Asked, Until, ask_many, drive},
    peers::{
        http::Served,
        tidegate::{InProcess, PRICE_MINOR, fill},
    },
    row::Row,
    shop::{pay, until_archived},
    work::{Mix, Order, Outcome, Skew, Work, hashed},
};

const SKUS: usize = 1_000;
const IN_FLIGHT: u64 = 1_024;
const CONNECTIONS: u64 = 64;

/// Orders that are placed before they are paid.
const BLOCK: u64 = 200_000;
/// Orders that are read at the end.
const LOOKED_AT: u64 = 1_000;
const MIB: f64 = 1_048_576.0;

/// A row for each of `stored`, one for the disk, and one for the memory.
pub(crate) async fn run(dir: &Path, seconds: f64, seed: u64, stored: &[u64]) -> Result<Vec<Row>> {
    let work = Arc::new(Work::ample(seed, Mix::plain(Skew::Spread, SKUS)));
    // First, though it is shown last: without a server it fails, and all else takes long.
    let live = stored.iter().copied().min().unwrap_or(BLOCK);
    let memory = memory(dir, &work, live).await?;
    let folder = tempfile::tempdir_in(dir)?;
    let beside = beside_finished(folder.path(), &work, seconds, stored).await?;
    let orders = beside.last().map_or(0, |(_, orders)| *orders);
    let mut rows: Vec<Row> = beside.into_iter().map(|(row, _)| row).collect();
    rows.push(disk(folder.path(), orders).await?);
    rows.push(memory);
    Ok(rows)
}

/// Fills a store with finished orders and measures at each number of them. A row, and how many
/// orders there were at its end.
async fn beside_finished(
    data: &Path,
    work: &Arc<Work>,
    seconds: f64,
    stored: &[u64],
) -> Result<Vec<(Row, u64)>> {
    // Keys of a day are all kept, however many these are.
    let keys_max = stored.iter().max().map_or(0, |most| *most as usize * 2) + (8 << 20);
    let gate = open(data, keys_max).await?;
    fill(&gate, work.goods()).await?;
    let store: Arc<dyn Contender> = Arc::new(InProcess::over(gate.clone()));
    let (mut rows, mut next, mut first): (Vec<(Row, u64)>, u64, _) = (Vec::new(), 0, None);
    let good = |outcome: &Outcome| matches!(outcome, Outcome::Accepted(_));
    for stored in stored {
        while next < *stored {
            let until = Until::numbers((next + BLOCK).min(*stored)).from(next);
            let placed = drive(&store, work, IN_FLIGHT, until).await?;
            next += placed.answers.len() as u64;
            finish(&gate, work, placed).await?;
        }
        let (finished, until) = (next, Until::seconds(seconds / 4.0, seconds).from(next));
        let asked = drive(&store, work, IN_FLIGHT, until).await?;
        next += asked.answers.len() as u64;
        let who = format!("orders beside {stored} finished ones");
        let mut row = Row::of("growth", &who, "order").with_load(&asked, good)?;
        finish(&gate, work, asked).await?;
        row.durability = "synced before the answer".to_owned();
        (row.skew, row.in_flight) = (Skew::Spread.name().to_owned(), IN_FLIGHT);
        let first = *first.get_or_insert(row.good_per_second);
        let of_first = row.good_per_second / first.max(f64::MIN_POSITIVE);
        let row = row.and("finished before", finished as f64);
        rows.push((row.and("of the first", of_first), next));
    }
    let left = store.left(work.stock().len()).await?;
    let mut sold = work.stock().to_vec();
    (0..next).map(|n| work.order(n)).for_each(|order| sold[order.sku] -= order.quantity);
    if let Some((row, _)) = rows.last_mut() {
        row.hash = format!("{:016x}", hashed(&left));
        if left != sold {
            row.faults.push("stock does not add up".to_owned());
        }
    }
    store.end().await?;
    Ok(rows)
}

async fn open(data: &Path, keys_max: usize) -> Result<Tidegate> {
    let builder = Tidegate::builder(data).idempotency_keys_max(keys_max);
    Ok(builder.events_retained_bytes(0).open().await?)
}

/// Pays all that were placed, waits until they are in the archive, and reads some of them.
async fn finish(gate: &Tidegate, work: &Arc<Work>, placed: Asked<Outcome>) -> Result<()> {
    let count = placed.answers.len() as u64;
    let (of, work, placed) = (gate.clone(), Arc::clone(work), Arc::new(placed.answers));
    let placed_at = move |at: u64| -> Result<(OrderId, Order)> {
        let answer = placed[at as usize];
        let Outcome::Accepted(id) = answer.outcome else {
            anyhow::bail!("order {} was answered {:?}", answer.n, answer.outcome);
        };
        Ok((OrderId(id), work.order(answer.n)))
    };
    let order_at = placed_at.clone();
    let paying = move |at: u64| {
        let (gate, order) = (of.clone(), order_at(at));
        async move {
            let (id, order) = order?;
            pay(&gate, id, order.quantity * PRICE_MINOR).await
        }
    };
    let _: Asked<()> = ask_many(IN_FLIGHT, Until::numbers(count), paying).await?;
    until_archived(gate).await;
    for at in (0..count).step_by((count / LOOKED_AT).max(1) as usize) {
        let (id, order) = placed_at(at)?;
        let found = gate.orders().get(id).await?;
        ensure!(found.state == OrderState::Confirmed, "a paid order is {:?}", found.state);
        ensure!(found.total_minor == order.quantity * PRICE_MINOR, "{order:?} is {found:?}");
    }
    Ok(())
}

/// What a store with `orders` orders, all at rest, takes on disk after its journal was trimmed.
async fn disk(data: &Path, orders: u64) -> Result<Row> {
    // The journal is trimmed to what the older of two snapshots needs: both are to be new.
    open(data, 64 << 20).await?.close().await?;
    let each = |bytes: u64| bytes as f64 / orders.max(1) as f64;
    let (all, state) = (taken(data)?, taken(&data.join("state"))?);
    let row = Row::of("growth", "on disk, a finished order", "order");
    let row = row.and("state bytes each", each(state));
    Ok(row.and("all else, MiB", (all - state) as f64 / MIB))
}

/// What a folder takes on disk, in bytes.
fn taken(path: &Path) -> Result<u64> {
    let entry = fs::symlink_metadata(path).with_context(|| path.display().to_string())?;
    let mut bytes = entry.blocks() * 512;
    if entry.is_dir() {
        let inside: Vec<PathBuf> =
            fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        for path in inside {
            bytes += taken(&path)?;
        }
    }
    Ok(bytes)
}

/// What a server's resident set grows by for each of `orders` live orders. A process of its own,
/// so that nothing else is in the figure; a tenth is placed before, so that it is warm.
async fn memory(dir: &Path, work: &Arc<Work>, orders: u64) -> Result<Row> {
    let folder = tempfile::tempdir_in(dir)?;
    let served = Arc::new(Served::start(folder.path(), work.goods(), CONNECTIONS).await?);
    let store: Arc<dyn Contender> = Arc::<Served>::clone(&served);
    let warm = orders / 10;
    drive(&store, work, CONNECTIONS, Until::numbers(warm)).await?;
    let before = served.memory()?;
    let asked = drive(&store, work, CONNECTIONS, Until::numbers(warm + orders).from(warm)).await?;
    let grown = served.memory()?.saturating_sub(before);
    let accepted = |outcome: &Outcome| matches!(outcome, Outcome::Accepted(_));
    let good = asked.answers.iter().filter(|answer| accepted(&answer.outcome)).count() as u64;
    let mut row = Row::of("growth", "in memory, a live order", "order");
    row.in_flight = CONNECTIONS;
    if good != orders {
        row.faults.push(format!("{good} of {orders} orders were accepted"));
    }
    Ok(row.and("RSS bytes each", grown as f64 / orders.max(1) as f64))
}
