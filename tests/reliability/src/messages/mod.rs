//! `messages`: a process that publishes, and consumes with two groups, is killed (SIGKILL) again
//! and again. In the end each group must have handled each message, and what follows from a message
//! must have followed once. How a store opens after a kill is `kills`' matter.

pub(crate) mod check;
pub(crate) mod work;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::Args;
use tidegate::{Builder, Tidegate, Topic};

pub(crate) use self::work::{Arguments as WorkArguments, run as work};
use crate::{Verdict, ground::Ground, random::Random, sale::life::ourselves};

/// Kills after which the store is looked at and another one begun.
const KILLS_PER_STORE: u64 = 25;

/// Publishers. Each publishes every so manyth number, one after the other.
const PUBLISHERS: u64 = 4;

/// Keys of messages; those of one key are all published by one publisher.
const KEYS: u64 = 32;

/// The topic, and who consumes it.
const TOPIC: &str = "numbers";
const GROUPS: [&str; 2] = ["one", "two"];

/// Attempts before a message is given up. A kill costs one of each message in hands, and kills may
/// follow each other before anything is done: more than there are kills of a store.
pub(crate) const ATTEMPTS_MAX: u32 = 32;

/// How many rounds, and with what luck.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Kills.
    #[arg(long, default_value_t = 100)]
    rounds: u64,
    #[command(flatten)]
    ground: Ground,
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
fn store(folder: &Path) -> Builder {
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
    let seed = arguments.ground.seed();
    let place = arguments.ground.place()?;
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
        let (mut told, kills) = (Told::default(), KILLS_PER_STORE.min(rounds - done));
        for _ in 0..kills {
            kill(&store, &mut told, &mut random)?;
        }
        done += kills;
        match check::check(&store, &told) {
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

/// The number that each publisher goes on with: the first that nobody was told to be published.
#[derive(Default)]
pub(crate) struct Told([u64; PUBLISHERS as usize]);

impl Told {
    /// How the next process is told.
    pub(crate) fn argument(&self) -> String {
        self.0.map(|next| next.to_string()).join(",")
    }

    /// Takes note of a number that was published.
    pub(crate) fn note(&mut self, number: u64) {
        let next = &mut self.0[(number % PUBLISHERS) as usize];
        if number / PUBLISHERS == *next {
            *next += 1;
        }
    }

    /// Every number that was told to be published.
    fn numbers(&self) -> impl Iterator<Item = u64> {
        let of = |(publisher, next): (u64, &u64)| {
            (0..*next).map(move |turn| turn * PUBLISHERS + publisher)
        };
        (0..).zip(&self.0).flat_map(of)
    }
}

/// Starts a process, hears what it publishes, and kills it.
fn kill(store: &Path, told: &mut Told, random: &mut Random) -> anyhow::Result<()> {
    let mut command: Command = ourselves();
    command.arg("messages-work").arg(store).args(["--from", &told.argument()]);
    // Some die while they open their store, most while they work.
    let said = cut_short(command, Duration::from_millis(random.between(1, 900)))?;
    said.iter().filter_map(|line| line.parse().ok()).for_each(|number| told.note(number));
    Ok(())
}

/// Starts a process, kills it (SIGKILL) after `wait`, and gives what it has said, line by line. A
/// line that was cut short was never said.
///
/// # Errors
/// It had ended by itself.
pub(crate) fn cut_short(mut command: Command, wait: Duration) -> anyhow::Result<Vec<String>> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut out = BufReader::new(child.stdout.take().context("its stdout is a pipe")?);
    let listening = thread::spawn(move || {
        let (mut said, mut line) = (Vec::new(), String::new());
        while out.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            said.extend(line.strip_suffix('\n').map(str::to_owned));
            line.clear();
        }
        said
    });
    thread::sleep(wait);
    let over = child.try_wait()?;
    child.kill()?;
    child.wait()?;
    ensure!(over.is_none(), "a process failed by itself: {over:?}");
    listening.join().map_err(|_| anyhow::anyhow!("the listener panicked"))
}
