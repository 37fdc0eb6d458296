//! The command line: one file per command. Commands use the library as any host would; they know
//! no shard, no journal and no table.

mod audit;
mod config;
mod dead_letters;
mod demo;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod import;
mod inspect;
mod load;
mod open_files;
mod progress;
mod remote;
mod replay;
mod serve;
mod sync;
mod telemetry;
mod topics;
mod trace;
mod view;
mod watch;
mod webhook;

use std::{
    io::{ErrorKind, Write},
    path::PathBuf,
};

use anyhow::Context;
use clap::{Args, Parser, Subcommand, value_parser};
use serde::Serialize;

use crate::config::Role;

/// Tidegate keeps stock and orders right through a traffic surge: durable, never oversold, and
/// there again after a crash.
#[derive(Parser)]
#[command(version, after_help = "Start with `tidegate demo`. Logs: RUST_LOG=info tidegate …")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sell a real shopping day and a hot item to thousands of concurrent buyers, crash, recover,
    /// audit.
    ///
    /// Works on a store in a temporary folder and takes about half a minute.
    Demo(DemoArguments),
    /// Place and pay every order of a trace, then audit the store.
    ///
    /// Run it again on the same --data after an interruption, and it goes on where it was: each
    /// order's reference is its idempotency key.
    Replay(ReplayArguments),
    /// Rebuild a closed store from its snapshots, journal and tables, and check every invariant.
    ///
    /// Exits with 1 if any check fails. It mends nothing; like any open it cuts off a torn end.
    Audit(AuditArguments),
    /// Look at a closed store: its machines, journal, snapshots and orders.
    ///
    /// Changes no file of the store. Its state is copied to a temporary folder first (TMPDIR says
    /// where), because the engine that keeps it writes whenever it is opened.
    Inspect(InspectArguments),
    /// Define SKUs and move stock in and out, as a CSV file says.
    ///
    /// Columns, named by a header line, in any order: sku, delta (units in or, below 0, out); and
    /// if wanted location (default: main), price_minor, currency, limit_per_user, backorder_limit
    /// (an empty one stays as it is) and reason. A SKU that is new is defined. Each line is applied
    /// as a whole or, if it is bad, skipped, told on stderr and counted; then the exit code is 1.
    ///
    /// The store must be closed: to move stock while a server runs, ask the server
    /// (`POST /v1/skus/{sku}/stock`).
    ///
    /// Run it again within a day of an interruption and it goes on where it was; later it says
    /// which lines are in doubt, and changes nothing. A file that was imported is known by its
    /// content and changes nothing a second time; give another --import-id to import it once more.
    ImportStock(ImportArguments),
    /// Serve a store over HTTP until SIGTERM or SIGINT.
    ///
    /// Needs no argument: then it keeps its store in ./tidegate-data and listens on
    /// http://127.0.0.1:8080, where /docs shows every operation. Without API keys in the
    /// configuration it listens on this machine only. The store is opened while it already
    /// listens; /readyz says when it is. The first signal lets it answer what is in flight and
    /// close the store; a second one ends it at once, and the next start recovers.
    ///
    /// Flags go before the environment (TIDEGATE_DATA, TIDEGATE_LISTEN, ...), the environment
    /// before the file, the file before the defaults.
    Serve {
        #[command(flatten)]
        with: ServeArguments,
        /// Also serve a route that reads an order and answers without placing it: a bench's
        /// yardstick.
        #[arg(long, hide = true)]
        parse_only_route: bool,
    },
    /// Check a configuration, print every setting, make API keys.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at a PostgreSQL database that follows a store.
    ///
    /// A database follows when [postgres] in the server's configuration names it; see
    /// docs/postgres.md. Its tables are orders, order_lines, payments, skus, stock, holds and
    /// movements, in the schema tidegate.
    #[command(subcommand)]
    Sync(SyncCommand),
    /// Look at the consumer groups of a running server, publish, move groups.
    ///
    /// Asks a server over HTTP: at --url, with the API key in TIDEGATE_KEY if it has keys. Looking
    /// needs the role `read`, publishing `sell`, moving groups `admin`.
    ///
    /// What a group lacks is its lag: messages that are published and neither done nor given up. A
    /// group whose consumers can't keep up, or are gone, has a lag that grows.
    Topics(topics::TopicsArguments),
    /// Look at messages that consumers could not handle; try them again, or forget them.
    ///
    /// A message that fails is tried again later, and given up after its last attempt. Then it is a
    /// dead letter of its group, and a line in the server's log. Mend what it failed of, and replay
    /// it; or discard it, which is for good.
    ///
    /// Asks a server over HTTP, as `tidegate topics` does.
    DeadLetters(dead_letters::DeadLettersArguments),
    /// Look at the endpoints that a server posts messages to, try one, make secrets.
    ///
    /// Messages are posted when [[webhooks.endpoints]] in the server's configuration names where;
    /// see docs/webhooks.md. Looking needs the role `read`, a test `admin`.
    Webhook(webhook::WebhookArguments),
    /// Look at the views of a store, or build one anew.
    ///
    /// Views are rows that follow what happens; see docs/views.md. The store is a closed one in
    /// --data, or that of a running server at --url.
    #[command(subcommand)]
    View(view::ViewCommand),
}

#[derive(Subcommand)]
enum SyncCommand {
    /// Tell how far the database is: position, lag, and whether a worker is at work.
    ///
    /// Asks the database only, so it works from anywhere, whether a server runs or not. Exits with
    /// 1 if no worker is at work, if there are no tables, or if those there are newer than this
    /// program. With --data it looks at a closed store instead of at workers, and exits with 1 if
    /// the database lacks anything of it.
    Status(SyncStatusArguments),
}

#[derive(Args)]
struct SyncStatusArguments {
    /// The database, as postgres://user:password@host/database. Better in the environment, where
    /// other users of this machine don't see it.
    #[arg(long, value_name = "URL", env = "TIDEGATE_POSTGRES__URL", hide_env_values = true)]
    postgres: String,
    /// The folder of a closed store to compare with.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print one JSON object on stdout instead of the report.
    #[arg(long)]
    json: bool,
}

/// The store that commands work on which are not told of another; that of `config/defaults.toml`.
const DATA: &str = "tidegate-data";

/// Where it is said for all commands at once; it is also the server's variable for `data`.
const DATA_VARIABLE: &str = "TIDEGATE_DATA";

#[derive(Args)]
struct ServeArguments {
    /// A TOML file; `tidegate config defaults` prints one with every setting.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The store's folder, created if absent [default: tidegate-data].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address and port; port 0 is any free one [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check file, environment and flags as `serve` would, and do nothing else.
    Check(ServeArguments),
    /// Print every setting with its default.
    Defaults,
    /// Make an API key: prints it once, with its hash for the configuration.
    NewKey {
        /// Names the key in logs.
        name: String,
        /// read, sell or admin.
        #[arg(long)]
        role: Role,
    },
}

#[derive(Args)]
struct InspectArguments {
    /// The store's folder. It must not be open in another process.
    #[arg(long, value_name = "DIR", env = DATA_VARIABLE, default_value = DATA)]
    data: PathBuf,
    /// Print one JSON object on stdout instead of the report.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ImportArguments {
    /// A CSV file, plain or gzipped.
    file: PathBuf,
    /// The store's folder, created if absent. It must not be open in another process.
    #[arg(long, value_name = "DIR", env = DATA_VARIABLE, default_value = DATA)]
    data: PathBuf,
    /// The name of this import. Default: a hash of the file's content.
    #[arg(long)]
    import_id: Option<String>,
    /// Print one JSON object on stdout instead of the report.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct DemoArguments {
    /// Buyers of the hot item.
    #[arg(long, default_value_t = 40_000, value_parser = value_parser!(u64).range(1..=10_000_000))]
    buyers: u64,
    /// Print one JSON object on stdout instead of the report.
    #[arg(long)]
    json: bool,
    /// Sell in this folder until killed: the part of the demo that crashes.
    #[arg(long, hide = true)]
    sell_until_killed: Option<PathBuf>,
}

#[derive(Args)]
struct ReplayArguments {
    /// A CSV file, plain or gzipped, with the columns
    /// order_ref,placed_at,user,location,sku,quantity,amount_minor (amount of the whole line); the
    /// lines of an order are contiguous.
    trace: PathBuf,
    /// The store's folder, created if absent. Default: a temporary folder, removed at the end.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Each SKU starts with this share of what the trace orders of it, rounded up.
    #[arg(long, default_value_t = 80, value_parser = value_parser!(u32).range(0..=10_000))]
    stock_percent: u32,
    /// Orders in flight at a time; 1 is strictly in the order of the file.
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(1..=16_384))]
    concurrency: u32,
    /// Print one JSON object on stdout instead of the report.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct AuditArguments {
    /// The store's folder. It must not be open in another process.
    #[arg(long, value_name = "DIR", env = DATA_VARIABLE, default_value = DATA)]
    data: PathBuf,
    /// Print one JSON object on stdout instead of the report.
    #[arg(long)]
    json: bool,
}

/// What a command came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Everything that was checked is as it should be.
    Good,
    /// A check has failed.
    Bad,
}

impl Verdict {
    fn of(good: bool) -> Self {
        if good { Self::Good } else { Self::Bad }
    }
}

impl Arguments {
    /// Runs the command.
    pub(crate) async fn run(self) -> anyhow::Result<Verdict> {
        if !matches!(self.command, Command::Serve { .. }) {
            telemetry::start(telemetry::QUIET, false);
        }
        match self.command {
            Command::Demo(arguments) => demo::run(arguments).await,
            Command::Replay(arguments) => replay::run(arguments).await,
            Command::Audit(arguments) => audit::run(arguments).await,
            Command::Serve { with, parse_only_route } => serve::run(with, parse_only_route).await,
            Command::Config(command) => config::run(command),
            Command::Inspect(arguments) => inspect::run(arguments).await,
            Command::ImportStock(arguments) => import::run(arguments).await,
            Command::Sync(SyncCommand::Status(arguments)) => sync::status(arguments).await,
            Command::Topics(arguments) => topics::run(arguments).await,
            Command::DeadLetters(arguments) => dead_letters::run(arguments).await,
            Command::Webhook(arguments) => webhook::run(arguments).await,
            Command::View(command) => view::run(command).await,
        }
    }
}

/// One JSON object, on stdout.
fn print_json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    print(&(serde_json::to_string(value)? + "\n"))
}

/// On stdout. Who reads it may have seen enough and gone, as `head` does.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("stdout"),
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
