//! One call of the system that is to fail, and how strace is told so. It counts as strace does:
//! calls of one name, on one path, within one thread.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt, fs,
    path::Path,
    str::FromStr,
};

use anyhow::{Context, bail};

use super::Scenario;

/// Calls that reach the disk, or may say that it is ill.
const CALLS: [&str; 20] = [
    "write",
    "pwrite64",
    "read",
    "pread64",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "openat",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "ftruncate",
    "fallocate",
    "mkdir",
    "flock",
    "getdents64",
    "statx",
    "fstat",
];

/// Calls that a full disk fails.
const NEED_ROOM: [&str; 9] = [
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "openat",
    "rename",
    "ftruncate",
    "fallocate",
    "mkdir",
];

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Errno {
    Eio,
    Enospc,
}

/// The `nth` call of this name on this path, within a thread.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) scenario: Scenario,
    call: String,
    /// Relative to the store's folder; empty for the folder itself.
    path: String,
    pub(crate) nth: u64,
    errno: Errno,
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Eio { "EIO" } else { "ENOSPC" })
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, call, path, nth, errno } = self;
        write!(f, "{scenario}:{call}:{path}:{nth}:{errno}")
    }
}

impl FromStr for Point {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let [scenario, call, path, nth, errno] = parts[..] else {
            bail!("{text:?} is no SCENARIO:CALL:PATH:NTH:ERRNO");
        };
        let errno = match errno {
            "EIO" => Errno::Eio,
            "ENOSPC" => Errno::Enospc,
            other => bail!("{other:?} is neither EIO nor ENOSPC"),
        };
        let (call, path) = (call.to_owned(), path.to_owned());
        let nth = nth.parse().context("which call")?;
        Ok(Self { scenario: scenario.parse()?, call, path, nth, errno })
    }
}

/// Arguments of strace to be told of every call; the log goes to `log`. The traced process is the
/// child of whoever starts this, and strace its grandchild, so that a kill hits the right one.
pub(crate) fn watching(log: &Path) -> Vec<OsString> {
    let mut arguments = common(log);
    arguments.extend(["-y".into(), "-e".into(), format!("trace={}", CALLS.join(",")).into()]);
    arguments
}

fn common(log: &Path) -> Vec<OsString> {
    let flags = ["-D", "-f", "-qq", "--seccomp-bpf", "-o"];
    flags.into_iter().map(OsString::from).chain([log.as_os_str().to_owned()]).collect()
}

impl Point {
    /// Whether it is of the journal, and not one of a segment's many commits.
    pub(crate) fn is_of_a_roll(&self) -> bool {
        self.path.starts_with("journal") && (self.nth <= 2 || !self.path.ends_with(".seg"))
    }

    /// Whether sled reads its file here; the store itself reads it in another way.
    pub(crate) fn is_sleds_read(&self) -> bool {
        self.call == "pread64" && self.path == "state/db"
    }

    /// Arguments of strace that make this call fail, for a store in `store`.
    pub(crate) fn failing(&self, store: &Path, log: &Path) -> Vec<OsString> {
        let Self { call, path, nth, errno, .. } = self;
        // With an empty path this would end in a slash, which is another path to strace.
        let path = if path.is_empty() { store.to_owned() } else { store.join(path) };
        let mut arguments = common(log);
        arguments.extend(["-P".into(), path.into(), "-e".into(), format!("trace={call}").into()]);
        let inject = format!("inject={call}:error={errno}:when={nth}");
        arguments.extend(["-e".into(), inject.into()]);
        arguments
    }

    /// Whether strace says in `log` that it was failed.
    pub(crate) fn was_hit(log: &Path) -> bool {
        fs::read(log).is_ok_and(|log| {
            let word = b"(INJECTED)";
            log.windows(word.len()).any(|part| part == word)
        })
    }

    /// Every point of a run of `scenario` with a store in `store`, as strace has logged it.
    pub(crate) fn all(scenario: Scenario, store: &Path, log: &Path) -> anyhow::Result<Vec<Self>> {
        let text = fs::read(log).with_context(|| format!("no log of strace in {log:?}"))?;
        let text = String::from_utf8_lossy(&text);
        let store = store.to_str().context("the store's path is no text")?;
        // By thread, since strace counts by thread.
        let mut counts: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
        for line in text.lines() {
            let Some((thread, call, path)) = parse(line, store) else { continue };
            *counts.entry((thread, call, path)).or_default() += 1;
        }
        let mut points = BTreeSet::new();
        for ((_, call, path), count) in counts {
            let errnos = if NEED_ROOM.contains(&call) {
                &[Errno::Eio, Errno::Enospc][..]
            } else {
                &[Errno::Eio]
            };
            let (call, path) = (call.to_owned(), path.to_owned());
            for nth in 1..=count {
                points.extend(errnos.iter().map(|errno| {
                    let (call, path, errno) = (call.clone(), path.clone(), *errno);
                    Self { scenario, call, path, nth, errno }
                }));
            }
        }
        Ok(points.into_iter().collect())
    }
}

/// The thread, the call and the path, relative to `store`, of a line of strace's log: of a call
/// that touches the store and begins on this line.
fn parse<'a>(line: &'a str, store: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let (thread, rest) = line.split_once(' ')?;
    let (call, rest) = rest.trim_start().split_once('(')?;
    let known = CALLS.contains(&call);
    let (_, path) = rest.split_once(store).filter(|_| known)?;
    let path = path.split(['"', '>']).next()?.trim_end_matches(" (deleted)");
    let path = if path.is_empty() { path } else { path.strip_prefix('/')? };
    Some((thread, call, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_strace_are_understood() {
        let line = r#"9 pwrite64(12</s/journal/1.seg>, "\1"..., 272, 4096 <unfinished ...>"#;
        assert_eq!(parse(line, "/s"), Some(("9", "pwrite64", "journal/1.seg")));
        let line = r#"12  openat(AT_FDCWD</w>, "/s", O_RDONLY|O_CLOEXEC) = 26</s>"#;
        assert_eq!(parse(line, "/s"), Some(("12", "openat", "")));
        let line = r#"7 rename("/s/a.tmp", "/s/a") = 0"#;
        assert_eq!(parse(line, "/s"), Some(("7", "rename", "a.tmp")));
        for other in ["7 <... fsync resumed>) = 0", r#"7 write(1<pipe:[3]>, "/x", 2) = 2"#] {
            assert_eq!(parse(other, "/s"), None);
        }
    }

    #[test]
    fn a_point_is_told_and_read_back() {
        let text = "reopen:fdatasync:journal/1.seg:17:ENOSPC";
        assert_eq!(text.parse::<Point>().map(|point| point.to_string()).ok(), Some(text.into()));
        assert!("reopen:fdatasync:17".parse::<Point>().is_err());
    }
}
