//! `soak`: a sale of mixed orders goes on for minutes, over restarts of which some are kills, and
//! its memory and its disk are watched: they may grow with what must be kept, and with nothing
//! else. It measures no speed.

mod sample;

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use clap::Args;
use tempfile::TempDir;

use self::sample::{Sample, verdict};
use crate::{
    Verdict,
    ground::Ground,
    random::Random,
    sale::{
        check::{self, End},
        ledger::{Ledger, Note},
        life::{self, Heard, Life},
    },
};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often a line is printed.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How long a process sells, at least and at most, in seconds.
const LIFE_SECONDS: (u64, u64) = (15, 45);

/// A seller that takes longer to open or to close hangs.
const PATIENCE: Duration = Duration::from_secs(90);

/// Clients of the sale, each of which rests between two carts.
const CLIENTS: u64 = 32;

/// More carts than a client gets done.
const CARTS: u64 = 1_000_000;

/// How long, and with what luck.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// How long to sell.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// How long each of the 32 clients rests between two carts, in milliseconds.
    #[arg(long, default_value_t = 200)]
    rest_ms: u64,
    #[command(flatten)]
    ground: Ground,
}

/// Sells as long as asked. Prints a line every 10 seconds, and what memory and disk came to.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let seed = arguments.ground.seed();
    println!("soak: {} minutes, seed {seed}", arguments.minutes);
    let mut soak = Soak {
        place: arguments.ground.place()?,
        seed,
        rest_ms: arguments.rest_ms,
        random: Random::new(seed),
        ledger: Ledger::default(),
        samples: Vec::new(),
        began: Instant::now(),
        told: Instant::now(),
        kills: 0,
        closes: 0,
    };
    let end = Duration::from_secs(arguments.minutes * 60);
    while soak.began.elapsed() < end {
        if let Err(error) = soak.life(end) {
            println!("soak: BROKEN: {error:#}");
            println!("soak: the store is in {}", soak.place.keep().display());
            return Ok(Verdict::Broken);
        }
    }
    let answers = soak.ledger.answers;
    println!("soak: {answers} answers, {} kills, {} closes", soak.kills, soak.closes);
    Ok(verdict(&soak.samples))
}

struct Soak {
    place: TempDir,
    seed: u64,
    rest_ms: u64,
    random: Random,
    ledger: Ledger,
    samples: Vec<Sample>,
    began: Instant,
    told: Instant,
    kills: u64,
    closes: u64,
}

impl Soak {
    /// One process that sells, its end, and a check.
    fn life(&mut self, end: Duration) -> anyhow::Result<()> {
        let store = self.place.path().join("store");
        let (least, most) = LIFE_SECONDS;
        let left = end.saturating_sub(self.began.elapsed());
        let sells = Duration::from_secs(least + self.random.below(most - least)).min(left);
        let killed = self.random.below(2) == 0;
        let name = format!("{:x}-{}", self.seed, self.kills + self.closes);
        let mut command = life::ourselves();
        command.args(life::seller(&store, &name, CLIENTS, CARTS));
        command.args(["--rest-ms", &self.rest_ms.to_string(), "--snapshot-every-kib", "2048"]);
        if !killed {
            command.args(["--close-after-ms", &sells.as_millis().to_string()]);
        }
        let mut life = Life::start(command)?;
        let ready = life.listen(&mut self.ledger, PATIENCE, |note| note == Note::Ready)?;
        ensure!(ready == Heard::Wanted, "it is not ready after {PATIENCE:?}: {ready:?}");
        self.watch(&mut life, sells)?;
        if killed {
            let over = life.kill(&mut self.ledger, drop)?;
            ensure!(over.is_none(), "it failed by itself: {over:?}");
            self.kills += 1;
        } else {
            let closed = life.listen(&mut self.ledger, PATIENCE, |note| note == Note::Closed)?;
            ensure!(closed == Heard::Wanted, "it does not close: {closed:?}");
            let status = life.end(PATIENCE)?;
            ensure!(status.is_some_and(|status| status.success()), "it ended with {status:?}");
            self.closes += 1;
        }
        let end = if self.random.below(2) == 0 { End::Closed } else { End::Dropped };
        check::check(&store, &mut self.ledger, &mut self.random, end)?;
        Ok(())
    }

    /// Looks at a process that sells, for `sells`.
    fn watch(&mut self, life: &mut Life, sells: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        // A little less, since it closes by itself then.
        while began.elapsed() + LOOK_EVERY < sells {
            let mut bad = None;
            let heard = life.listen(&mut self.ledger, LOOK_EVERY, |note| {
                if let Note::Wrong(what) | Note::Failed(what) = note {
                    bad = Some(what);
                }
                false
            })?;
            if let Some(what) = bad {
                bail!("a client was told: {what}");
            }
            ensure!(heard == Heard::Nothing, "it has ended by itself");
            let store = self.place.path().join("store");
            let sample = Sample::take(life.id(), &store, self.ledger.carts())?;
            if self.told.elapsed() >= TELL_EVERY {
                self.told = Instant::now();
                let seconds = self.began.elapsed().as_secs();
                let (kills, closes) = (self.kills, self.closes);
                println!("soak: {seconds:>4} s, {sample}, {kills} kills, {closes} closes");
            }
            self.samples.push(sample);
        }
        Ok(())
    }
}
