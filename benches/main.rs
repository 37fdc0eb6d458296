//! The load harness: Tidegate and its peers on the same work, and the parts of Tidegate that touch
//! the disk. It reads the command line; what is measured, and how, is in the other files.

mod bare;
mod check;
mod contender;
mod growth;
mod holds;
mod load;
mod messages;
mod orders;
mod overload;
mod peers;
mod plot;
mod refusals;
mod report;
mod row;
mod server;
mod shop;
mod store;
mod sync;
mod table;
mod trace;
mod work;
mod wrk;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    contender::Entry,
    load::Until,
    orders::Plan,
    row::{Results, Row},
    work::{Mix, Skew},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(about = "Benchmarks of Tidegate, and of its peers on the same work")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure, print tables, and exit with 1 if any result is wrong.
    Run(Box<Run>),
    /// A part of `overload`, in a process of its own.
    #[command(hide = true)]
    OpenLoop(overload::Open),
    /// Put the tables of a JSON file into a Markdown file, between its marks, and draw the plot.
    Report {
        /// What `run --json` has written.
        json: PathBuf,
        #[arg(long, value_name = "FILE")]
        markdown: Option<PathBuf>,
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Whole orders, by all who take part.
    Orders,
    /// Placing, refusals and reads over HTTP beside a route that only parses, by wrk; beside them a
    /// bare socket, and Redis over as many connections.
    Http,
    /// A trace of real baskets, in process.
    Trace,
    /// Holds placed and confirmed in bulk, beside TigerBeetle's two phases.
    Holds,
    /// Orders of what is sold out, in process.
    Refusals,
    /// An open loop that asks for twice what the closed loops got.
    Overload,
    /// Orders beside few and many finished ones; disk and memory for an order.
    Growth,
    /// Messages by topics and by Redis streams: published, handed out, acknowledged.
    Messages,
    Journal,
    Reads,
    Recovery,
    Snapshots,
    /// Rows brought into PostgreSQL by its worker, beside a plain COPY of the same rows.
    Sync,
}

#[derive(Args)]
struct Run {
    /// What to measure [default: everything].
    what: Vec<What>,
    /// Who takes part [default: all; who is not installed is left out].
    #[arg(long, value_delimiter = ',')]
    contender: Vec<Entry>,
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 1_024, 8_192])]
    in_flight: Vec<u64>,
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [Skew::Hot, Skew::Spread])]
    skew: Vec<Skew>,
    /// SKUs of the skew `spread`.
    #[arg(long, default_value_t = 100_000)]
    spread_skus: usize,
    /// Seconds of a round that are timed.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The same for what is not a contest of orders.
    #[arg(long, default_value_t = 2.0)]
    seconds_alone: f64,
    /// Seconds before that.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Exactly so many orders in a round instead: then all contenders have the same result.
    #[arg(long, conflicts_with_all = ["seconds", "warm_up"])]
    orders: Option<u64>,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Share of orders that repeat an earlier one with its key.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(..=90))]
    repeat_percent: u32,
    /// Share of orders for what is sold out.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(..=100))]
    refused_percent: u32,
    /// Connections of wrk.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 256])]
    connections: Vec<u64>,
    /// A trace to place: the CSV of `tidegate replay`, gzipped if its name ends in .gz [default:
    /// the one day that comes with the project].
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Orders that are there when reads and snapshots are measured; wrk and PostgreSQL get half as
    /// many.
    #[arg(long, default_value_t = 200_000)]
    stored_orders: u64,
    /// Events that are applied again at an opening.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Finished orders beside which others are placed, from few to many.
    #[arg(long, value_delimiter = ',', default_values_t = [200_000, 1_000_000])]
    finished: Vec<u64>,
    /// Where data is kept; it should be the disk that matters [default: the temporary folder].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Write the results here as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Take criterion's estimates of the parts from here.
    #[arg(long, value_name = "DIR")]
    criterion: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    match Cli::parse().command {
        Command::Run(run) => run.run().await,
        Command::OpenLoop(open) => {
            open.run().await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Report { json, markdown, svg } => {
            report::write(&Results::read(&json)?, markdown.as_deref(), svg.as_deref())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

impl Run {
    async fn run(self) -> Result<ExitCode> {
        let dir = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        let dir = dir.canonicalize().with_context(|| format!("{} is no folder", dir.display()))?;
        let mut results = Results::begin(&dir)?;
        if results.machine.get("file system").is_some_and(|name| name == "tmpfs") {
            println!("{} is in memory: a sync costs nothing there", dir.display());
        }
        let plan = self.plan();
        if self.wants(What::Orders) {
            orders::run(&plan, &dir, &mut results).await;
            self.keep(&results)?;
        }
        let by_itself = [
            What::Trace,
            What::Holds,
            What::Refusals,
            What::Http,
            What::Overload,
            What::Messages,
            What::Journal,
            What::Reads,
            What::Recovery,
            What::Snapshots,
            What::Growth,
            What::Sync,
        ];
        for what in by_itself.into_iter().filter(|what| self.wants(*what)) {
            let (mut rounds, mut failed) = (Vec::new(), None);
            for number in 1..=self.rounds {
                println!("{what:?}: round {number}");
                match self.round(what, &dir).await {
                    Ok(rows) => rounds.push(rows),
                    Err(error) => {
                        println!("{what:?} has failed: {error:#}");
                        failed = Some(Row::failed(&format!("{what:?}"), "the bench", &error));
                        break;
                    }
                }
            }
            results.rows.extend(Row::medians(&rounds));
            results.rows.extend(failed);
            // What comes next may fail or be ended; what was measured stays.
            self.keep(&results)?;
        }
        results.note_sync("bare sync after, p50", &dir)?;
        if let Some(criterion) = &self.criterion {
            results.parts = report::parts(criterion)?;
        }
        println!("\n{}", table::markdown(&results));
        self.keep(&results)?;
        if results.right() {
            return Ok(ExitCode::SUCCESS);
        }
        println!("SOMETHING IS WRONG: see above");
        Ok(ExitCode::FAILURE)
    }

    /// One round of what is not a contest; the same rows each time.
    async fn round(&self, what: What, dir: &Path) -> Result<Vec<Row>> {
        let Self { seconds_alone: seconds, seed, stored_orders, .. } = *self;
        match what {
            What::Orders => Ok(Vec::new()),
            What::Trace => {
                let file = self.trace.clone().unwrap_or_else(trace::bundled);
                trace::run(dir, &file).await
            }
            What::Holds => holds::run(dir, seconds).await,
            What::Refusals => refusals::run(dir, seconds).await,
            What::Http => wrk::run(dir, &self.connections, seconds, stored_orders / 2).await,
            What::Overload => overload::run(dir, seconds, seed).await,
            What::Growth => growth::run(dir, seconds, seed, &self.finished).await,
            What::Messages => {
                let most = |in_flight: &u64| *in_flight <= messages::IN_FLIGHT_MAX;
                let in_flight: Vec<u64> = self.in_flight.iter().copied().filter(most).collect();
                messages::run(dir, &in_flight, seconds).await
            }
            What::Journal => store::journal::run(dir, seconds).await,
            What::Reads => store::reads::run(dir, seconds, stored_orders).await,
            What::Recovery => store::recovery::run(dir, self.events, seed).await,
            What::Snapshots => store::snapshots::run(dir, seconds, seed, stored_orders).await,
            What::Sync => sync::run(dir, stored_orders / 2).await,
        }
    }

    /// Writes what there is so far where it is wanted.
    fn keep(&self, results: &Results) -> Result<()> {
        self.json.as_ref().map_or(Ok(()), |json| results.write(json))
    }

    fn wants(&self, what: What) -> bool {
        self.what.is_empty() || self.what.contains(&what)
    }

    fn plan(&self) -> Plan {
        let mut entries = self.contender.clone();
        if entries.is_empty() {
            entries = Entry::value_variants().to_vec();
        }
        Plan {
            entries,
            in_flight: self.in_flight.clone(),
            skews: self.skew.clone(),
            until: self.orders.map_or(Until::seconds(self.warm_up, self.seconds), Until::numbers),
            rounds: self.rounds.max(1),
            seed: self.seed,
            mix: Mix {
                skew: Skew::Spread,
                spread_skus: self.spread_skus,
                repeat_percent: self.repeat_percent,
                refused_percent: self.refused_percent,
            },
        }
    }
}
