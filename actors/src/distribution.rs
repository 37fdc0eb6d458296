//! How a figure is spread: counts in fixed buckets, four to each doubling. Any number of writers
//! and readers, no lock and no allocation when something is counted. It knows no unit.

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets of values below 2^27: as microseconds, more than two minutes. What is larger is counted
/// in the last.
const BUCKETS: usize = 104;

/// A spread that is being counted.
pub(crate) struct Tally {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Default for Tally {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), sum: AtomicU64::new(0) }
    }
}

impl Tally {
    /// Counts one value.
    pub(crate) fn count(&self, value: u64) {
        self.buckets[bucket(value)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub(crate) fn read(&self) -> Distribution {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = self.buckets.iter().map(get).enumerate();
        let filled = counts.filter(|(_, count)| *count > 0);
        let buckets = filled.map(|(place, count)| Bucket { below: end(place), count }).collect();
        Distribution { sum: get(&self.sum), buckets }
    }
}

/// How the values of a figure are spread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// The sum of all values.
    pub sum: u64,
    /// The buckets that are not empty, smallest values first.
    pub buckets: Vec<Bucket>,
}

/// Values from the end of the bucket before it, at most a quarter less than `below`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Where it ends. `u64::MAX` for the last possible one.
    pub below: u64,
    /// How many values.
    pub count: u64,
}

impl Distribution {
    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.count).sum()
    }

    /// How many values are below `bound`, which is exact for powers of two.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        let whole = self.buckets.iter().take_while(|bucket| bucket.below <= bound);
        whole.map(|bucket| bucket.count).sum()
    }

    /// A value that a share of `quantile` (0 to 1) of all values does not exceed: the end of its
    /// bucket, so at most a quarter too high. 0 if there is no value.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> u64 {
        let wanted = (self.count() as f64 * quantile.clamp(0.0, 1.0)).ceil() as u64;
        let mut before = 0;
        let found = self.buckets.iter().find(|bucket| {
            before += bucket.count;
            before >= wanted
        });
        found.map_or(0, |bucket| bucket.below.saturating_sub(1))
    }

    /// Adds the values of `other`.
    pub fn add(&mut self, other: &Self) {
        self.sum = self.sum.saturating_add(other.sum);
        for theirs in &other.buckets {
            match self.buckets.binary_search_by_key(&theirs.below, |bucket| bucket.below) {
                Ok(place) => self.buckets[place].count += theirs.count,
                Err(place) => self.buckets.insert(place, *theirs),
            }
        }
    }
}

/// Values below 4 have a bucket each; then the two bits after the highest one choose.
fn bucket(value: u64) -> usize {
    if value < 4 {
        return value as usize;
    }
    let exponent = value.ilog2();
    let quarter = (value >> (exponent - 2)) & 3;
    (((exponent - 1) * 4) as usize + quarter as usize).min(BUCKETS - 1)
}

/// Where bucket `place` ends.
fn end(place: usize) -> u64 {
    match place {
        0..4 => place as u64 + 1,
        last if last == BUCKETS - 1 => u64::MAX,
        _ => (5 + place as u64 % 4) << (place / 4 - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_buckets_leave_no_gap() {
        let mut begin = 0;
        for place in 0..BUCKETS - 1 {
            assert_eq!((bucket(begin), bucket(end(place) - 1)), (place, place));
            assert!(begin < 4 || end(place) - begin <= end(place) / 4, "bucket {place} is wide");
            begin = end(place);
        }
        assert_eq!(bucket(begin), BUCKETS - 1);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(end(bucket(1 << 20)) >> 18, 5);
    }

    #[test]
    fn quantiles_and_bounds() {
        let tally = Tally::default();
        assert_eq!(tally.read().quantile(0.5), 0);
        (0..1_000).for_each(|value| tally.count(value));
        let mut spread = tally.read();
        assert_eq!((spread.count(), spread.sum), (1_000, 499_500));
        for exponent in 0..9 {
            assert_eq!(spread.below(1 << exponent), 1 << exponent);
        }
        assert!((500..=640).contains(&spread.quantile(0.5)), "{}", spread.quantile(0.5));
        assert!(spread.quantile(1.0) >= 999 && spread.quantile(0.0) == 0);
        spread.add(&tally.read());
        assert_eq!((spread.count(), spread.below(64)), (2_000, 128));
    }
}
