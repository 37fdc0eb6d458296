//! Prepared files for the segments to come, so that the committer seldom waits for one. It neither
//! knows which records a recycled file held nor looks at them.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, PoisonError},
};

use tracing::warn;

use super::segment::{Pace, SPARE_SUFFIX, prepare};
use crate::{StorageError, disk};

type Result<T> = std::result::Result<T, StorageError>;

/// The spares of one journal. Filled by trim (recycled files) and by a thread of its own (new
/// ones).
#[derive(Debug)]
pub(crate) struct Spares {
    folder: PathBuf,
    size: u64,
    max: usize,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    ready: VecDeque<PathBuf>,
    /// One more would be good to have.
    wanted: bool,
    /// The committer waits for one.
    demanded: bool,
    failure: Option<StorageError>,
    closing: bool,
    next_id: u64,
}

impl Spares {
    /// `ready` are spares of the right size, found in `folder`; `next_id` names the next one.
    pub(crate) fn new(
        folder: &Path,
        size: u64,
        max: usize,
        ready: VecDeque<PathBuf>,
        next_id: u64,
    ) -> Self {
        let inner = Mutex::new(Inner { ready, next_id, ..Inner::default() });
        Self { folder: folder.to_path_buf(), size, max, inner, changed: Condvar::new() }
    }

    /// A spare; waits while one is being prepared. For the committer.
    pub(crate) fn take(&self) -> Result<PathBuf> {
        let mut inner = disk::lock(&self.inner);
        // An earlier failure may be cured by now: it counts only if a new try fails as well.
        inner.failure = None;
        loop {
            if let Some(path) = inner.ready.pop_front() {
                return Ok(path);
            }
            if let Some(failure) = inner.failure.take() {
                return Err(failure);
            }
            if inner.closing {
                return Err(StorageError::Closed);
            }
            inner.demanded = true;
            self.changed.notify_all();
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Asks for a spare to be prepared in the background, if there is none.
    pub(crate) fn want(&self) {
        let mut inner = disk::lock(&self.inner);
        if inner.ready.is_empty() {
            inner.wanted = true;
            self.changed.notify_all();
        }
    }

    /// A path for a new spare, used once.
    pub(crate) fn new_path(&self) -> PathBuf {
        let mut inner = disk::lock(&self.inner);
        inner.next_id += 1;
        self.folder.join(format!("{:020}{SPARE_SUFFIX}", inner.next_id))
    }

    /// Keeps the file at `path`, which already has a spare's name, or removes it if there are
    /// enough. Its new name must be durable: its next life must not begin in its old one.
    pub(crate) fn give(&self, path: PathBuf, size: u64) -> Result<()> {
        let mut inner = disk::lock(&self.inner);
        if size != self.size || inner.ready.len() >= self.max {
            drop(inner);
            // A reader that follows may have it open.
            return disk::discard(&path);
        }
        inner.ready.push_back(path);
        self.changed.notify_all();
        Ok(())
    }

    /// Bytes of disk that spares take.
    pub(crate) fn disk_bytes(&self) -> u64 {
        disk::lock(&self.inner).ready.len() as u64 * self.size
    }

    /// Ends the thread in [`Spares::run`]; an unfinished spare is given up.
    pub(crate) fn close(&self) {
        disk::lock(&self.inner).closing = true;
        self.changed.notify_all();
    }

    /// Prepares spares until closed. For a thread of its own.
    pub(crate) fn run(&self) {
        while self.wait_for_work() {
            let path = self.new_path();
            let prepared = prepare(&path, self.size, &|| self.pace());
            let mut inner = disk::lock(&self.inner);
            match prepared {
                Ok(true) => inner.ready.push_back(path),
                Ok(false) => {}
                Err(failure) => {
                    // Not yet fatal: the active segment still has room, and trim may give a spare.
                    warn!(%failure, "no spare journal segment could be prepared");
                    inner.failure = Some(failure);
                }
            }
            inner.wanted = false;
            inner.demanded = false;
            self.changed.notify_all();
        }
    }

    fn pace(&self) -> Pace {
        let inner = disk::lock(&self.inner);
        match (inner.closing, inner.demanded) {
            (true, _) => Pace::Stop,
            (false, true) => Pace::Fast,
            (false, false) => Pace::Gently,
        }
    }

    fn wait_for_work(&self) -> bool {
        let mut inner = disk::lock(&self.inner);
        loop {
            if inner.closing {
                return false;
            }
            if inner.ready.is_empty() && (inner.wanted || inner.demanded) {
                return true;
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
