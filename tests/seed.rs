//! Where the drawing tests get their luck. Every seed is printed, and `TIDEGATE_SEED=… cargo test`
//! draws the same again. It is no good for secrets.

use std::hash::{BuildHasher, Hasher, RandomState};

/// The variable that fixes the seed.
pub(crate) const VARIABLE: &str = "TIDEGATE_SEED";

/// A stream of numbers that follows from its seed (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    /// From the environment, or new; printed for `test` either way.
    pub(crate) fn of(test: &str) -> Self {
        let given = std::env::var(VARIABLE).ok();
        let seed = given.map_or_else(
            || RandomState::new().build_hasher().finish(),
            |seed| seed.parse().expect("TIDEGATE_SEED is a whole number"),
        );
        println!("{test}: {VARIABLE}={seed}");
        Self(seed)
    }

    /// A stream of its own, from a number of another.
    pub(crate) fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `least` up to, not including, `end`.
    pub(crate) fn between(&mut self, least: u64, end: u64) -> u64 {
        least + self.number() % (end - least)
    }

    /// Bytes for a generator that wants them.
    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for part in bytes.chunks_exact_mut(8) {
            part.copy_from_slice(&self.number().to_le_bytes());
        }
        bytes
    }
}
