//! `tidegate import-stock`: defines SKUs and moves stock, line by line from a file, a bounded
//! number at a time. Taken up again after a kill, within a day, it goes on where it was, and a file
//! that is imported is never imported again. How a file is read is in `file`.

mod file;
mod note;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use quanta::Clock;
use serde::Serialize;
use tidegate::{
    Adjustment, AskError, IdempotencyError, OpenError, Refusal, Sku, SkuPatch, StockClient,
    StockError, StockRejection, StorageError, Tidegate,
};
use tokio::{sync::mpsc, task::JoinSet};

#[cfg(feature = "fuzzing")]
pub(super) use self::file::fuzz_file;
use self::file::{BadLine, FileError, StockFile, StockLine, Survey};
use self::note::Progress;
use super::{
    ImportArguments, Verdict, grouped, print, print_json,
    progress::{bar, opening},
};

/// Lines applied between durable notes of how far the import is; also read ahead.
const CHUNK_LINES: usize = 8_192;

/// SKUs worked on at a time. The lines of one SKU are applied in the order of the file.
const SKUS_IN_FLIGHT: usize = 512;

/// How long a line waits when the store is full.
const OVERLOADED_WAIT: Duration = Duration::from_millis(2);

/// Bad lines that are listed; all are counted.
const BAD_LINES_LISTED: usize = 1_000;

/// What to do when the store is in use.
const WHILE_SERVED: &str =
    "nothing was imported; a running server takes stock at POST /v1/skus/{sku}/stock";

/// Longest name of an import.
const ID_BYTES_MAX: usize = 128;

/// What an import came to.
#[derive(Debug, Serialize)]
struct Outcome {
    import_id: String,
    /// Lines of the file, without the header and blank ones.
    lines: u64,
    /// Applied by this run. After a kill up to a chunk of them was there already.
    imported: u64,
    /// Applied by an earlier run.
    imported_before: u64,
    /// Not applied, those of earlier runs included.
    bad: u64,
    /// The first of those that this run met.
    bad_lines: Vec<Listed>,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Listed {
    line: u64,
    what: String,
}

/// Runs the command.
pub(super) async fn run(arguments: ImportArguments) -> anyhow::Result<Verdict> {
    let path = arguments.file.clone();
    let survey = tokio::task::spawn_blocking(move || Survey::of(&path)).await??;
    let id = arguments.import_id.unwrap_or(survey.fingerprint);
    if !(1..=ID_BYTES_MAX).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_graphic()) {
        bail!("--import-id must be 1 to {ID_BYTES_MAX} visible ASCII characters");
    }
    let gate = opening(Tidegate::builder(&arguments.data)).await.map_err(|error| {
        let locked = matches!(error, OpenError::Storage(StorageError::Locked { .. }));
        let error = anyhow::Error::from(error);
        if locked { error.context(WHILE_SERVED) } else { error }
    })?;
    let import = Import { gate: gate.clone(), id, file: arguments.file };
    let result = import.run(survey.lines).await;
    gate.close().await?;
    let outcome = result?;
    if arguments.json {
        print_json(&outcome)?;
    } else {
        print(&outcome.readable())?;
    }
    Ok(Verdict::of(outcome.bad == 0))
}

struct Import {
    gate: Tidegate,
    id: String,
    file: PathBuf,
}

type Chunk = Vec<Result<StockLine, BadLine>>;

impl Import {
    async fn run(&self, lines: u64) -> anyhow::Result<Outcome> {
        let clock = Clock::new();
        let begun = clock.now();
        let name = format!("import-stock/{}", self.id);
        let before = match self.gate.marks().get(&name).await? {
            Some(text) => serde_json::from_str(&text).context("the note of this import")?,
            None => Progress::default(),
        };
        before.check(&self.file, self.gate.now())?;
        let (mut progress, mut bad_lines) = (before, Vec::new());
        let bar = bar(Some(lines), "importing stock");
        bar.set_position(before.imported + before.bad);
        let mut chunks = read_ahead(StockFile::open(&self.file)?, before.line);
        while let Some(chunk) = chunks.recv().await {
            let chunk = chunk?;
            let last = chunk.last().map_or(progress.line, |line| match line {
                Ok(line) => line.number,
                Err(line) => line.number,
            });
            progress.begin(last, self.gate.now());
            self.gate.marks().set(&name, &serde_json::to_string(&progress)?).await?;
            let (imported, bad) = self.apply(chunk, &bar).await?;
            progress.end(last, imported, bad.len() as u64);
            self.note(bad, &mut bad_lines, &bar);
            self.gate.marks().set(&name, &serde_json::to_string(&progress)?).await?;
        }
        bar.finish_and_clear();
        Ok(Outcome {
            import_id: self.id.clone(),
            lines,
            imported: progress.imported - before.imported,
            imported_before: before.imported,
            bad: progress.bad,
            bad_lines,
            seconds: (clock.now() - begun).as_secs_f64(),
        })
    }

    /// Applies a chunk, SKUs side by side; gives how many lines were, and those that were not.
    async fn apply(&self, chunk: Chunk, bar: &ProgressBar) -> anyhow::Result<(u64, Vec<BadLine>)> {
        let (mut by_sku, mut bad) = (BTreeMap::<Sku, Vec<StockLine>>::new(), Vec::new());
        for line in chunk {
            match line {
                Ok(line) => by_sku.entry(line.sku.clone()).or_default().push(line),
                Err(line) => {
                    bar.inc(1);
                    bad.push(line);
                }
            }
        }
        let (mut tasks, mut imported) = (JoinSet::new(), 0);
        let mut left = by_sku.into_values();
        loop {
            while tasks.len() < SKUS_IN_FLIGHT
                && let Some(lines) = left.next()
            {
                let (stock, import_id) = (self.gate.stock().clone(), self.id.clone());
                tasks.spawn(Shelf { stock, import_id }.apply_all(lines, bar.clone()));
            }
            let Some(done) = tasks.join_next().await else { break };
            let (good, refused) = done??;
            imported += good;
            bad.extend(refused);
        }
        bad.sort_by_key(|line| line.number);
        Ok((imported, bad))
    }

    /// Tells of bad lines at once, and keeps the first for the report.
    fn note(&self, bad: Vec<BadLine>, listed: &mut Vec<Listed>, bar: &ProgressBar) {
        bar.suspend(|| {
            for BadLine { number: line, what } in bad {
                eprintln!("{}, line {line}: {what}", self.file.display());
                if listed.len() < BAD_LINES_LISTED {
                    listed.push(Listed { line, what });
                }
            }
        });
    }
}

/// Parses on a thread of its own, one chunk ahead, leaving out what was done before.
fn read_ahead(file: StockFile, done: u64) -> mpsc::Receiver<Result<Chunk, FileError>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let number = |line: &Result<StockLine, BadLine>| match line {
            Ok(line) => line.number,
            Err(line) => line.number,
        };
        let mut lines =
            file.skip_while(|line| line.as_ref().is_ok_and(|line| number(line) <= done)).peekable();
        while lines.peek().is_some() {
            let chunk: Result<Chunk, _> = lines.by_ref().take(CHUNK_LINES).collect();
            let failed = chunk.is_err();
            // If nobody listens any more, the import has failed.
            if sender.blocking_send(chunk).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// Why a line was not applied.
enum Trouble {
    /// The line is at fault; nothing of it was applied.
    Bad(String),
    /// The store is; the import ends.
    Fatal(StockError),
}

/// Applies lines of one SKU, one after the other.
struct Shelf {
    stock: StockClient,
    import_id: String,
}

impl Shelf {
    async fn apply_all(
        self,
        lines: Vec<StockLine>,
        bar: ProgressBar,
    ) -> anyhow::Result<(u64, Vec<BadLine>)> {
        let (mut imported, mut bad) = (0, Vec::new());
        for line in lines {
            let number = line.number;
            match self.apply(line).await {
                Ok(()) => imported += 1,
                Err(Trouble::Bad(what)) => bad.push(BadLine { number, what }),
                Err(Trouble::Fatal(error)) => {
                    return Err(error).with_context(|| {
                        format!("line {number}; nothing is lost, run the same command again")
                    });
                }
            }
            bar.inc(1);
        }
        Ok((imported, bad))
    }

    /// Applies a line, or nothing of it. What the store may refuse comes first, what it can't then
    /// any more comes second; nobody else changes the store meanwhile.
    async fn apply(&self, line: StockLine) -> Result<(), Trouble> {
        if let Some(limit) = line.options.backorder_limit {
            self.check_backorder(&line, limit).await?;
        }
        if line.delta != 0 {
            match self.adjust(&line).await {
                Err(AskError::Rejected(StockRejection::Refused(Refusal::UnknownSku {
                    ..
                }))) if line.delta > 0 => {
                    // A new SKU takes any options, and any units within their bounds.
                    self.define(&line).await?;
                    return self.adjust(&line).await.map_err(trouble);
                }
                adjusted => adjusted.map_err(trouble)?,
            }
        }
        if line.delta == 0 || line.options != SkuPatch::default() {
            self.define(&line).await?;
        }
        Ok(())
    }

    /// That `limit` can be set once the line's units are in.
    async fn check_backorder(&self, line: &StockLine, limit: u32) -> Result<(), Trouble> {
        let item = loop {
            match self.stock.get(line.sku.as_str()).await {
                Err(AskError::Overloaded { .. }) => tokio::time::sleep(OVERLOADED_WAIT).await,
                Err(AskError::Rejected(StockRejection::Refused(Refusal::UnknownSku {
                    ..
                }))) => {
                    return Ok(());
                }
                item => break item.map_err(trouble)?,
            }
        };
        for (place, level) in &item.locations {
            let more = if *place == line.location { line.delta.unsigned_abs() } else { 0 };
            let in_use = level.committed().saturating_sub(level.on_hand.saturating_add(more));
            if in_use > u64::from(limit) {
                let what = format!("backorder_limit must be at least {in_use}, which is in use");
                return Err(Trouble::Bad(what));
            }
        }
        Ok(())
    }

    async fn adjust(&self, line: &StockLine) -> Result<(), StockError> {
        let StockLine { number, sku, delta, location, reason, .. } = line;
        let adjustment =
            Adjustment::new(sku.as_str(), *delta, reason.as_str()).at(location.as_str());
        let key = format!("import-stock/{}/{number}", self.import_id);
        loop {
            match self.stock.adjust(adjustment.clone(), &key).await {
                Err(AskError::Overloaded { .. }) => tokio::time::sleep(OVERLOADED_WAIT).await,
                adjusted => return adjusted.map(drop),
            }
        }
    }

    async fn define(&self, line: &StockLine) -> Result<(), Trouble> {
        loop {
            match self.stock.define(line.sku.as_str(), line.options.clone()).await {
                Err(AskError::Overloaded { .. }) => tokio::time::sleep(OVERLOADED_WAIT).await,
                defined => return defined.map(drop).map_err(trouble),
            }
        }
    }
}

fn trouble(error: StockError) -> Trouble {
    match error {
        AskError::Rejected(StockRejection::Idempotency(IdempotencyError::Conflict)) => {
            let what = "another line with this number was imported under this --import-id";
            Trouble::Bad(what.to_owned())
        }
        // Not the line's fault: the memory of keys is full.
        AskError::Rejected(StockRejection::Idempotency(_)) => Trouble::Fatal(error),
        AskError::Rejected(rejection) => Trouble::Bad(rejection.to_string()),
        error => Trouble::Fatal(error),
    }
}

impl Outcome {
    fn readable(&self) -> String {
        let mut rows = vec![
            ("lines", grouped(self.lines)),
            ("imported", grouped(self.imported)),
            ("imported before", grouped(self.imported_before)),
            ("bad, not imported", grouped(self.bad)),
            ("time", format!("{:.2} s", self.seconds)),
        ];
        if self.bad == 0 && self.imported == 0 && self.imported_before > 0 {
            rows.push(("nothing to do", format!("import {} is complete", self.import_id)));
        }
        rows.into_iter().map(|(name, value)| format!("{name:>20}  {value}\n")).collect()
    }
}
