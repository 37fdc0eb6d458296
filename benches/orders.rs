//! Whole orders, the same for all who take part: proofs first, then timed rounds, one contender
//! after the other in each round, so that a slow minute of the machine is everybody's.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::Result;

use crate::{
    check::{self, Race},
    contender::{Contender, Entry},
    load::{Until, drive},
    row::{Results, Row},
    work::{Mix, Outcome, Skew, Work},
};

/// What is run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) entries: Vec<Entry>,
    pub(crate) in_flight: Vec<u64>,
    pub(crate) skews: Vec<Skew>,
    pub(crate) until: Until,
    pub(crate) rounds: usize,
    pub(crate) seed: u64,
    /// Shares of repeats and refusals, and how many SKUs; its skew is not looked at.
    pub(crate) mix: Mix,
}

/// Runs `plan` with data in `dir`, and adds a row for each cell. Who fails is a fault in its row,
/// and stops nobody else.
pub(crate) async fn run(plan: &Plan, dir: &Path, results: &mut Results) {
    let entries = present(&plan.entries, results);
    println!("orders: seed {}", plan.seed);
    let mut proven = Vec::new();
    for entry in entries {
        let mut row = Row::of("proof", entry.name(), "order");
        match check::prove(entry, dir, plan.seed).await {
            Ok(found) => {
                (row.hash, row.faults) = (found.hash, found.faults);
                proven.push(entry);
            }
            // Who can't be asked a few orders is not asked many.
            Err(error) => row = Row::failed("proof", entry.name(), &error),
        }
        row.durability = entry.durability().to_owned();
        let verdict = row.faults.first().map_or("right", |fault| fault);
        println!("  {:<17} proof {} {verdict}", entry.name(), row.hash);
        results.rows.push(row);
    }
    for skew in &plan.skews {
        for in_flight in &plan.in_flight {
            cell(plan, &proven, *skew, *in_flight, dir, results).await;
        }
    }
}

/// Those of `entries` that can take part here; says why others can't.
fn present(entries: &[Entry], results: &mut Results) -> Vec<Entry> {
    let mut present = Vec::new();
    for entry in entries {
        match entry.version() {
            Ok(version) => {
                let settings = format!("{version}; {}", entry.settings());
                results.settings.insert(entry.name().to_owned(), settings);
                present.push(*entry);
            }
            Err(why) => println!("{} is left out: {why:#}", entry.name()),
        }
    }
    present
}

/// All rounds of all entries with one skew and one number of callers.
async fn cell(
    plan: &Plan,
    entries: &[Entry],
    skew: Skew,
    in_flight: u64,
    dir: &Path,
    results: &mut Results,
) {
    let able = entries.iter().copied().filter(|entry| in_flight <= entry.in_flight_max());
    let entries: &[Entry] = &able.collect::<Vec<_>>();
    let mut rounds: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
    for number in 0..plan.rounds {
        // Who is first changes, so that it helps or hurts nobody.
        let (late, early) = entries.split_at(number % entries.len().max(1));
        for entry in early.iter().chain(late) {
            let row = round(plan, *entry, skew, in_flight, dir).await;
            let row = row.unwrap_or_else(|error| {
                let mut row = Row::failed("orders", entry.name(), &error);
                (row.skew, row.in_flight) = (skew.name().to_owned(), in_flight);
                row
            });
            println!(
                "  {} {in_flight} in flight, round {}: {} {:.0} orders/s {}",
                skew.name(),
                number + 1,
                entry.name(),
                row.good_per_second,
                row.faults.first().map_or("", |fault| fault)
            );
            rounds.entry(entry.name()).or_default().push(row);
        }
    }
    let rows = entries.iter().filter_map(|entry| Row::median(rounds.get(entry.name())?));
    results.rows.extend(rows);
}

/// One contender, started afresh.
async fn round(plan: &Plan, entry: Entry, skew: Skew, in_flight: u64, dir: &Path) -> Result<Row> {
    let work = Work::ample(plan.seed, Mix { skew, ..plan.mix });
    let (work, folder) = (Arc::new(work), tempfile::tempdir_in(dir)?);
    let contender: Arc<dyn Contender> = entry.start(folder.path(), work.goods(), in_flight).await?;
    let before = contender.logged();
    let asked = drive(&contender, &work, in_flight, plan.until).await?;
    let after = contender.logged();
    let found = check::check(&contender, &work, &asked, Race::Nothing).await?;
    contender.end().await?;
    let good = |outcome: &Outcome| matches!(outcome, Outcome::Accepted(_));
    let mut row = Row::of("orders", entry.name(), "order").with_load(&asked, good)?;
    // A sync carries new orders; a repeat is only looked up.
    let fresh = |n| work.order(n).key == n;
    let fresh = asked.answers.iter().filter(|answer| good(&answer.outcome) && fresh(answer.n));
    let fresh = fresh.count() as f64;
    if let (Some(before), Some(after)) = (before, after) {
        row.batch = Some(fresh / (after.syncs - before.syncs).max(1) as f64);
        let bytes = after.bytes.zip(before.bytes).map(|(after, before)| after - before);
        row.bytes = bytes.map(|bytes| bytes as f64 / fresh.max(1.0));
    }
    row.durability = entry.durability().to_owned();
    row.skew = skew.name().to_owned();
    row.in_flight = in_flight;
    (row.hash, row.faults) = (found.hash, found.faults);
    Ok(row)
}
