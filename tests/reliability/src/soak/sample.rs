//! What memory and disk a selling process takes at one moment, and whether the second half of all
//! moments is like the first. It takes no part in the sale.

use std::{fmt, fs, os::unix::fs::MetadataExt, path::Path};

use anyhow::{Context, ensure};

use crate::Verdict;

/// What memory may grow by for each cart: its keys are remembered for a day, unpaid orders wait
/// longer than any run, and sled keeps what it has written at hand, up to its bound.
const MEMORY_PER_CART: u64 = 2_000;

/// What the state may grow by for each cart: finished orders are kept for ever, in two rows, and
/// all rows both in the log and in sled, which gives room back only in whole segments.
const STATE_PER_CART: u64 = 4_000;

/// How much halves may differ in memory for no reason: allocators and caches.
const MEMORY_SLACK: u64 = 24 << 20;

/// How much they may differ in the state: what its log may have to be cleaned, and sled's garbage.
const STATE_SLACK: u64 = 96 << 20;

/// How much they may differ in the journal, which keeps nothing: four segments.
const JOURNAL_SLACK: u64 = 4 << 20;

/// One look at a process and its store. Sizes are in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    carts: u64,
    memory: u64,
    journal: u64,
    state: u64,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { carts, memory, journal, state } = self;
        let [memory, journal, state] = [memory, journal, state].map(|bytes| bytes >> 20);
        write!(f, "{carts} carts, memory {memory} MiB, journal {journal} MiB, state {state} MiB")
    }
}

impl Sample {
    /// Looks at the process `id`, which has sold `carts` and has its store in `store`.
    pub(crate) fn take(id: u32, store: &Path, carts: u64) -> anyhow::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|text| text.trim().strip_suffix(" kB"));
        let kilobytes: u64 = resident.context("its memory is not told")?.trim().parse()?;
        let (journal, state) = (used(&store.join("journal")), used(&store.join("state")));
        ensure!(journal > 0 && state > 0, "the files of {} are not found", store.display());
        Ok(Self { carts, memory: kilobytes << 10, journal, state })
    }
}

/// What the files in `folder`, and in its folders, take on the disk. Some may vanish meanwhile.
fn used(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let used_by = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => used(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(used_by).sum()
}

/// Says how the halves of `samples` differ, and whether they may.
pub(crate) fn verdict(samples: &[Sample]) -> Verdict {
    let (first, second) = samples.split_at(samples.len() / 2);
    if first.is_empty() {
        println!("soak: too short to say anything of memory and disk");
        return Verdict::Held;
    }
    let median = |some: &[Sample], what: fn(&Sample) -> u64| {
        let mut values: Vec<u64> = some.iter().map(what).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    let carts = median(second, |sample| sample.carts) - median(first, |sample| sample.carts);
    let mut held = true;
    for (name, what, per_cart, slack) in [
        ("memory", (|sample| sample.memory) as fn(&Sample) -> u64, MEMORY_PER_CART, MEMORY_SLACK),
        ("journal", |sample| sample.journal, 0, JOURNAL_SLACK),
        ("state", |sample| sample.state, STATE_PER_CART, STATE_SLACK),
    ] {
        let (before, after) = (median(first, what), median(second, what));
        let allowed = before + per_cart * carts + slack;
        let fits = after <= allowed;
        let grown = (after as f64 - before as f64) / carts.max(1) as f64;
        println!(
            "soak: {name}: {:.1} MiB, then {:.1} MiB ({grown:.0} bytes per cart); up to {:.1} MiB \
             may be: {}",
            mebibytes(before),
            mebibytes(after),
            mebibytes(allowed),
            if fits { "held" } else { "BROKEN" }
        );
        held &= fits;
    }
    if held { Verdict::Held } else { Verdict::Broken }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(memory_per_cart: u64, journal_per_cart: u64) -> Vec<Sample> {
        let sample = |carts: u64| Sample {
            carts,
            memory: (50 << 20) + carts * memory_per_cart,
            journal: (3 << 20) + carts * journal_per_cart,
            state: 10 << 20,
        };
        (0..600).map(|second| sample(second * 100)).collect()
    }

    #[test]
    fn what_grows_with_what_is_kept_may_and_what_grows_with_nothing_may_not() {
        assert_eq!(verdict(&samples(500, 0)), Verdict::Held);
        assert_eq!(verdict(&samples(5_000, 0)), Verdict::Broken);
        assert_eq!(verdict(&samples(500, 300)), Verdict::Broken);
        assert_eq!(verdict(&[]), Verdict::Held);
    }
}
