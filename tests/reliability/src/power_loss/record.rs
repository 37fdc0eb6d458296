//! Runs processes on a store and records their storage calls with strace. A recording is a folder,
//! so that one image of it can be built again later. It cuts nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    disk::{Disk, Lies, Step},
    lines,
    trace::{CALLS, Follower},
    verify::Said,
    work::{End, Work},
};

const START: &str = "start";
const BEFORE: &str = "before.words";
const TOP: &str = "top";
const WORDS: &str = "words";

/// What was recorded.
pub(crate) struct Recording {
    pub(crate) folder: PathBuf,
    pub(crate) steps: Vec<Step>,
    before: Vec<String>,
}

/// Whether calls can be recorded here.
pub(crate) fn possible() -> bool {
    let mut version = Command::new("strace");
    version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

impl Recording {
    /// Records `runs`, one after the other, in the new folder `folder`. They begin with what
    /// `prepare` leaves in a folder, after the words it gives.
    pub(crate) fn make(
        folder: &Path,
        runs: &[Work],
        prepare: impl FnOnce(&Path) -> Result<Vec<String>>,
    ) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let folder = fs::canonicalize(folder)?;
        let before = prepare(&folder.join(START))?;
        fs::write(folder.join(BEFORE), before.join("\n"))?;
        copy_folder(&folder.join(START), &folder.join(TOP))?;
        // Later the paths are needed as the processes knew them.
        fs::write(folder.join("place"), folder.to_str().context("an odd path")?)?;
        for (number, work) in runs.iter().enumerate() {
            trace(&folder, number, work)?;
        }
        fs::remove_dir_all(folder.join(TOP))?;
        Self::read(&folder)
    }

    /// Reads what [`Recording::make`] has left in `folder`.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let place = fs::read_to_string(folder.join("place"))?;
        let (top, words) = (format!("{place}/{TOP}"), format!("{place}/{WORDS}"));
        let mut follower = Follower::new(&folder.join(START), &top, &words)?;
        for number in 0.. {
            let path = trace_path(folder, number);
            if !path.exists() {
                break;
            }
            for line in fs::read_to_string(path)?.lines() {
                let read = lines::read(line);
                let shown = || line.chars().take(200).collect::<String>();
                if let Some(line) = read.with_context(shown)? {
                    follower.take(line).with_context(shown)?;
                }
            }
            follower.process_ends();
        }
        let before = fs::read_to_string(folder.join(BEFORE))?;
        let before = before.lines().map(str::to_owned).collect();
        Ok(Self { folder: folder.to_path_buf(), steps: follower.steps, before })
    }

    /// The disk and what was said before the first step.
    pub(crate) fn begin(&self, lies: Lies) -> Result<(Disk, Said)> {
        let mut said = Said::default();
        self.before.iter().try_for_each(|word| said.hear(word))?;
        Ok((Disk::of(&self.folder.join(START), lies)?, said))
    }

    /// All that was said up to `cut`.
    pub(crate) fn words(&self, cut: usize) -> Vec<String> {
        let said = self.steps[..cut].iter().filter_map(|step| match step {
            Step::Word(word) => Some(word.clone()),
            _ => None,
        });
        self.before.iter().cloned().chain(said).collect()
    }
}

fn trace_path(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("run-{number}.strace"))
}

fn trace(folder: &Path, number: usize, work: &Work) -> Result<()> {
    let mut command = Command::new("strace");
    command.args(["-f", "-xx", "-s", "1000000000", "--seccomp-bpf", "-e"]);
    command.arg(format!("trace={CALLS}")).arg("-o").arg(trace_path(folder, number));
    command.arg(std::env::current_exe()?).arg("power-loss-work");
    command.arg("--store").arg(folder.join(TOP).join("store"));
    command.arg("--words").arg(folder.join(WORDS));
    let numbers = [
        ("--first", work.first),
        ("--rounds", work.rounds),
        ("--orders", work.orders),
        ("--lines", work.lines),
        ("--pause-ms", work.pause_ms),
        ("--snapshot-every", work.snapshot_every),
        ("--at-rest", work.at_rest),
        ("--marks", work.marks),
    ];
    for (option, number) in numbers {
        command.arg(option).arg(number.to_string());
    }
    let end = match work.end {
        End::Close => "close",
        End::Drop => "drop",
        End::Kill => "kill",
    };
    let ran = command.arg("--end").arg(end).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&ran.stderr);
    ensure!(ran.status.success(), "the recorded process failed: {}\n{said}", ran.status);
    Ok(())
}

pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}
