//! Damage to sled's files, drawn from a seed: a state that opens must hold every row that was
//! flushed, or say that it doesn't. Damage to rows that sled hands over is in the file above.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::*;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A state of two sessions, with rows that are replaced and removed, so that sled rewrites pages;
/// and a copy of its folder as a kill would have left it.
struct Written {
    killed: TempDir,
    closed: TempDir,
    rows: Rows,
}

fn write_rows(state: &SledState, rows: &mut Rows, random: &mut Random, rounds: usize) {
    for _ in 0..rounds {
        for _ in 0..40 {
            let key = random.below(1_500).to_be_bytes().to_vec();
            let value = vec![random.below(256) as u8; random.below(700) as usize];
            state.put(T, &key, &value).unwrap();
            rows.insert(key, value);
        }
        let key = random.below(1_500).to_be_bytes().to_vec();
        state.delete(T, &key).unwrap();
        rows.remove(&key);
        state.flush().unwrap();
    }
}

fn copy(from: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    disk::copy_folder(&from.join("state"), &folder.path().join("state")).unwrap();
    folder
}

fn write(random: &mut Random) -> Written {
    let (closed, mut rows) = (tempfile::tempdir().unwrap(), Rows::new());
    let state = open(&closed);
    write_rows(&state, &mut rows, random, 20);
    drop(state);
    let state = open(&closed);
    write_rows(&state, &mut rows, random, 60);
    let killed = copy(closed.path());
    drop(state);
    Written { killed, closed, rows }
}

/// What a reader finds, or why it finds nothing.
fn read(folder: &Path) -> std::result::Result<Rows, StorageError> {
    let state = SledState::open(folder.join("state"), &StateOptions::default())?;
    let found = state.scan(T, b"", None, usize::MAX)?;
    Ok(found.into_iter().collect())
}

fn damage(bytes: &mut Vec<u8>, random: &mut Random) -> String {
    let at = random.below(bytes.len() as u64) as usize;
    let block = at / 4096 * 4096;
    let end = (block + 4096).min(bytes.len());
    match random.below(6) {
        0 => bytes.truncate(at),
        1 => bytes.extend(vec![random.below(256) as u8; 5_000]),
        2 => bytes[block..end].fill(0),
        3 => {
            let other = random.below(bytes.len() as u64) as usize / 4096 * 4096;
            let other = bytes[other..(other + 4096).min(bytes.len())].to_vec();
            let length = other.len().min(end - block);
            bytes[block..block + length].copy_from_slice(&other[..length]);
            return format!("another block at {block}");
        }
        _ => bytes[at] ^= 1 << random.below(8),
    }
    format!("at {at}")
}

#[test]
fn without_its_summary_sled_reads_the_whole_log() {
    let Written { killed, closed, rows } = write(&mut Random(1));
    for folder in [&killed, &closed] {
        let names = disk::list(&folder.path().join("state")).unwrap();
        let summaries = names.iter().filter(|(name, _)| name.starts_with("snap."));
        for (name, _) in summaries {
            fs::remove_file(folder.path().join("state").join(name)).unwrap();
        }
        assert_eq!(read(folder.path()).unwrap(), rows);
    }
}

#[test]
fn no_flushed_row_is_lost_in_silence() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
    };
    let seed = number("TIDEGATE_SEED", 20_261_122);
    println!("TIDEGATE_SEED={seed}");
    let mut random = Random(seed);
    let Written { killed, closed, rows } = write(&mut random);
    for folder in [&killed, &closed] {
        assert_eq!(read(copy(folder.path()).path()).unwrap(), rows, "undamaged");
    }
    let (mut harmless, mut refused) = (0, 0);
    for round in 0..number("TIDEGATE_ROUNDS", 120) {
        let copied = copy(if round % 2 == 0 { killed.path() } else { closed.path() });
        let files: Vec<PathBuf> = disk::list(&copied.path().join("state"))
            .unwrap()
            .into_iter()
            .map(|(name, _)| copied.path().join("state").join(name))
            .filter(|path| path.is_file())
            .collect();
        // The log itself, twice of three times.
        let path = if random.below(3) > 0 {
            copied.path().join("state/db")
        } else {
            files[random.below(files.len() as u64) as usize].clone()
        };
        let mut bytes = fs::read(&path).unwrap();
        let what = damage(&mut bytes, &mut random);
        fs::write(&path, &bytes).unwrap();
        let what = format!("round {round}, {} {what}", path.display());
        match read(copied.path()) {
            Ok(found) => {
                assert!(found == rows, "{what}: {} of {} rows", found.len(), rows.len());
                harmless += 1;
            }
            Err(error) => {
                let typed = matches!(
                    error,
                    StorageError::Damaged { .. }
                        | StorageError::StateUnusable { .. }
                        | StorageError::NewerFormat { .. }
                );
                assert!(typed, "{what}: {error}");
                refused += 1;
            }
        }
    }
    assert!(harmless > 0 && refused > 20, "{harmless} harmless, {refused} refused");
}
