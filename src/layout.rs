//! What a store was created with and keeps: which machines, in how many shards. It opens nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tidegate_actors::{Durable, Kind, Shards, SnapshotError, codec, snapshot_fresh};
use tidegate_machines::{
    Consumers, ConsumersConfig, IntakeConfig, Orders, OrdersConfig, Stock, StockConfig, Topics,
    TopicsConfig, bounds::IDEMPOTENCY_RETENTION_MS_MIN,
};
use tidegate_storage::{Journal, State, Table};

use crate::error::OpenError;

/// Name and number of shards, one row per kind.
const LAYOUT: Table = Table(b'l');

/// No store has more kinds of machines.
const KINDS_MAX: usize = 1 << 16;

/// The machines of a store.
pub(crate) struct Layout {
    /// Name and number of shards, by kind.
    kinds: BTreeMap<u16, (String, u16)>,
    /// Kinds that this process has added.
    claimed: BTreeSet<u16>,
    /// Those of them that the store did not have before.
    fresh: Vec<u16>,
}

impl Layout {
    /// Reads what was kept.
    pub(crate) fn read(state: &dyn State) -> Result<Self, OpenError> {
        let mut kinds = BTreeMap::new();
        for (key, row) in state.scan(LAYOUT, &[], None, KINDS_MAX)? {
            let kind = key.first_chunk().map_or(0, |kind| u16::from_be_bytes(*kind));
            let kept =
                codec::decode(&row).map_err(|cause| OpenError::Codec { what: "layout", cause })?;
            kinds.insert(kind, kept);
        }
        Ok(Self { kinds, claimed: BTreeSet::new(), fresh: Vec::new() })
    }

    /// Whether nothing was ever kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// How many shards of `M` there are: as many as were kept, or `asked`, or `default`.
    pub(crate) fn claim<M: Durable>(
        &mut self,
        asked: Option<u16>,
        default: u16,
    ) -> Result<u16, OpenError> {
        let (name, kind) = (M::NAME, M::KIND.0);
        if !self.claimed.insert(kind) {
            return Err(OpenError::KindTaken { name, kind });
        }
        match (self.kinds.get(&kind), asked) {
            (Some((other, _)), _) if other != name => Err(OpenError::KindTaken { name, kind }),
            (Some(&(_, stored)), Some(asked)) if stored != asked => {
                Err(OpenError::ShardCount { name, stored, asked })
            }
            (Some(&(_, stored)), _) => Ok(stored),
            (None, asked) => {
                let shards = asked.unwrap_or(default).max(1);
                self.kinds.insert(kind, (name.to_owned(), shards));
                self.fresh.push(kind);
                Ok(shards)
            }
        }
    }

    /// Keeps what was claimed for the first time, durably, for its shards among `groups` to begin.
    pub(crate) fn keep(
        &mut self,
        groups: &[Arc<dyn Shards>],
        journal: &dyn Journal,
        state: &Arc<dyn State>,
    ) -> Result<(), OpenError> {
        let fresh = std::mem::take(&mut self.fresh);
        let is_fresh = |group: &&Arc<dyn Shards>| {
            group.streams().iter().any(|stream| fresh.contains(&Kind::of(*stream).0))
        };
        for group in groups.iter().filter(is_fresh) {
            snapshot_fresh(&**group, journal, state).map_err(|error| match error {
                SnapshotError::Storage(error) => OpenError::from(error),
                SnapshotError::Codec(cause) => OpenError::Codec { what: "machine", cause },
            })?;
        }
        for kind in &fresh {
            let mut row = Vec::new();
            codec::encode(&self.kinds[kind], &mut row)
                .map_err(|cause| OpenError::Codec { what: "layout", cause })?;
            state.put(LAYOUT, &kind.to_be_bytes(), &row)?;
        }
        if !fresh.is_empty() {
            state.flush()?;
        }
        Ok(())
    }

    /// An error if a machine that the store has was not claimed: nobody would snapshot it, and
    /// trimming the journal would lose its events.
    pub(crate) fn check_all_claimed(&self) -> Result<(), OpenError> {
        let missing = self.kinds.iter().find(|(kind, _)| !self.claimed.contains(kind));
        missing.map_or(Ok(()), |(&kind, (name, shards))| {
            Err(OpenError::MachineMissing { name: name.clone(), kind, shards: *shards })
        })
    }

    /// Kind, name and number of shards of every machine.
    pub(crate) fn machines(&self) -> impl Iterator<Item = (u16, &str, u16)> {
        self.kinds.iter().map(|(kind, (name, shards))| (*kind, name.as_str(), *shards))
    }

    fn shards<M: Durable>(&self) -> Option<u16> {
        self.kinds.get(&M::KIND.0).map(|(_, shards)| *shards)
    }

    /// Stock shards before their first event, with no bound on what they may remember: for an
    /// audit, which doesn't know the bound that they ran with.
    pub(crate) fn stock(&self) -> Vec<Stock> {
        let shards = self.shards::<Stock>().unwrap_or(0);
        (0..shards).map(|shard| fresh_stock(shard, IdempotencyBounds::NONE)).collect()
    }

    /// Order shards, likewise.
    pub(crate) fn orders(&self) -> Vec<Orders> {
        let (shards, stock) = (self.shards::<Orders>(), self.shards::<Stock>());
        let fresh = |shard| fresh_orders(shard, stock.unwrap_or(1), IdempotencyBounds::NONE, None);
        (0..shards.unwrap_or(0)).map(fresh).collect()
    }

    /// Topic shards, likewise.
    pub(crate) fn topics(&self) -> Vec<Topics> {
        let shards = self.shards::<Topics>().unwrap_or(0);
        (0..shards).map(|shard| fresh_topics(shard, IdempotencyBounds::NONE)).collect()
    }

    /// Consumer shards, likewise.
    pub(crate) fn consumers(&self) -> Vec<Consumers> {
        let shards = self.shards::<Consumers>().unwrap_or(0);
        (0..shards).map(|shard| fresh_consumers(shard, u64::MAX)).collect()
    }
}

/// How long and how many idempotency keys a shard remembers.
#[derive(Clone, Copy)]
pub(crate) struct IdempotencyBounds {
    pub(crate) retention_ms: u64,
    pub(crate) keys_max: usize,
}

impl IdempotencyBounds {
    const NONE: Self = Self { retention_ms: IDEMPOTENCY_RETENTION_MS_MIN, keys_max: usize::MAX };
}

impl Default for IdempotencyBounds {
    fn default() -> Self {
        Self { retention_ms: IDEMPOTENCY_RETENTION_MS_MIN, keys_max: 8_000_000 }
    }
}

pub(crate) fn fresh_stock(shard: u16, memory: IdempotencyBounds) -> Stock {
    Stock::new(StockConfig {
        shard,
        idempotency_retention_ms: memory.retention_ms,
        idempotency_keys_max: memory.keys_max,
    })
}

pub(crate) fn fresh_orders(
    shard: u16,
    stock_shards: u16,
    memory: IdempotencyBounds,
    intake: Option<IntakeConfig>,
) -> Orders {
    Orders::new(OrdersConfig {
        shard,
        stock_shards,
        idempotency_retention_ms: memory.retention_ms,
        idempotency_keys_max: memory.keys_max,
        intake,
    })
}

pub(crate) fn fresh_topics(shard: u16, memory: IdempotencyBounds) -> Topics {
    Topics::new(TopicsConfig {
        shard,
        idempotency_retention_ms: memory.retention_ms,
        idempotency_keys_max: memory.keys_max,
    })
}

pub(crate) fn fresh_consumers(shard: u16, idle_ms_max: u64) -> Consumers {
    Consumers::new(ConsumersConfig { shard, idle_ms_max })
}
