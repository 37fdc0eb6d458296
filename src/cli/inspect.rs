//! `tidegate inspect`: prints what the library's look at a store found. It judges nothing; `audit`
//! does.

use std::fmt::Write;

use anyhow::Context;
use tidegate::InspectReport;

use super::{InspectArguments, Verdict, grouped, print, print_json};

/// Runs the command.
pub(super) async fn run(arguments: InspectArguments) -> anyhow::Result<Verdict> {
    let scratch = tempfile::tempdir().context("can't make a temporary folder")?;
    let path = scratch.path().to_owned();
    let look = tokio::task::spawn_blocking(move || tidegate::inspect(arguments.data, path));
    let report = look.await??;
    if arguments.json {
        print_json(&report)?;
    } else {
        print(&readable(&report)?)?;
    }
    Ok(Verdict::Good)
}

fn readable(report: &InspectReport) -> Result<String, std::fmt::Error> {
    let InspectReport { machines, journal, snapshots, orders, state_bytes } = report;
    let mut text = String::new();
    for machine in machines {
        let (name, shards) = (&machine.name, machine.shards);
        let records = grouped(machine.records);
        writeln!(text, "{:>20}  {shards} shards, {records} records in the journal", name)?;
    }
    let span = journal.last.saturating_sub(journal.oldest.saturating_sub(1));
    let (oldest, last) = (grouped(journal.oldest), grouped(journal.last));
    writeln!(text, "{:>20}  {oldest} to {last}, {} records", "positions", grouped(span))?;
    if let (Some(first), Some(last)) = (journal.oldest_at_ms, journal.last_at_ms) {
        let at = "ms since 1970";
        writeln!(text, "{:>20}  {first} to {last} {at}", "written")?;
    }
    if journal.torn_tail {
        writeln!(text, "{:>20}  torn; the next open cuts it off, nothing is lost", "last write")?;
    }
    for segment in &journal.segments {
        let (first, last) = (grouped(segment.first), grouped(segment.last));
        let (used, bytes) = (grouped(segment.used_bytes), grouped(segment.bytes));
        let file = &segment.file;
        writeln!(text, "{:>20}  {file}: {first} to {last}, {used} of {bytes} bytes", "segment")?;
    }
    for snapshot in snapshots {
        let (machine, shard) = (&snapshot.machine, snapshot.shard);
        let (position, bytes) = (grouped(snapshot.position), grouped(snapshot.bytes));
        writeln!(text, "{:>20}  {machine} {shard} at {position}, {bytes} bytes", "snapshot")?;
    }
    match (orders.in_memory, &orders.trouble) {
        (Some(live), _) => writeln!(text, "{:>20}  {}", "orders in memory", grouped(live))?,
        (None, trouble) => {
            let why = trouble.as_deref().unwrap_or("unknown");
            writeln!(text, "{:>20}  can't be rebuilt: {why}", "orders in memory")?;
        }
    }
    writeln!(text, "{:>20}  {}", "orders archived", grouped(orders.archived))?;
    writeln!(text, "{:>20}  {} bytes", "state", grouped(*state_bytes))?;
    Ok(text)
}
