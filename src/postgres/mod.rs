//! A PostgreSQL database that follows a store: orders, their lines, payments, stock and its
//! movements, as tables for reports. [`Worker`] reads the event feed and writes batches; how far
//! it is, is written in the same transaction. It is a host as any other, decides nothing, and
//! never holds the store up.
//!
//! ```no_run
//! # async fn example(gate: tidegate::Tidegate) -> Result<(), tidegate::postgres::Error> {
//! use tidegate::postgres::{Options, Worker};
//! let worker = Worker::new(Options::new("postgres://tidegate@db.example/shop")?);
//! tokio::spawn(worker.run(gate));
//! # Ok(()) }
//! ```

mod connect;
mod error;
mod figures;
mod fold;
mod load;
mod orders;
mod read;
mod rows;
mod schema;
mod status;
mod stock;
mod tables;
mod worker;

use std::{fmt, time::Duration};

pub use error::Error;
pub use figures::{Figures, Phase, Report};
pub use status::{Status, status};
pub use worker::Worker;

use connect::Address;

/// Events of one transaction, unless said otherwise. One record of the journal may add up to 2,000.
const BATCH_EVENTS: usize = 4_096;

/// How long a transaction waits for more events, unless said otherwise.
const BATCH_WAIT: Duration = Duration::from_millis(20);

/// Which database, and how to write to it. Shows no password when printed.
#[derive(Clone)]
pub struct Options {
    address: Address,
    batch_events_max: usize,
    batch_wait: Duration,
}

impl Options {
    /// The database at `url`, as `postgres://user:password@host:port/database`. Several hosts
    /// (`host1,host2`) are tried in turn, and the first that can be written is taken, unless
    /// `target_session_attrs` says otherwise. `sslmode` is as PostgreSQL's own clients have it,
    /// `verify-full` with `sslrootcert=FILE` or the system's certificates included.
    ///
    /// # Errors
    /// [`Error::Address`]: not such a URL, or its certificates can't be read.
    pub fn new(url: &str) -> Result<Self, Error> {
        let address = Address::new(url)?;
        Ok(Self { address, batch_events_max: BATCH_EVENTS, batch_wait: BATCH_WAIT })
    }

    /// Most events of one transaction, at least 1. Default: 4,096. A record of the journal is never
    /// parted, so it may be up to 2,000 more.
    #[must_use]
    pub fn batch_events_max(self, batch_events_max: usize) -> Self {
        Self { batch_events_max: batch_events_max.max(1), ..self }
    }

    /// How long a transaction waits for more events after its first, in milliseconds. Default: 20.
    #[must_use]
    pub fn batch_ms_max(self, batch_ms_max: u64) -> Self {
        Self { batch_wait: Duration::from_millis(batch_ms_max), ..self }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("address", &self.address).finish_non_exhaustive()
    }
}
