//! Numbers that follow from a seed (splitmix64), so that every image can be built again. They are
//! no good for secrets.

/// A stream of numbers.
#[derive(Clone)]
pub(crate) struct Luck(u64);

impl Luck {
    /// The stream of `seed`; `part` tells streams of one seed apart.
    pub(crate) fn of(seed: u64, part: u64) -> Self {
        let mut luck = Self(seed ^ part.wrapping_mul(0xd1b5_4a32_d192_ed03));
        luck.number();
        luck
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// True this often in a hundred.
    pub(crate) fn percent(&mut self, often: u64) -> bool {
        self.below(100) < often
    }
}
