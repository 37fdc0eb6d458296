//! How a store is to be opened: options with their bounds and defaults, and the machines in it. The
//! opening itself is in `runtime`.

use std::{path::PathBuf, sync::Arc};

use tidegate_actors::{
    Deliver, Durable, Group, Kind, NoEffects, Retained, ShardOptions, Shards, SystemTimeSource,
    TimeSource,
};
use tidegate_machines::bounds::IDEMPOTENCY_RETENTION_MS_MIN;
use tidegate_storage::{Opening, StoreOptions};

use crate::{
    Tidegate,
    error::OpenError,
    intake::Intake,
    own::OwnOptions,
    runtime::{self, Parts},
    views::{AddView, View},
};

/// The smallest journal segment: a batch may take a quarter of it, and must hold the largest order.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;

/// How a store is opened. Get it from [`Tidegate::builder`].
pub struct Builder {
    pub(crate) dir: PathBuf,
    pub(crate) storage: StoreOptions,
    pub(crate) opening: Arc<Opening>,
    pub(crate) shards: ShardOptions,
    pub(crate) arbiters: Option<usize>,
    pub(crate) own: OwnOptions,
    pub(crate) at_rest_max: u64,
    pub(crate) snapshot_every_bytes: u64,
    pub(crate) retained: Retained,
    pub(crate) time: Box<dyn TimeSource>,
    pub(crate) machines: Vec<AddMachine>,
    pub(crate) views: Vec<AddView>,
}

/// Wires and starts the shards of one kind of machine.
pub(crate) type AddMachine =
    Box<dyn FnOnce(&mut Parts) -> Result<Arc<dyn Shards>, OpenError> + Send>;

impl Builder {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            storage: StoreOptions::default(),
            opening: Arc::default(),
            shards: ShardOptions::default(),
            arbiters: None,
            own: OwnOptions::default(),
            at_rest_max: 1_000_000,
            snapshot_every_bytes: 256 << 20,
            retained: Retained { bytes: 256 << 20, unconsumed_bytes_max: 1 << 30 },
            time: Box::new(SystemTimeSource),
            machines: Vec::new(),
            views: Vec::new(),
        }
    }

    /// Threads for the actors. Default: one per core.
    #[must_use]
    pub fn arbiters(mut self, arbiters: usize) -> Self {
        self.arbiters = Some(arbiters);
        self
    }

    /// Order shards. Fixed when the store is created; default then: one per arbiter.
    #[must_use]
    pub fn order_shards(mut self, shards: u16) -> Self {
        self.own.order_shards = Some(shards.max(1));
        self
    }

    /// Stock shards. Fixed when the store is created; default then: one per arbiter.
    #[must_use]
    pub fn stock_shards(mut self, shards: u16) -> Self {
        self.own.stock_shards = Some(shards.max(1));
        self
    }

    /// Shards of topics. Fixed when the store first has them; default then: one per arbiter.
    #[must_use]
    pub fn topic_shards(mut self, shards: u16) -> Self {
        self.own.topic_shards = Some(shards.max(1));
        self
    }

    /// Shards of consumer groups. Fixed when the store first has them; default then: one per
    /// arbiter.
    #[must_use]
    pub fn consumer_shards(mut self, shards: u16) -> Self {
        self.own.consumer_shards = Some(shards.max(1));
        self
    }

    /// Commands in flight per shard; one more is answered `Overloaded`. Default: 16,384.
    #[must_use]
    pub fn in_flight_max(mut self, commands: usize) -> Self {
        self.shards.in_flight_max = commands.max(1);
        self
    }

    /// Finished orders that may wait in memory to be archived; at the bound no more orders are
    /// placed, which is answered `Backlogged`. It matters when the state's disk is slower than the
    /// sale for long, or has failed. Default: 1,000,000 (about 1 KB each); at least 1.
    #[must_use]
    pub fn at_rest_max(mut self, orders: u64) -> Self {
        self.at_rest_max = orders.max(1);
        self
    }

    /// Orders placed with [`respond_async`](crate::NewOrder::respond_async) are queued and released
    /// at a rate, instead of asking for their stock at once. Values out of bounds are brought
    /// within them. May be another at each opening; without one, what still waits is released as
    /// fast as it goes. Default: none.
    #[must_use]
    pub fn intake(mut self, intake: Intake) -> Self {
        self.own.intake = Some(intake);
        self
    }

    /// How long idempotency keys are remembered, in milliseconds. Default and least: 24 hours.
    #[must_use]
    pub fn idempotency_retention_ms(mut self, ms: u64) -> Self {
        self.own.idempotency.retention_ms = ms.max(IDEMPOTENCY_RETENTION_MS_MIN);
        self
    }

    /// Idempotency keys remembered per shard; when they are all younger than the retention,
    /// commands with a new key are refused. Default: 8 million (about 100 bytes each).
    #[must_use]
    pub fn idempotency_keys_max(mut self, keys: usize) -> Self {
        self.own.idempotency.keys_max = keys.max(1);
        self
    }

    /// Size of a journal segment in bytes. Default: 64 MiB; at least 1 MiB.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        let bytes = bytes.max(SEGMENT_BYTES_MIN);
        self.storage.journal.segment_bytes = bytes;
        let log_segment_bytes = StoreOptions::default().state.log_segment_bytes;
        self.storage.state.log_segment_bytes = log_segment_bytes.min(bytes);
        self
    }

    /// Snapshots are taken each time the journal has grown by this, or by as much as the last
    /// snapshots took, if that is more. In bytes. Default: 256 MiB.
    #[must_use]
    pub fn snapshot_every_bytes(mut self, bytes: u64) -> Self {
        self.snapshot_every_bytes = bytes.max(1);
        self
    }

    /// How much of the journal's end is kept for subscribers of [`Tidegate::events`] that is no
    /// longer needed for recovery, in bytes, rounded up to whole segments. Default: 256 MiB.
    ///
    /// The journal is trimmed after each snapshot, to what the older of two snapshots needs or to
    /// this, whichever is more: with the defaults it takes up to about 0.8 GB, of which opening
    /// reads all. No subscriber can make that more: one who is further behind gets
    /// [`FeedError::Trimmed`](crate::FeedError::Trimmed). Consumer groups can, up to
    /// [`Builder::unconsumed_retained_bytes`].
    #[must_use]
    pub fn events_retained_bytes(mut self, bytes: u64) -> Self {
        self.retained.bytes = bytes;
        self
    }

    /// How much of the journal's end is kept for consumer groups that have not consumed it, in
    /// bytes: at least what [`Builder::events_retained_bytes`] keeps for everybody, and no more
    /// than this. A group that is further behind gets
    /// [`ConsumeError::Trimmed`](crate::ConsumeError::Trimmed). Default: 1 GiB. Opening reads the
    /// whole journal.
    #[must_use]
    pub fn unconsumed_retained_bytes(mut self, bytes: u64) -> Self {
        self.retained.unconsumed_bytes_max = bytes;
        self
    }

    /// How long the journal is kept for a consumer group in which nothing happens, in milliseconds.
    /// After that it gets what everybody gets. Default: 7 days.
    #[must_use]
    pub fn unconsumed_retained_ms(mut self, ms: u64) -> Self {
        self.own.consumer_idle_ms_max = ms;
        self
    }

    /// The state's log is cleaned while it takes more than twice what counts in it, and this
    /// much, in bytes, but three of its segments at least. Default: 64 MiB.
    #[must_use]
    pub fn state_log_slack_bytes(mut self, bytes: u64) -> Self {
        self.storage.state.log_slack_bytes = bytes;
        self
    }

    /// Where wall-clock time comes from; for tests.
    #[must_use]
    pub fn time(mut self, source: impl TimeSource) -> Self {
        self.time = Box::new(source);
        self
    }

    /// Adds a durable sharded actor of your own: `shards` shards, each made by `fresh` and without
    /// effects. Ask it through [`Tidegate::shards_of`].
    #[must_use]
    pub fn machine<M: Durable>(
        self,
        shards: u16,
        fresh: impl Fn(u16) -> M + Send + Sync + 'static,
    ) -> Self {
        self.machine_with(shards, fresh, |_| Box::new(NoEffects))
    }

    /// The same, for a machine with effects: `deliver` makes what carries them from each shard,
    /// given the group itself.
    #[must_use]
    pub fn machine_with<M: Durable>(
        mut self,
        shards: u16,
        fresh: impl Fn(u16) -> M + Send + Sync + 'static,
        deliver: impl Fn(Group<M>) -> Box<dyn Deliver<M>> + Send + 'static,
    ) -> Self {
        self.machines.push(Box::new(move |parts| {
            if M::KIND < Kind::FIRST_FREE {
                return Err(OpenError::KindTaken { name: M::NAME, kind: M::KIND.0 });
            }
            let group = parts.group(Some(shards.max(1)), fresh)?;
            group.start(&parts.arbiters, |_| deliver(group.clone()));
            Ok(Arc::new(group))
        }));
        self
    }

    /// Adds a view: rows that follow the events, on a thread of its own. Read it through
    /// [`Tidegate::view`]. Default: none, the built-in [`Sales`](crate::Sales) included, for each
    /// view writes the state, on the disk that orders wait for.
    #[must_use]
    pub fn view<V: View>(mut self, view: V) -> Self {
        self.views.push(AddView::new(view));
        self
    }

    /// How far the opening is, to be looked at while [`Builder::open`] runs: after a crash it may
    /// take a while. Every few seconds it is a line in the log, too.
    #[must_use]
    pub fn opening(&self) -> Arc<Opening> {
        Arc::clone(&self.opening)
    }

    /// Opens the store, creating it if the folder is empty or absent; rebuilds every shard and
    /// drives open effects again. Waits for the disk.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do. Nothing is changed then, but for a store half created.
    pub async fn open(self) -> Result<Tidegate, OpenError> {
        runtime::open(self).await
    }
}
