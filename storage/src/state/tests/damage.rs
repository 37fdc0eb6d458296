//! Damage to the files of a state, drawn from a seed: a state that opens must hold every row that
//! was flushed, or say that it doesn't. Damage to rows that sled hands over is in the file above.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::*;
use crate::{LoggedState, State};

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

/// A state of two sessions, with rows that are replaced and removed, so that sled rewrites pages
/// and the log is trimmed; and a copy of its folder as a kill would have left it.
struct Written {
    killed: TempDir,
    closed: TempDir,
    rows: Rows,
}

fn open(folder: &Path) -> std::result::Result<LoggedState, StorageError> {
    let small =
        StateOptions { log_segment_bytes: 1 << 20, log_slack_bytes: 0, ..Default::default() };
    LoggedState::open(folder.join("state"), &small)
}

fn write_rows(state: &LoggedState, rows: &mut Rows, random: &mut Random, rounds: usize) {
    for _ in 0..rounds {
        for _ in 0..60 {
            let key = random.below(1_500).to_be_bytes().to_vec();
            let value = vec![random.below(256) as u8; random.below(1_500) as usize];
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
    loop {
        let folder = tempfile::tempdir().unwrap();
        match disk::copy_folder(&from.join("state"), &folder.path().join("state")) {
            Ok(_) => return folder,
            // A spare that was being prepared has got its name meanwhile.
            Err(StorageError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn write(random: &mut Random) -> Written {
    let (closed, mut rows) = (tempfile::tempdir().unwrap(), Rows::new());
    let state = open(closed.path()).unwrap();
    write_rows(&state, &mut rows, random, 20);
    drop(state);
    let state = open(closed.path()).unwrap();
    write_rows(&state, &mut rows, random, 60);
    let killed = copy(closed.path());
    drop(state);
    Written { killed, closed, rows }
}

/// What a reader finds, or why it finds nothing.
fn read(folder: &Path) -> std::result::Result<Rows, StorageError> {
    let found = open(folder)?.scan(T, b"", None, usize::MAX)?;
    Ok(found.into_iter().collect())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let named = disk::list(folder).unwrap().into_iter().map(|(name, _)| folder.join(name));
    named.filter(|path| path.is_file()).collect()
}

fn damage(path: &Path, random: &mut Random) -> String {
    let mut bytes = fs::read(path).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last as u64 + 1);
    let at = random.below(used) as usize;
    let block = at / 4096 * 4096;
    let end = (block + 4096).min(bytes.len());
    let mut what = format!("at {at}");
    match random.below(7) {
        0 => bytes.truncate(at),
        1 => bytes.extend(vec![random.below(256) as u8; 5_000]),
        2 => bytes[block..end].fill(0),
        3 => {
            let other = random.below(used) as usize / 4096 * 4096;
            let other = bytes[other..(other + 4096).min(bytes.len())].to_vec();
            let length = other.len().min(end - block);
            bytes[block..block + length].copy_from_slice(&other[..length]);
            what = format!("another block at {block}");
        }
        4 if random.below(3) == 0 => {
            fs::remove_file(path).unwrap();
            return "removed".to_owned();
        }
        _ => {
            let bit = 1 << random.below(8);
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bit);
        }
    }
    fs::write(path, &bytes).unwrap();
    what
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn seeded() -> Random {
    let seed = number("TIDEGATE_SEED", 20_261_122);
    println!("TIDEGATE_SEED={seed}");
    Random(seed)
}

#[test]
fn damage_of_the_index_changes_nothing() {
    let mut random = seeded();
    let Written { killed, closed, rows } = write(&mut random);
    for round in 0..number("TIDEGATE_ROUNDS", 20) {
        let copied = copy(if round % 4 == 0 { killed.path() } else { closed.path() });
        let mut targets = files(&copied.path().join("state/index"));
        targets.push(copied.path().join("state/index/db"));
        targets.extend(Some(copied.path().join("state/index.closed")).filter(|path| path.exists()));
        let path = &targets[random.below(targets.len() as u64) as usize];
        let what = format!("round {round}, {} {}", path.display(), damage(path, &mut random));
        assert!(read(copied.path()).expect(&what) == rows, "{what}");
    }
}

#[test]
fn no_flushed_row_is_lost_in_silence() {
    let mut random = seeded();
    let Written { killed, closed, rows } = write(&mut random);
    for folder in [&killed, &closed] {
        assert!(read(copy(folder.path()).path()).unwrap() == rows, "undamaged");
    }
    let (mut harmless, mut refused) = (0, 0);
    for round in 0..number("TIDEGATE_ROUNDS", 24) {
        let copied = copy(if round % 2 == 0 { killed.path() } else { closed.path() });
        let targets = files(&copied.path().join("state/log"));
        let path = &targets[random.below(targets.len() as u64) as usize];
        let what = format!("round {round}, {} {}", path.display(), damage(path, &mut random));
        match read(copied.path()) {
            Ok(found) => {
                assert!(found == rows, "{what}: {} of {} rows", found.len(), rows.len());
                harmless += 1;
            }
            Err(StorageError::Damaged { .. } | StorageError::NewerFormat { .. }) => refused += 1,
            Err(error) => panic!("{what}: {error}"),
        }
    }
    assert!(harmless > 0 && refused > 4, "{harmless} harmless, {refused} refused");
}

#[test]
fn a_file_that_is_gone_from_either_end_of_the_log_is_missed() {
    let Written { killed, closed, .. } = write(&mut Random(3));
    for folder in [&killed, &closed] {
        let log = files(&folder.path().join("state/log"));
        let segments: Vec<_> =
            log.iter().filter(|path| path.extension().is_some_and(|end| end == "seg")).collect();
        assert!(segments.len() > 2, "{log:?}");
        let all: Vec<&PathBuf> = log.iter().collect();
        for gone in [&segments[..1], &segments[segments.len() - 1..], &all] {
            let copied = copy(folder.path());
            for path in gone {
                let inside = path.strip_prefix(folder.path()).unwrap();
                fs::remove_file(copied.path().join(inside)).unwrap();
            }
            let found = read(copied.path());
            assert!(matches!(found, Err(StorageError::Damaged { .. })), "{gone:?}");
        }
    }
}
