//! Logs of the program: to stderr, warnings and errors unless RUST_LOG says otherwise. The library
//! itself installs nothing.

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// Starts logging. Called once.
pub(crate) fn start() {
    let filter =
        EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).from_env_lossy();
    let started =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    if let Err(error) = started {
        eprintln!("tidegate: no logs: {error}");
    }
}
