//! `everything`: a process that sells, publishes, consumes and writes to PostgreSQL is killed again
//! and again, and so is PostgreSQL, each when its own time has come. In the end every group must
//! have had every message and every event, what followed must have followed once, and PostgreSQL
//! must be what the journal comes to, row for row. Power loss is another tool's matter.

mod check;
mod meddler;
mod watch;
mod work;

use std::{
    collections::BTreeSet,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use clap::Args;
use tidegate::{Builder, HoldId, OrderId, Tidegate, postgres};
use tidegate_postgres_tests::Database;

pub(crate) use self::work::{Arguments as WorkArguments, run as work};
use self::{
    check::Counts,
    meddler::{Meddled, Meddler},
};
use crate::{
    Verdict,
    ground::Ground,
    messages::{self, cut_short},
    random::Random,
    sale::life::ourselves,
};

/// Kills of a store after which all is compared and another one begun.
const KILLS_PER_STORE: u64 = 20;

/// How many rounds, and with what luck.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Kills of the store; PostgreSQL is killed meanwhile as often as its time comes.
    #[arg(long, default_value_t = 100)]
    rounds: u64,
    #[command(flatten)]
    ground: Ground,
}

/// Small files, so that all that happens to them happens often. The journal is kept whole: all
/// movements are compared, and a worker for PostgreSQL needs to load nothing unless it is told to.
fn store(folder: &Path) -> Builder {
    Tidegate::builder(folder)
        .segment_bytes(1 << 20)
        .snapshot_every_bytes(256 << 10)
        .events_retained_bytes(1 << 40)
        .stock_shards(3)
        .order_shards(2)
        .arbiters(2)
}

/// Small batches, so that there are many places to be killed at.
fn follow(url: &str) -> anyhow::Result<postgres::Worker> {
    let options = postgres::Options::new(url)?.batch_events_max(64).batch_ms_max(5);
    Ok(postgres::Worker::new(options))
}

/// What the processes of one store have said.
#[derive(Default)]
struct Told {
    numbers: messages::Told,
    orders: BTreeSet<OrderId>,
    holds: BTreeSet<HoldId>,
}

impl Told {
    fn note(&mut self, line: &str) -> anyhow::Result<()> {
        match line.split_once(' ') {
            None => self.numbers.note(line.parse()?),
            Some(("order", id)) => drop(self.orders.insert(id.parse().context("an order")?)),
            Some(("hold", id)) => drop(self.holds.insert(id.parse().context("a hold")?)),
            Some(_) => return Err(anyhow!("a process said {line:?}")),
        }
        Ok(())
    }
}

/// Kills as often as asked. Prints how to repeat a run that broke a promise, and keeps its store.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let seed = arguments.ground.seed();
    let place = arguments.ground.place()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let Some(mut database) = runtime.block_on(Database::start()) else {
        println!("everything: skipped: it needs PostgreSQL");
        return Ok(Verdict::Held);
    };
    let rounds = arguments.rounds;
    println!("everything: {rounds} kills of the store, seed {seed}");
    let (began, mut done, mut stores) = (Instant::now(), 0, 0);
    let (mut counts, mut meddled) = (Counts::default(), Meddled::default());
    while done < rounds {
        let store = place.path().join(format!("store-{stores}"));
        let kills = KILLS_PER_STORE.min(rounds - done);
        let luck = Random::part(seed, stores);
        // Whatever it is that fails: the seed must be told.
        let one = thread::scope(|scope| {
            let one = || one_store(&store, database, kills, luck);
            scope.spawn(one).join().map_err(|_| anyhow!("something panicked, see above"))
        });
        done += kills;
        match one.flatten() {
            Ok(found) => {
                (database, counts) = (found.database, counts + found.counts);
                meddled = meddled + found.meddled;
            }
            Err(error) => {
                let kept = place.keep();
                println!("everything: BROKEN after {done} kills: {error:#}");
                println!("everything: the store is in {}", kept.display());
                println!("everything: to repeat: just everything --rounds {rounds} --seed {seed}");
                return Ok(Verdict::Broken);
            }
        }
        std::fs::remove_dir_all(store)?;
        stores += 1;
    }
    println!(
        "everything: {stores} stores killed {done} times, {:.0} s",
        began.elapsed().as_secs_f64()
    );
    println!("everything: {meddled}");
    println!("everything: {counts}");
    println!("everything: held: each group had each, effects happened once, PostgreSQL is equal");
    Ok(Verdict::Held)
}

/// What came of one store.
struct Found {
    database: Database,
    counts: Counts,
    meddled: Meddled,
}

/// Kills a store and the database so many times, independently, and compares.
fn one_store(
    store: &Path,
    database: Database,
    kills: u64,
    mut random: Random,
) -> anyhow::Result<Found> {
    let (url, mut told) = (database.url(), Told::default());
    // Every other time it is told to write everything anew, and killed over that, too.
    let reloads = random.percent(50);
    let meddler = Meddler::start(database, Random::new(random.number()), reloads);
    let mut kill = || {
        let mut command = ourselves();
        command.arg("everything-work").arg(store).args(["--postgres", &url]);
        command.args(["--from", &told.numbers.argument()]);
        command.args(["--seed", &random.number().to_string()]);
        // Some die while they open their store, most while they work.
        let wait = Duration::from_millis(random.between(1, 1_500));
        cut_short(command, wait)?.iter().try_for_each(|line| told.note(line))
    };
    let killed = (0..kills).try_for_each(|_| kill());
    // Whatever went wrong: nobody is left to start the database again.
    let (database, meddled) = meddler.end()?;
    killed?;
    let counts = check::check(store, &told, &database, reloads)?;
    Ok(Found { database, counts, meddled })
}
