//! What snapshots cost those who order meanwhile: the same load with none, and with one after every
//! few megabytes of journal. A shard stops while its machine is cloned; the tail shows it.

use std::{path::Path, sync::Arc};

use anyhow::Result;

use crate::{
    check::{self, Race},
    contender::Contender,
    load::{Until, drive},
    peers::tidegate::InProcess,
    row::Row,
    work::{Mix, Outcome, Skew, Work},
};

const SKUS: usize = 1_000;
const IN_FLIGHT: u64 = 64;
const FILL_IN_FLIGHT: u64 = 1_024;
const NEVER: u64 = u64::MAX;
const OFTEN: u64 = 16 << 20;

/// Two rows: orders for `seconds`, beside `live` live ones, without snapshots and with many.
pub(crate) async fn run(dir: &Path, seconds: f64, seed: u64, live: u64) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (who, every_bytes) in [("orders, no snapshot", NEVER), ("orders, one every 16 MiB", OFTEN)]
    {
        let folder = tempfile::tempdir_in(dir)?;
        let work = Arc::new(Work::ample(seed, Mix::plain(Skew::Spread, SKUS)));
        let store = InProcess::start(folder.path(), work.goods(), Some(every_bytes)).await?;
        let store: Arc<dyn Contender> = Arc::new(store);
        let before = drive(&store, &work, FILL_IN_FLIGHT, Until::numbers(live)).await?;
        let until = Until::seconds(seconds / 4.0, seconds).from(live);
        let mut asked = drive(&store, &work, IN_FLIGHT, until).await?;
        let good = |outcome: &Outcome| matches!(outcome, Outcome::Accepted(_));
        let mut row = Row::of("snapshots", who, "order").with_load(&asked, good)?;
        asked.answers.extend(before.answers);
        let found = check::check(&store, &work, &asked, Race::Nothing).await?;
        store.end().await?;
        row.durability = "synced before the answer".to_owned();
        row.skew = Skew::Spread.name().to_owned();
        row.in_flight = IN_FLIGHT;
        (row.hash, row.faults) = (found.hash, found.faults);
        rows.push(row.and("live before", live as f64));
    }
    Ok(rows)
}
