//! Whether an index may be used as it is. It may if it was closed in order, or if the system has
//! run ever since it was opened: then all that sled wrote is still there, though not synced. It
//! does not look at the index itself.

use std::{fs, path::Path};

use crate::{StorageError, disk};

type Result<T> = std::result::Result<T, StorageError>;

const NAME: &str = "index.trusted";
const UNFINISHED_NAME: &str = "index.trusted.tmp";
const CLOSED: &str = "closed";
/// Linux draws a new number whenever it starts. Elsewhere an index is trusted only if closed.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

fn opened_now() -> Option<String> {
    let boot = fs::read_to_string(BOOT_ID).ok()?;
    let boot = boot.trim();
    (!boot.is_empty()).then(|| format!("open {boot}"))
}

/// Whether the index in the state's `folder` may be used.
pub(crate) fn is_given(folder: &Path) -> bool {
    let Ok(found) = fs::read_to_string(folder.join(NAME)) else { return false };
    found == CLOSED || Some(found) == opened_now()
}

/// Before an index is written: from now on it counts only as long as the system runs.
pub(crate) fn while_running(folder: &Path) -> Result<()> {
    match opened_now() {
        Some(text) => note(folder, &text),
        None => withdraw(folder),
    }
}

/// The index was closed, and all of it synced.
pub(crate) fn for_good(folder: &Path) -> Result<()> {
    note(folder, CLOSED)
}

/// The index is to be made anew.
pub(crate) fn withdraw(folder: &Path) -> Result<()> {
    let path = folder.join(NAME);
    if path.exists() {
        disk::remove(&path)?;
    }
    disk::sync_folder(folder)
}

fn note(folder: &Path, text: &str) -> Result<()> {
    disk::write_whole(&folder.join(NAME), &folder.join(UNFINISHED_NAME), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_ends_with_the_system_unless_closed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert!(!is_given(folder));
        while_running(folder).unwrap();
        assert_eq!(is_given(folder), opened_now().is_some());
        for other in ["open of another boot", "", "closed and torn"] {
            note(folder, other).unwrap();
            assert!(!is_given(folder), "{other}");
        }
        for_good(folder).unwrap();
        assert!(is_given(folder));
        withdraw(folder).unwrap();
        assert!(!is_given(folder));
    }
}
