//! Failures on demand, for tests of this package: the next write or sync of the committer fails.
//! Outside tests it is empty and does nothing.

#[cfg(test)]
use std::sync::atomic::{AtomicI32, Ordering};

/// The faults to come. An errno, or 0 for none.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    #[cfg(test)]
    pub(crate) next_write: AtomicI32,
    #[cfg(test)]
    pub(crate) next_sync: AtomicI32,
}

impl Faults {
    #[cfg(not(test))]
    #[allow(clippy::unused_self)]
    pub(crate) fn write(&self) -> std::io::Result<()> {
        Ok(())
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self)]
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn write(&self) -> std::io::Result<()> {
        Self::take(&self.next_write)
    }

    #[cfg(test)]
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        Self::take(&self.next_sync)
    }

    #[cfg(test)]
    fn take(fault: &AtomicI32) -> std::io::Result<()> {
        match fault.swap(0, Ordering::Relaxed) {
            0 => Ok(()),
            errno => Err(std::io::Error::from_raw_os_error(errno)),
        }
    }
}
