//! The composition root: opens a store, wires actors to it, and closes both in order. The only file
//! that names an engine.

use std::{
    any::Any,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tidegate_actors::{
    Board, Clock, Deliver, Durable, FromOrders, FromStock, Group, Keyring, Kit, NoEffects,
    Projector, ProjectorReport, RestoreError, ShardOptions, ShardReport, Shards, Snapshotter,
    SystemTimeSource, Threads, TimeSource, codec, snapshot_all,
};
use tidegate_machines::{
    Orders, OrdersConfig, Stock, StockConfig, bounds::IDEMPOTENCY_RETENTION_MS_MIN,
};
use tidegate_storage::{
    ClosableState, Journal, JournalStats, State, StorageError, Store, StoreLock, StoreOptions,
    Table,
};

use crate::{orders::OrdersClient, stock::StockClient};

/// Shard counts, one row per kind.
const LAYOUT: Table = Table(b'l');

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

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder, the disk, or what is on it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A shard can't be rebuilt.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The number of shards is fixed when a store is created.
    #[error(
        "this store has {stored} {name} shards, not {asked}; leave the number out, or ask for {stored}"
    )]
    ShardCount {
        /// The kind of shard.
        name: &'static str,
        /// What the store has.
        stored: u16,
        /// What was asked for.
        asked: u16,
    },
    /// Bytes of the store's own that this program can't understand.
    #[error("the store's {what} can't be understood: {cause}")]
    Codec {
        /// Which bytes.
        what: &'static str,
        /// What is wrong with them.
        cause: codec::CodecError,
    },
    /// The system can't start a thread.
    #[error("can't start a thread: {0}")]
    Threads(#[from] std::io::Error),
}

/// How a store is opened. Get it from [`Tidegate::builder`].
pub struct Builder {
    dir: PathBuf,
    storage: StoreOptions,
    shards: ShardOptions,
    arbiters: Option<usize>,
    order_shards: Option<u16>,
    stock_shards: Option<u16>,
    idempotency: IdempotencyBounds,
    snapshot_every_bytes: u64,
    time: Box<dyn TimeSource>,
    machines: Vec<AddMachine>,
}

/// Wires and starts the shards of one kind of machine.
type AddMachine = Box<dyn FnOnce(&Parts) -> Result<Arc<dyn Shards>, OpenError> + Send>;

impl Builder {
    fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            storage: StoreOptions::default(),
            shards: ShardOptions::default(),
            arbiters: None,
            order_shards: None,
            stock_shards: None,
            idempotency: IdempotencyBounds::default(),
            snapshot_every_bytes: 256 << 20,
            time: Box::new(SystemTimeSource),
            machines: Vec::new(),
        }
    }

    /// Threads for the actors. Default: one per core.
    #[must_use]
    pub fn arbiters(mut self, arbiters: usize) -> Self {
        self.arbiters = Some(arbiters);
        self
    }

    /// Order shards. Fixed when the store is created; default then: one per core.
    #[must_use]
    pub fn order_shards(mut self, shards: u16) -> Self {
        self.order_shards = Some(shards.max(1));
        self
    }

    /// Stock shards. Fixed when the store is created; default then: one per core.
    #[must_use]
    pub fn stock_shards(mut self, shards: u16) -> Self {
        self.stock_shards = Some(shards.max(1));
        self
    }

    /// Commands in flight per shard; one more is answered `Overloaded`. Default: 16,384.
    #[must_use]
    pub fn in_flight_max(mut self, commands: usize) -> Self {
        self.shards.in_flight_max = commands.max(1);
        self
    }

    /// How long idempotency keys are remembered, in milliseconds. Default and least: 24 hours.
    #[must_use]
    pub fn idempotency_retention_ms(mut self, ms: u64) -> Self {
        self.idempotency.retention_ms = ms.max(IDEMPOTENCY_RETENTION_MS_MIN);
        self
    }

    /// Idempotency keys remembered per shard; when they are all younger than the retention, commands
    /// with a new key are refused. Default: 8 million (about 100 bytes each).
    #[must_use]
    pub fn idempotency_keys_max(mut self, keys: usize) -> Self {
        self.idempotency.keys_max = keys.max(1);
        self
    }

    /// Size of a journal segment in bytes. Default: 64 MiB.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.storage.journal.segment_bytes = bytes;
        self
    }

    /// Snapshots are taken each time the journal has grown by this. Default: 256 MiB.
    #[must_use]
    pub fn snapshot_every_bytes(mut self, bytes: u64) -> Self {
        self.snapshot_every_bytes = bytes.max(1);
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

    /// The same, for a machine with effects: `deliver` makes what carries them from each shard, given
    /// the group itself.
    #[must_use]
    pub fn machine_with<M: Durable>(
        mut self,
        shards: u16,
        fresh: impl Fn(u16) -> M + Send + Sync + 'static,
        deliver: impl Fn(Group<M>) -> Box<dyn Deliver<M>> + Send + 'static,
    ) -> Self {
        self.machines.push(Box::new(move |parts| {
            let group = parts.group(Some(shards), fresh)?;
            group.start(parts.threads.arbiters(), |_| deliver(group.clone()));
            Ok(Arc::new(group))
        }));
        self
    }

    /// Opens the store, creating it if the folder is empty or absent; rebuilds every shard and
    /// drives open effects again. Waits for the disk.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do. Nothing is changed then, but for a store half created.
    pub async fn open(self) -> Result<Tidegate, OpenError> {
        let (dir, storage) = (self.dir, self.storage);
        let fresh = fresh_manifest()?;
        let opened = blocking(move || Store::open(&dir, &storage, || fresh)).await??;
        let manifest: Manifest = codec::decode(&opened.manifest)
            .map_err(|cause| OpenError::Codec { what: "manifest", cause })?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let state = Arc::new(ClosableState::new(opened.state));
        let parts = Parts {
            journal: opened.journal,
            state: Arc::clone(&state) as Arc<dyn State>,
            clock: Arc::new(Clock::new(self.time)),
            threads: Threads::start(self.arbiters.unwrap_or(cores))?,
            shard_options: self.shards,
            shards_default: u16::try_from(cores).unwrap_or(u16::MAX),
        };
        let memory = self.idempotency;
        let stock = parts.group(self.stock_shards, move |shard| fresh_stock(shard, memory))?;
        let stock_shards = stock.len();
        let fresh = move |shard| fresh_orders(shard, stock_shards, memory);
        let orders = parts.group(self.order_shards, fresh)?;
        let projector = Projector::new(Arc::clone(&parts.state));
        let handle = projector.handle();
        let board = Arc::new(Board::default());
        stock.start(parts.threads.arbiters(), |_| {
            Box::new(FromStock::new(orders.clone(), Arc::clone(&board)))
        });
        orders.start(parts.threads.arbiters(), |_| {
            Box::new(FromOrders::new(stock.clone(), handle.clone()))
        });
        projector.start(orders.clone())?;
        let mut groups: Vec<Arc<dyn Shards>> =
            vec![Arc::new(stock.clone()), Arc::new(orders.clone())];
        for machine in self.machines {
            groups.push(machine(&parts)?);
        }
        // Everything that is open when a shard is ready finds the others there.
        try_join_all(groups.iter().map(|group| group.restore())).await?;
        let keys = Keyring::new(manifest.secret);
        let snapshotter = Snapshotter::start(
            groups.clone(),
            Arc::clone(&parts.journal),
            Arc::clone(&parts.state),
            self.snapshot_every_bytes,
        )?;
        let running = Running {
            snapshotter: Some(snapshotter),
            threads: Some(parts.threads),
            journal: Arc::clone(&parts.journal),
            state,
            _lock: opened.lock,
        };
        let store = Inner {
            stock: StockClient::new(stock, keys.clone()),
            orders: OrdersClient::new(orders, Arc::clone(&parts.state), keys, board),
            groups,
            projector,
            journal: parts.journal,
            state: parts.state,
            running: Mutex::new(Some(running)),
        };
        Ok(Tidegate { inner: Arc::new(store) })
    }
}

/// How long and how many idempotency keys a shard remembers.
#[derive(Clone, Copy)]
struct IdempotencyBounds {
    retention_ms: u64,
    keys_max: usize,
}

impl Default for IdempotencyBounds {
    fn default() -> Self {
        Self { retention_ms: IDEMPOTENCY_RETENTION_MS_MIN, keys_max: 8_000_000 }
    }
}

fn fresh_stock(shard: u16, memory: IdempotencyBounds) -> Stock {
    Stock::new(StockConfig {
        shard,
        idempotency_retention_ms: memory.retention_ms,
        idempotency_keys_max: memory.keys_max,
    })
}

fn fresh_orders(shard: u16, stock_shards: u16, memory: IdempotencyBounds) -> Orders {
    Orders::new(OrdersConfig {
        shard,
        stock_shards,
        idempotency_retention_ms: memory.retention_ms,
        idempotency_keys_max: memory.keys_max,
    })
}

/// How many shards of `M` the store was created with.
fn stored_shards<M: Durable>(state: &dyn State) -> Result<Option<u16>, OpenError> {
    let row = state.get(LAYOUT, &M::KIND.0.to_be_bytes())?;
    let shards = row.map(|row| codec::decode(&row)).transpose();
    shards.map_err(|cause| OpenError::Codec { what: "layout", cause })
}

/// A store that is opened to be looked at, with no actor running. The folder stays locked until
/// this is dropped.
pub(crate) struct AtRest {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) state: Arc<dyn State>,
    pub(crate) layout: Layout,
    _lock: StoreLock,
}

/// The shards that a store was created with.
pub(crate) struct Layout {
    stock_shards: u16,
    order_shards: u16,
}

impl AtRest {
    /// Opens the store in `dir`, which must be there.
    pub(crate) fn open(dir: &Path) -> Result<Self, OpenError> {
        let opened = Store::open_existing(dir, &StoreOptions::default())?;
        let state: Arc<dyn State> = opened.state;
        let layout = Layout {
            stock_shards: stored_shards::<Stock>(&*state)?.unwrap_or(0),
            order_shards: stored_shards::<Orders>(&*state)?.unwrap_or(0),
        };
        Ok(Self { journal: opened.journal, state, layout, _lock: opened.lock })
    }
}

impl Layout {
    /// Stock shards before their first event.
    pub(crate) fn stock(&self) -> Vec<Stock> {
        let memory = IdempotencyBounds::default();
        (0..self.stock_shards).map(|shard| fresh_stock(shard, memory)).collect()
    }

    /// Order shards before their first event.
    pub(crate) fn orders(&self) -> Vec<Orders> {
        let memory = IdempotencyBounds::default();
        (0..self.order_shards).map(|shard| fresh_orders(shard, self.stock_shards, memory)).collect()
    }
}

/// What groups are built from.
struct Parts {
    journal: Arc<dyn Journal>,
    state: Arc<dyn State>,
    clock: Arc<Clock>,
    threads: Threads,
    shard_options: ShardOptions,
    shards_default: u16,
}

impl Parts {
    /// A group with as many shards as the store was created with, or `asked` if that is now.
    fn group<M: Durable>(
        &self,
        asked: Option<u16>,
        fresh: impl Fn(u16) -> M + Send + Sync + 'static,
    ) -> Result<Group<M>, OpenError> {
        let stored = stored_shards::<M>(&*self.state)?;
        let shards = match (stored, asked) {
            (Some(stored), Some(asked)) if stored != asked => {
                return Err(OpenError::ShardCount { name: M::NAME, stored, asked });
            }
            (Some(stored), _) => stored,
            (None, asked) => {
                let shards = asked.unwrap_or(self.shards_default).max(1);
                let mut row = Vec::new();
                codec::encode(&shards, &mut row)
                    .map_err(|cause| OpenError::Codec { what: "layout", cause })?;
                self.state.put(LAYOUT, &M::KIND.0.to_be_bytes(), &row)?;
                self.state.flush()?;
                shards
            }
        };
        let kit = Kit {
            journal: Arc::clone(&self.journal),
            state: Arc::clone(&self.state),
            clock: Arc::clone(&self.clock),
            fresh: Box::new(fresh),
            options: self.shard_options.clone(),
        };
        Ok(Group::new(shards, kit))
    }
}

/// An open store. Cheap to clone; `Send + Sync`; works from any tokio runtime. Close it with
/// [`Tidegate::close`]; a store that is only dropped stops at once, which loses nothing that was
/// acknowledged, but takes longer to open.
#[derive(Clone)]
pub struct Tidegate {
    inner: Arc<Inner>,
}

struct Inner {
    stock: StockClient,
    orders: OrdersClient,
    groups: Vec<Arc<dyn Shards>>,
    projector: Projector,
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
    /// Size of the state on disk, in bytes.
    pub state_disk_bytes: u64,
}

impl Tidegate {
    /// Begins to open the store in the folder `dir`.
    pub fn builder(dir: impl Into<PathBuf>) -> Builder {
        Builder::new(dir.into())
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

    /// The shards of a machine added with [`Builder::machine`]; `None` if there is none of this type.
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
        let Inner { groups, projector, journal, state, .. } = &*self.inner;
        Report {
            shards: groups.iter().flat_map(|group| group.report()).collect(),
            projector: projector.report(),
            journal: journal.stats(),
            state_disk_bytes: state.disk_bytes(),
        }
    }

    /// Closes in order: takes no more commands, answers those in flight, writes what is at rest,
    /// snapshots, joins all threads, and lets go of the folder. A second call does nothing.
    ///
    /// # Errors
    /// Storage failed on the way. Nothing acknowledged is lost; the next open recovers from the journal.
    pub async fn close(&self) -> Result<(), StorageError> {
        let Inner { groups, projector, journal, state, running, .. } = &*self.inner;
        let taken = running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut running) = taken else { return Ok(()) };
        groups.iter().for_each(|group| group.close_admission());
        settle(groups).await;
        projector.drain().await;
        settle(groups).await;
        let (groups, journal, state) = (groups.clone(), Arc::clone(journal), Arc::clone(state));
        let closing = move || {
            drop(running.snapshotter.take());
            let snapshots = snapshot_all(&groups, &*journal, &state);
            let result = snapshots.and_then(|()| state.flush()).and_then(|()| journal.close());
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
    snapshotter: Option<Snapshotter>,
    threads: Option<Threads>,
    journal: Arc<dyn Journal>,
    state: Arc<ClosableState>,
    _lock: StoreLock,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.snapshotter.take());
        drop(self.threads.take());
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
