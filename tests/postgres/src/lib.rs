//! What tests of a PostgreSQL database that follows a store share: a server of their own, a load of
//! every kind of change (views are tested under it, too), and what the tables must then hold. The
//! tests of `tidegate` and the tools of `tests/reliability` use it; it tests nothing by itself.

// All of this is test code: a failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]

mod load;
mod model;
mod oracle;
mod server;

pub use load::{FILLER, Made, run, stock_up};
pub use oracle::{World, contradiction, settled};
pub use server::Database;
