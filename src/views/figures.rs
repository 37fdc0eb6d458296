//! How a view is doing, for its readers and for metrics: the one place that its worker and they
//! share. It keeps no row.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::sync::watch;

use super::kept::{Generation, Kept};
use crate::{Events, Position};

/// What a view is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ViewCondition {
    /// Built for the first time, or for the first time in this version: there is nothing to read.
    Building,
    /// Following the events.
    Following,
    /// Stopped, for this reason. What there was before can be read.
    Stopped(Arc<str>),
    /// The store is closed.
    Closed,
}

impl fmt::Display for ViewCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Building => "building",
            Self::Following => "following",
            Self::Stopped(_) => "stopped",
            Self::Closed => "closed",
        })
    }
}

/// How far a rebuild is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RebuildProgress {
    /// What was taken in of what the store holds; 0 if the whole journal is read instead.
    pub loaded: u64,
    /// Where the new rows are, once they follow the events.
    pub position: Position,
    /// Where they have to get.
    pub target: Position,
}

/// The figures of a view at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewReport {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// What it is doing.
    pub condition: ViewCondition,
    /// Whether new rows are asked for or being built, beside those that are read if there are any.
    pub rebuilding: bool,
    /// How far those are, once they are being built.
    pub progress: Option<RebuildProgress>,
    /// The position up to which its rows hold everything.
    pub position: Position,
    /// Records of the journal that are on disk and not in it.
    pub lag_records: u64,
    /// How long ago it had everything, in milliseconds; 0 if it has. At least since the store was
    /// opened, if it has not had everything since.
    pub lag_ms: u64,
    /// Its rows.
    pub rows: u64,
    /// Events taken in since the store was opened.
    pub events: u64,
    /// Batches kept since then.
    pub batches: u64,
    /// How often it was built since then.
    pub builds: u64,
    /// How often it has stopped, or a rebuild has failed, since then.
    pub failures: u64,
}

/// What readers are told.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) condition: ViewCondition,
    /// Of what can be read.
    pub(super) position: Position,
}

/// See the module.
pub(super) struct Shared {
    pub(super) name: &'static str,
    pub(super) version: u32,
    pub(super) kept: Kept,
    pub(super) events: Events,
    /// The rows that are read. Locked for writing while a batch goes into them: readers see whole
    /// batches.
    pub(super) served: RwLock<Option<Generation>>,
    pub(super) told: watch::Sender<Told>,
    pub(super) progress: watch::Sender<Option<RebuildProgress>>,
    /// Rebuilds asked for that the worker has not seen yet.
    pub(super) asked: AtomicUsize,
    /// Whether the store is about to end: a batch that is at work need not be finished.
    pub(super) ending: AtomicBool,
    counted: Mutex<Counted>,
}

pub(super) struct Counted {
    pub(super) rows: u64,
    pub(super) events: u64,
    pub(super) batches: u64,
    pub(super) builds: u64,
    pub(super) failures: u64,
    /// When it last had everything, or when the store was opened; whether nothing has come since.
    had_all: Instant,
    is_all: bool,
}

impl Shared {
    pub(super) fn new(name: &'static str, version: u32, kept: Kept, events: Events) -> Self {
        let told = Told { condition: ViewCondition::Building, position: Position::ZERO };
        Self {
            name,
            version,
            kept,
            events,
            served: RwLock::new(None),
            told: watch::Sender::new(told),
            progress: watch::Sender::new(None),
            asked: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
            counted: Mutex::new(Counted {
                rows: 0,
                events: 0,
                batches: 0,
                builds: 0,
                failures: 0,
                had_all: Instant::now(),
                is_all: false,
            }),
        }
    }

    pub(super) fn count(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What can be read holds everything up to `position`.
    pub(super) fn reached(&self, position: Position, rows: u64) {
        {
            let mut counted = self.count();
            counted.rows = rows;
            counted.is_all = position >= self.events.durable();
            if counted.is_all {
                counted.had_all = Instant::now();
            }
        }
        let condition = ViewCondition::Following;
        self.told.send_replace(Told { condition, position });
    }

    /// There is something new: up to now it had everything, if it ever did.
    pub(super) fn came(&self) {
        let mut counted = self.count();
        if std::mem::take(&mut counted.is_all) {
            counted.had_all = Instant::now();
        }
    }

    pub(super) fn set_condition(&self, condition: ViewCondition) {
        self.told.send_modify(|told| told.condition = condition);
    }

    pub(super) fn report(&self) -> ViewReport {
        let Told { condition, position } = self.told.borrow().clone();
        let lag_records = self.events.durable().0.saturating_sub(position.0);
        // In this order: the worker takes the ask away once it shows a progress.
        let closed = condition == ViewCondition::Closed;
        let asked = self.asked.load(Ordering::SeqCst) > 0;
        let progress = *self.progress.borrow();
        let counted = self.count();
        let since = counted.had_all.elapsed().as_millis();
        ViewReport {
            name: self.name.to_owned(),
            version: self.version,
            condition,
            rebuilding: !closed && (asked || progress.is_some()),
            progress: progress.filter(|_| !closed),
            position,
            lag_records,
            lag_ms: if lag_records == 0 || counted.is_all {
                0
            } else {
                u64::try_from(since).unwrap_or(u64::MAX)
            },
            rows: counted.rows,
            events: counted.events,
            batches: counted.batches,
            builds: counted.builds,
            failures: counted.failures,
        }
    }
}
