//! `messages`: a process that publishes, and consumes with two groups, is killed (SIGKILL) again
//! and again. In the end each group must have handled each message, and what follows from a message
//! must have followed once. How a store opens after a kill is `kills`' matter.

mod check;
mod work;

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::Args;
use tidegate::{Builder, Tidegate, Topic};

pub(crate) use self::work::{Arguments as WorkArguments, run as work};
use crate::{Verdict, random::Random, sale::life::ourselves};

/// Kills after which the store is looked at and another one begun.
const KILLS_PER_STORE: u64 = 25;

/// Publishers. Each publishes every so manyth number, one after the other.
const PUBLISHERS: u64 = 4;

/// Keys of messages; those of one key are all published by one publisher.
const KEYS: u64 = 32;

/// The topic, and who consumes it.
const TOPIC: &str = "numbers";
const GROUPS: [&str; 2] = ["one", "two"];

/// Attempts before a message is given up.
const ATTEMPTS_MAX: u32 = 3;

/// How many rounds, and with what luck.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Kills.
    #[arg(long, default_value_t = 100)]
    rounds: u64,
    /// Where luck comes from; drawn and printed unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Where stores are made; a temporary folder unless given.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Kill nothing: publish so many messages, one of which nobody can handle.
    #[arg(long, value_name = "MESSAGES")]
    one_bad_among: Option<u64>,
}

/// What a message is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    /// It is handled at its first attempt.
    Good,
    /// Nobody can handle it.
    Bad,
    /// Whoever tries it first says nothing any more.
    Hangs,
    /// Its first attempt fails.
    Fails,
    /// It is published later than others of its key that follow it.
    Delayed,
}

impl Nature {
    fn of(number: u64) -> Self {
        match number % 997 {
            13 | 500 => Self::Bad,
            100 => Self::Hangs,
            n if n % 41 == 1 => Self::Fails,
            n if n % 53 == 2 => Self::Delayed,
            _ => Self::Good,
        }
    }
}

fn key_of(number: u64) -> String {
    format!("k{}", number % KEYS)
}

/// Small files, so that all that happens to them happens often.
fn store(folder: &std::path::Path) -> Builder {
    Tidegate::builder(folder)
        .segment_bytes(1 << 20)
        .snapshot_every_bytes(256 << 10)
        .events_retained_bytes(0)
        .arbiters(2)
}

fn topic(gate: &Tidegate) -> anyhow::Result<Topic<u64>> {
    Ok(gate.topic(TOPIC)?)
}

/// Where a group publishes what it has handled.
fn handled_by(gate: &Tidegate, group: &str) -> anyhow::Result<Topic<u64>> {
    Ok(gate.topic(&format!("handled-by-{group}"))?)
}

/// Kills as often as asked. Prints how to repeat a run that broke a promise, and keeps its store.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let seed = arguments.seed.unwrap_or_else(Random::any_seed);
    let place = match &arguments.folder {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let place = place.context("no folder for stores")?;
    if let Some(messages) = arguments.one_bad_among {
        println!("messages: {messages}, one of them bad");
        check::one_bad_among(&place.path().join("store"), messages)?;
        println!("messages: held: all others were handled, and that one when it was replayed");
        return Ok(Verdict::Held);
    }
    let rounds = arguments.rounds;
    println!("messages: {rounds} kills, seed {seed}");
    let (mut random, began, mut done) = (Random::new(seed), Instant::now(), 0);
    let (mut published, mut dead) = (0, 0);
    while done < rounds {
        let store = place.path().join(format!("store-{done}"));
        let (mut next, kills) = ([0; PUBLISHERS as usize], KILLS_PER_STORE.min(rounds - done));
        for _ in 0..kills {
            kill(&store, &mut next, &mut random)?;
        }
        done += kills;
        match check::check(&store, &next) {
            Ok(counts) => (published, dead) = (published + counts.published, dead + counts.dead),
            Err(error) => {
                let kept = place.keep();
                println!("messages: BROKEN after {done} kills: {error:#}");
                println!("messages: the store is in {}", kept.display());
                println!("messages: to repeat: just messages --rounds {rounds} --seed {seed}");
                return Ok(Verdict::Broken);
            }
        }
        std::fs::remove_dir_all(store)?;
    }
    let (groups, took) = (GROUPS.len(), began.elapsed().as_secs_f64());
    println!(
        "messages: {published} published, {dead} dead letters of {groups} groups, {took:.0} s"
    );
    println!("messages: held: each group handled each, and each effect happened once");
    Ok(Verdict::Held)
}

/// Starts a process, hears what it publishes, and kills it. `next` has the number that each
/// publisher goes on with: the first that nobody was told to be published.
fn kill(store: &std::path::Path, next: &mut [u64], random: &mut Random) -> anyhow::Result<()> {
    let from: Vec<_> = next.iter().map(u64::to_string).collect();
    let mut command: Command = ourselves();
    command.arg("messages-work").arg(store).args(["--from", &from.join(",")]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let out = child.stdout.take().context("its stdout is a pipe")?;
    let listening = thread::spawn(move || {
        let lines = BufReader::new(out).lines().map_while(Result::ok);
        lines.filter_map(|line| line.parse::<u64>().ok()).collect::<Vec<_>>()
    });
    // Some die while they open their store, most while they work.
    thread::sleep(Duration::from_millis(random.between(1, 900)));
    let over = child.try_wait()?;
    child.kill()?;
    child.wait()?;
    ensure!(over.is_none(), "a process failed by itself: {over:?}");
    let told = listening.join().map_err(|_| anyhow::anyhow!("the listener panicked"))?;
    for number in told {
        let publisher = (number % PUBLISHERS) as usize;
        // A last line may be cut short, and a number with it.
        if number / PUBLISHERS == next[publisher] {
            next[publisher] += 1;
        }
    }
    Ok(())
}
