//! Bad bytes: stores whose files changed while they were closed. Each damaged copy must be refused
//! with its place named, or be exactly as it was. What a disk does during a write is not tried
//! here; other tools do that.

mod damage;
mod examine;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::ensure;

use self::{
    damage::{Damage, Random, Target},
    examine::{Outcome, examine, examine_here},
};
use crate::{
    Verdict,
    sample::{Sample, copy},
};

/// Files up to this size have every one of their bits changed.
const SMALL_BYTES: usize = 256;

/// Changes bytes of a closed and of a killed store: each copy must be refused, or be as it was.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What is damaged, and how, follows from this number.
    #[arg(long, default_value_t = 20_261_122)]
    seed: u64,
    /// How many damaged copies are drawn.
    #[arg(long, default_value_t = 1_000)]
    copies: usize,
    /// Also every single bit of the small files, and of the beginnings and ends of the others.
    #[arg(long)]
    every_bit: bool,
    /// Orders of the store that is damaged.
    #[arg(long, default_value_t = 4_000)]
    orders: u64,
    /// Where to work; a new folder of the system's temporary one otherwise.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Used by the tool itself: looks at one store.
    #[arg(long, hide = true, requires = "expected")]
    examine: Option<PathBuf>,
    #[arg(long, hide = true)]
    expected: Option<PathBuf>,
}

/// What is worked on.
struct Work {
    folder: PathBuf,
    expected: PathBuf,
    /// How often each kind of outcome was met.
    counts: BTreeMap<String, usize>,
    broken: usize,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    if let (Some(dir), Some(expected)) = (&arguments.examine, &arguments.expected) {
        println!("{}", examine_here(dir, expected)?);
        return Ok(Verdict::Held);
    }
    let temporary = tempfile::tempdir()?;
    let folder = arguments.folder.clone().unwrap_or_else(|| temporary.path().to_path_buf());
    fs::create_dir_all(&folder)?;
    println!("seed {}, working in {}", arguments.seed, folder.display());
    let (killed, closed) = make(&folder, arguments.orders)?;
    let expected = folder.join("expected");
    let mut work = Work { folder, expected, counts: BTreeMap::new(), broken: 0 };
    for store in [&killed, &closed] {
        let copy = work.copied(store)?;
        let outcome = examine(&copy, &work.expected)?;
        ensure!(outcome == Outcome::Same, "{} is not as it was: {outcome:?}", store.display());
    }
    let (of_killed, of_closed) = (damage::targets(&killed)?, damage::targets(&closed)?);
    if arguments.every_bit {
        for (store, targets) in [(&killed, &of_killed), (&closed, &of_closed)] {
            for damage in damage::every_bit(targets, SMALL_BYTES) {
                work.try_one(store, &damage)?;
            }
        }
    }
    let mut random = Random(arguments.seed);
    for number in 0..arguments.copies {
        let stores: [(&Path, &[Target]); 2] = [(&killed, &of_killed), (&closed, &of_closed)];
        let (store, targets) = stores[number % 2];
        work.try_one(store, &damage::draw(targets, &mut random))?;
    }
    for (kind, count) in &work.counts {
        println!("{count:6} {kind}");
    }
    Ok(if work.broken == 0 { Verdict::Held } else { Verdict::Broken })
}

/// A store as a kill leaves it, the same store closed, and a file with what both must answer.
fn make(folder: &Path, orders: u64) -> anyhow::Result<(PathBuf, PathBuf)> {
    let (killed, closed) = (folder.join("killed"), folder.join("closed"));
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let mut sample = Sample::make(&closed, orders).await?;
        let expected = sample.questions().await?;
        fs::write(folder.join("expected"), expected)?;
        // Nothing is being written any more, so this is what a kill would leave.
        copy(&closed, &killed)?;
        sample.gate.close().await?;
        Ok((killed, closed))
    })
}

impl Work {
    fn copied(&self, store: &Path) -> anyhow::Result<PathBuf> {
        let to = self.folder.join("copy");
        if to.exists() {
            fs::remove_dir_all(&to)?;
        }
        copy(store, &to)?;
        Ok(to)
    }

    fn try_one(&mut self, store: &Path, damage: &Damage) -> anyhow::Result<()> {
        let copied = self.copied(store)?;
        if !damage.apply(&copied)? {
            return Ok(());
        }
        let name = store.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let outcome = examine(&copied, &self.expected)?;
        let kind = match &outcome {
            Outcome::Same => "as it was".to_owned(),
            Outcome::Refused(what) => {
                let kind = what.split(':').next().unwrap_or_default();
                if !names_its_place(what, &copied) {
                    self.broken += 1;
                    println!("NO PLACE {name}: {damage}: {what}");
                }
                format!("refused, {kind}")
            }
            Outcome::Broken(what) => {
                self.broken += 1;
                println!("BROKEN {name}: {damage}: {what}");
                "BROKEN".to_owned()
            }
        };
        *self.counts.entry(kind).or_default() += 1;
        Ok(())
    }
}

/// Whether words of a refusal lead to what is damaged: a file, a row, a record, or what is missing.
fn names_its_place(what: &str, dir: &Path) -> bool {
    let places = ["snapshot of stream", "archived order", "position", "`state` folder", "asked:"];
    what.contains(&dir.display().to_string()) || places.iter().any(|place| what.contains(place))
}
