//! What an open group is at, behind one lock. It decides nothing; it only sees to it that who looks
//! at the time never sleeps too long.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tidegate_machines::{Retry, Timestamp};
use tokio::sync::Notify;

use super::{
    ConsumeError,
    desk::{Desk, NEVER},
};
use crate::feed::FeedError;

/// See the module.
pub(super) struct Work {
    pub(super) desk: Desk,
    /// Why nothing more is handed out, until the group is moved.
    pub(super) ended: Option<ConsumeError>,
    /// Why the topic can't be read at the moment.
    pub(super) failing: Option<FeedError>,
    /// The machine may have the group otherwise than the desk.
    pub(super) in_doubt: bool,
    /// When the desk is looked at next.
    pub(super) looks_at: Timestamp,
    /// The store, the group or its last handle has gone.
    pub(super) stopped: bool,
    /// When a message is given up.
    pub(super) retry: Retry,
}

impl Work {
    pub(super) fn new(desk: Desk, retry: Retry) -> Self {
        Self {
            desk,
            ended: None,
            failing: None,
            in_doubt: false,
            looks_at: NEVER,
            stopped: false,
            retry,
        }
    }
}

/// The work, while it is held. Let go of, it tells who looks at the time of what is due sooner.
pub(super) struct AtWork<'a> {
    work: MutexGuard<'a, Work>,
    look: &'a Notify,
}

impl<'a> AtWork<'a> {
    pub(super) fn of(work: &'a Mutex<Work>, look: &'a Notify) -> Self {
        // No user code runs under this lock, so its content is whole even after a panic.
        Self { work: work.lock().unwrap_or_else(PoisonError::into_inner), look }
    }
}

impl Deref for AtWork<'_> {
    type Target = Work;

    fn deref(&self) -> &Work {
        &self.work
    }
}

impl DerefMut for AtWork<'_> {
    fn deref_mut(&mut self) -> &mut Work {
        &mut self.work
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        let due = self.work.desk.due();
        if due < self.work.looks_at {
            self.work.looks_at = due;
            self.look.notify_one();
        }
    }
}
