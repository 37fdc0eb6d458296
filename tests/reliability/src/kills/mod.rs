//! `kills`: a selling process is killed (SIGKILL) again and again at moments drawn from a seed:
//! while it opens, works, takes snapshots and closes. Then the store is compared with what its
//! clients were told. Power loss is another tool's matter: the system lives on here.

mod moment;

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Args;
use tempfile::TempDir;

use self::moment::{Moment, Pace};
use crate::{
    Verdict,
    ground::Ground,
    random::Random,
    sale::{
        self,
        check::{self, End},
        ledger::{Ledger, Note},
        life::{self, Heard, Life, seller},
    },
};

/// Kills after which a store is given up and another one begun, so that rounds stay short.
const KILLS_PER_STORE: u64 = 30;

/// Kills in a row before the store is looked at.
const KILLS_PER_CHECK_MAX: u64 = 3;

/// Clients of each seller.
const CLIENTS: u64 = 24;

/// More carts than a client gets done before it is killed.
const CARTS: u64 = 1_000_000;

/// Kills between two words about how far it is.
const TELL_EVERY: u64 = 50;

/// A seller that has not opened its store by then hangs.
const READY_WAIT: Duration = Duration::from_secs(60);

/// How many rounds, and with what luck.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Kills.
    #[arg(long, default_value_t = 500)]
    rounds: u64,
    #[command(flatten)]
    ground: Ground,
}

/// Kills as often as asked. Prints how to repeat a run that broke a promise, and keeps its store.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let seed = arguments.ground.seed();
    let rounds = arguments.rounds;
    println!("kills: {rounds} rounds, seed {seed}");
    let mut kills = Kills::new(arguments.ground.place()?, seed);
    let began = Instant::now();
    let mut told = 0;
    while kills.done < rounds {
        if kills.done / TELL_EVERY > told {
            told = kills.done / TELL_EVERY;
            println!("kills: {} so far, {:.0} s", kills.done, began.elapsed().as_secs_f64());
        }
        if let Err(error) = kills.some(rounds) {
            let kept = kills.place.keep();
            println!("kills: BROKEN after {} kills: {error:#}", kills.done);
            println!("kills: the store, as it was before the check, is in {}", kept.display());
            println!("kills: to repeat: just kills --rounds {rounds} --seed {seed}");
            return Ok(Verdict::Broken);
        }
    }
    kills.report(began.elapsed());
    Ok(Verdict::Held)
}

struct Kills {
    place: TempDir,
    seed: u64,
    random: Random,
    ledger: Ledger,
    pace: Pace,
    stores: u64,
    done: u64,
    /// Kills by [`Moment`], and what hit.
    by_moment: [u64; Moment::ALL.len()],
    /// Sellers that had ended before they could be killed.
    over: u64,
    checks: u64,
    answers: u64,
}

impl Kills {
    fn new(place: TempDir, seed: u64) -> Self {
        Self {
            place,
            seed,
            random: Random::new(seed),
            ledger: Ledger::default(),
            pace: Pace::default(),
            stores: 0,
            done: 0,
            by_moment: [0; Moment::ALL.len()],
            over: 0,
            checks: 0,
            answers: 0,
        }
    }

    fn store(&self) -> PathBuf {
        self.place.path().join(format!("store-{}", self.stores))
    }

    /// A few kills in a row, then a check.
    fn some(&mut self, rounds: u64) -> anyhow::Result<()> {
        let kills = (1 + self.random.below(KILLS_PER_CHECK_MAX)).min(rounds - self.done);
        for _ in 0..kills {
            let moment = Moment::draw(&mut self.random);
            self.kill(moment).with_context(|| format!("to be killed while {moment:?}"))?;
        }
        let (store, evidence) = (self.store(), self.place.path().join("before-the-check"));
        sale::copy(&store, &evidence).context("can't copy the store")?;
        let end = if self.random.below(2) == 0 { End::Closed } else { End::Dropped };
        check::check(&store, &mut self.ledger, &mut self.random, end)?;
        self.checks += 1;
        fs::remove_dir_all(evidence)?;
        if self.done / KILLS_PER_STORE != (self.done - kills) / KILLS_PER_STORE {
            fs::remove_dir_all(store)?;
            self.stores += 1;
            self.answers += std::mem::take(&mut self.ledger).answers;
        }
        Ok(())
    }

    /// Starts a seller and kills it.
    fn kill(&mut self, moment: Moment) -> anyhow::Result<()> {
        let name = format!("{:x}-{}", self.seed, self.done);
        let mut command = life::ourselves();
        command.args(seller(&self.store(), &name, CLIENTS, CARTS));
        if let Some(ms) = moment.close_after_ms(&mut self.random) {
            command.args(["--close-after-ms", &ms.to_string()]);
        }
        let (mut closing, mut bad) = (false, None);
        let mut look = |note: Note| match note {
            Note::Closing => closing = true,
            Note::Wrong(what) => bad = Some(what),
            // A close may leave callers without an answer; nothing else may.
            Note::Failed(why) if !closing => bad = Some(why),
            _ => {}
        };
        let mut life = Life::start(command)?;
        if let Some(awaited) = moment.begins_with() {
            let began = Instant::now();
            let heard = life.listen(&mut self.ledger, READY_WAIT, |note| {
                let reached = note == awaited;
                look(note);
                reached
            })?;
            match heard {
                Heard::Wanted if awaited == Note::Ready => self.pace.ready(began.elapsed()),
                Heard::Wanted | Heard::End => {}
                Heard::Nothing => bail!("it hangs: no word of {awaited:?} in {READY_WAIT:?}"),
            }
        }
        let delay = moment.delay(&self.pace, &mut self.random);
        life.listen(&mut self.ledger, delay, |note| {
            look(note);
            false
        })?;
        let over = life.kill(&mut self.ledger, look)?;
        if let Some(what) = bad {
            bail!("a seller says: {what}");
        }
        match over {
            None => self.by_moment[moment as usize] += 1,
            Some(status) if status.success() => self.over += 1,
            Some(status) => bail!("it failed by itself: {status}"),
        }
        self.done += 1;
        Ok(())
    }

    fn report(&self, took: Duration) {
        let per_kill = took.as_secs_f64() / self.done.max(1) as f64;
        for (moment, kills) in Moment::ALL.iter().zip(self.by_moment) {
            println!("kills: {kills} while {moment:?}");
        }
        println!(
            "kills: {} had ended before; {} answers, {} checks, {:.0} s, {per_kill:.2} s per kill",
            self.over,
            self.answers + self.ledger.answers,
            self.checks,
            took.as_secs_f64(),
        );
        println!("kills: held: all that was answered was there, and nothing twice");
    }
}
