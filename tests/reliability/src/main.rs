//! `tidegate-reliability`: tools that try to make Tidegate lose, forget or sell something twice.
//! One module per kind of failure, each with a short form among the tests of this package and a
//! long one here. What they found and what is promised is in `docs/reliability.md`.

mod io_faults;
mod kills;
mod sale;
mod soak;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tries to make Tidegate lose, forget or sell something twice.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    tool: Tool,
}

#[derive(Subcommand)]
enum Tool {
    /// Fail each call of the system that a store makes, one in each run, with strace.
    IoFaults(io_faults::Arguments),
    /// Kill a process that sells, hundreds of times, and compare its store with what it answered.
    Kills(kills::Arguments),
    /// Sell for minutes, over restarts and kills, and watch memory and disk.
    Soak(soak::Arguments),
    /// Sell, for the tools that mistreat whoever does.
    #[command(hide = true)]
    Sell(sale::sell::Arguments),
}

/// What a tool came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing was lost, forgotten or sold twice.
    Held,
    /// Something was; the tool has said what, and how to see it again.
    Broken,
}

fn main() -> ExitCode {
    match run(Arguments::parse().tool) {
        Ok(Verdict::Held) => ExitCode::SUCCESS,
        Ok(Verdict::Broken) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tidegate-reliability: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(tool: Tool) -> anyhow::Result<Verdict> {
    match tool {
        Tool::IoFaults(arguments) => io_faults::run(&arguments),
        Tool::Kills(arguments) => kills::run(&arguments),
        Tool::Soak(arguments) => soak::run(&arguments),
        Tool::Sell(arguments) => sale::sell::run(&arguments),
    }
}
