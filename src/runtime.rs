//! The composition root: opens a store, wires actors to it, and closes both in order. The only file
//! that names an engine.

use std::{
    any::Any,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tidegate_actors::{
    ArbiterHandle, Board, Clock, Durable, Group, Keyring, Kit, Projector, ProjectorReport,
    Retained, ShardOptions, ShardReport, Shards, Snapshotter, Threads, TimeSource, calibrate,
    codec,
    dispatch::ConsumeError,
    feed::{Events, Tap},
    restore, snapshot_all,
};
use tidegate_machines::{GroupId, GroupSummary, OutOfBounds, Timestamp};
use tidegate_storage::{
    ClosableState, Journal, JournalLook, JournalStats, Looked, Opened, Opening, Position, State,
    StorageError, Store, StoreLock, StoreOptions,
};

use crate::{
    builder::Builder,
    error::OpenError,
    layout::Layout,
    marks::Marks,
    orders::{AskOrders, OrdersClient},
    own::Own,
    stock::StockClient,
    topics::{Post, Topic},
    views::{Source, ViewReport, Views},
};

/// How long closing waits for answers that are still due.
const DRAIN_WAIT: Duration = Duration::from_secs(30);

/// How long closing sleeps between looks at what is still in flight.
const DRAIN_LOOK: Duration = Duration::from_millis(2);

/// What the store is created with and never changes.
#[derive(Serialize, Deserialize)]
struct Manifest {
    /// Keys idempotency hashes.
    secret: [u8; 16],
}

/// Opens the store as `builder` says.
pub(crate) async fn open(builder: Builder) -> Result<Tidegate, OpenError> {
    let opening = builder.opening();
    let (opened, manifest) = open_files(builder.dir, builder.storage, Arc::clone(&opening)).await?;
    let arbiters = builder
        .arbiters
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let state = Arc::new(ClosableState::new(opened.state));
    // From here on an error ends what has begun in the same order as a close.
    let mut running = Running {
        views: Views::default(),
        groups: Vec::new(),
        snapshotter: None,
        projector: None,
        threads: Some(Threads::start(arbiters)?),
        journal: opened.journal,
        state,
        _lock: opened.lock,
    };
    let mut parts = Parts::of(&running, builder.time, builder.shards, arbiters)?;

    let own = Own::new(&mut parts, builder.own)?;
    let projector = Arc::new(Projector::new(Arc::clone(&parts.state)));
    let (handle, board) = (projector.handle(), Arc::new(Board::default()));
    let keys = Keyring::new(manifest.secret);
    own.start(&parts.arbiters, &handle, &board, &keys);
    running.groups = own.groups();
    for machine in builder.machines {
        running.groups.push(machine(&mut parts)?);
    }
    parts.layout.check_all_claimed()?;
    parts.layout.keep(&running.groups, &*parts.journal, &parts.state)?;
    projector.start(own.orders.clone())?;
    running.projector = Some(Arc::clone(&projector));
    // Everything that is open when a shard is ready finds the others there.
    restore(&running.groups, Arc::clone(&parts.journal), Arc::clone(&parts.clock), opening).await?;
    running.snapshotter = Some(Snapshotter::start(
        running.groups.clone(),
        Arc::clone(&parts.journal),
        Arc::clone(&parts.state),
        builder.snapshot_every_bytes,
        builder.retained,
    )?);
    let tap = Tap::new(Arc::clone(&parts.journal));
    let Own { stock, orders, topics, consumers, known } = own;
    let events = Events::new(tap.clone());
    let source = Source::new(&events, (&orders, &stock), &parts);
    running.views = Views::start(builder.views, &source)?;
    let clients = AskOrders {
        shards: orders,
        state: Arc::clone(&parts.state),
        keys: keys.clone(),
        board,
        known,
        projector: handle,
        at_rest_max: builder.at_rest_max,
    };
    let store = Inner {
        id: keys.store_id(),
        stock: StockClient::new(stock, keys.clone()),
        orders: OrdersClient::new(clients),
        groups: running.groups.clone(),
        projector,
        events,
        views: running.views.clone(),
        post: Post::new(topics, consumers, keys.clone(), tap, &parts),
        marks: Marks::new(Arc::clone(&parts.state)),
        retained: builder.retained,
        journal: parts.journal,
        state: parts.state,
        running: Mutex::new(Some(running)),
    };
    Ok(Tidegate { inner: Arc::new(store) })
}

/// Opens or creates what is on disk, and gets ready what would hold the first command up.
async fn open_files(
    dir: PathBuf,
    options: StoreOptions,
    opening: Arc<Opening>,
) -> Result<(Opened, Manifest), OpenError> {
    let open = move || {
        let fresh = fresh_manifest()?;
        let opened = Store::open(dir, &options, &opening, || fresh)?;
        let manifest = codec::decode(&opened.manifest)
            .map_err(|cause| OpenError::Codec { what: "manifest", cause })?;
        calibrate();
        Ok((opened, manifest))
    };
    blocking(open).await?
}

/// A store that is opened to be looked at, with no actor running. The folder stays locked until
/// this is dropped.
pub(crate) struct AtRest {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) state: Arc<dyn State>,
    pub(crate) layout: Layout,
    _lock: Option<StoreLock>,
}

/// What only the files of a store tell.
pub(crate) struct Files {
    pub(crate) journal: JournalLook,
    pub(crate) state_bytes: u64,
}

impl AtRest {
    /// Opens the store in `dir`, which must be there.
    pub(crate) fn open(dir: &Path) -> Result<Self, OpenError> {
        let opened = Store::open_existing(dir, &StoreOptions::default())?;
        Self::of(opened.journal, opened.state, Some(opened.lock))
    }

    /// Looks at the store in `dir`, which must be there, and changes nothing in it; its state is
    /// copied to the empty folder `scratch`.
    pub(crate) fn look(dir: &Path, scratch: &Path) -> Result<(Self, Files), OpenError> {
        let Looked { journal, look, state, state_bytes, lock } = Store::look(dir, scratch)?;
        Ok((Self::of(journal, state, lock)?, Files { journal: look, state_bytes }))
    }

    fn of(
        journal: Arc<dyn Journal>,
        state: Arc<dyn State>,
        lock: Option<StoreLock>,
    ) -> Result<Self, OpenError> {
        let layout = Layout::read(&*state)?;
        if layout.is_empty() && journal.appended() > Position::ZERO {
            return Err(OpenError::StateMissing);
        }
        Ok(Self { journal, state, layout, _lock: lock })
    }
}

/// What groups are built from.
pub(crate) struct Parts {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) state: Arc<dyn State>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) arbiters: Vec<ArbiterHandle>,
    layout: Layout,
    shard_options: ShardOptions,
    shards_default: u16,
}

impl Parts {
    /// Of what runs already, on so many arbiters.
    fn of(
        running: &Running,
        time: Box<dyn TimeSource>,
        shard_options: ShardOptions,
        arbiters: usize,
    ) -> Result<Self, OpenError> {
        let layout = Layout::read(&*running.state)?;
        if layout.is_empty() && running.journal.appended() > Position::ZERO {
            return Err(OpenError::StateMissing);
        }
        Ok(Self {
            journal: Arc::clone(&running.journal),
            state: Arc::clone(&running.state) as Arc<dyn State>,
            clock: Arc::new(Clock::new(time)),
            arbiters: running.threads.iter().flat_map(Threads::arbiters).cloned().collect(),
            layout,
            shard_options,
            shards_default: u16::try_from(arbiters).unwrap_or(u16::MAX),
        })
    }

    /// A group with as many shards as the store was created with, or `asked` if that is now.
    pub(crate) fn group<M: Durable>(
        &mut self,
        asked: Option<u16>,
        fresh: impl Fn(u16) -> M + Send + Sync + 'static,
    ) -> Result<Group<M>, OpenError> {
        let shards = self.claim::<M>(asked)?;
        Ok(self.group_of(shards, fresh))
    }

    /// How many shards of `M` there are, or are to be.
    pub(crate) fn claim<M: Durable>(&mut self, asked: Option<u16>) -> Result<u16, OpenError> {
        self.layout.claim::<M>(asked, self.shards_default)
    }

    /// A group of so many shards, which were claimed.
    pub(crate) fn group_of<M: Durable>(
        &self,
        shards: u16,
        fresh: impl Fn(u16) -> M + Send + Sync + 'static,
    ) -> Group<M> {
        let kit = Kit {
            journal: Arc::clone(&self.journal),
            state: Arc::clone(&self.state),
            clock: Arc::clone(&self.clock),
            fresh: Box::new(fresh),
            options: self.shard_options.clone(),
        };
        Group::new(shards, kit)
    }
}

/// An open store. Cheap to clone; `Send + Sync`; works from any tokio runtime. Close it with
/// [`Tidegate::close`]; a store that is only dropped stops at once, which loses nothing that was
/// acknowledged, but takes longer to open. Dropping the last handle joins threads: it blocks
/// shortly.
#[derive(Clone)]
pub struct Tidegate {
    inner: Arc<Inner>,
}

struct Inner {
    id: String,
    stock: StockClient,
    orders: OrdersClient,
    groups: Vec<Arc<dyn Shards>>,
    projector: Arc<Projector>,
    events: Events,
    views: Views,
    marks: Marks,
    retained: Retained,
    post: Post,
    journal: Arc<dyn Journal>,
    state: Arc<dyn State>,
    running: Mutex<Option<Running>>,
}

/// The figures of an open store at one moment.
#[derive(Clone, Debug)]
pub struct Report {
    /// Every shard.
    pub shards: Vec<ShardReport>,
    /// The projector.
    pub projector: ProjectorReport,
    /// The journal.
    pub journal: JournalStats,
    /// The oldest position that can still be read; one past the last if there is none.
    pub oldest: Position,
    /// The last position that was given out.
    pub appended: Position,
    /// The last position that is on disk.
    pub durable: Position,
    /// Size of the state on disk, in bytes.
    pub state_disk_bytes: u64,
    /// Every view.
    pub views: Vec<ViewReport>,
}

impl Tidegate {
    /// Begins to open the store in the folder `dir`.
    pub fn builder(dir: impl Into<PathBuf>) -> Builder {
        Builder::new(dir.into())
    }

    /// A name that no other store has and this one never changes; a copy of the folder has it too.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// The store's time: no stamp in it is later. Doesn't wait.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.post.inner.clock.now()
    }

    #[cfg(test)]
    pub(crate) fn journal(&self) -> Arc<dyn Journal> {
        Arc::clone(&self.inner.journal)
    }

    /// Where orders at rest are.
    #[cfg(any(feature = "postgres", feature = "webhooks", test))]
    pub(crate) fn state(&self) -> Arc<dyn State> {
        Arc::clone(&self.inner.state)
    }

    /// Stock and holds.
    #[must_use]
    pub fn stock(&self) -> &StockClient {
        &self.inner.stock
    }

    /// Orders.
    #[must_use]
    pub fn orders(&self) -> &OrdersClient {
        &self.inner.orders
    }

    /// Durable events of stock and orders, for subscribers.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.inner.events
    }

    /// The topic `name`, whose messages are `T` as JSON. It needs no making. `events` is built in:
    /// what has happened to orders and stock, as `GET /v1/events` tells it.
    ///
    /// # Errors
    /// The name is not 1 to 64 visible ASCII characters.
    pub fn topic<T>(&self, name: &str) -> Result<Topic<T>, OutOfBounds> {
        Topic::new(self.inner.post.clone(), name)
    }

    /// Every consumer group, by topic and name, open or not.
    ///
    /// # Errors
    /// [`ConsumeError`].
    pub async fn consumer_groups(&self) -> Result<Vec<(GroupId, GroupSummary)>, ConsumeError> {
        self.inner.post.groups().await
    }

    pub(crate) fn views(&self) -> &Views {
        &self.inner.views
    }

    /// Small durable notes of the host's own.
    #[must_use]
    pub fn marks(&self) -> &Marks {
        &self.inner.marks
    }

    /// The shards of a machine added with [`Builder::machine`]; `None` if none of the type was.
    #[must_use]
    pub fn shards_of<M: Durable>(&self) -> Option<Group<M>> {
        self.inner.groups.iter().find_map(|group| {
            let group: &dyn Any = &**group;
            group.downcast_ref::<Group<M>>().cloned()
        })
    }

    /// The figures of every actor and of the journal.
    #[must_use]
    pub fn report(&self) -> Report {
        let Inner { groups, projector, journal, state, views, .. } = &*self.inner;
        Report {
            shards: groups.iter().flat_map(|group| group.report()).collect(),
            projector: projector.report(),
            journal: journal.stats(),
            oldest: journal.oldest(),
            durable: journal.durable(),
            appended: journal.appended(),
            state_disk_bytes: state.disk_bytes(),
            views: views.report(),
        }
    }

    /// Closes in order: takes no more commands, answers those in flight, writes what is at rest,
    /// snapshots, joins all threads, and lets go of the folder. A second call returns at once,
    /// even while the first is still at it.
    ///
    /// # Errors
    /// Storage failed on the way. Nothing acknowledged is lost; the next open recovers from the
    /// journal.
    pub async fn close(&self) -> Result<(), StorageError> {
        let Inner { groups, projector, journal, state, running, .. } = &*self.inner;
        let taken = running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut running) = taken else { return Ok(()) };
        groups.iter().for_each(|group| group.close_admission());
        settle(groups).await;
        projector.drain().await;
        settle(groups).await;
        // What they have taken in by then is flushed below.
        self.inner.views.close(journal.durable()).await;
        let (groups, journal, state) = (groups.clone(), Arc::clone(journal), Arc::clone(state));
        let retained = self.inner.retained;
        let closing = move || {
            drop(running.snapshotter.take());
            let snapshots = snapshot_all(&groups, &*journal, &state, retained);
            let result = snapshots.and_then(|_| state.flush()).and_then(|()| journal.close());
            drop(running);
            result
        };
        blocking(closing).await.unwrap_or(Err(StorageError::Closed))
    }
}

/// Waits until callers are answered and shards have nothing more to say to each other. What is
/// still open after [`DRAIN_WAIT`] is safe in the journal, and driven again at the next open.
async fn settle(groups: &[Arc<dyn Shards>]) {
    let start = Instant::now();
    let commands = || -> u64 {
        groups.iter().flat_map(|group| group.report()).map(|shard| shard.commands).sum()
    };
    let mut before = u64::MAX;
    while start.elapsed() < DRAIN_WAIT {
        let in_flight: usize = groups.iter().map(|group| group.in_flight()).sum();
        for group in groups {
            group.pass().await;
        }
        let now = commands();
        if in_flight == 0 && now == before {
            return;
        }
        before = now;
        tokio::time::sleep(DRAIN_LOOK).await;
    }
    tracing::warn!("closing with commands still in flight; the next open drives them again");
}

/// What ends with the store, in this order.
struct Running {
    views: Views,
    groups: Vec<Arc<dyn Shards>>,
    snapshotter: Option<Snapshotter>,
    projector: Option<Arc<Projector>>,
    threads: Option<Threads>,
    journal: Arc<dyn Journal>,
    state: Arc<ClosableState>,
    _lock: StoreLock,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Clients may outlive the store: they are answered, not left waiting.
        self.groups.iter().for_each(|group| group.close_admission());
        self.views.stop();
        drop(self.snapshotter.take());
        drop(self.threads.take());
        if let Some(projector) = self.projector.take() {
            projector.stop();
        }
        if let Err(error) = self.journal.close() {
            tracing::error!(%error, "the journal was not closed cleanly");
        }
        self.state.close();
    }
}

/// A new store's manifest, with a secret of its own.
fn fresh_manifest() -> Result<Vec<u8>, StorageError> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret).map_err(|error| {
        StorageError::io(
            "reading",
            "the system's random source".as_ref(),
            std::io::Error::other(error),
        )
    })?;
    let mut bytes = Vec::new();
    codec::encode(&Manifest { secret }, &mut bytes).map_err(|error| {
        StorageError::io("encoding", "the manifest".as_ref(), std::io::Error::other(error))
    })?;
    Ok(bytes)
}

/// Runs what waits for the disk where it doesn't hold the host's runtime up.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, std::io::Error> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)
}
