//! `tidegate-reliability`: tools that try to make Tidegate lose, forget or sell something twice.
//! One module per kind of failure, each with a short form among the tests of this package and a
//! long one here. What they found and what is promised is in `docs/reliability.md`.

// In test code a failed unwrap is a failed test.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bad_bytes;
mod everything;
mod ground;
mod histories;
mod io_faults;
mod kills;
mod messages;
mod power_loss;
mod random;
mod sale;
mod sample;
mod sim;
mod soak;
mod stored_format;
mod surge;

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
    /// Simulates the whole store, seed after seed, with everything that can go wrong
    Sim(sim::Options),
    Histories(histories::Options),
    PowerLoss(power_loss::Options),
    #[command(hide = true)]
    PowerLossWork(power_loss::Work),
    /// Fail each call of the system that a store makes, one in each run, with strace.
    IoFaults(io_faults::Arguments),
    /// Kill a process that sells, hundreds of times, and compare its store with what it answered.
    Kills(kills::Arguments),
    /// Sell for minutes, over restarts and kills, and watch memory and disk.
    Soak(soak::Arguments),
    /// Sell, for the tools that mistreat whoever does.
    #[command(hide = true)]
    Sell(sale::sell::Arguments),
    /// Let ten times as many orders arrive as an intake releases, and draw the queue over time.
    Surge(surge::Arguments),
    /// Kill a process that publishes and consumes, and see that each message had its effect once.
    Messages(messages::Arguments),
    #[command(hide = true)]
    MessagesWork(messages::WorkArguments),
    /// Kill a process that does all there is, and PostgreSQL, each when its own time has come.
    Everything(everything::Arguments),
    #[command(hide = true)]
    EverythingWork(everything::WorkArguments),
    BadBytes(bad_bytes::Arguments),
    StoredFormat(stored_format::Arguments),
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
        Tool::Sim(options) => sim::run(&options),
        Tool::Histories(options) => histories::run(&options),
        Tool::PowerLoss(options) => power_loss::run(&options),
        Tool::PowerLossWork(work) => power_loss::work(work).map(|()| Verdict::Held),
        Tool::IoFaults(arguments) => io_faults::run(&arguments),
        Tool::Kills(arguments) => kills::run(&arguments),
        Tool::Soak(arguments) => soak::run(&arguments),
        Tool::Sell(arguments) => sale::sell::run(&arguments),
        Tool::Surge(arguments) => surge::run(&arguments),
        Tool::Messages(arguments) => messages::run(&arguments),
        Tool::MessagesWork(arguments) => messages::work(&arguments),
        Tool::Everything(arguments) => everything::run(&arguments),
        Tool::EverythingWork(arguments) => everything::work(&arguments),
        Tool::BadBytes(arguments) => bad_bytes::run(&arguments),
        Tool::StoredFormat(arguments) => stored_format::run(&arguments),
    }
}
