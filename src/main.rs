//! The `tidegate` program: reads the command line, runs one command, and turns what went wrong into
//! one message and an exit code.

// Who reads stdout may have gone, and then these would panic: `cli::print` does not.
#![warn(clippy::print_stdout)]

mod cli;
mod config;
mod http;

use std::{io::Write, process::ExitCode};

use clap::Parser;
use mimalloc::MiMalloc;

/// Live orders are many small pieces, which this allocator makes and frees cheaply.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tidegate: can't start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(arguments.run());
    // What others have not answered yet would be waited for.
    runtime.shutdown_background();
    match ended {
        Ok(cli::Verdict::Good) => ExitCode::SUCCESS,
        Ok(cli::Verdict::Bad) => ExitCode::FAILURE,
        Err(error) => {
            // Where nothing can be written, the exit code has to do.
            let _ = writeln!(std::io::stderr(), "tidegate: {error:#}");
            ExitCode::FAILURE
        }
    }
}
