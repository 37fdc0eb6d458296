//! Whether an index may be used as it is: only if it was closed in order, and not opened since. sled
//! mends what a killed process leaves, but has been seen to mend it badly. It does not look at the
//! index itself.

use std::{fs, path::Path};

use crate::{StorageError, disk};

type Result<T> = std::result::Result<T, StorageError>;

const NAME: &str = "index.closed";
const UNFINISHED_NAME: &str = "index.closed.tmp";
const CLOSED: &[u8] = b"closed";

/// Whether the index in the state's `folder` may be used.
pub(crate) fn is_given(folder: &Path) -> bool {
    fs::read(folder.join(NAME)).is_ok_and(|found| found == CLOSED)
}

/// The index was closed, and all of it synced.
pub(crate) fn give(folder: &Path) -> Result<()> {
    disk::write_whole(&folder.join(NAME), &folder.join(UNFINISHED_NAME), CLOSED)
}

/// Before the index is opened.
pub(crate) fn withdraw(folder: &Path) -> Result<()> {
    let path = folder.join(NAME);
    if path.exists() {
        disk::remove(&path)?;
    }
    disk::sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_given_until_withdrawn() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert!(!is_given(folder));
        give(folder).unwrap();
        assert!(is_given(folder));
        withdraw(folder).unwrap();
        withdraw(folder).unwrap();
        assert!(!is_given(folder));
        fs::write(folder.join(NAME), b"clo").unwrap();
        assert!(!is_given(folder));
    }
}
