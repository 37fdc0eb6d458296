//! Logs of the program: one line each, to stderr, as text or as JSON; RUST_LOG goes before whatever
//! a command asks for. The library itself installs nothing.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What commands log that say nothing else.
pub(crate) const QUIET: &str = "warn";

/// Starts logging. Called once.
pub(crate) fn start(filter: &str, json: bool) {
    let given = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|given| !given.is_empty());
    let filter = EnvFilter::new(given.as_deref().unwrap_or(filter));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        // Where a line can't be written, saying so there would panic: a full disk or a closed pipe
        // must end no thread.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let started = if json { logs.json().flatten_event(true).try_init() } else { logs.try_init() };
    if let Err(error) = started {
        eprintln!("tidegate: no logs: {error}");
    }
}
