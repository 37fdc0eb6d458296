//! `tidegate sync`: prints how far a PostgreSQL database is. Who keeps it up to date is the server.

use std::{fmt::Write, path::PathBuf};

use anyhow::Context;
use tidegate::postgres::{self, Options, Status};

use super::{SyncStatusArguments, Verdict, grouped, print, print_json};

/// Runs `tidegate sync status`.
pub(super) async fn status(arguments: SyncStatusArguments) -> anyhow::Result<Verdict> {
    let SyncStatusArguments { postgres, data, json } = arguments;
    let options = Options::new(&postgres)?;
    let mut status = postgres::status(&options).await?;
    let mut good = status.is_good();
    if let Some(data) = data {
        let end = end_of(data).await?;
        let lag = status.position.map(|position| (end - position).max(0));
        (status.store_position, status.lag_records) = (Some(end), lag);
        good = lag == Some(0);
    }
    if json {
        print_json(&status)?;
    } else {
        print(&readable(&status)?)?;
    }
    Ok(Verdict::of(good))
}

/// The last position of a closed store.
async fn end_of(data: PathBuf) -> anyhow::Result<i64> {
    let scratch = tempfile::tempdir().context("can't make a temporary folder")?;
    let path = scratch.path().to_owned();
    let look = tokio::task::spawn_blocking(move || tidegate::inspect(data, path));
    Ok(i64::try_from(look.await??.journal.last)?)
}

fn readable(status: &Status) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let Some(version) = status.schema_version else {
        writeln!(text, "{:>20}  none: no worker has ever been here", "tables")?;
        return Ok(text);
    };
    let known = status.schema_version_known;
    let judged = if version > known { "newer than this program knows" } else { "known" };
    writeln!(text, "{:>20}  version {version}, {judged}", "tables")?;
    let worker = match (status.working, status.waiting) {
        (true, 0) => "at work".to_owned(),
        (true, waiting) => format!("at work; {waiting} wait for their turn"),
        (false, _) => "NONE at work".to_owned(),
    };
    writeln!(text, "{:>20}  {worker}", "worker")?;
    if let Some(store) = &status.store_id {
        writeln!(text, "{:>20}  {store}", "store")?;
    }
    let count = |number: i64| grouped(number.unsigned_abs());
    let position = status.position.map_or_else(|| "none: it is to be loaded".to_owned(), count);
    writeln!(text, "{:>20}  {position}", "position")?;
    if let (Some(end), Some(lag)) = (status.store_position, status.lag_records) {
        let (end, lag) = (count(end), count(lag));
        writeln!(text, "{:>20}  {lag} records of a store that ends at {end}", "lag")?;
    }
    if let Some(ms) = status.lag_ms.filter(|ms| *ms > 0) {
        writeln!(text, "{:>20}  {} ms ago", "had everything", count(ms))?;
    }
    for (name, at) in [
        ("last event", &status.event_at),
        ("last written", &status.written_at),
        ("worker last seen", &status.seen_at),
    ] {
        writeln!(text, "{name:>20}  {}", at.as_deref().unwrap_or("never"))?;
    }
    Ok(text)
}
