//! `surge`: for a while ten times as many orders arrive as the intake releases. All of them must be
//! acknowledged, worked off no faster than the rate, and end paid, with memory bounded. It writes
//! the depth of the queue over time as CSV and as a picture, and measures no speed.

mod picture;
mod till;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::Args;
use tidegate::{Adjustment, AskError, Intake, NewOrder, QueueCounts, SkuPatch, Tidegate};
use tokio::task::JoinSet;

use self::till::Till;
use crate::Verdict;

/// How often it is looked, and how often the next orders are sent.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const SEND_EVERY: Duration = Duration::from_millis(10);

/// Seconds at half the rate before the surge.
const CALM_S: u64 = 5;

/// A queue that is never empty again after so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much, and where to.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// How long the surge lasts.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Orders that the intake releases in a second.
    #[arg(long, default_value_t = 500)]
    rate: u64,
    /// How many times as many arrive.
    #[arg(long, default_value_t = 10)]
    factor: u64,
    /// Where to write what was seen; not written unless given.
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Where to draw it.
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// One look at the store.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// Since the calm has begun, in milliseconds.
    at_ms: u64,
    acknowledged: u64,
    paid: u64,
    queue: QueueCounts,
    memory_mib: f64,
}

/// Lets a surge come over a store in a temporary folder, and says what became of it.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let looks = runtime.block_on(surge(arguments, folder.path()))?;
    drop(runtime);
    let audit = tidegate::audit(folder.path())?;
    ensure!(audit.ok, "{:?}", audit.checks);
    if let Some(path) = &arguments.csv {
        fs::write(path, csv(&looks)).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &arguments.svg {
        let title = format!(
            "{} orders a second for {} s into an intake of {} a second",
            arguments.rate * arguments.factor,
            arguments.seconds,
            arguments.rate
        );
        fs::write(path, picture::draw(&title, &looks))
            .with_context(|| path.display().to_string())?;
    }
    judge(arguments, &looks)
}

/// All that is asked of the store, with a look at it every now and then, until it has come to rest.
async fn surge(arguments: &Arguments, folder: &Path) -> anyhow::Result<Vec<Look>> {
    let Arguments { seconds, rate, factor, .. } = *arguments;
    let calm = CALM_S * rate / 2;
    let orders = calm + seconds * rate * factor;
    let deadline_ms = 24 * 60 * 60 * 1_000;
    let intake =
        Intake { orders_per_second: u32::try_from(rate)?, queued_max: 2 * orders, deadline_ms };
    let gate = Tidegate::builder(folder).intake(intake).open().await?;
    let price = SkuPatch { price_minor: Some(Some(100)), ..SkuPatch::default() };
    gate.stock().define("ticket", price).await?;
    let units = Adjustment::new("ticket", i64::try_from(orders)?, "all");
    gate.stock().adjust(units, "all").await?;
    let till = Till::open(&gate);
    let shop = Shop { gate: gate.clone(), acknowledged: Arc::default(), begun: Instant::now() };
    let watch = tokio::spawn(shop.clone().watch(till.paid(), orders));
    shop.send(0, calm, rate / 2).await?;
    shop.send(calm, orders, rate * factor).await?;
    println!("all are acknowledged after {:.1} s", shop.begun.elapsed().as_secs_f64());
    let looks = watch.await??;
    till.close().await?;
    let level = gate.stock().get("ticket").await?.total;
    ensure!(level.allocated == orders && level.held == 0, "{orders} were sold, not {level:?}");
    gate.close().await?;
    Ok(looks)
}

/// The store, and what it has acknowledged.
#[derive(Clone)]
struct Shop {
    gate: Tidegate,
    acknowledged: Arc<AtomicU64>,
    begun: Instant,
}

impl Shop {
    /// Sends the orders `from..to`, so many a second, and waits until all are acknowledged.
    async fn send(&self, from: u64, to: u64, per_second: u64) -> anyhow::Result<()> {
        let (begun, mut next) = (Instant::now(), from);
        let mut clock = tokio::time::interval(SEND_EVERY);
        let mut callers = JoinSet::new();
        while next < to {
            clock.tick().await;
            let due = begun.elapsed().as_millis() as u64 * per_second / 1_000;
            while next < to.min(from + due) {
                callers.spawn(self.clone().place(next));
                next += 1;
            }
            while let Some(placed) = callers.try_join_next() {
                placed??;
            }
        }
        while let Some(placed) = callers.join_next().await {
            placed??;
        }
        Ok(())
    }

    /// Places one order, however often it takes.
    async fn place(self, number: u64) -> anyhow::Result<()> {
        let (user, key) = (format!("u{number}"), format!("o{number}"));
        loop {
            let order = NewOrder::new(&user).line("ticket", 1).respond_async();
            match self.gate.orders().place(order, &key).await {
                Ok(_) => break,
                Err(AskError::Overloaded { .. } | AskError::Backlogged { .. }) => {
                    tokio::time::sleep(SEND_EVERY).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Looks until `orders` are paid.
    async fn watch(self, paid: Arc<AtomicU64>, orders: u64) -> anyhow::Result<Vec<Look>> {
        let mut clock = tokio::time::interval(LOOK_EVERY);
        let (mut looks, mut moved) = (Vec::new(), (0, Instant::now()));
        loop {
            clock.tick().await;
            let look = self.look(paid.load(Ordering::Relaxed))?;
            looks.push(look);
            let all = look.paid == orders && look.queue.waiting() == 0;
            if all && look.queue.queued == orders {
                return Ok(looks);
            }
            let sum = look.paid + look.acknowledged;
            moved = if sum > moved.0 { (sum, Instant::now()) } else { moved };
            ensure!(moved.1.elapsed() < PATIENCE, "nothing moves any more: {look:?}");
        }
    }

    fn look(&self, paid: u64) -> anyhow::Result<Look> {
        let at_ms = self.begun.elapsed().as_millis() as u64;
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        let mut queue = QueueCounts::default();
        for shard in self.gate.report().shards {
            queue.queued += shard.queue.queued;
            queue.released += shard.queue.released;
            queue.timed_out += shard.queue.timed_out;
            queue.cancelled += shard.queue.cancelled;
        }
        let status = fs::read_to_string("/proc/self/status")?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|text| text.trim().strip_suffix(" kB"));
        let kib: f64 = resident.context("its memory is not told")?.trim().parse()?;
        Ok(Look { at_ms, acknowledged, paid, queue, memory_mib: kib / 1_024.0 })
    }
}

/// Never faster than the rate, and everyone once.
fn judge(arguments: &Arguments, looks: &[Look]) -> anyhow::Result<Verdict> {
    let last = looks.last().context("nobody has looked")?;
    let depth = looks.iter().map(|look| look.queue.waiting()).max().unwrap_or(0);
    let memory = looks.iter().map(|look| look.memory_mib).fold(0.0, f64::max);
    let seconds = last.at_ms as f64 / 1_000.0;
    let full: Vec<_> = looks.iter().filter(|look| look.queue.waiting() > depth / 10).collect();
    let rate = full.first().zip(full.last()).map_or(0.0, |(first, last)| {
        let released = last.queue.released - first.queue.released;
        released as f64 * 1_000.0 / (last.at_ms - first.at_ms).max(1) as f64
    });
    println!(
        "{} acknowledged, {} released and {} paid within {seconds:.1} s; {rate:.1} released a \
         second while there was a queue, of {} allowed; at most {depth} waited, in {memory:.0} MiB",
        last.acknowledged, last.queue.released, last.paid, arguments.rate
    );
    // A full bucket at first, and what the clock has gone on between a release and the look at it.
    let allowed = |at_ms: u64| arguments.rate * (at_ms + 2_000) / 1_000;
    let faster = looks.iter().find(|look| look.queue.released > allowed(look.at_ms));
    if let Some(look) = faster {
        println!("that is more than the rate: {look:?}");
        return Ok(Verdict::Broken);
    }
    let once = last.queue.released == last.queue.queued && last.acknowledged == last.queue.queued;
    if !once {
        println!("not everyone was released once: {last:?}");
        return Ok(Verdict::Broken);
    }
    Ok(Verdict::Held)
}

fn csv(looks: &[Look]) -> String {
    let mut text = "seconds,acknowledged,released,waiting,paid,memory_mib\n".to_owned();
    for Look { at_ms, acknowledged, paid, queue, memory_mib } in looks {
        let (seconds, waiting) = (*at_ms as f64 / 1_000.0, queue.waiting());
        let released = queue.released;
        text +=
            &format!("{seconds:.1},{acknowledged},{released},{waiting},{paid},{memory_mib:.1}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_surge_is_acknowledged_worked_off_and_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let (csv, svg) = (folder.path().join("a.csv"), folder.path().join("a.svg"));
        let (seconds, rate, factor) = (1, 100, 3);
        let arguments =
            Arguments { seconds, rate, factor, csv: Some(csv.clone()), svg: Some(svg.clone()) };
        assert_eq!(run(&arguments).unwrap(), Verdict::Held);
        let text = fs::read_to_string(csv).unwrap();
        assert!(text.lines().count() > 5, "{text}");
        let last: Vec<_> = text.lines().last().unwrap().split(',').collect();
        assert_eq!(last[1..5], ["550", "550", "0", "550"]);
        let drawn = fs::read_to_string(svg).unwrap();
        assert!(drawn.starts_with("<svg") && drawn.trim_end().ends_with("</svg>"));
        assert_eq!(drawn.matches("<polyline").count(), 4);
    }
}
