//! Where luck comes from: everything follows from a seed or from a text, so that a run can be
//! repeated. It is no good for secrets.

/// A stream of numbers that follows from its seed (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    /// From a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From a text (FNV-1a): the same for the same text.
    pub(crate) fn of(text: &str) -> Self {
        let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(text.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
    }

    /// A seed that nobody has chosen.
    pub(crate) fn any_seed() -> u64 {
        use std::hash::{BuildHasher, Hasher, RandomState};
        // Short enough to be typed again.
        RandomState::new().build_hasher().finish() % 1_000_000_000
    }

    /// The next number.
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which must not be 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }
}
