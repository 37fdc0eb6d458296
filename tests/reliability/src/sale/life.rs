//! One life of a selling process, from outside: its lines go into the ledger, and it ends by itself
//! or is killed. It never waits without a deadline.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use super::ledger::{Ledger, Note};

/// A selling process. Killed when dropped.
pub(crate) struct Life {
    child: Child,
    lines: Receiver<String>,
}

/// What was heard until the wait was over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// What was waited for.
    Wanted,
    /// Nothing more will be said: the process has ended.
    End,
    /// The time is over.
    Nothing,
}

/// The program that runs now, even if a newer one has taken its place on the disk meanwhile.
pub(crate) fn ourselves() -> Command {
    Command::new(format!("/proc/{}/exe", std::process::id()))
}

/// Arguments of a process that sells in `folder`.
pub(crate) fn seller(folder: &Path, name: &str, clients: u64, carts: u64) -> Vec<OsString> {
    let mut arguments = vec!["sell".into(), folder.as_os_str().to_owned()];
    for (option, value) in [
        ("--name", name.to_owned()),
        ("--clients", clients.to_string()),
        ("--carts", carts.to_string()),
    ] {
        arguments.extend([option.into(), value.into()]);
    }
    arguments
}

impl Life {
    /// Starts `command`, whose stdout is a seller's.
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("can't start {command:?}"))?;
        let out = child.stdout.take().context("its stdout is a pipe")?;
        let (sender, lines) = mpsc::channel();
        // Ends with the process.
        thread::spawn(move || {
            let mut out = BufReader::new(out);
            let mut line = String::new();
            while out.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                // A line cut short by a kill was never said.
                if let Some(whole) = line.strip_suffix('\n')
                    && sender.send(whole.to_owned()).is_err()
                {
                    break;
                }
                line.clear();
            }
        });
        Ok(Self { child, lines })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Notes what is said until `wanted` says that this is it, for at most `wait`.
    pub(crate) fn listen(
        &self,
        ledger: &mut Ledger,
        wait: Duration,
        mut wanted: impl FnMut(Note) -> bool,
    ) -> anyhow::Result<Heard> {
        let end = Instant::now() + wait;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if wanted(ledger.note(&line)?) {
                        return Ok(Heard::Wanted);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(Heard::End),
                Err(RecvTimeoutError::Timeout) => return Ok(Heard::Nothing),
            }
        }
    }

    /// Kills it as nothing else can (SIGKILL), and notes what it had said. `None` if it had ended
    /// by itself.
    pub(crate) fn kill(
        &mut self,
        ledger: &mut Ledger,
        mut heard: impl FnMut(Note),
    ) -> anyhow::Result<Option<ExitStatus>> {
        let over = self.child.try_wait()?;
        self.child.kill()?;
        self.child.wait()?;
        let left = self.listen(ledger, Duration::from_secs(10), |note| {
            heard(note);
            false
        })?;
        if left != Heard::End {
            bail!("its stdout stays open after it was killed");
        }
        Ok(over)
    }

    /// Waits for its end, for at most `wait`; `None` if it goes on.
    pub(crate) fn end(&mut self, wait: Duration) -> anyhow::Result<Option<ExitStatus>> {
        let until = Instant::now() + wait;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
