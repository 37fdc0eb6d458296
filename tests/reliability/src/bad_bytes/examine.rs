//! One damaged store, looked at by a process of its own with bounded memory: it may end badly
//! without ending the tool. It prints one line, and decides nothing beyond that line.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::sample::{self, Questions, Wrong};

/// What a store came to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// Everything is as it was, and the audit finds nothing.
    Same,
    /// It did not open, or did not answer a question; so it says itself.
    Refused(String),
    /// A wrong answer, a panic, a crash, a hang or too much memory.
    Broken(String),
}

/// A process that has not ended after this long hangs.
const PATIENCE: Duration = Duration::from_secs(600);

/// Address space of the process that looks, in KiB: far above what it needs, far below what a
/// damaged length could ask for.
const MEMORY_KIB: u64 = 3 << 20;

static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Looks at the store in `dir` in a process of its own.
pub(crate) fn examine(dir: &Path, expected: &Path) -> anyhow::Result<Outcome> {
    let program = std::env::current_exe().context("this program's own path")?;
    let mut child = Command::new("sh")
        .args(["-c", &format!("ulimit -v {MEMORY_KIB}; exec \"$0\" \"$@\"")])
        .arg(program)
        .args(["bad-bytes", "--examine"])
        .arg(dir)
        .arg("--expected")
        .arg(expected)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting a shell")?;
    let began = Instant::now();
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if began.elapsed() > PATIENCE => {
                child.kill()?;
                child.wait()?;
                return Ok(Outcome::Broken("it hangs".to_owned()));
            }
            None => thread::sleep(Duration::from_millis(2)),
        }
    };
    let output = child.wait_with_output()?;
    let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(match line.split_once(' ') {
        _ if line == "same" => Outcome::Same,
        Some(("refused", what)) => Outcome::Refused(what.to_owned()),
        _ => {
            let told = String::from_utf8_lossy(&output.stderr);
            Outcome::Broken(format!("{status}: {line} {}", told.trim()))
        }
    })
}

/// What the process of its own does.
pub(crate) fn examine_here(dir: &Path, expected: &Path) -> anyhow::Result<String> {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        // Panics of sled are caught by storage. Any other is a fault of ours.
        if !place.contains("/sled-0.34") {
            eprintln!("{panic}");
            PANIC.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(place);
        }
    }));
    let expected = fs::read_to_string(expected)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let found = runtime?.block_on(look(dir, &expected));
    let panic = PANIC.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    Ok(panic.map_or(found, |place| format!("panicked at {place}")))
}

async fn look(dir: &Path, expected: &str) -> String {
    let gate = match sample::open(dir).await {
        Ok(gate) => gate,
        Err(error) => return format!("refused {}: {error}", kind_of(&error)),
    };
    let checked = Questions::check(expected, &gate).await;
    drop(gate);
    match checked {
        Err(Wrong::Different(what)) => return format!("different {what}"),
        Err(Wrong::Refused(what)) => return format!("refused asked: {what}"),
        Ok(()) => {}
    }
    match tidegate::audit(dir) {
        Ok(report) if report.ok => "same".to_owned(),
        Ok(report) => {
            let wrong = report.checks.iter().find(|check| !check.ok);
            format!("refused audit: {}", wrong.map_or("", |check| &check.detail))
        }
        Err(error) => format!("refused audit: {error}"),
    }
}

/// The name of the error's variant, for counting.
fn kind_of(error: &tidegate::OpenError) -> String {
    let name = match error {
        tidegate::OpenError::Storage(error) => format!("{error:?}"),
        other => format!("{other:?}"),
    };
    name.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}
