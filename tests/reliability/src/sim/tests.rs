//! The short form of the simulation, and seeds that have found something. It measures nothing.

use super::{
    figures::{Figures, NEEDED},
    seed_of,
    world::run,
};

/// Seeds that have found a bug, with what it was.
const PINNED: [(u64, &str); 6] = [
    (1_433_781_967_595, "what followed an operation that panicked was done without it"),
    (262_508_861_075_818, "a shard that is down refused what it had done, with its outcome unsent"),
    (240_468_251_327_429, "the journal was trimmed for a snapshot whose flush had failed"),
    (25_101_882_717_451, "who had an order was refused before its shard had told its keys"),
    (193_982_129_595_809, "the same, of an order whose first answer was lost"),
    (23_590_493_644_908, "the same, in another store"),
];

/// Where the seeds of the short form come from.
const FROM: u64 = 1;

/// How many there are.
const SEEDS: u64 = 90;

fn all_right(seed: u64) -> Figures {
    let ended = run(seed, false);
    if let Some(wrong) = ended.wrong {
        panic!("{wrong}\nreplay it: just sim --seed {seed}");
    }
    ended.figures
}

#[test]
fn a_store_with_faults_keeps_its_promises_and_meets_everything() {
    let mut figures = Figures::default();
    for number in 0..SEEDS {
        figures.merge(&all_right(seed_of(FROM, number)));
    }
    let never: Vec<_> = NEEDED.iter().filter(|name| figures.get(name) == 0).collect();
    assert!(never.is_empty(), "never met: {never:#?}");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for number in 0..6 {
        let seed = seed_of(7, number);
        let (first, again) = (run(seed, false), run(seed, false));
        assert_eq!(first.hash, again.hash, "seed {seed}");
        assert_eq!(first.figures, again.figures, "seed {seed}");
    }
    assert_ne!(run(1, false).hash, run(2, false).hash);
}

#[test]
fn seeds_that_found_something_stay_right() {
    for (seed, found) in PINNED {
        println!("seed {seed}: {found}");
        all_right(seed);
    }
}
