//! Power loss on the real engine: the storage calls of real runs are recorded, cut anywhere, and
//! what a disk may have kept of them is opened again by the real recovery. Everything acknowledged
//! must be there, nothing twice, and the audit clean. It doesn't model what a disk does to synced
//! bytes.

mod disk;
mod image;
mod lines;
mod record;
mod scenario;
mod trace;
mod verify;
mod work;

use crate::random::Random;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use self::{
    disk::{Disk, Lies, Step},
    record::Recording,
    scenario::Scenario,
    verify::{Said, verify},
};
use crate::Verdict;

pub(crate) use self::work::{Work, run as work};

/// How long one image may take to open and check: a guard against hanging.
const PATIENCE: Duration = Duration::from_secs(120);

/// A store is cut off from power again and again, on paper, and must open each time
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Images in all, over the scenarios
    #[arg(long, default_value_t = 400)]
    images: u64,
    /// Draws the same images from the same recording
    #[arg(long)]
    seed: Option<u64>,
    /// Only this scenario
    #[arg(long)]
    scenario: Option<Scenario>,
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// Take these syncs for lies: then something must be found
    #[arg(long)]
    without_sync: Option<Part>,
    /// A recording of an earlier run
    #[arg(long)]
    recording: Option<PathBuf>,
    /// With --recording and --seed: only the image after this many steps
    #[arg(long)]
    cut: Option<usize>,
    /// With --cut: where to leave the image, as it is before it is opened
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// Whose syncs to take for lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Those of journal segments.
    Journal,
    /// Those of the state's files.
    State,
}

fn lies(part: Option<Part>) -> Lies {
    match part {
        None => |_| false,
        Some(Part::Journal) => |path| path.contains("/journal/") && path.ends_with(".seg"),
        Some(Part::State) => |path| path.contains("/state/"),
    }
}

/// Counts over all images.
#[derive(Default)]
struct Tally {
    images: AtomicU64,
    acknowledged: AtomicU64,
    broken: Mutex<Vec<String>>,
}

/// Records and checks; prints what it came to.
pub(crate) fn run(options: &Options) -> Result<Verdict> {
    let tally = Tally::default();
    if let Some(folder) = &options.recording {
        let recording = Recording::read(folder)?;
        let seed = options.seed.context("--recording needs --seed")?;
        match options.cut {
            Some(cut) => one(options, &recording, cut, seed, &tally)?,
            None => many(options, &recording, options.images, seed, &tally)?,
        }
        return Ok(sum_up(&tally));
    }
    if !record::possible() {
        println!("skipped: there is no strace here, with which storage calls are recorded");
        return Ok(Verdict::Held);
    }
    let seed = options.seed.map_or_else(any_seed, Ok)?;
    println!("power-loss: --seed {seed}");
    let scenarios = options.scenario.map_or(Scenario::ALL.to_vec(), |only| vec![only]);
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    let folder = tempfile::Builder::new().prefix("power-loss-").tempdir_in(place)?;
    let images = options.images.div_ceil(scenarios.len() as u64);
    for scenario in scenarios {
        let recording = record(scenario, &folder.path().join(scenario.name()), seed)?;
        let calls = recording.steps.len();
        println!("{}: {calls} steps recorded", scenario.name());
        many(options, &recording, images, seed ^ scenario as u64, &tally)?;
    }
    let verdict = sum_up(&tally);
    if verdict == Verdict::Broken && options.without_sync.is_none() {
        println!("recordings are kept in {}", folder.keep().display());
    }
    Ok(verdict)
}

fn any_seed() -> Result<u64> {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    Ok(RandomState::new().build_hasher().finish() >> 16)
}

fn sum_up(tally: &Tally) -> Verdict {
    let broken = tally.broken.lock().unwrap_or_else(|poison| poison.into_inner());
    let count = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
    println!(
        "{} images opened, {} acknowledgements looked for, {} images broken",
        count(&tally.images),
        count(&tally.acknowledged),
        broken.len()
    );
    if broken.is_empty() { Verdict::Held } else { Verdict::Broken }
}

/// Records a scenario. A recovery begins with what a surge without power has left.
fn record(scenario: Scenario, folder: &Path, seed: u64) -> Result<Recording> {
    let start = |to: &Path| -> Result<Vec<String>> {
        if scenario != Scenario::Recovery {
            fs::create_dir(to)?;
            return Ok(Vec::new());
        }
        let surge = record(Scenario::Surge, &folder.join("surge"), seed)?;
        let mut luck = Random::part(seed, 1 << 32);
        // From the middle of its life on there is much to recover.
        let half = surge.steps.len() / 2;
        let cut = half + luck.below(half as u64) as usize;
        let (mut disk, _) = surge.begin(lies(None))?;
        surge.steps[..cut].iter().try_for_each(|step| disk.step(step))?;
        image::write(&disk, &mut luck, to)?;
        fs::remove_dir_all(&surge.folder)?;
        Ok(surge.words(cut))
    };
    Recording::make(folder, &scenario.runs(), start)
}

/// Draws images, and checks each, on several threads.
fn many(
    options: &Options,
    recording: &Recording,
    images: u64,
    seed: u64,
    tally: &Tally,
) -> Result<()> {
    let threads = options.threads.clamp(1, images.max(1));
    std::thread::scope(|scope| {
        let each: Vec<_> = (0..threads)
            .map(|thread| {
                let mine = (thread..images).step_by(threads as usize);
                let cuts = mine.map(|number| draw(recording, seed, number)).collect();
                scope.spawn(move || check_all(options, recording, cuts, tally))
            })
            .collect();
        each.into_iter().try_for_each(|thread| match thread.join() {
            Ok(done) => done,
            Err(_) => Err(anyhow::anyhow!("a checking thread panicked")),
        })
    })
}

/// Where to cut, and the seed of the image.
fn draw(recording: &Recording, seed: u64, number: u64) -> (usize, u64) {
    let mut luck = Random::part(seed, number);
    let steps = &recording.steps;
    let mut cut = luck.below(steps.len() as u64 + 1) as usize;
    if luck.percent(60) {
        // Just before a sync has done its work, most is at stake.
        let ends = |step: &Step| matches!(step, Step::SyncEnds { .. });
        cut += steps[cut..].iter().position(ends).unwrap_or(0);
    }
    (cut, luck.number() >> 16)
}

fn check_all(
    options: &Options,
    recording: &Recording,
    mut cuts: Vec<(usize, u64)>,
    tally: &Tally,
) -> Result<()> {
    cuts.sort_unstable();
    let (mut disk, mut said) = recording.begin(lies(options.without_sync))?;
    let (mut at, folder) = (0, tempfile::tempdir_in(&recording.folder)?);
    for (cut, seed) in cuts {
        go(recording, &mut disk, &mut said, at, cut)?;
        at = cut;
        let image = folder.path().join("image");
        check(recording, &disk, &said, (cut, seed), &image, tally)?;
        fs::remove_dir_all(&image)?;
    }
    Ok(())
}

fn go(
    recording: &Recording,
    disk: &mut Disk,
    said: &mut Said,
    from: usize,
    to: usize,
) -> Result<()> {
    for step in &recording.steps[from..to] {
        disk.step(step)?;
        if let Step::Word(word) = step {
            said.hear(word)?;
        }
    }
    Ok(())
}

fn check(
    recording: &Recording,
    disk: &Disk,
    said: &Said,
    (cut, seed): (usize, u64),
    image: &Path,
    tally: &Tally,
) -> Result<()> {
    let mut luck = Random::part(seed, 0);
    let loss = image::write(disk, &mut luck, image)?;
    tally.images.fetch_add(1, Ordering::Relaxed);
    tally.acknowledged.fetch_add(said.acknowledged() as u64, Ordering::Relaxed);
    let store = image.join("store");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let checked = runtime.block_on(async {
        let verified = tokio::time::timeout(PATIENCE, verify(&store, said, &mut luck)).await;
        verified.unwrap_or_else(|_| Err(anyhow::anyhow!("it hangs")))
    });
    if let Err(error) = checked {
        let what = format!(
            "broken after step {cut}, {loss:?}: {error:#}\n  again: tidegate-reliability \
             power-loss --recording {} --cut {cut} --seed {seed} --keep DIR",
            recording.folder.display()
        );
        println!("{what}");
        tally.broken.lock().unwrap_or_else(|poison| poison.into_inner()).push(what);
    }
    Ok(())
}

/// Builds one image again, and checks it.
fn one(
    options: &Options,
    recording: &Recording,
    cut: usize,
    seed: u64,
    tally: &Tally,
) -> Result<()> {
    ensure!(cut <= recording.steps.len(), "the recording has {} steps", recording.steps.len());
    let (mut disk, mut said) = recording.begin(lies(options.without_sync))?;
    go(recording, &mut disk, &mut said, 0, cut)?;
    if let Some(keep) = &options.keep {
        image::write(&disk, &mut Random::part(seed, 0), keep)?;
    }
    let folder = tempfile::tempdir()?;
    check(recording, &disk, &said, (cut, seed), &folder.path().join("image"), tally)
}
