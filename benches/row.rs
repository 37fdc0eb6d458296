//! What a run leaves behind: rows of figures, and the machine that they were measured on. It is
//! written and read as JSON, and judges nothing.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{load::Asked, store::journal::bare_sync_us};

/// One line of the table: one thing, measured in one way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// What is measured: `orders`, `journal`, `reads`…
    pub(crate) bench: String,
    /// Who does it.
    pub(crate) who: String,
    pub(crate) durability: String,
    pub(crate) skew: String,
    pub(crate) in_flight: u64,
    /// Things done for each sync of a log; none if it is not known.
    pub(crate) batch: Option<f64>,
    /// Bytes of the log for each of them.
    pub(crate) bytes: Option<f64>,
    /// What one thing done is: an order, a record, a read…
    pub(crate) unit: String,
    /// Done or accepted, a second.
    pub(crate) good_per_second: f64,
    /// Refused, a second.
    pub(crate) refused_per_second: f64,
    /// Of what was done or accepted.
    pub(crate) waited: Waited,
    /// Of what was refused.
    pub(crate) refused_waited: Waited,
    /// Figures that only few benches have, each with its name.
    #[serde(default)]
    pub(crate) more: Vec<(String, f64)>,
    /// Of the result. Two rows with the same one have done the same.
    pub(crate) hash: String,
    /// What was wrong with the result.
    pub(crate) faults: Vec<String>,
    /// Rounds that the figures are medians of.
    pub(crate) rounds: usize,
}

/// How long was waited, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Waited {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

impl Waited {
    pub(crate) fn of(nanos: impl IntoIterator<Item = u64>) -> Result<Self> {
        let mut histogram = Histogram::<u64>::new(3)?;
        for nanos in nanos {
            histogram.record(nanos)?;
        }
        let quantile = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        Ok(Self {
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            max_us: quantile(1.0),
        })
    }
}

impl Row {
    /// A row of things that are not asked for by a load: figures, but nothing refused.
    pub(crate) fn of(bench: &str, who: &str, unit: &str) -> Self {
        Self {
            bench: bench.to_owned(),
            who: who.to_owned(),
            durability: "none".to_owned(),
            skew: "–".to_owned(),
            in_flight: 1,
            batch: None,
            bytes: None,
            unit: unit.to_owned(),
            good_per_second: 0.0,
            refused_per_second: 0.0,
            waited: Waited::default(),
            refused_waited: Waited::default(),
            more: Vec::new(),
            hash: String::new(),
            faults: Vec::new(),
            rounds: 1,
        }
    }

    /// A row that says nothing but that `who` has failed.
    pub(crate) fn failed(bench: &str, who: &str, error: &anyhow::Error) -> Self {
        Self { faults: vec![format!("{error:#}")], ..Self::of(bench, who, "row") }
    }

    /// The same with the figures of a load; `is_good` tells successes from refusals.
    pub(crate) fn with_load<T>(
        mut self,
        asked: &Asked<T>,
        is_good: impl Fn(&T) -> bool,
    ) -> Result<Self> {
        let (mut good, mut refused) = (Vec::new(), Vec::new());
        for answer in asked.timed() {
            let to = if is_good(&answer.outcome) { &mut good } else { &mut refused };
            to.push(answer.waited_ns);
        }
        let seconds = asked.seconds().max(f64::MIN_POSITIVE);
        self.good_per_second = good.len() as f64 / seconds;
        self.refused_per_second = refused.len() as f64 / seconds;
        self.waited = Waited::of(good)?;
        self.refused_waited = Waited::of(refused)?;
        Ok(self)
    }

    /// The same with one figure more.
    pub(crate) fn and(mut self, name: &str, figure: f64) -> Self {
        self.more.push((name.to_owned(), figure));
        self
    }

    /// The same for rounds that each have the same rows in the same order.
    pub(crate) fn medians(rounds: &[Vec<Self>]) -> Vec<Self> {
        let rows = rounds.iter().map(Vec::len).min().unwrap_or(0);
        let rounds_of =
            |row: usize| -> Vec<Self> { rounds.iter().map(|round| round[row].clone()).collect() };
        (0..rows).filter_map(|row| Self::median(&rounds_of(row))).collect()
    }

    /// One row for several rounds: each figure is the median of its own (of an even number, the
    /// mean of the middle two), every fault is kept.
    pub(crate) fn median(rounds: &[Self]) -> Option<Self> {
        let last = rounds.last()?;
        let median = |figure: &dyn Fn(&Self) -> f64| {
            let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            let (below, above) = ((figures.len() - 1) / 2, figures.len() / 2);
            f64::midpoint(figures[below], figures[above])
        };
        let waited = |of: fn(&Self) -> &Waited| Waited {
            p50_us: median(&|row| of(row).p50_us),
            p99_us: median(&|row| of(row).p99_us),
            p999_us: median(&|row| of(row).p999_us),
            max_us: median(&|row| of(row).max_us),
        };
        let known = |figure: fn(&Self) -> Option<f64>| {
            let all = rounds.iter().all(|row| figure(row).is_some());
            all.then(|| median(&|row| figure(row).unwrap_or_default()))
        };
        let more = (0..last.more.len()).map(|at| {
            let figure = |row: &Self| row.more.get(at).map_or(f64::NAN, |(_, figure)| *figure);
            (last.more[at].0.clone(), median(&figure))
        });
        Some(Self {
            more: more.collect(),
            batch: known(|row| row.batch),
            bytes: known(|row| row.bytes),
            good_per_second: median(&|row| row.good_per_second),
            refused_per_second: median(&|row| row.refused_per_second),
            waited: waited(|row| &row.waited),
            refused_waited: waited(|row| &row.refused_waited),
            faults: rounds.iter().flat_map(|row| row.faults.clone()).collect(),
            rounds: rounds.len(),
            ..last.clone()
        })
    }
}

/// A whole run.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Where it ran and how: what one needs to run it again.
    pub(crate) machine: BTreeMap<String, String>,
    /// How each contender was set up.
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) rows: Vec<Row>,
    /// What touches no disk, as criterion has estimated it.
    pub(crate) parts: Vec<Part>,
}

/// The time that a part takes, in nanoseconds: the median, and where it lies with 95 %.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Results {
    /// An empty run on this machine, with its data in `dir`.
    pub(crate) fn begin(dir: &Path) -> Result<Self> {
        let mut results = Self::default();
        let facts = [
            ("command", std::env::args().skip(1).collect::<Vec<_>>().join(" ")),
            ("date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
            (
                "commit",
                said("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"]),
            ),
            ("system", said("uname", &["-sr"])),
            ("processor", processor()),
            ("file system", said("stat", &["-f", "-c", "%T", &dir.to_string_lossy()])),
            (
                "build",
                if cfg!(debug_assertions) { "debug: no figure counts" } else { "release" }.into(),
            ),
        ];
        results.machine.extend(facts.map(|(name, fact)| (name.to_owned(), fact)));
        results.note_sync("bare sync before, p50", dir)?;
        Ok(results)
    }

    /// Notes what the disk does by itself just now.
    pub(crate) fn note_sync(&mut self, name: &str, dir: &Path) -> Result<()> {
        let micros = bare_sync_us(dir)?;
        self.machine.insert(name.to_owned(), format!("{micros:.0} µs"));
        Ok(())
    }

    pub(crate) fn read(file: &Path) -> Result<Self> {
        let text = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        Ok(serde_json::from_slice(&text)?)
    }

    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(file, text).with_context(|| format!("writing {}", file.display()))
    }

    pub(crate) fn right(&self) -> bool {
        self.rows.iter().all(|row| row.faults.is_empty())
    }
}

/// The first line of what a program says; nothing if it is not there.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

fn processor() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    format!("{cores} × {}", name.unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle_and_keeps_every_fault() {
        let round = |per_second, fault: &str| {
            let mut row = Row::of("orders", "somebody", "order").and("a share", per_second / 10.0);
            row.good_per_second = per_second;
            row.faults.extend((!fault.is_empty()).then(|| fault.to_owned()));
            row
        };
        let [low, high, middle] = [round(10.0, "sold twice"), round(40.0, ""), round(20.0, "lost")];
        let median = Row::median(&[low.clone(), high.clone(), middle]).unwrap();
        assert_eq!((median.good_per_second, median.more[0].1, median.rounds), (20.0, 2.0, 3));
        assert_eq!(median.faults, ["sold twice", "lost"]);
        let median = Row::median(&[high, low]).unwrap();
        assert_eq!((median.good_per_second, median.more[0].1), (25.0, 2.5));
        assert!(Row::median(&[]).is_none());
    }
}
