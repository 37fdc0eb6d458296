//! `io-faults`: a selling process runs again and again, and each time another call of the system
//! that it makes for its store fails once, by strace. Then the store is compared with what was
//! answered. The store's code knows nothing of it. Writes that are cut short are not made here,
//! since strace can't: the journal's own tests do that.

mod point;
mod stage;

use std::{
    collections::BTreeMap,
    fmt,
    process::{Command, Stdio},
    str::FromStr,
    time::Instant,
};

use anyhow::Context;
use clap::Args;

use self::{point::Point, stage::Stage};
use crate::{Verdict, ground::Ground, random::Random};

/// Clients that sell before a store crashes.
const CLIENTS_BEFORE: u64 = 64;

/// Which calls fail, and where stores are made.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// As many points, drawn from the seed, instead of all.
    #[arg(long)]
    points: Option<usize>,
    /// Only points whose names contain this, such as `reopen:` or `:state/db:`.
    #[arg(long, default_value = "")]
    matching: String,
    /// Only this point, as a failure names it.
    #[arg(long)]
    only: Option<Point>,
    #[command(flatten)]
    ground: Ground,
    /// Prints what each point came to.
    #[arg(long)]
    each: bool,
}

/// What runs while a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scenario {
    /// A store is created, sells a little, and closes.
    Create,
    /// A store that has crashed is opened and closed.
    Open,
    /// A store that has crashed is opened, sells, takes snapshots, archives, closes and trims.
    Reopen,
    /// The same with a store whose segment is almost full, so that the journal rolls.
    Roll,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::Reopen => "reopen",
            Self::Roll => "roll",
        })
    }
}

impl FromStr for Scenario {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let all = [Self::Create, Self::Open, Self::Reopen, Self::Roll];
        let found = all.into_iter().find(|scenario| scenario.to_string() == text);
        found.with_context(|| format!("there is no scenario {text:?}"))
    }
}

impl Scenario {
    /// How many carts each of [`CLIENTS_BEFORE`] has sold when the store crashes that it begins
    /// with; `None` if it begins with nothing. A segment takes about 50.
    fn sold_before(self) -> Option<u64> {
        match self {
            Self::Create => None,
            Self::Open | Self::Reopen => Some(55),
            Self::Roll => Some(44),
        }
    }

    /// Clients, carts of each, and how long each rests between two, in milliseconds.
    fn work(self) -> (u64, u64, u64) {
        match self {
            Self::Create => (8, 2, 0),
            Self::Open => (0, 0, 0),
            // Long enough for a snapshot, which is looked for every 500 ms.
            Self::Reopen => (64, 6, 120),
            Self::Roll => (64, 10, 0),
        }
    }
}

/// Fails one call after the other. Prints how to repeat what broke a promise, and keeps its store.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    if !strace_works() {
        println!("io-faults: skipped: strace can't be run here (apt-get install strace)");
        return Ok(Verdict::Held);
    }
    let seed = arguments.ground.seed();
    let stage = Stage::prepare(arguments.ground.place()?, seed)?;
    let points = match &arguments.only {
        Some(point) => vec![point.clone()],
        None => some(stage.points()?, arguments, seed),
    };
    println!("io-faults: {} points, seed {seed}", points.len());
    let (began, mut outcomes, mut broken) = (Instant::now(), BTreeMap::new(), Vec::new());
    for point in &points {
        match stage.fail(point) {
            Ok(outcome) => {
                *outcomes.entry(outcome).or_insert(0) += 1;
                if arguments.each {
                    println!("io-faults: {point}: {outcome:?}");
                }
            }
            Err(error) => {
                broken.push(point);
                println!("io-faults: BROKEN: {point}: {error:#}");
                println!("io-faults: to repeat: just io-faults --seed {seed} --only {point}");
                stage.keep(broken.len())?;
            }
        }
    }
    for (outcome, count) in outcomes {
        println!("io-faults: {count} {outcome:?}");
    }
    println!("io-faults: {} broken, {:.0} s", broken.len(), began.elapsed().as_secs_f64());
    if broken.is_empty() {
        println!("io-faults: held: all that was answered was there, and nothing twice");
        return Ok(Verdict::Held);
    }
    println!("io-faults: the broken stores are in {}", stage.leave().display());
    Ok(Verdict::Broken)
}

/// Those of `points` that are asked for; as many as that, drawn from `seed`.
fn some(mut points: Vec<Point>, asked: &Arguments, seed: u64) -> Vec<Point> {
    points.retain(|point| point.to_string().contains(&asked.matching));
    let mut random = Random::new(seed);
    while asked.points.is_some_and(|asked| points.len() > asked) {
        points.swap_remove(random.below(points.len() as u64) as usize);
    }
    points
}

fn strace_works() -> bool {
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "--seccomp-bpf", "-o", "/dev/null", "true"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
