//! What must hold after the last kill: messages and events as their groups have handled them,
//! orders and holds that somebody was told of, PostgreSQL row for row, and the audit.

use std::{fmt, ops::Add, path::Path};

use anyhow::{Context, anyhow, ensure};
use tidegate::Tidegate;
use tidegate_postgres_tests::{Database, Made, World, settled};

use super::{Told, follow, store, watch};
use crate::messages::check as messages;

/// What there was to compare.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    messages: u64,
    dead: u64,
    events: u64,
    orders: u64,
    rows: u64,
    /// Records of the journal when everything was killed for the last time, and how many of them
    /// PostgreSQL lacked.
    records: u64,
    lacked: u64,
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            messages: self.messages + other.messages,
            dead: self.dead + other.dead,
            events: self.events + other.events,
            orders: self.orders + other.orders,
            rows: self.rows + other.rows,
            records: self.records + other.records,
            lacked: self.lacked + other.lacked,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, dead, events, orders, rows, records, lacked } = self;
        write!(
            f,
            "{messages} messages and {events} events, each handled by both of its groups, {dead} \
             dead letters replayed; {orders} orders told of; {rows} rows in PostgreSQL, which \
             lacked {lacked} of {records} records before it caught up"
        )
    }
}

/// Starts all, lets it catch up, and compares. `reloads`: PostgreSQL was written anew at times.
pub(super) fn check(
    folder: &Path,
    told: &Told,
    database: &Database,
    reloads: bool,
) -> anyhow::Result<Counts> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let counts = runtime.block_on(compare(folder, told, database, reloads))?;
    // Whatever still has the store must let go of it.
    drop(runtime);
    let report = tidegate::audit(folder)?;
    ensure!(report.ok, "the audit: {:?}", report.checks);
    Ok(counts)
}

async fn compare(
    folder: &Path,
    told: &Told,
    database: &Database,
    reloads: bool,
) -> anyhow::Result<Counts> {
    let gate = store(folder).open().await?;
    let records = gate.events().durable().0;
    let lacked = records - database.position().await.unwrap_or(0);
    let worker = follow(&database.url())?;
    let figures = worker.figures();
    let running = tokio::spawn(worker.run(gate.clone()));
    let (found, events) =
        tokio::try_join!(messages::compare(&gate, &told.numbers), watch::compare(&gate))?;
    equal(&gate, told, database, !reloads).await?;
    ensure!(reloads || figures.report().loads == 0, "it was loaded without need");
    let rows = rows(database).await?;
    gate.close().await?;
    running.await?.context("the worker for PostgreSQL")?;
    // For the next store.
    database.client().await.batch_execute("drop schema tidegate cascade").await?;
    Ok(Counts {
        messages: found.published,
        dead: found.dead,
        events,
        orders: told.orders.len() as u64,
        rows,
        records,
        lacked,
    })
}

/// All that anybody was told of is there, and PostgreSQL says the same as the store.
async fn equal(
    gate: &Tidegate,
    told: &Told,
    database: &Database,
    all_movements: bool,
) -> anyhow::Result<()> {
    let world = World {
        orders: told.orders.iter().copied().collect(),
        holds: told.holds.iter().copied().collect(),
        ..Made::default().world()
    };
    settled(database, gate, &world, all_movements).await.map_err(|different| anyhow!(different))
}

async fn rows(database: &Database) -> anyhow::Result<u64> {
    let tables = ["orders", "order_lines", "payments", "skus", "stock", "holds", "movements"];
    let counts = tables.map(|table| format!("(select count(*) from tidegate.{table})"));
    let sum = format!("select {}", counts.join(" + "));
    let rows: i64 = database.client().await.query_one(&sum, &[]).await?.get(0);
    Ok(rows.unsigned_abs())
}
