//! `tidegate-reliability`: tools that try to make Tidegate lose, forget or sell something twice.
//! One module per kind of failure, each with a short form among the tests of this package and a
//! long one here. What they found and what is promised is in `docs/reliability.md`.

mod bad_bytes;
mod sample;
mod stored_format;

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
        Tool::BadBytes(arguments) => bad_bytes::run(&arguments),
        Tool::StoredFormat(arguments) => stored_format::run(&arguments),
    }
}
