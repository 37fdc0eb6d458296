//! The journal by itself, per durability and batch size, beside a bare loop of write and
//! `fdatasync` of as many bytes on the same disk. The loop has it best: one file that was written
//! before. What records mean is not known here.

use std::{
    convert::Infallible,
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tidegate_storage::{
    Batch, FileJournal, Journal, JournalOptions, MemoryJournal, Position, StreamId, Urgency,
};
use tokio::sync::oneshot;

use crate::{
    load::{Answer, Asked, Until, ask_many},
    row::{Row, Waited},
    work::hashed,
};

/// About what an event takes.
const RECORD_BYTES: usize = 200;
const BATCHES: [u64; 4] = [1, 16, 256, 4_096];
const IN_FLIGHT: [u64; 2] = [1, 64];

/// What a cell writes at most: more would measure how fast new files are prepared.
const BYTES_MAX: u64 = 256 << 20;
const BARE_FILE_BYTES: u64 = 16 << 20;

/// The median of a 4 KiB write and `fdatasync` in `dir`, in microseconds.
pub(crate) fn bare_sync_us(dir: &Path) -> Result<f64> {
    Ok(Waited::of(bare(dir, 4_096, 300, Duration::MAX)?)?.p50_us)
}

/// Writes and syncs `bytes` again and again; gives what each took, in nanoseconds.
fn bare(dir: &Path, bytes: usize, count: u64, at_most: Duration) -> Result<Vec<u64>> {
    let file = tempfile::tempfile_in(dir)?;
    write_over(&file, 0)?;
    file.sync_all()?;
    let block = vec![1; bytes];
    let (start, mut took) = (Instant::now(), Vec::new());
    let mut at = 0;
    while (took.len() as u64) < count && start.elapsed() < at_most {
        let begun = Instant::now();
        file.write_all_at(&block, at)?;
        file.sync_data()?;
        took.push(begun.elapsed().as_nanos() as u64);
        at = (at + bytes as u64) % (BARE_FILE_BYTES - bytes as u64);
    }
    Ok(took)
}

fn write_over(file: &File, byte: u8) -> Result<()> {
    let block = vec![byte; 1 << 20];
    for at in (0..BARE_FILE_BYTES).step_by(block.len()) {
        file.write_all_at(&block, at)?;
    }
    Ok(())
}

/// Rows for each batch size: the bare loop, the journal on disk, the journal in memory.
pub(crate) async fn run(dir: &Path, seconds: f64) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for records in BATCHES {
        let size = records as usize * RECORD_BYTES;
        let count = BYTES_MAX / size as u64;
        let took = bare(dir, size, count, Duration::from_secs_f64(seconds))?;
        let spent: u64 = took.iter().sum();
        let mut row = Row::of("journal", &format!("bare loop, batches of {records}"), "record");
        row.durability = "synced".to_owned();
        row.batch = Some(records as f64);
        row.good_per_second = records as f64 * took.len() as f64 / (spent as f64 / 1e9);
        row.waited = Waited::of(took)?;
        rows.push(row);
        for in_flight in IN_FLIGHT {
            let folder = tempfile::tempdir_in(dir)?;
            let journal = FileJournal::open(folder.path(), &JournalOptions::default())?;
            let row = load(Arc::new(journal), records, in_flight, seconds, "synced").await?;
            rows.push(row);
        }
        let memory = Arc::new(MemoryJournal::new());
        rows.push(load(memory, records, 1, seconds, "none, in memory").await?);
    }
    Ok(rows)
}

/// Batches of `records` into `journal`, and whether they can all be read back.
async fn load(
    journal: Arc<dyn Journal>,
    records: u64,
    in_flight: u64,
    seconds: f64,
    durability: &str,
) -> Result<Row> {
    let size = records * RECORD_BYTES as u64;
    let until = Until::numbers(BYTES_MAX / size).within(seconds);
    let before = journal.stats().commits;
    let to = Arc::clone(&journal);
    let asked = ask_many(in_flight, until, move |number| {
        let (journal, batch) = (Arc::clone(&to), batch_of(number, records));
        async move {
            let (tell, told) = oneshot::channel();
            let done = Box::new(move |result| {
                // Who has gone away need not know.
                let _ = tell.send(result);
            });
            journal.append(batch, Urgency::Now, done)?;
            told.await??;
            Ok(())
        }
    });
    let asked: Asked<()> = asked.await?;
    let commits = (journal.stats().commits - before).max(1);
    let batches = asked.answers.len() as u64;
    let row = Row::of("journal", &format!("journal, batches of {records}"), "record");
    let mut row = row.with_load(&asked, |()| true)?;
    row.good_per_second *= records as f64;
    row.durability = durability.to_owned();
    row.in_flight = in_flight;
    row.batch = Some((batches * records) as f64 / commits as f64);
    let expected = asked.answers.iter().flat_map(|Answer { n, .. }| {
        (0..records).map(move |record| hashed(&[n * records + record]))
    });
    let expected = expected.fold(0, |all, one| all ^ one);
    let read = read_back(&*journal)?;
    row.hash = format!("{read:016x}");
    if read != expected {
        row.faults.push(format!("what can be read is {read:016x}, not {expected:016x}"));
    }
    journal.close()?;
    Ok(row)
}

/// Records that begin with their numbers.
fn batch_of(number: u64, records: u64) -> Batch {
    let bytes = records as usize * (RECORD_BYTES + 4);
    let mut batch = Batch::with_room(StreamId(1), 0, bytes);
    for record in number * records..(number + 1) * records {
        let Ok(()) = batch.push::<Infallible>(|out| {
            out.extend_from_slice(&record.to_be_bytes());
            out.resize(out.len() + RECORD_BYTES - size_of::<u64>(), 7);
            Ok(())
        });
    }
    batch
}

/// A hash of the numbers of all records, in whatever order they are.
fn read_back(journal: &dyn Journal) -> Result<u64> {
    let mut reader = journal.read(Position::ZERO)?;
    let mut all = 0;
    while let Some(entry) = reader.next()? {
        let number = entry.bytes.first_chunk().context("a record without a number")?;
        all ^= hashed(&[u64::from_be_bytes(*number)]);
    }
    Ok(all)
}
