//! More than the store can do: first what it can, in closed loops, then an open loop that asks for
//! twice as much and does not wait for answers. What is over the builder's bound of commands in
//! flight is `Overloaded`; it is not asked again. All of it is in process. How late an order was
//! asked for is not timed.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread::available_parallelism,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use futures_util::{StreamExt, stream::FuturesUnordered};
use quanta::{Clock, Instant};
use tidegate::{AskError, Tidegate};
use tokio::{
    runtime::Handle,
    task::{JoinSet, unconstrained, yield_now},
    time::sleep,
};

use crate::{
    check::{self, Race},
    contender::Contender,
    load::{Answer, Asked, Until, drive},
    peers::tidegate::{InProcess, asked, left, outcome},
    row::Row,
    server::memory_here,
    work::{Mix, Order, Outcome, Skew, Work, hashed},
};

const SKUS: usize = 1_000;
const CLOSED: [u64; 2] = [1_024, 8_192];

/// How much more than the best of the closed loops is asked for.
const TIMES: f64 = 2.0;

/// Threads that ask, for each core: with fewer than the store has, the system would give the store
/// the more of the processors, and not so much would be asked.
const ASKING_EACH: u64 = 2;
/// Orders that each sends before it looks at answers.
const SENT_AT_ONCE: u64 = 256;
/// The builder's default, for each shard of orders.
const IN_FLIGHT_MAX: u64 = 16_384;
const ORDERS: &str = "orders";
const TICK: Duration = Duration::from_millis(1);
const LOOK_AT_MEMORY: Duration = Duration::from_millis(50);
const MIB: f64 = 1_048_576.0;

/// Rows: the closed loops, and the open one.
pub(crate) async fn run(dir: &Path, seconds: f64, seed: u64) -> Result<Vec<Row>> {
    let work = Arc::new(Work::ample(seed, Mix::plain(Skew::Spread, SKUS)));
    let mut rows = Vec::new();
    for in_flight in CLOSED {
        rows.push(closed(dir, &work, in_flight, seconds).await?);
    }
    let peak = rows.iter().map(|row| row.good_per_second).fold(0.0, f64::max);
    let open = Open { dir: dir.to_owned(), peak, seconds, seed };
    rows.push(tokio::task::spawn_blocking(move || open.elsewhere()).await??);
    Ok(rows)
}

/// The open loop, in a process of its own: memory that was free before would hide what it takes.
#[derive(Args)]
pub(crate) struct Open {
    dir: PathBuf,
    peak: f64,
    seconds: f64,
    seed: u64,
}

impl Open {
    fn elsewhere(&self) -> Result<Row> {
        let mut command = Command::new(env::current_exe()?);
        command.arg("open-loop").arg(&self.dir);
        command.args([self.peak, self.seconds].map(|figure| figure.to_string()));
        let output = command.arg(self.seed.to_string()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the open loop has failed:\n{said}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Prints its row as JSON.
    pub(crate) async fn run(&self) -> Result<()> {
        let work = Work::ample(self.seed, Mix::plain(Skew::Spread, SKUS));
        let row = open(&self.dir, &Arc::new(work), self.peak, self.seconds).await?;
        println!("{}", serde_json::to_string(&row)?);
        Ok(())
    }
}

async fn closed(dir: &Path, work: &Arc<Work>, in_flight: u64, seconds: f64) -> Result<Row> {
    let folder = tempfile::tempdir_in(dir)?;
    let store: Arc<dyn Contender> =
        Arc::new(InProcess::start(folder.path(), work.goods(), None).await?);
    let asked = drive(&store, work, in_flight, Until::seconds(seconds / 4.0, seconds)).await?;
    let found = check::check(&store, work, &asked, Race::Nothing).await?;
    store.end().await?;
    let good = |outcome: &Outcome| matches!(outcome, Outcome::Accepted(_));
    let mut row = Row::of("overload", "closed loop", "order").with_load(&asked, good)?;
    row.in_flight = in_flight;
    (row.hash, row.faults) = (found.hash, found.faults);
    Ok(labelled(row))
}

fn labelled(mut row: Row) -> Row {
    row.durability = "synced before the answer".to_owned();
    row.skew = Skew::Spread.name().to_owned();
    row
}

async fn open(dir: &Path, work: &Arc<Work>, peak: f64, seconds: f64) -> Result<Row> {
    let folder = tempfile::tempdir_in(dir)?;
    let gate = InProcess::start(folder.path(), work.goods(), None).await?.gate;
    // Time to fill up to the bound.
    let (clock, warm_up) = (Clock::new(), seconds / 2.0);
    let asking = available_parallelism()?.get() as u64 * ASKING_EACH;
    let plan = Plan {
        from: Duration::from_secs_f64(warm_up),
        to: Duration::from_secs_f64(warm_up + seconds),
        per_second: peak * TIMES / asking as f64,
        asking,
        start: clock.now(),
        clock,
    };
    let before = memory_here()?;
    let mut threads = JoinSet::new();
    for number in 0..asking {
        let asking = ask(gate.clone(), Arc::clone(work), plan.clone(), number);
        threads.spawn_blocking(|| Handle::current().block_on(asking));
    }
    let (mut most, mut answers, mut sent) = (before, Vec::new(), 0.0);
    let mut look = tokio::time::interval(LOOK_AT_MEMORY);
    loop {
        tokio::select! {
            done = threads.join_next() => {
                let Some(done) = done else { break };
                let mut done = done??;
                sent += done.len() as f64;
                answers.append(&mut done);
            }
            _ = look.tick() => most = most.max(memory_here()?),
        }
    }
    let asked = Asked { answers, from: plan.from, to: plan.to };
    let accepted = |answer: &Answer<bool>| answer.outcome;
    let taken: Vec<Order> =
        asked.answers.iter().filter(|a| accepted(a)).map(|a| work.order(a.n)).collect();
    let left = left(&gate, work.stock().len()).await?;
    let shards = gate.report().shards;
    let order_shards = shards.iter().filter(|shard| shard.name == ORDERS).count() as u64;
    gate.close().await?;
    let mut row = Row::of("overload", "open loop", "order").with_load(&asked, |taken| *taken)?;
    row.faults = check::stock_adds_up(work.stock(), taken.iter(), &left);
    row.hash = format!("{:016x}", hashed(&left));
    row.in_flight = order_shards * IN_FLIGHT_MAX;
    // What the answers take here is no memory of the store.
    let ours = asked.answers.len() * size_of::<Answer<bool>>();
    let more = (most - before).saturating_sub(ours as u64) as f64;
    let all = row.good_per_second + row.refused_per_second;
    let share = row.refused_per_second / all.max(1.0);
    let of_peak = row.good_per_second / peak;
    let per_second = sent / (warm_up + seconds);
    let row = row.and("of the peak", of_peak).and("asked/s", per_second);
    let row = row.and("asked, of the peak", per_second / peak);
    let row = row.and("overloaded share", share).and("RSS grown, MiB", more / MIB);
    Ok(labelled(row.and("RSS bytes an accepted", more / (taken.len().max(1) as f64))))
}

/// When is asked, and how often.
#[derive(Clone)]
struct Plan {
    clock: Clock,
    start: Instant,
    /// Answers are timed from then on…
    from: Duration,
    /// …and nothing is asked after this.
    to: Duration,
    /// For each that asks…
    per_second: f64,
    /// …and how many these are.
    asking: u64,
}

/// Asks as often as `plan` says, whatever the answers. Who is late catches up.
async fn ask(
    gate: Tidegate,
    work: Arc<Work>,
    plan: Plan,
    number: u64,
) -> Result<Vec<Answer<bool>>> {
    let since = |plan: &Plan| plan.clock.now().saturating_duration_since(plan.start);
    let most = plan.per_second * plan.to.as_secs_f64();
    let mut answers = Vec::with_capacity(most as usize);
    let (mut waiting, mut sent) = (FuturesUnordered::new(), 0);
    while since(&plan) < plan.to {
        let due = (since(&plan).as_secs_f64() * plan.per_second) as u64;
        for _ in 0..(due - sent).min(SENT_AT_ONCE) {
            waiting.push(place(&gate, &work, &plan, sent * plan.asking + number));
            sent += 1;
        }
        // Even the shortest sleep takes a millisecond or two: too long for who is late.
        let late = sent < due;
        let tick = async move { if late { yield_now().await } else { sleep(TICK).await } };
        tokio::pin!(tick);
        loop {
            // Answers first: a tick that is over is noticed when there are none.
            tokio::select! {
                biased;
                Some(answer) = unconstrained(waiting.next()) => answers.push(answer?),
                () = &mut tick => break,
            }
        }
    }
    while let Some(answer) = waiting.next().await {
        answers.push(answer?);
    }
    Ok(answers)
}

/// Whether the `n`-th order was taken.
async fn place(gate: &Tidegate, work: &Work, plan: &Plan, n: u64) -> Result<Answer<bool>> {
    let (new, key) = asked(&work.order(n));
    let begun = plan.clock.now();
    let placed = gate.orders().place(new, &key).await;
    let done = plan.clock.now();
    let outcome = match placed {
        Err(AskError::Overloaded { .. }) => false,
        placed => match outcome(placed).with_context(|| format!("number {n}"))? {
            Outcome::Accepted(_) => true,
            other => bail!("number {n}: {other:?}"),
        },
    };
    let (at, waited) = (done - plan.start, done - begun);
    Ok(Answer::new(n, outcome, at, waited))
}
