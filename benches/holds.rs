//! Holds without an order, placed and then confirmed, many at a time, all of one hot item: the two
//! phases that TigerBeetle has as a pending transfer and its post. Nobody ships anything.

use std::{ops::Range, path::Path, sync::Arc};

use anyhow::{Result, ensure};
use tidegate::NewHold;

use crate::{
    contender::{Entry, Waiting},
    load::{Asked, Until, ask_in_blocks},
    peers::{tidegate::InProcess, tigerbeetle},
    row::Row,
    work::{Goods, hashed, sku_name},
};

/// How many are held, and then confirmed, together, and by how many callers. A request to
/// TigerBeetle takes 8,189 at most.
const LOADS: [(u64, u64); 4] = [(1, 64), (64, 16), (1_024, 4), (8_000, 2)];

const UNITS: u64 = 1_000_000_000;
const HOLD_MS: u64 = 15 * 60 * 1_000;
/// Who buy it.
pub(crate) const USERS: u64 = 1_000_000;

/// Who holds single units of one item.
pub(crate) trait Holder: Send + Sync {
    /// Holds a unit for each of `numbers` together, and then confirms all of these together.
    fn pairs(&self, numbers: Range<u64>) -> Waiting<'_, ()>;

    /// Units held, and units confirmed.
    fn units(&self) -> Waiting<'_, (u64, u64)>;

    /// Ends in order.
    fn end(&self) -> Waiting<'_, ()>;
}

/// A row for each of [`LOADS`], for Tidegate and, if it is there, for TigerBeetle.
pub(crate) async fn run(dir: &Path, seconds: f64) -> Result<Vec<Row>> {
    let mut entries = vec![Entry::Tidegate];
    match Entry::TigerBeetle.version() {
        Ok(_) => entries.push(Entry::TigerBeetle),
        Err(why) => println!("tigerbeetle is left out: {why:#}"),
    }
    let mut rows = Vec::new();
    for (at_once, callers) in LOADS {
        for entry in &entries {
            rows.push(round(*entry, dir, seconds, (at_once, callers)).await?);
        }
    }
    Ok(rows)
}

async fn round(
    entry: Entry,
    dir: &Path,
    seconds: f64,
    (at_once, callers): (u64, u64),
) -> Result<Row> {
    let folder = tempfile::tempdir_in(dir)?;
    let goods = Goods::ample(&[UNITS]);
    let holder: Arc<dyn Holder> = match entry {
        Entry::TigerBeetle => tigerbeetle::holder(folder.path(), goods).await?,
        _ => Arc::new(InProcess::start(folder.path(), goods, None).await?),
    };
    let of = Arc::clone(&holder);
    let ask = move |numbers: Range<u64>| {
        let holder = Arc::clone(&of);
        async move {
            let answers = numbers.clone().map(|_| ()).collect();
            holder.pairs(numbers).await?;
            Ok(answers)
        }
    };
    let until = Until::seconds(seconds / 4.0, seconds);
    let asked: Asked<()> = ask_in_blocks(callers, at_once, until, ask).await?;
    let who = format!("{}, {at_once} together", entry.name());
    let mut row = Row::of("holds", &who, "pair").with_load(&asked, |()| true)?;
    row.durability = entry.durability().to_owned();
    row.skew = "hot".to_owned();
    row.in_flight = at_once * callers;
    let (held, confirmed) = holder.units().await?;
    let pairs = asked.answers.len() as u64;
    if (held, confirmed) != (0, pairs) {
        row.faults.push(format!("{pairs} pairs: {held} are held, {confirmed} are confirmed"));
    }
    row.hash = format!("{:016x}", hashed(&[held, confirmed]));
    holder.end().await?;
    Ok(row)
}

impl Holder for InProcess {
    fn pairs(&self, numbers: Range<u64>) -> Waiting<'_, ()> {
        Box::pin(async {
            let hold = |n: u64| {
                let user = format!("user-{}", hashed(&[n]) % USERS);
                (NewHold::new(user, sku_name(0), 1, HOLD_MS), format!("hold-{n}"))
            };
            let held = self.gate.stock().hold_many(numbers.map(hold)).await;
            let ids = held.into_iter().map(|held| held.map(|hold| hold.id));
            let ids: Vec<_> = ids.collect::<Result<_, _>>()?;
            let count = ids.len();
            let confirmed = self.gate.stock().confirm_many(ids).await;
            let confirmed: Vec<_> = confirmed.into_iter().collect::<Result<_, _>>()?;
            ensure!(confirmed.len() == count, "{} of {count} are confirmed", confirmed.len());
            Ok(())
        })
    }

    fn units(&self) -> Waiting<'_, (u64, u64)> {
        Box::pin(async {
            let all = self.gate.stock().get(&sku_name(0)).await?.total;
            Ok((all.held, all.allocated))
        })
    }

    fn end(&self) -> Waiting<'_, ()> {
        Box::pin(async { Ok(self.gate.close().await?) })
    }
}
