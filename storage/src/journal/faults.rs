//! Failures on demand, for tests of this package: the next write or sync of the committer fails, a
//! write also half-way through; so do the next openings of segments. Outside tests it adds nothing
//! to what it stands before.

#[cfg(test)]
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::{fs::File, os::unix::fs::FileExt, path::Path};

use crate::StorageError;

/// The faults to come. An errno, or 0 for none.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    #[cfg(test)]
    pub(crate) next_write: AtomicI32,
    /// How many bytes a write that fails has written by then.
    #[cfg(test)]
    pub(crate) written: AtomicUsize,
    #[cfg(test)]
    pub(crate) next_sync: AtomicI32,
    /// How many openings find no file descriptor.
    #[cfg(test)]
    pub(crate) without_descriptor: AtomicUsize,
}

impl Faults {
    #[cfg(not(test))]
    #[allow(clippy::unused_self)]
    pub(crate) fn write(&self, file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self)]
    pub(crate) fn sync(&self, file: &File) -> std::io::Result<()> {
        file.sync_data()
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps)]
    pub(crate) fn open(&self, _path: &Path) -> Result<(), StorageError> {
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn open(&self, path: &Path) -> Result<(), StorageError> {
        let left = &self.without_descriptor;
        if left.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        left.fetch_sub(1, Ordering::Relaxed);
        Err(StorageError::io("opening", path, std::io::Error::from_raw_os_error(24)))
    }

    #[cfg(test)]
    pub(crate) fn write(&self, file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        let fault = Self::take(&self.next_write);
        let written =
            if fault.is_ok() { bytes.len() } else { self.written.load(Ordering::Relaxed) };
        file.write_all_at(&bytes[..written.min(bytes.len())], offset)?;
        fault
    }

    #[cfg(test)]
    pub(crate) fn sync(&self, file: &File) -> std::io::Result<()> {
        Self::take(&self.next_sync)?;
        file.sync_data()
    }

    #[cfg(test)]
    fn take(fault: &AtomicI32) -> std::io::Result<()> {
        match fault.swap(0, Ordering::Relaxed) {
            0 => Ok(()),
            errno => Err(std::io::Error::from_raw_os_error(errno)),
        }
    }
}
