//! Every target in short: its seeds, and some thousand mutations of them, on plain stable Rust and
//! without coverage. It finds what lies near; `run` looks further.
#![allow(clippy::unwrap_used)]

use std::{
    alloc::System,
    panic::{AssertUnwindSafe, catch_unwind},
};

use cap::Cap;
use tidegate_fuzz::{Seeds, TARGETS};

/// Far above what any decoder needs: a damaged length that asks for more ends the test.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, 512 << 20);

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) as usize % bound.max(1)
    }
}

fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(7) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.below(256) as u8),
            2 => drop(bytes.splice(at..at, vec![random.below(256) as u8; random.below(40)])),
            3 => {
                let other = &seeds[random.below(seeds.len())];
                bytes.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
            4 => {
                // Lengths: the largest, the smallest that need more bytes, and those around.
                let number = [u64::MAX, 1 << 31, 0xFFFF, 251, 0][random.below(5)].to_le_bytes();
                let end = (at + 8).min(bytes.len());
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            5 if at < bytes.len() => bytes[at] = [0, 1, 0x7F, 0x80, 251, 253, 255][random.below(7)],
            _ if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
    bytes
}

#[test]
fn no_target_falls_near_its_seeds() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |value| value.parse().unwrap())
    };
    let (seed, rounds) = (number("TIDEGATE_SEED", 20_261_122), number("TIDEGATE_ROUNDS", 3_000));
    println!("TIDEGATE_SEED={seed}");
    let made = Seeds::make().unwrap();
    for (kind, kinds) in [(1, 10), (2, 13), (3, 5), (4, 12)] {
        let mut events: Vec<_> = made.of_kind(kind).iter().map(|record| record[1]).collect();
        events.sort_unstable();
        events.dedup();
        // A cancellation of an order lies inside of `Told`. A group passes by only after more
        // records than the sample has: that event is made by hand.
        let made_by_hand = [(2, 3), (4, 5)];
        let all: Vec<u8> =
            (0..kinds).filter(|event| !made_by_hand.contains(&(kind, *event))).collect();
        assert_eq!(events, all, "every event of kind {kind} is a seed");
    }
    let mut failed = Vec::new();
    for target in TARGETS {
        let seeds = (target.seeds)(&made);
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        let mut random = Random(seed);
        // A segment is written to a file, synced and read back each time.
        let rounds = if target.name == "segment" { rounds / 50 } else { rounds };
        let drawn = (0..rounds).map(|_| mutated(&seeds, &mut random));
        let drawn: Vec<_> = seeds.iter().cloned().chain(drawn).collect();
        for bytes in drawn {
            if catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes))).is_err() {
                failed.push(format!("{}: {bytes:02x?}", target.name));
                break;
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
