//! Replays that are killed (SIGKILL: no handler runs, no buffer is written) again and again, at
//! moments drawn from a seed, and taken up again with the same command. In the end nothing may tell
//! them from a replay that was left alone. Power loss is another matter: the system lives on here.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::FileExt,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use tidegate::{Level, OrderState};

use crate::{
    program::{self, count, tidegate},
    seed::Random,
    shop::orders_of,
    traces::{self, Shape, TraceOrder},
};

/// Kills while there is work to do, spread over it.
const KILLS_AT_WORK: u64 = 12;

/// Kills of a run that has only to close and to audit.
const KILLS_AT_THE_END: usize = 3;

/// A trace, and how it is replayed.
struct Case {
    folder: TempDir,
    orders: Vec<TraceOrder>,
    concurrency: &'static str,
    random: Random,
}

/// What can be read from a store after a replay.
#[derive(Debug, PartialEq)]
struct End {
    stock: BTreeMap<String, Level>,
    /// By the reference in its payment's event: user, lines, total, payments, state.
    orders: BTreeMap<String, Paid>,
}

#[derive(Debug, PartialEq)]
struct Paid {
    user: String,
    lines: Vec<(String, u64, Option<u64>)>,
    total_minor: u64,
    captured_minor: u64,
    payments: usize,
    state: OrderState,
}

#[test]
fn a_killed_replay_ends_as_one_that_was_left_alone() {
    let shape = Shape { orders: 1_200, skus: 12, users: 30, lines_max: 4 };
    let mut case = Case::new("a_killed_replay_ends_as_one_that_was_left_alone", shape, "1");
    let alone = case.folder.path().join("alone");
    let (expected, _) = case.run_alone(&alone);
    traces::model(&case.orders, 80).assert_matches(&expected);

    let killed = case.folder.path().join("killed");
    case.kill_at_start(&killed, 3);
    case.kill_at_work(&killed, journal_used(&alone), count(&expected, "accepted"));
    let (again, rerun) = case.run_alone(&killed);
    assert_same_counts(&again, &expected);
    case.kill_at_the_end(&killed, rerun);
    let (again, _) = case.run_alone(&killed);
    assert_same_counts(&again, &expected);
    assert_eq!(case.end(&killed), case.end(&alone));
    program::audit(&killed);
}

#[test]
fn killed_replays_of_many_orders_at_a_time_oversell_and_lose_nothing() {
    let name = "killed_replays_of_many_orders_at_a_time_oversell_and_lose_nothing";
    let shape = Shape { orders: 4_000, skus: 12, users: 30, lines_max: 4 };
    let mut case = Case::new(name, shape, "64");
    let (alone, killed) = (case.folder.path().join("alone"), case.folder.path().join("killed"));
    let (left_alone, _) = case.run_alone(&alone);
    case.kill_at_start(&killed, 1);
    case.kill_at_work(&killed, journal_used(&alone), count(&left_alone, "accepted"));
    let (report, _) = case.run_alone(&killed);

    let refused = count(&report, "rejected_sold_out") + count(&report, "rejected_other");
    assert_eq!(count(&report, "accepted") + refused, count(&report, "orders"), "{report}");
    assert_eq!(count(&report, "rejected_other"), 0, "{report}");
    let end = case.end(&killed);
    assert_eq!(end.orders.len() as u64, count(&report, "accepted"), "each is there, and once");
    let start = traces::model(&case.orders, 80).start;
    for (sku, level) in &end.stock {
        assert_eq!((level.on_hand, level.held), (start[sku], 0), "{sku}");
        assert!(level.allocated <= level.on_hand, "{sku} is oversold: {level:?}");
    }
    let sold: u64 = end.stock.values().map(|level| level.allocated).sum();
    assert_eq!(sold, count(&report, "units_sold"));
}

impl Case {
    fn new(name: &str, shape: Shape, concurrency: &'static str) -> Self {
        let mut random = Random::of(name);
        let folder = tempfile::tempdir().unwrap();
        let orders = traces::make(&folder.path().join("trace.csv"), shape, &mut random);
        Self { folder, orders, concurrency, random }
    }

    /// Runs to the end; says how long that took, for choosing when to kill.
    fn run_alone(&self, data: &Path) -> (Value, Duration) {
        let begun = Instant::now();
        let trace = self.folder.path().join("trace.csv");
        let report = program::replay(&trace, data, &["--concurrency", self.concurrency]);
        (report, begun.elapsed())
    }

    fn command(&self, data: &Path) -> Command {
        let mut command = tidegate();
        command.arg("replay").arg(self.folder.path().join("trace.csv")).arg("--data").arg(data);
        command.args(["--json", "--concurrency", self.concurrency]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Kills a run after `delay`. False if it was over by then.
    fn kill_after(&self, data: &Path, delay: Duration) -> bool {
        self.kill_when(data, || true, delay)
    }

    /// Kills a run `delay` after it is as far as `there` says. False if it was over by then.
    fn kill_when(&self, data: &Path, there: impl Fn() -> bool, delay: Duration) -> bool {
        let mut child = self.command(data).spawn().unwrap();
        while child.try_wait().unwrap().is_none() && !there() {
            // Its journal tells how far it is, and nothing tells of its journal.
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(delay);
        let over = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(over.is_none_or(|status| status.success()), "it failed by itself: {over:?}");
        over.is_none()
    }

    /// Kills while the store is created and opened.
    fn kill_at_start(&mut self, data: &Path, kills: u64) {
        for _ in 0..kills {
            let delay = Duration::from_micros(self.random.between(0, 150_000));
            self.kill_after(data, delay);
        }
    }

    /// Kills [`KILLS_AT_WORK`] times, so that each run does about one more part of all the work.
    /// `whole` and `accepted` are what a run that is left alone writes and sells.
    fn kill_at_work(&mut self, data: &Path, whole: u64, accepted: u64) {
        let (mut kills, mut sold, mut again) = (0, 0, 50);
        let mut seen = Vec::new();
        while kills < KILLS_AT_WORK {
            // Asking again for what is sold writes too, a good part of what selling it did.
            let wanted = accepted * (kills + 1) / (KILLS_AT_WORK + 1);
            let new = wanted.saturating_sub(sold) + sold * again / 100;
            let part = (whole * new / accepted).max(2);
            let grown = self.random.between(part / 2, part + part / 2);
            let end = journal_used(data) + grown;
            let delay = Duration::from_micros(self.random.between(0, 3_000));
            if !self.kill_when(data, || journal_used(data) >= end, delay) {
                again = again * 3 / 4;
                continue;
            }
            kills += 1;
            // A look at the crashed store; not each time, for it mends the journal's torn end.
            if kills.is_multiple_of(2) {
                let before = sold;
                sold = sold_so_far(data);
                again = if sold == before { again * 5 / 4 } else { again };
                seen.push(sold);
            } else {
                sold = sold.max(wanted);
            }
        }
        println!("accepted at every second kill, of {accepted}: {seen:?}");
    }

    /// Kills runs that find everything sold: once anywhere, and as they close and audit.
    fn kill_at_the_end(&mut self, data: &Path, rerun: Duration) {
        for _ in 0..KILLS_AT_THE_END {
            let part = self.random.between(600, 1_000) as u32;
            self.kill_after(data, rerun * part / 1_000);
        }
        for _ in 0..KILLS_AT_THE_END {
            let delay = Duration::from_micros(self.random.between(0, 60_000));
            self.kill_in_audit(data, delay);
        }
    }

    /// Kills a run `delay` after it has opened its store for the second time, to audit it.
    fn kill_in_audit(&self, data: &Path, delay: Duration) {
        let mut command = self.command(data);
        command.env("RUST_LOG", "info").stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let opened = log.lines().map(Result::unwrap).filter(|line| line.contains("journal opened"));
        assert_eq!(opened.take(2).count(), 2, "it opens its store to sell, and to audit");
        thread::sleep(delay);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn end(&self, data: &Path) -> End {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let gate = tidegate::Tidegate::builder(data).open().await.unwrap();
            let mut end = End { stock: BTreeMap::new(), orders: BTreeMap::new() };
            for sku in traces::model(&self.orders, 80).start.into_keys() {
                let total = gate.stock().get(&sku).await.unwrap().total;
                end.stock.insert(sku, total);
            }
            let mut users: Vec<&str> = self.orders.iter().map(|o| o.user.as_str()).collect();
            users.sort_unstable();
            users.dedup();
            for user in users {
                for order in orders_of(&gate, user, 50).await {
                    let reference = order.history.payments[0].event_id.to_string();
                    let before = end.orders.insert(reference, Paid::of(&order));
                    assert_eq!(before, None, "one reference, two orders: {order:?}");
                }
            }
            gate.close().await.unwrap();
            end
        })
    }
}

impl Paid {
    fn of(order: &tidegate::Order) -> Self {
        let lines = order.lines.iter();
        Self {
            user: order.user.to_string(),
            lines: lines.map(|l| (l.sku.to_string(), l.quantity.into(), l.amount_minor)).collect(),
            total_minor: order.total_minor,
            captured_minor: order.history.captured_minor,
            payments: order.history.payments.len(),
            state: order.state,
        }
    }
}

/// How many orders a crashed store has, by its audit, which must pass at any moment.
fn sold_so_far(data: &Path) -> u64 {
    if !data.join("tidegate.store").exists() {
        return 0;
    }
    let report = tidegate::audit(data).unwrap();
    assert!(report.ok, "{report:#?}");
    let found = report.checks.iter().find(|check| check.name == "conservation").unwrap();
    let numbers = found.detail.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
    // In memory, archived, or both.
    numbers.max().unwrap()
}

fn assert_same_counts(one: &Value, other: &Value) {
    for field in ["orders", "skipped_orders", "skipped_lines", "accepted", "rejected_sold_out"] {
        assert_eq!(count(one, field), count(other, field), "{field}");
    }
    for field in ["rejected_other", "units_sold"] {
        assert_eq!(count(one, field), count(other, field), "{field}");
    }
    assert_eq!(one["audit"]["ok"], true);
}

/// Bytes of a store's journal that have something in them.
fn journal_used(data: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(data.join("journal")) else { return 0 };
    let paths = entries.map(|entry| entry.unwrap().path());
    let segments = paths.filter(|path| path.extension().is_some_and(|suffix| suffix == "seg"));
    segments.map(|segment| used(&segment).unwrap_or(0)).sum()
}

/// Segments are filled from their beginning; what follows is zeros.
fn used(segment: &Path) -> std::io::Result<u64> {
    const BLOCK: u64 = 4_096;
    let file = fs::File::open(segment)?;
    let (mut full, mut end) = (0, file.metadata()?.len() / BLOCK);
    let mut block = [0; BLOCK as usize];
    while full < end {
        let middle = (full + end) / 2;
        file.read_exact_at(&mut block, middle * BLOCK)?;
        if block.iter().any(|byte| *byte != 0) { full = middle + 1 } else { end = middle }
    }
    Ok(full * BLOCK)
}
