//! `tidegate demo`: the main job in half a minute, told as a report. A real trading day, a hot
//! item, a real `kill -9` of a second process while it sells, and an audit.

use std::{
    io::{BufRead, BufReader, Cursor, Write},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, ensure};
use serde::Serialize;
use tidegate::{
    Adjustment, AskError, AuditReport, NewOrder, OrderId, OrderRejection, Refusal, SkuPatch,
    Tidegate,
};

use super::{
    DemoArguments, Verdict, audit, grouped,
    load::{Load, drive},
    print, print_json,
    progress::bar,
    replay,
    trace::{Trace, TraceSummary},
};

const DAY: &[u8] = include_bytes!("../../examples/data/orders-2017-02-04.csv.gz");
const DAY_NAME: &str = "2017-02-04";
const DAY_PERCENT: u32 = 80;
const DAY_IN_FLIGHT: u32 = 64;

const HOT: &str = "hot-ticket";
const HOT_PRICE_MINOR: u64 = 4_900;

/// Buyers at a time, and the share of all buyers who come then: one at a time takes its time.
const SURGES: [(u64, u64); 3] = [(1, 40), (64, 2), (1_024, 1)];

/// The second process is killed when it has told us of this many orders.
const ACKNOWLEDGED_BEFORE_KILL: usize = 5_000;
const KILLED_IN_FLIGHT: u64 = 256;

/// What the demo found.
#[derive(Serialize)]
struct Report {
    day: replay::Outcome,
    surges: Vec<Surge>,
    sale: Surge,
    crash: Crash,
    audit: AuditReport,
}

/// Many buyers of one item.
#[derive(Serialize)]
struct Surge {
    in_flight: u64,
    accepted: u64,
    refused: u64,
    orders_per_second: u64,
    p50_us: u64,
    p99_us: u64,
}

/// A killed process, and what its callers had been told.
#[derive(Serialize)]
struct Crash {
    acknowledged: usize,
    recovered_ms: u64,
    lost: usize,
    sold_twice: usize,
}

/// Runs the command.
pub(super) async fn run(arguments: DemoArguments) -> anyhow::Result<Verdict> {
    if let Some(data) = &arguments.sell_until_killed {
        return sell_until_killed(data).await;
    }
    let folder = tempfile::tempdir().context("can't make a temporary folder")?;
    let data = folder.path();

    let gate = replay::open(data).await?;
    let day = a_day(&gate).await?;
    let mut surges = Vec::new();
    for (in_flight, share) in SURGES {
        surges.push(surge(&gate, in_flight, (arguments.buyers / share).max(1)).await?);
    }
    let sale = flash_sale(&gate, arguments.buyers).await?;
    gate.close().await?;

    let crash = crash(data).await?;
    let audit = audit::of(data).await?;
    let report = Report { day, surges, sale, crash, audit };
    if arguments.json {
        print_json(&report)?;
    } else {
        print(&report.readable())?;
    }
    Ok(Verdict::of(report.good()))
}

fn trace() -> anyhow::Result<Trace> {
    let bytes = flate2::read::MultiGzDecoder::new(Cursor::new(DAY));
    Ok(Trace::read(Path::new(DAY_NAME), Box::new(bytes))?)
}

async fn a_day(gate: &Tidegate) -> anyhow::Result<replay::Outcome> {
    let summary = TraceSummary::of(trace()?, || {})?;
    replay::fill(gate, &summary, DAY_PERCENT).await?;
    let progress = bar(Some(summary.orders), "a trading day");
    let sold = replay::sell(gate, trace()?, DAY_IN_FLIGHT, progress.clone()).await?;
    progress.finish_and_clear();
    let (skipped_orders, skipped_lines) = (summary.skipped_orders, summary.skipped_lines);
    Ok(replay::Outcome { orders: summary.orders, skipped_orders, skipped_lines, ..sold })
}

/// A new item with `units` in stock.
async fn hot_item(gate: &Tidegate, sku: &str, units: u64) -> anyhow::Result<()> {
    let patch = SkuPatch::default().price_minor(HOT_PRICE_MINOR);
    gate.stock().define(sku, patch).await?;
    let arrival = Adjustment::new(sku, i64::try_from(units)?, "for the sale");
    gate.stock().adjust(arrival, "arrival").await?;
    Ok(())
}

/// Whether `order` was accepted; sold out is a good answer too.
async fn buy(gate: &Tidegate, order: NewOrder, key: &str) -> anyhow::Result<Option<OrderId>> {
    match gate.orders().place(order, key).await {
        Ok(receipt) => Ok(Some(receipt.id)),
        Err(AskError::Rejected(OrderRejection::Refused(Refusal::SoldOut { .. }))) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("buying with key {key}")),
    }
}

/// `buyers` of one item, `in_flight` at a time.
async fn buyers(gate: &Tidegate, sku: String, in_flight: u64, buyers: u64) -> anyhow::Result<Load> {
    let progress = bar(Some(buyers), "buyers of a hot item");
    let gate = gate.clone();
    let load = drive(buyers, in_flight, &progress, move |number| {
        let (gate, sku) = (gate.clone(), sku.clone());
        async move {
            let order = NewOrder::new(format!("buyer-{number}")).line(sku.as_str(), 1);
            Ok(buy(&gate, order, &format!("{sku}-{number}")).await?.is_some())
        }
    });
    let load = load.await;
    progress.finish_and_clear();
    load
}

/// There is one for everybody: what it costs to sell.
async fn surge(gate: &Tidegate, in_flight: u64, count: u64) -> anyhow::Result<Surge> {
    let sku = format!("{HOT}-{in_flight}");
    hot_item(gate, &sku, count).await?;
    Ok(Surge::of(in_flight, &buyers(gate, sku, in_flight, count).await?))
}

/// There is one for every fourth buyer.
async fn flash_sale(gate: &Tidegate, count: u64) -> anyhow::Result<Surge> {
    let in_flight = SURGES[SURGES.len() - 1].0;
    hot_item(gate, HOT, count.div_ceil(4)).await?;
    let surge = Surge::of(in_flight, &buyers(gate, HOT.to_owned(), in_flight, count).await?);
    ensure!(surge.accepted == count.div_ceil(4), "{} units sold", surge.accepted);
    Ok(surge)
}

/// The second process: sells, tells of each acknowledged order, and never ends by itself.
async fn sell_until_killed(data: &Path) -> anyhow::Result<Verdict> {
    let gate = replay::open(data).await?;
    hot_item(&gate, "until-killed", 1_000_000_000).await?;
    let progress = indicatif::ProgressBar::hidden();
    let ask = move |number: u64| {
        let gate = gate.clone();
        async move {
            let order = NewOrder::new(format!("buyer-{number}")).line("until-killed", 1);
            if let Some(id) = buy(&gate, order, &format!("until-killed-{number}")).await? {
                // One write per line: what is read is whole, but for the last one.
                std::io::stdout().write_all(format!("{number} {id}\n").as_bytes())?;
            }
            Ok(true)
        }
    };
    drive(u64::MAX, KILLED_IN_FLIGHT, &progress, ask).await?;
    Ok(Verdict::Good)
}

/// Kills a selling process, opens its store, and asks for every order that it had acknowledged.
async fn crash(data: &Path) -> anyhow::Result<Crash> {
    let program = std::env::current_exe()?;
    let mut child = Command::new(program)
        .arg("demo")
        .arg("--sell-until-killed")
        .arg(data)
        .stdout(Stdio::piped())
        .spawn()
        .context("can't start a second process to crash")?;
    let output = child.stdout.take().context("the second process has no output")?;
    let progress = bar(Some(ACKNOWLEDGED_BEFORE_KILL as u64), "until the crash");
    let mut acknowledged = Vec::new();
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8(line?)?;
        // The last line may have been cut by the kill: its caller was not told.
        let told = line.split_once(' ').and_then(|(number, id)| {
            Some((number.parse::<u64>().ok()?, id.parse::<OrderId>().ok()?))
        });
        acknowledged.extend(told);
        progress.inc(1);
        if acknowledged.len() == ACKNOWLEDGED_BEFORE_KILL {
            // SIGKILL: no handler runs, no buffer is written.
            child.kill()?;
        }
    }
    child.wait()?;
    progress.finish_and_clear();
    ensure!(acknowledged.len() >= ACKNOWLEDGED_BEFORE_KILL, "the second process ended by itself");

    let start = Instant::now();
    let gate = replay::open(data).await?;
    let recovered_ms = start.elapsed().as_millis() as u64;
    let (mut lost, mut sold_twice) = (0, 0);
    for (number, id) in &acknowledged {
        if gate.orders().get(*id).await.is_err() {
            lost += 1;
        }
        let order = NewOrder::new(format!("buyer-{number}")).line("until-killed", 1);
        if buy(&gate, order, &format!("until-killed-{number}")).await? != Some(*id) {
            sold_twice += 1;
        }
    }
    gate.close().await?;
    Ok(Crash { acknowledged: acknowledged.len(), recovered_ms, lost, sold_twice })
}

impl Surge {
    fn of(in_flight: u64, load: &Load) -> Self {
        Self {
            in_flight,
            accepted: load.accepted,
            refused: load.refused,
            orders_per_second: load.per_second(),
            p50_us: load.quantile_us(0.5),
            p99_us: load.quantile_us(0.99),
        }
    }

    fn row(&self, what: &str) -> String {
        format!(
            "  {what:<34} {:>9}/s  p50 {:>7} µs  p99 {:>7} µs\n",
            grouped(self.orders_per_second),
            grouped(self.p50_us),
            grouped(self.p99_us)
        )
    }
}

impl Report {
    fn good(&self) -> bool {
        self.audit.ok && self.crash.lost == 0 && self.crash.sold_twice == 0
    }

    fn readable(&self) -> String {
        let Self { day, surges, sale, crash, audit } = self;
        let mut text = format!(
            "\nA real trading day ({DAY_NAME}), {DAY_IN_FLIGHT} orders at a time, \
             stock for {DAY_PERCENT}% of it\n  \
             {} orders: {} accepted and paid, {} refused as sold out; {} units sold in {:.2} s\n",
            grouped(day.orders),
            grouped(day.accepted),
            grouped(day.rejected_sold_out),
            grouped(day.units_sold),
            day.seconds,
        );
        text += "\nOne hot item, one order a buyer, each answered when it is on disk\n";
        for surge in surges {
            let plural = if surge.in_flight == 1 { "buyer" } else { "buyers" };
            text += &surge.row(&format!("{} {plural} at a time", grouped(surge.in_flight)));
        }
        let wanted = grouped(sale.accepted + sale.refused);
        text += &sale.row(&format!("a sale: one for every 4th of {wanted}"));
        text += &format!(
            "  the sale: {} sold, {} refused, none oversold\n",
            grouped(sale.accepted),
            grouped(sale.refused)
        );
        text += &format!(
            "\nA crash: a second process was killed (SIGKILL) while it sold\n  \
             {} orders had been acknowledged; {} lost, {} sold twice; recovered in {} ms\n",
            grouped(crash.acknowledged as u64),
            crash.lost,
            crash.sold_twice,
            crash.recovered_ms,
        );
        text += "\nAudit of the closed store\n";
        text += &audit::readable(audit);
        let verdict =
            if self.good() { "Everything is as it should be." } else { "SOMETHING IS WRONG." };
        text += &format!("\n{verdict}\n");
        text
    }
}
