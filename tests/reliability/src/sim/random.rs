//! Where a simulation gets its luck: everything follows from one number. It is no good for secrets.

/// A stream of numbers that follows from its seed (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `least` up to, not including, `end`.
    pub(super) fn between(&mut self, least: u64, end: u64) -> u64 {
        least + self.number() % (end - least)
    }

    /// An index below `end`, which is not 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }

    /// True `of` times in a thousand.
    pub(super) fn per_mille(&mut self, of: u64) -> bool {
        self.number() % 1_000 < of
    }

    /// One of `items`, if there is one.
    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        if items.is_empty() { None } else { items.get(self.below(items.len())) }
    }

    /// The place of one of `weights`, each as likely as it is heavy.
    pub(super) fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut left = self.between(0, weights.iter().sum::<u64>().max(1));
        for (place, weight) in weights.iter().enumerate() {
            if left < *weight {
                return place;
            }
            left -= weight;
        }
        0
    }
}
