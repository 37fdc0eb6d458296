//! What snapshots cost those who order meanwhile: the same load beside the same live orders,
//! without one, and with one as soon as the load has begun. A shard stops while its machine is
//! cloned; the tail shows it. How often snapshots come is the store's affair; that one came, and
//! none where none should, is looked at.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::Result;
use tidegate::{Position, Tidegate, inspect};

use crate::{
    check::{self, Race},
    contender::Contender,
    load::{Until, drive},
    peers::tidegate::{InProcess, fill},
    row::Row,
    work::{Mix, Outcome, Skew, Work},
};

const SKUS: usize = 1_000;
const IN_FLIGHT: u64 = 64;
const FILL_IN_FLIGHT: u64 = 1_024;
const NEVER: u64 = u64::MAX;
/// At the first look, half a second after the store was opened; the next comes when the journal has
/// grown by what the last has taken.
const SOON: u64 = 1;
/// Orders go on for so many seconds at least: the first look is among them.
const SECONDS_MIN: f64 = 2.0;
const MIB: f64 = 1_048_576.0;

/// Two rows: orders for `seconds`, beside `live` live ones, without snapshots and with them.
pub(crate) async fn run(dir: &Path, seconds: f64, seed: u64, live: u64) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (who, every_bytes) in [("orders, no snapshot", NEVER), ("orders, with snapshots", SOON)] {
        let folder = tempfile::tempdir_in(dir)?;
        let work = Arc::new(Work::ample(seed, Mix::plain(Skew::Spread, SKUS)));
        let gate = open(folder.path(), NEVER).await?;
        fill(&gate, work.goods()).await?;
        let store: Arc<dyn Contender> = Arc::new(InProcess::over(gate));
        let before = drive(&store, &work, FILL_IN_FLIGHT, Until::numbers(live)).await?;
        store.end().await?;
        // Each end leaves a snapshot. With two new ones the journal is trimmed, and no snapshot is
        // due by what was written before.
        open(folder.path(), NEVER).await?.close().await?;
        let gate = open(folder.path(), every_bytes).await?;
        let store: Arc<dyn Contender> = Arc::new(InProcess::over(gate.clone()));
        let opened = gate.report();
        let until = Until::seconds(seconds / 4.0, seconds.max(SECONDS_MIN)).from(live);
        let mut asked = drive(&store, &work, IN_FLIGHT, until).await?;
        let grown = gate.report().state_disk_bytes.saturating_sub(opened.state_disk_bytes);
        let good = |outcome: &Outcome| matches!(outcome, Outcome::Accepted(_));
        let mut row = Row::of("snapshots", who, "order").with_load(&asked, good)?;
        asked.answers.extend(before.answers);
        let found = check::check(&store, &work, &asked, Race::Nothing).await?;
        store.end().await?;
        row.durability = "synced before the answer".to_owned();
        row.skew = Skew::Spread.name().to_owned();
        row.in_flight = IN_FLIGHT;
        (row.hash, row.faults) = (found.hash, found.faults);
        let taken = was_taken(dir, folder.path(), opened.durable)?;
        if taken != (every_bytes == SOON) {
            row.faults.push(format!("that a snapshot was taken meanwhile is {taken}"));
        }
        let row = row.and("live before", live as f64);
        rows.push(row.and("state grown, MiB", grown as f64 / MIB));
    }
    Ok(rows)
}

/// Whether a shard of the closed store in `data` has a snapshot of later than `opened`, besides the
/// one that the end has left.
fn was_taken(dir: &Path, data: &Path, opened: Position) -> Result<bool> {
    let scratch = tempfile::tempdir_in(dir)?;
    let mut later = BTreeMap::<(String, u16), u32>::new();
    for snapshot in inspect(data, scratch.path())?.snapshots {
        if snapshot.position > opened.0 {
            *later.entry((snapshot.machine, snapshot.shard)).or_default() += 1;
        }
    }
    Ok(later.values().any(|snapshots| *snapshots > 1))
}

async fn open(data: &Path, every_bytes: u64) -> Result<Tidegate> {
    let builder = Tidegate::builder(data).snapshot_every_bytes(every_bytes);
    Ok(builder.events_retained_bytes(0).open().await?)
}
