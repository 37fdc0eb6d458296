//! Opening a store again: after a crash, where all is applied again from the journal, and after an
//! orderly end, where snapshots are loaded. The crash is a store that is dropped with all in flight
//! answered: the journal is as a kill would leave it, and no snapshot is taken, but the state is
//! closed in order. No file leaves the page cache.

use std::{path::Path, sync::Arc, time::Instant};

use anyhow::Result;

use crate::{
    check::{self, Race},
    contender::Contender,
    load::{Until, drive},
    peers::tidegate::InProcess,
    row::{Row, Waited},
    work::{Mix, Skew, Work},
};

const IN_FLIGHT: u64 = 1_024;
/// No snapshot is taken before the crash: each event is applied again.
const NEVER: Option<u64> = Some(u64::MAX);
/// Placed, held, answered.
const EVENTS_EACH: u64 = 3;

/// Two rows: openings of a store whose live orders have had about `events` events.
pub(crate) async fn run(dir: &Path, events: u64, seed: u64) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let folder = tempfile::tempdir_in(dir)?;
    let work = Arc::new(Work::ample(seed, Mix::plain(Skew::Zipf, 1)));
    let store = InProcess::start(folder.path(), work.goods(), NEVER).await?;
    let gate = store.gate.clone();
    let store: Arc<dyn Contender> = Arc::new(store);
    let until = Until::numbers((events / EVENTS_EACH).max(1));
    let asked = drive(&store, &work, IN_FLIGHT, until).await?;
    let events = gate.report().journal.records as f64;
    drop((store, gate));
    for who in ["opening after a crash", "opening after an orderly end"] {
        let start = Instant::now();
        let store = InProcess::open(folder.path(), NEVER).await?;
        let took = start.elapsed();
        let store: Arc<dyn Contender> = Arc::new(store);
        let found = check::check(&store, &work, &asked, Race::Nothing).await?;
        store.end().await?;
        let mut row = Row::of("recovery", who, "event");
        row.durability = "synced".to_owned();
        row.skew = Skew::Zipf.name().to_owned();
        row.good_per_second = events / took.as_secs_f64();
        row.waited = Waited::of([took.as_nanos() as u64])?;
        (row.hash, row.faults) = (found.hash, found.faults);
        let row = row.and("events", events);
        rows.push(row.and("s a million", took.as_secs_f64() * 1e6 / events));
    }
    Ok(rows)
}
