//! `tidegate replay`: places and pays every order of a trace, and says what became of them. How a
//! trace is read is in `trace`.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use quanta::Clock;
use serde::Serialize;
use tidegate::{
    Adjustment, AskError, AuditReport, IdempotencyError, NewOrder, OrderRejection, OrderState,
    PaymentEvent, Refusal, SkuPatch, StockRejection, Tidegate,
};
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    ReplayArguments, Verdict, audit, grouped, print, print_json,
    progress::{bar, opening},
    trace::{Trace, TraceOrder, TraceSummary},
};

/// An unpaid order of a replay never expires while the replay may still be taken up again.
const HOLD_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// How long an order's reference is remembered.
const RETENTION_MS: u64 = 365 * 24 * 60 * 60 * 1_000;

/// SKUs filled at a time.
const FILL_IN_FLIGHT: usize = 1_024;

/// Orders read ahead of those in flight.
const READ_AHEAD_ORDERS: usize = 4_096;

/// How long an order waits when the store is full.
const OVERLOADED_WAIT: Duration = Duration::from_millis(2);

/// What a replay came to.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Outcome {
    pub(super) orders: u64,
    pub(super) skipped_orders: u64,
    pub(super) skipped_lines: u64,
    pub(super) accepted: u64,
    pub(super) rejected_sold_out: u64,
    pub(super) rejected_other: u64,
    pub(super) units_sold: u64,
    pub(super) seconds: f64,
    pub(super) orders_per_second: f64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
}

#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    outcome: &'a Outcome,
    audit: &'a AuditReport,
}

/// Runs the command.
pub(super) async fn run(arguments: ReplayArguments) -> anyhow::Result<Verdict> {
    let summary = read_summary(&arguments.trace).await?;
    let temporary = match arguments.data {
        Some(_) => None,
        None => Some(tempfile::tempdir().context("can't make a temporary folder")?),
    };
    let data = match (&arguments.data, &temporary) {
        (Some(data), _) => data.as_path(),
        (None, Some(temporary)) => temporary.path(),
        (None, None) => bail!("no folder to work in"),
    };
    let gate = open(data).await?;
    let result = replay(&gate, &summary, &arguments).await;
    gate.close().await?;
    let outcome = result?;
    let audit = audit::of(data).await?;
    if arguments.json {
        print_json(&Printed { outcome: &outcome, audit: &audit })?;
    } else {
        print(&outcome.readable())?;
        print(&audit::readable(&audit))?;
    }
    Ok(Verdict::of(audit.ok))
}

/// Opens the store of a replay.
pub(super) async fn open(data: &Path) -> anyhow::Result<Tidegate> {
    let builder = Tidegate::builder(data).idempotency_retention_ms(RETENTION_MS);
    Ok(opening(builder).await?)
}

/// Reads the whole trace once: nothing is written before every line is known to be good.
pub(super) async fn read_summary(path: &Path) -> anyhow::Result<TraceSummary> {
    let path = path.to_owned();
    let read = move || {
        let progress = bar(None, "reading the trace");
        let summary = TraceSummary::of(Trace::open(&path)?, || progress.inc(1));
        progress.finish_and_clear();
        summary
    };
    Ok(tokio::task::spawn_blocking(read).await??)
}

async fn replay(
    gate: &Tidegate,
    summary: &TraceSummary,
    arguments: &ReplayArguments,
) -> anyhow::Result<Outcome> {
    fill(gate, summary, arguments.stock_percent).await?;
    let progress = bar(Some(summary.orders), "selling");
    let sold =
        sell(gate, Trace::open(&arguments.trace)?, arguments.concurrency, progress.clone()).await;
    progress.finish_and_clear();
    let (skipped_orders, skipped_lines) = (summary.skipped_orders, summary.skipped_lines);
    Ok(Outcome { orders: summary.orders, skipped_orders, skipped_lines, ..sold? })
}

/// Gives every SKU its starting stock. Done again, it changes nothing.
pub(super) async fn fill(
    gate: &Tidegate,
    summary: &TraceSummary,
    percent: u32,
) -> anyhow::Result<()> {
    let stock = summary.stock(percent);
    let progress = bar(Some(stock.len() as u64), "filling the shelves");
    let mut tasks = JoinSet::new();
    for (sku, units) in stock {
        if tasks.len() >= FILL_IN_FLIGHT
            && let Some(done) = tasks.join_next().await
        {
            done??;
        }
        let (stock, progress) = (gate.stock().clone(), progress.clone());
        tasks.spawn(async move {
            let sku = sku.as_str();
            stock.define(sku, SkuPatch::default()).await?;
            if units > 0 {
                let units = i64::try_from(units)?;
                let adjusted =
                    stock.adjust(Adjustment::new(sku, units, "starting stock"), "start").await;
                if let Err(AskError::Rejected(StockRejection::Idempotency(
                    IdempotencyError::Conflict,
                ))) = adjusted
                {
                    bail!(
                        "this store was filled for another trace or --stock-percent; \
                         use the same ones, or another --data"
                    );
                }
                adjusted?;
            }
            progress.inc(1);
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    progress.finish_and_clear();
    Ok(())
}

/// What the orders' tasks gather.
struct Tally {
    outcome: Outcome,
    micros: Histogram<u64>,
}

/// Places and pays every order of `trace`, `concurrency` at a time, begun in the order of the file.
pub(super) async fn sell(
    gate: &Tidegate,
    trace: Trace,
    concurrency: u32,
    progress: ProgressBar,
) -> anyhow::Result<Outcome> {
    let clock = Clock::new();
    let tally = Tally { outcome: Outcome::default(), micros: Histogram::new(3)? };
    let tally = Arc::new(Mutex::new(tally));
    let permits = Arc::new(Semaphore::new(concurrency as usize));
    let mut orders = read_ahead(trace);
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let start = clock.now();
    while let Some(order) = orders.recv().await {
        let order = order?;
        if order.lines.is_empty() {
            continue;
        }
        let permit = Arc::clone(&permits).acquire_owned().await?;
        while let Some(done) = tasks.try_join_next() {
            done??;
        }
        let (gate, tally, clock) = (gate.clone(), Arc::clone(&tally), clock.clone());
        let progress = progress.clone();
        tasks.spawn(async move {
            let begun = clock.now();
            let placed = place(&gate, &order).await?;
            let micros = (clock.now() - begun).as_micros() as u64;
            if let Placed::Accepted { .. } = placed {
                pay(&gate, &order, &placed).await?;
            }
            tally.lock().unwrap_or_else(PoisonError::into_inner).add(&order, &placed, micros);
            progress.inc(1);
            drop(permit);
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let seconds = (clock.now() - start).as_secs_f64();
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(tally.outcome(seconds))
}

/// Parses on a thread of its own, a bounded number of orders ahead.
fn read_ahead(
    trace: Trace,
) -> tokio::sync::mpsc::Receiver<Result<TraceOrder, super::trace::TraceError>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(READ_AHEAD_ORDERS);
    tokio::task::spawn_blocking(move || {
        for order in trace {
            if sender.blocking_send(order).is_err() {
                // Whoever sells has given up.
                return;
            }
        }
    });
    receiver
}

enum Placed {
    Accepted { id: tidegate::OrderId, total_minor: u64 },
    SoldOut,
    Other,
}

async fn place(gate: &Tidegate, order: &TraceOrder) -> anyhow::Result<Placed> {
    let new = || {
        let empty = NewOrder::new(order.user.as_str()).hold_ms(HOLD_MS);
        order.lines.iter().fold(empty, |new, line| {
            new.line_for(line.sku.as_str(), line.quantity, line.amount_minor)
        })
    };
    loop {
        return match gate.orders().place(new(), &order.reference).await {
            Ok(receipt) => {
                Ok(Placed::Accepted { id: receipt.id, total_minor: receipt.total_minor })
            }
            Err(AskError::Rejected(OrderRejection::Refused(Refusal::SoldOut { .. }))) => {
                Ok(Placed::SoldOut)
            }
            Err(AskError::Rejected(_)) => Ok(Placed::Other),
            Err(AskError::Overloaded { .. } | AskError::Backlogged { .. }) => {
                tokio::time::sleep(OVERLOADED_WAIT).await;
                continue;
            }
            Err(error) => Err(error).with_context(|| format!("order {}", order.reference)),
        };
    }
}

/// Pays in full. Told twice, the payment counts once, so an interrupted replay can't pay twice.
async fn pay(gate: &Tidegate, order: &TraceOrder, placed: &Placed) -> anyhow::Result<()> {
    let Placed::Accepted { id, total_minor } = *placed else { return Ok(()) };
    let event = PaymentEvent::captured("replay", format!("pay-{}", order.reference), total_minor);
    let paid = gate.orders().pay(id, event).await;
    let paid = paid.with_context(|| format!("paying order {}", order.reference))?;
    if paid.state != OrderState::Confirmed {
        bail!("order {} is {} after its payment", order.reference, paid.state);
    }
    Ok(())
}

impl Tally {
    fn add(&mut self, order: &TraceOrder, placed: &Placed, micros: u64) {
        self.micros += micros;
        match placed {
            Placed::Accepted { .. } => {
                self.outcome.accepted += 1;
                self.outcome.units_sold +=
                    order.lines.iter().map(|line| line.quantity).sum::<u64>();
            }
            Placed::SoldOut => self.outcome.rejected_sold_out += 1,
            Placed::Other => self.outcome.rejected_other += 1,
        }
    }

    fn outcome(&self, seconds: f64) -> Outcome {
        Outcome {
            seconds,
            orders_per_second: self.micros.len() as f64 / seconds.max(f64::MIN_POSITIVE),
            p50_us: self.micros.value_at_quantile(0.5),
            p99_us: self.micros.value_at_quantile(0.99),
            ..self.outcome.clone()
        }
    }
}

impl Outcome {
    fn readable(&self) -> String {
        let mut rows = vec![
            ("orders", grouped(self.orders)),
            ("accepted and paid", grouped(self.accepted)),
            ("refused, sold out", grouped(self.rejected_sold_out)),
            ("refused, other", grouped(self.rejected_other)),
            ("units sold", grouped(self.units_sold)),
            ("time", format!("{:.2} s", self.seconds)),
            ("orders per second", grouped(self.orders_per_second as u64)),
            ("durable answer", format!("p50 {} µs, p99 {} µs", self.p50_us, self.p99_us)),
        ];
        if self.skipped_lines > 0 {
            let skipped = format!(
                "{} lines of quantity 0, {} orders with no other line",
                grouped(self.skipped_lines),
                grouped(self.skipped_orders)
            );
            rows.push(("skipped", skipped));
        }
        rows.into_iter().map(|(name, value)| format!("{name:>20}  {value}\n")).collect()
    }
}
