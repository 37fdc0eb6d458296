//! The seeded simulation: the store's own shards, machines, engine in memory, projector, snapshots
//! and recovery, without threads and without actix. One seed decides what is asked, who is next,
//! what is lost, what fails and what time it is; an auditor with books of its own says what is
//! right. Fronts and arbiters are not in it, nor is any file.

mod auditor;
mod callers;
mod faults;
mod figures;
mod front;
mod fuse;
mod journal;
mod mail;
mod ops;
mod profile;
mod rest;
mod side;
mod store;
mod world;

#[cfg(test)]
mod tests;

use crate::random::Random;
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use figures::Figures;
use world::Ended;

use crate::Verdict;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Simulates the whole store with faults, seed after seed.
#[derive(Args)]
pub(crate) struct Options {
    /// Runs this seed alone, and tells every step
    #[arg(long)]
    seed: Option<u64>,
    /// With --seed: tells only how it ends
    #[arg(long)]
    quiet: bool,
    /// How long to draw new seeds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The seed of the seeds; drawn if it is not given
    #[arg(long)]
    from: Option<u64>,
    /// How many seeds run at a time
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

/// What all threads have seen.
#[derive(Default)]
struct Total {
    seeds: u64,
    figures: Figures,
    wrong: Vec<(u64, String)>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Verdict> {
    if let Some(seed) = options.seed {
        let ended = world::run(seed, !options.quiet);
        tell_end(&ended);
        return Ok(if ended.wrong.is_some() { Verdict::Broken } else { Verdict::Held });
    }
    let from = options.from.unwrap_or_else(drawn);
    eprintln!("the simulation draws its seeds from {from}");
    let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let (total, start) = (Mutex::new(Total::default()), Instant::now());
    let end = Duration::from_secs(options.seconds);
    thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(|| {
                while start.elapsed() < end && !over.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let ended = world::run(seed_of(from, number), false);
                    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                    total.seeds += 1;
                    total.figures.merge(&ended.figures);
                    if let Some(wrong) = &ended.wrong {
                        tell_end(&ended);
                        total.wrong.push((ended.seed, wrong.clone()));
                        // A few are enough to find what is wrong.
                        over.fetch_or(total.wrong.len() >= 5, Ordering::Relaxed);
                    }
                }
                over.store(true, Ordering::Relaxed);
            });
        }
        scope.spawn(|| {
            let mut told = start;
            while !over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(50));
                if told.elapsed() >= TELL_EVERY {
                    told = Instant::now();
                    tell(&total.lock().unwrap_or_else(PoisonError::into_inner), start.elapsed());
                }
            }
        });
    });
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    tell(&total, start.elapsed());
    for (name, count) in total.figures.iter() {
        println!("{count:>12}  {name}");
    }
    Ok(if total.wrong.is_empty() { Verdict::Held } else { Verdict::Broken })
}

/// The seed of simulation `number`.
fn seed_of(from: u64, number: u64) -> u64 {
    // Small enough to be typed.
    Random::new(from.wrapping_add(number.wrapping_mul(0x9e37_79b9))).number() >> 16
}

fn drawn() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish() >> 32
}

fn tell(total: &Total, taken: Duration) {
    let (seeds, figures) = (total.seeds, &total.figures);
    eprintln!(
        "{seeds} seeds in {:.0} s ({:.1} a second), {} orders, {} crashes, {} faults, {} wrong",
        taken.as_secs_f64(),
        seeds as f64 / taken.as_secs_f64(),
        figures.get("order: placed"),
        figures.get("crash"),
        figures.sum("fault: "),
        total.wrong.len(),
    );
}

fn tell_end(ended: &Ended) {
    let Ended { seed, hash, wrong, .. } = ended;
    match wrong {
        None => eprintln!("seed {seed}: all is right; its history has the hash {hash:016x}"),
        Some(wrong) => {
            eprintln!("seed {seed}: {wrong}");
            eprintln!("  replay it: just sim --seed {seed}");
        }
    }
}
