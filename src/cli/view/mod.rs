//! `tidegate view`: what a store has of its views, and building one anew, on a closed store or
//! through the server that has it open. How a view is built is the library's.

mod closed;
mod server;

use std::{fmt::Display, path::PathBuf};

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde::Serialize;
use tidegate::RebuildProgress;

use super::{DATA, DATA_VARIABLE, Verdict, grouped, print, print_json, progress, remote::Remote};

#[derive(Subcommand)]
pub(super) enum ViewCommand {
    /// List every view that the store has rows of.
    List(ViewsArguments),
    /// Show one view: its version, how far it is, its rows. Exits with 1 if there is none.
    Show(ViewArguments),
    /// Build a view anew, from the journal or else from what the store holds.
    ///
    /// The old rows are read until the new ones are there; a run that is interrupted loses
    /// nothing. On a server, which does it by itself, this waits for the end. On a closed store
    /// only built-in views (sales) are known: a host's own are built by the host, with
    /// `Tidegate::rebuild_view`. Like any opening it lets orders and holds expire that are due.
    Rebuild(ViewArguments),
}

#[derive(Args)]
pub(super) struct ViewsArguments {
    /// The store's folder. It must not be open in another process.
    #[arg(long, value_name = "DIR", env = DATA_VARIABLE, default_value = DATA)]
    data: PathBuf,
    /// Ask the server at this URL instead, as `http://127.0.0.1:8080`. If it has API keys, put
    /// one into the environment as TIDEGATE_KEY.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Print one JSON object on stdout instead of the report.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct ViewArguments {
    /// The view.
    name: String,
    #[command(flatten)]
    of: ViewsArguments,
}

/// What a rebuild came to.
#[derive(Serialize)]
struct Rebuilt<'a> {
    name: &'a str,
    position: u64,
    rows: u64,
    seconds: f64,
}

impl Rebuilt<'_> {
    fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            return print_json(self);
        }
        let (rows, position) = (grouped(self.rows), grouped(self.position));
        let (name, seconds) = (self.name, self.seconds);
        print(&format!("{name}: {rows} rows up to position {position}, in {seconds:.1} s\n"))
    }
}

/// Names and what is to be told of each.
fn print_rows<N: Display>(rows: impl IntoIterator<Item = (N, String)>) -> anyhow::Result<()> {
    let rows = rows.into_iter().map(|(name, value)| format!("{name:>20}  {value}\n"));
    print(&rows.collect::<String>())
}

/// How far a rebuild is, on a terminal. Gone when dropped.
struct Bars {
    loading: ProgressBar,
    folding: Option<ProgressBar>,
}

impl Bars {
    fn new() -> Self {
        Self { loading: progress::bar(None, "loading"), folding: None }
    }

    fn show(&mut self, progress: RebuildProgress) {
        let RebuildProgress { loaded, position, target } = progress;
        self.loading.set_position(loaded);
        if position.0 > 0 {
            let new = || progress::bar(Some(target.0), "taking in events");
            let bar = self.folding.get_or_insert_with(new);
            bar.set_length(target.0);
            bar.set_position(position.0);
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.loading.finish_and_clear();
        if let Some(bar) = self.folding.take() {
            bar.finish_and_clear();
        }
    }
}

/// Runs the command.
pub(super) async fn run(command: ViewCommand) -> anyhow::Result<Verdict> {
    let (ViewCommand::List(of)
    | ViewCommand::Show(ViewArguments { of, .. })
    | ViewCommand::Rebuild(ViewArguments { of, .. })) = &command;
    let Some(url) = &of.url else {
        return match command {
            ViewCommand::List(arguments) => closed::list(arguments).await,
            ViewCommand::Show(arguments) => closed::show(arguments).await,
            ViewCommand::Rebuild(arguments) => closed::rebuild(arguments).await,
        };
    };
    let remote = Remote::at(url)?;
    // One request after the other, on a thread that may wait.
    let asking = tokio::task::spawn_blocking(move || match command {
        ViewCommand::List(of) => server::list(&remote, of.json),
        ViewCommand::Show(ViewArguments { name, of }) => server::show(&remote, &name, of.json),
        ViewCommand::Rebuild(ViewArguments { name, of }) => {
            server::rebuild(&remote, &name, of.json)
        }
    });
    asking.await?
}
