//! The simulated store: what `src/runtime.rs` wires of actors and threads, wired of the same parts
//! without them, on storage in memory. It does one thing at a time, when it is told to.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
    mpsc,
};

use tidegate_actors::{
    Board, Clock, FromOrders, FromStock, Kit, Projection, Projector, RestoreError, Retained,
    ShardOptions, TimeSource, snapshot_all,
};
use tidegate_machines::{Orders, OrdersConfig, Stock, StockConfig};
use tidegate_storage::{Journal, MemoryJournal, MemoryState, State, StorageError};

use super::{
    journal::HandDriven,
    mail::{Mail, PROJECTOR, SHARDS, Wire},
    profile::Profile,
    side::{Copies, Side},
};

/// The wall clock of a simulation. It may jump.
#[derive(Clone, Default)]
pub(super) struct Wall(pub(super) Arc<AtomicU64>);

impl TimeSource for Wall {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// See the module.
pub(super) struct Store {
    pub(super) journal: Arc<MemoryJournal>,
    pub(super) state: Arc<MemoryState>,
    pub(super) clock: Arc<Clock>,
    pub(super) board: Arc<Board>,
    pub(super) stock: Side<Stock>,
    pub(super) orders: Side<Orders>,
    /// `None` once it has failed.
    projection: Option<Projection>,
    profile: Profile,
    wall: Wall,
}

impl Store {
    /// Opens what is in `journal` and `state`. Its shards are still to be rebuilt.
    pub(super) fn open(
        profile: &Profile,
        wall: &Wall,
        journal: MemoryJournal,
        state: MemoryState,
    ) -> Self {
        let (journal, state) = (Arc::new(journal), Arc::new(state));
        let clock = Arc::new(Clock::new(wall.clone()));
        let options = ShardOptions {
            in_flight_max: profile.in_flight_max,
            batch_bytes_max: profile.batch_bytes_max,
            ..ShardOptions::default()
        };
        let (retention_ms, keys_max) = (profile.retention_ms, profile.keys_max);
        let (stock_shards, intake) = (profile.stock_shards, profile.intake);
        let fresh_stock = move |shard| {
            let (idempotency_retention_ms, idempotency_keys_max) = (retention_ms, keys_max);
            Stock::new(StockConfig { shard, idempotency_retention_ms, idempotency_keys_max })
        };
        let fresh_orders = move |shard| {
            let (idempotency_retention_ms, idempotency_keys_max) = (retention_ms, keys_max);
            Orders::new(OrdersConfig {
                shard,
                stock_shards,
                idempotency_retention_ms,
                idempotency_keys_max,
                intake,
            })
        };
        let kit = Parts { journal: &journal, state: &state, clock: &clock, options };
        let to_stock = Mail::new(profile.stock_shards, profile.order_shards);
        let to_orders = Mail::new(profile.order_shards, profile.stock_shards);
        let (board, as_state) = (Arc::new(Board::default()), Arc::clone(&state) as Arc<dyn State>);
        let projector = Projector::new(as_state);
        let stock = Side::new(to_stock.clone(), kit.kit(fresh_stock), |index| {
            FromStock::new(wire(&to_orders, index), Arc::clone(&board))
        });
        let orders = Side::new(to_orders.clone(), kit.kit(fresh_orders), |index| {
            FromOrders::new(wire(&to_stock, index), projector.handle())
        });
        let projection = projector.by_hand(orders.wire(PROJECTOR)).ok();
        let (profile, wall) = (profile.clone(), wall.clone());
        Self { journal, state, clock, board, stock, orders, projection, profile, wall }
    }

    /// What a crash leaves, opened again: everything durable, the first `batches` of what was not
    /// yet, and the first `rows` of what the state had not flushed.
    pub(super) fn crash(&self, batches: usize, rows: usize) -> Self {
        let journal = self.journal.crash_image_keeping(batches);
        let state = self.state.crash_image_keeping(rows);
        Self::open(&self.profile, &self.wall, journal, state)
    }

    /// One step of the rebuild of stock shard `index`.
    pub(super) fn rebuild_stock(&mut self, index: u16) -> Result<bool, RestoreError> {
        let mail = self.orders.mail.clone();
        self.stock.rebuild(index, |from| mail.lock().iter_mut().for_each(|slot| slot.mend(from)))
    }

    /// One step of the rebuild of order shard `index`.
    pub(super) fn rebuild_orders(&mut self, index: u16) -> Result<bool, RestoreError> {
        let mail = self.stock.mail.clone();
        self.orders.rebuild(index, |from| mail.lock().iter_mut().for_each(|slot| slot.mend(from)))
    }

    /// The projector writes what it was told of; whether there was anything.
    pub(super) fn project(&mut self) -> bool {
        let written = self.projection.as_mut().map(Projection::write);
        self.projected(written.unwrap_or(Ok(false)))
    }

    /// The projector flushes what it has written, and has it forgotten.
    pub(super) fn flush(&mut self) {
        let flushed = self.projection.as_mut().map(Projection::flush);
        self.projected(flushed.unwrap_or(Ok(())).map(|()| true));
    }

    fn projected<E>(&mut self, result: Result<bool, E>) -> bool {
        result.unwrap_or_else(|_| {
            // As in its thread: it stops, and orders at rest stay in memory.
            self.projection = None;
            false
        })
    }

    /// Snapshots of `chosen` shards, and trimming of what nobody needs.
    pub(super) fn snapshot(&self, chosen: u64, retained_bytes: u64) -> Result<(), StorageError> {
        let (sender, copies) = mpsc::channel();
        let stamp = self.clock.now();
        self.stock.copies(chosen, stamp, &sender);
        self.orders.copies(chosen >> 8, stamp, &sender);
        drop(sender);
        let copies = Mutex::new(copies.iter().collect());
        let mut streams = self.stock.streams();
        streams.extend(self.orders.streams());
        let state = Arc::clone(&self.state) as Arc<dyn State>;
        let journal = HandDriven(Arc::clone(&self.journal));
        let retained = Retained { bytes: retained_bytes, ..Retained::default() };
        snapshot_all(&[Arc::new(Copies { streams, copies })], &journal, &state, retained).map(drop)
    }

    /// Whether nothing is left to be done, but for what time brings.
    pub(super) fn is_quiet(&self) -> bool {
        self.stock.is_quiet() && self.orders.is_quiet() && self.journal.unsynced() == 0
    }

    /// Whether some shard is not up again yet.
    pub(super) fn is_rebuilding(&self) -> bool {
        self.stock.is_rebuilding() || self.orders.is_rebuilding()
    }

    /// Whether only opening it again brings everything back.
    pub(super) fn is_broken(&self) -> bool {
        self.stock.is_broken() || self.orders.is_broken() || self.projection.is_none()
    }

    /// What shard `from` sends shard `to` is lost from here on; gives how many letters were.
    pub(super) fn cut(&mut self, to_stock: bool, from: u16, to: u16) -> usize {
        let (from, to) = (SHARDS + usize::from(from), usize::from(to));
        if to_stock {
            self.stock.mail.lock()[to].cut(from)
        } else {
            self.orders.mail.lock()[to].cut(from)
        }
    }
}

/// The way of shard `index` to the shards of the other kind.
fn wire<M: tidegate_actors::Durable>(mail: &Mail<M>, index: u16) -> Wire<M> {
    Wire { mail: mail.clone(), from: SHARDS + usize::from(index), shards: Vec::new() }
}

/// What all shards share.
struct Parts<'a> {
    journal: &'a Arc<MemoryJournal>,
    state: &'a Arc<MemoryState>,
    clock: &'a Arc<Clock>,
    options: ShardOptions,
}

impl Parts<'_> {
    fn kit<M>(&self, fresh: impl Fn(u16) -> M + Send + Sync + 'static) -> Kit<M> {
        Kit {
            journal: Arc::new(HandDriven(Arc::clone(self.journal))) as Arc<dyn Journal>,
            state: Arc::clone(self.state) as Arc<dyn State>,
            clock: Arc::clone(self.clock),
            fresh: Box::new(fresh),
            options: self.options.clone(),
        }
    }
}
