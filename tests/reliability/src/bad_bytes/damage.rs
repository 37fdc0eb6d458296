//! The damages: which bytes of which file of a store change, and how. Drawn from a seed, or one by
//! one. It opens no store.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

const BLOCK: usize = 4096;

/// SplitMix64: small, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) as usize % bound.max(1)
    }
}

/// What happens to a file.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Flip { bit: usize },
    Bytes { at: usize, length: usize, value: u8 },
    Truncate { length: usize },
    Extend { bytes: usize, value: u8 },
    Zero { block: usize },
    Copy { from: usize, to: usize },
    Swap { one: usize, other: usize },
    Remove,
}

/// One damage of one file.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    /// Within the store's folder.
    file: PathBuf,
    kind: Kind,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.file.display(), self.kind)
    }
}

/// A file of a store.
pub(crate) struct Target {
    file: PathBuf,
    bytes: usize,
    /// Up to its last byte that is not zero.
    used: usize,
}

/// Every file below `dir`.
pub(crate) fn targets(dir: &Path) -> anyhow::Result<Vec<Target>> {
    let (mut left, mut found) = (vec![dir.to_path_buf()], Vec::new());
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
                continue;
            }
            let bytes = fs::read(&path)?;
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let file = path.strip_prefix(dir)?.to_path_buf();
            found.push(Target { file, bytes: bytes.len(), used });
        }
    }
    found.sort_by(|one, other| one.file.cmp(&other.file));
    Ok(found)
}

/// Every bit of the small files among `targets`, and of the first and last bytes of the others.
pub(crate) fn every_bit(targets: &[Target], bytes_max: usize) -> Vec<Damage> {
    let mut damages = Vec::new();
    for target in targets {
        let small = target.used <= bytes_max;
        let edge = bytes_max / 8;
        let bytes = (0..target.used).filter(|&at| small || at < edge || at + edge >= target.used);
        let bits = bytes.flat_map(|at| at * 8..at * 8 + 8);
        damages
            .extend(bits.map(|bit| Damage { file: target.file.clone(), kind: Kind::Flip { bit } }));
        damages.push(Damage { file: target.file.clone(), kind: Kind::Remove });
        damages.push(Damage { file: target.file.clone(), kind: Kind::Truncate { length: 0 } });
    }
    damages
}

/// A damage drawn from `random`. Large files are drawn more often than small ones, but not by size.
pub(crate) fn draw(targets: &[Target], random: &mut Random) -> Damage {
    let weight = |target: &Target| 1 + target.used.checked_ilog2().unwrap_or(0) as usize;
    let mut left = random.below(targets.iter().map(weight).sum());
    let target = targets.iter().find(|target| {
        let hit = left < weight(target);
        left = left.saturating_sub(weight(target));
        hit
    });
    let target = target.unwrap_or(&targets[0]);
    // Mostly where something is written; sometimes behind that.
    let reach = if random.below(8) > 0 { target.used } else { target.bytes };
    let at = random.below(reach);
    let (block, other) = (at / BLOCK, random.below(reach) / BLOCK);
    let kind = match random.below(16) {
        0..=5 => Kind::Flip { bit: at * 8 + random.below(8) },
        6 | 7 => {
            let (length, value) = (1 + random.below(64), random.below(256) as u8);
            Kind::Bytes { at, length, value }
        }
        8 | 9 => Kind::Truncate { length: at },
        10 => Kind::Extend { bytes: 1 + random.below(10_000), value: random.below(256) as u8 },
        11 | 12 => Kind::Zero { block },
        13 => Kind::Copy { from: other, to: block },
        14 => Kind::Swap { one: other, other: block },
        _ if random.below(4) == 0 => Kind::Remove,
        _ => Kind::Truncate { length: at / BLOCK * BLOCK },
    };
    Damage { file: target.file.clone(), kind }
}

impl Damage {
    /// Does it to the store in `dir`. `false` if that changes no byte.
    pub(crate) fn apply(&self, dir: &Path) -> anyhow::Result<bool> {
        let path = dir.join(&self.file);
        if matches!(self.kind, Kind::Remove) {
            fs::remove_file(&path)?;
            return Ok(true);
        }
        let before = fs::read(&path).with_context(|| path.display().to_string())?;
        let mut bytes = before.clone();
        self.kind.change(&mut bytes);
        fs::write(&path, &bytes)?;
        Ok(bytes != before)
    }
}

impl Kind {
    fn change(self, bytes: &mut Vec<u8>) {
        let range = |bytes: &[u8], block: usize| {
            let start = (block * BLOCK).min(bytes.len());
            start..(start + BLOCK).min(bytes.len())
        };
        match self {
            Self::Flip { bit } => {
                if let Some(byte) = bytes.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Self::Bytes { at, length, value } => {
                bytes.iter_mut().skip(at).take(length).for_each(|byte| *byte = value);
            }
            Self::Truncate { length } => bytes.truncate(length),
            Self::Extend { bytes: more, value } => bytes.extend(std::iter::repeat_n(value, more)),
            Self::Zero { block } => {
                let range = range(bytes, block);
                bytes[range].fill(0);
            }
            Self::Copy { from, to } => {
                let copied = bytes[range(bytes, from)].to_vec();
                let range = range(bytes, to);
                bytes[range].iter_mut().zip(copied).for_each(|(byte, copied)| *byte = copied);
            }
            Self::Swap { one, other } => {
                for at in 0..BLOCK {
                    let (one, other) = (one * BLOCK + at, other * BLOCK + at);
                    if one.max(other) < bytes.len() {
                        bytes.swap(one, other);
                    }
                }
            }
            Self::Remove => {}
        }
    }
}
