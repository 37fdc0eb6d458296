//! Where a call is failed: a store is put in place, a seller runs under strace, and what it leaves
//! is checked without faults. It chooses no points.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use super::{
    CLIENTS_BEFORE, Scenario,
    point::{Point, watching},
};
use crate::random::Random;
use crate::sale::{
    self,
    check::{self, End},
    ledger::{Ledger, Note},
    life::{self, Heard, Life},
};

/// A run that takes longer hangs.
const RUN_WAIT: Duration = Duration::from_secs(90);

/// How long a process that has said its last word may take to end.
const EXIT_WAIT: Duration = Duration::from_secs(30);

/// What a failed call led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// The call was not made this time.
    Missed,
    /// Nobody had to be told.
    Unnoticed,
    /// The store said that storage has failed.
    Told,
}

/// The folder in which it happens.
pub(crate) struct Stage {
    place: TempDir,
    seed: u64,
    /// What was answered before a store crashed, by carts sold before. The store is in a folder of
    /// that number.
    before: BTreeMap<u64, Ledger>,
}

impl Stage {
    /// Makes the crashed stores that scenarios begin with.
    pub(crate) fn prepare(place: TempDir, seed: u64) -> anyhow::Result<Self> {
        let mut stage = Self { place, seed, before: BTreeMap::new() };
        for scenario in [Scenario::Reopen, Scenario::Roll] {
            stage.crash(scenario.sold_before().context("it begins with a store")?)?;
        }
        Ok(stage)
    }

    /// Makes a store that has crashed after each client had sold so many carts.
    fn crash(&mut self, carts: u64) -> anyhow::Result<()> {
        let mut before = Ledger::default();
        let mut command = life::ourselves();
        let (store, name) = (self.at(&carts.to_string()), format!("{:x}-{carts}", self.seed));
        command.args(life::seller(&store, &name, CLIENTS_BEFORE, carts));
        let mut life = Life::start(command)?;
        let heard = life.listen(&mut before, RUN_WAIT, |note| note == Note::Closing)?;
        ensure!(heard == Heard::Wanted, "the store to begin with can't be made: {heard:?}");
        life.kill(&mut before, drop)?;
        before.settle();
        self.before.insert(carts, before);
        Ok(())
    }

    /// Puts the store in place that `scenario` begins with; gives what was answered of it.
    fn set(&self, scenario: Scenario) -> anyhow::Result<Ledger> {
        let store = self.at("store");
        remove(&store)?;
        let Some(carts) = scenario.sold_before() else { return Ok(Ledger::default()) };
        sale::copy(&self.at(&carts.to_string()), &store)?;
        self.before.get(&carts).cloned().context("it was made")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Every call that can be failed, as runs without faults make them.
    pub(crate) fn points(&self) -> anyhow::Result<Vec<Point>> {
        let recovering = self.watch(Scenario::Open)?;
        let recovering = recovering.iter().filter(|point| point.is_sleds_read()).count() as u64;
        let mut points = Vec::new();
        for scenario in [Scenario::Create, Scenario::Reopen] {
            points.extend(self.watch(scenario)?);
        }
        // Commits are as everywhere else.
        points.extend(self.watch(Scenario::Roll)?.into_iter().filter(Point::is_of_a_roll));
        // What sled reads to recover was read a moment before by the store itself, and comes out of
        // the system's memory: a disk can't fail it, and sled would not survive it.
        points.retain(|point| !point.is_sleds_read() || point.nth > recovering);
        Ok(points)
    }

    fn watch(&self, scenario: Scenario) -> anyhow::Result<Vec<Point>> {
        let (log, mut ledger) = (self.at("strace"), self.set(scenario)?);
        let failures = self.sell(scenario, watching(&log), &mut ledger)?;
        ensure!(failures.is_empty(), "without a fault: {failures:?}");
        Point::all(scenario, &self.at("store"), &log)
    }

    /// One run in which `point` fails. An error is a broken promise.
    pub(crate) fn fail(&self, point: &Point) -> anyhow::Result<Outcome> {
        let (store, log) = (self.at("store"), self.at("strace"));
        let mut ledger = self.set(point.scenario)?;
        let failures = self.sell(point.scenario, point.failing(&store, &log), &mut ledger)?;
        let checked = self.at("checked");
        remove(&checked)?;
        sale::copy(&store, &checked)?;
        check::check(&checked, &mut ledger, &mut Random::new(self.seed), End::Closed)
            .with_context(|| format!("after the seller had said {failures:?}"))?;
        match (Point::was_hit(&log), failures.is_empty()) {
            (false, true) => Ok(Outcome::Missed),
            (true, true) => Ok(Outcome::Unnoticed),
            (true, false) => Ok(Outcome::Told),
            (false, false) => bail!("it failed without a fault: {failures:?}"),
        }
    }

    /// Runs a seller under strace to its end. Gives what it was told of failures.
    fn sell(
        &self,
        scenario: Scenario,
        strace: Vec<OsString>,
        ledger: &mut Ledger,
    ) -> anyhow::Result<Vec<String>> {
        let (store, log) = (self.at("store"), self.at("stderr"));
        let (clients, carts, rest_ms) = scenario.work();
        let name = format!("{:x}-{scenario}", self.seed);
        let mut command = Command::new("strace");
        command.args(strace).arg(life::ourselves().get_program());
        command.args(life::seller(&store, &name, clients, carts));
        command.args(["--rest-ms", &rest_ms.to_string()]);
        command.stderr(File::create(&log)?);
        let mut life = Life::start(command)?;
        let (mut failures, mut wrong, mut closed) = (Vec::new(), None, false);
        let heard = life.listen(ledger, RUN_WAIT, |note| {
            match note {
                // Every client is told the same.
                Note::Failed(why) if failures.contains(&why) => {}
                Note::Failed(why) => failures.push(why),
                Note::Wrong(what) => wrong = Some(what),
                Note::Closed => closed = true,
                _ => {}
            }
            false
        })?;
        ensure!(heard == Heard::End, "it hangs: it goes on after {RUN_WAIT:?}");
        let status = life.end(EXIT_WAIT)?.context("it hangs: it says no more and does not end")?;
        let errors = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        ensure!(status.success(), "it failed by itself: {status}: {errors}");
        // sled panics at some failures, and the store makes errors of them.
        let panics = errors.lines().filter(|line| line.contains("panicked at"));
        let ours: Vec<&str> = panics.filter(|line| !line.contains("/sled-")).collect();
        ensure!(ours.is_empty(), "it panicked: {ours:?}: {errors}");
        if let Some(what) = wrong {
            bail!("a client was told what must never be told: {what}");
        }
        ensure!(closed || !failures.is_empty(), "it neither closed nor said why");
        Ok(failures)
    }

    /// Keeps the store of the run that was just broken.
    pub(crate) fn keep(&self, number: usize) -> anyhow::Result<()> {
        let kept = self.at(&format!("broken-{number}"));
        sale::copy(&self.at("store"), &kept.join("store"))?;
        for name in ["strace", "stderr"] {
            // strace may not have got as far as to write one.
            let _ = fs::copy(self.at(name), kept.join(name));
        }
        Ok(())
    }

    /// Leaves the folder where it is.
    pub(crate) fn leave(self) -> PathBuf {
        self.place.keep()
    }
}

fn remove(folder: &PathBuf) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
