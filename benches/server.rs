//! Private servers: found on PATH, started in a folder of their own, ended by their process id. It
//! speaks to none of them.

use std::{
    env, fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, geteuid, kill_process};

/// How long a server may take to be ready, and to end.
const READY_WAIT: Duration = Duration::from_secs(30);
const END_WAIT: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Users that a server may run as which refuses to run as root, the best first.
const ORDINARY_USERS: [&str; 2] = ["postgres", "nobody"];

/// A running server; ended when dropped.
pub(crate) struct Server {
    child: Child,
    end_by: Signal,
    log: PathBuf,
}

impl Server {
    /// Starts `command`, whose output goes to the file `log`. `end_by` is what it ends on at once
    /// and in order.
    pub(crate) fn start(mut command: Command, log: &Path, end_by: Signal) -> Result<Self> {
        let out = fs::File::create(log)?;
        command.stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out);
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        Ok(Self { child, end_by, log: log.to_path_buf() })
    }

    /// Waits until `ready` succeeds.
    pub(crate) async fn wait_until<T>(
        &mut self,
        mut ready: impl AsyncFnMut() -> Result<T>,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            let not_yet = match ready().await {
                Ok(ready) => return Ok(ready),
                Err(not_yet) => not_yet,
            };
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}:\n{}", self.said());
            }
            if start.elapsed() > READY_WAIT {
                bail!("no server after {READY_WAIT:?}: {not_yet:#}; it says:\n{}", self.said());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Memory that it has, in bytes: its resident set.
    pub(crate) fn memory(&self) -> Result<u64> {
        memory(&format!("/proc/{}/status", self.child.id()))
    }

    /// What it has written so far.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself.
            let _ = kill_process(pid, self.end_by);
        }
        let start = Instant::now();
        while start.elapsed() < END_WAIT {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(LOOK_AGAIN);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Memory that this process has, in bytes: its resident set.
pub(crate) fn memory_here() -> Result<u64> {
    memory("/proc/self/status")
}

fn memory(status: &str) -> Result<u64> {
    let text = fs::read_to_string(status).context("memory is only known on Linux")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no VmRSS")?;
    Ok(kib.trim().parse::<u64>()? << 10)
}

/// Where `program` is: on PATH, or in one of `elsewhere`.
pub(crate) fn find(program: &str, elsewhere: &[PathBuf]) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(elsewhere.iter().cloned());
    let found = folders.map(|folder| folder.join(program)).find(|file| file.is_file());
    found.ok_or_else(|| anyhow!("{program} is not on PATH"))
}

/// The first line of `program --version`.
pub(crate) fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Makes `command` run as an ordinary user who owns `folder`, if we are root; else as who we are.
pub(crate) fn as_ordinary_user(command: &mut Command, folder: &Path) -> Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let ids = ORDINARY_USERS.iter().find_map(|name| {
        let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let fields = fields.into_iter().find(|fields| fields.first() == Some(name))?;
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    });
    let (user, group): (u32, u32) = ids.context("there is no user `nobody`")?;
    chown(folder, Some(user), Some(group))?;
    command.uid(user).gid(group);
    Ok(())
}
