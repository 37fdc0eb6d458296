//! A look at a closed store: what its files and tables say, without judging it (the audit does) and
//! without changing anything in its folder.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;
use tidegate_actors::{Kind, archive};
use tidegate_storage::{JournalLook, Position, SegmentLook, Snapshots, StorageError};

use crate::{
    audit::rebuild_each,
    error::OpenError,
    runtime::{AtRest, Files},
};

/// What a store holds.
#[derive(Clone, Debug, Serialize)]
pub struct InspectReport {
    /// Its machines, those of the host included.
    pub machines: Vec<MachineReport>,
    /// Its journal.
    pub journal: JournalReport,
    /// The snapshots of every shard, newest first.
    pub snapshots: Vec<SnapshotReport>,
    /// Its orders.
    pub orders: OrdersReport,
    /// Size of the state on disk, in bytes.
    pub state_bytes: u64,
}

/// One machine of a store.
#[derive(Clone, Debug, Serialize)]
pub struct MachineReport {
    /// Its name.
    pub name: String,
    /// Its number.
    pub kind: u16,
    /// Its shards.
    pub shards: u16,
    /// Its records in the journal, as far back as that reaches.
    pub records: u64,
}

/// The journal of a store.
#[derive(Clone, Debug, Serialize)]
pub struct JournalReport {
    /// The first position that is kept; one past the last if there is none.
    pub oldest: u64,
    /// The last position.
    pub last: u64,
    /// When the first record that is kept was written, in milliseconds since the Unix epoch.
    pub oldest_at_ms: Option<u64>,
    /// When the last record was written.
    pub last_at_ms: Option<u64>,
    /// Whether the last write was interrupted; the next open cuts it off, and nothing is lost.
    pub torn_tail: bool,
    /// Its segments, oldest first.
    pub segments: Vec<SegmentReport>,
}

/// One segment of the journal.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentReport {
    /// The name of its file.
    pub file: String,
    /// Its first position.
    pub first: u64,
    /// Its last position; one before the first if it has no record.
    pub last: u64,
    /// Bytes up to the end of its last record.
    pub used_bytes: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// One snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotReport {
    /// The machine.
    pub machine: String,
    /// Its shard.
    pub shard: u16,
    /// The position that it stands for.
    pub position: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// The orders of a store.
#[derive(Clone, Debug, Serialize)]
pub struct OrdersReport {
    /// Orders that the next open has in memory: live ones, and those that are to be archived.
    /// `None` if the shards can't be rebuilt.
    pub in_memory: Option<u64>,
    /// Orders at rest.
    pub archived: u64,
    /// Why the shards can't be rebuilt.
    pub trouble: Option<String>,
}

/// Looks at the store in `dir`, which must not be open elsewhere, and changes nothing in it.
/// `scratch` is an empty folder that takes a copy of the store's state, and that the caller
/// removes. Blocks and reads the whole store; takes the memory of its live orders.
///
/// # Errors
/// The store can't be looked at: there is none, it is open elsewhere, its journal is damaged, or
/// `scratch` has no room.
pub fn inspect(
    dir: impl AsRef<Path>,
    scratch: impl AsRef<Path>,
) -> Result<InspectReport, OpenError> {
    let (store, Files { journal, state_bytes }) = AtRest::look(dir.as_ref(), scratch.as_ref())?;
    let (journal, records) = read_journal(&store, journal)?;
    Ok(InspectReport {
        machines: machines(&store, &records),
        journal,
        snapshots: snapshots(&store)?,
        orders: orders(&store)?,
        state_bytes,
    })
}

/// Reads the whole journal; also counts its records by kind.
fn read_journal(
    store: &AtRest,
    look: JournalLook,
) -> Result<(JournalReport, BTreeMap<u16, u64>), StorageError> {
    let (oldest, last) = (store.journal.oldest(), store.journal.durable());
    let mut reader = store.journal.read(Position(oldest.0.saturating_sub(1)))?;
    let (mut records, mut first_stamp, mut last_stamp) = (BTreeMap::new(), None, None);
    while let Some(entry) = reader.next()? {
        *records.entry(Kind::of(entry.stream).0).or_default() += 1;
        first_stamp.get_or_insert(entry.stamp);
        last_stamp = Some(entry.stamp);
    }
    let JournalLook { segments, torn_tail } = look;
    let report = JournalReport {
        oldest: oldest.0,
        last: last.0,
        oldest_at_ms: first_stamp,
        last_at_ms: last_stamp,
        torn_tail,
        segments: segments.into_iter().map(segment).collect(),
    };
    Ok((report, records))
}

fn segment(look: SegmentLook) -> SegmentReport {
    let SegmentLook { path, first, last, used_bytes, bytes } = look;
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    SegmentReport { file, first: first.0, last: last.0, used_bytes, bytes }
}

fn machines(store: &AtRest, records: &BTreeMap<u16, u64>) -> Vec<MachineReport> {
    let machine = |(kind, name, shards): (u16, &str, u16)| MachineReport {
        name: name.to_owned(),
        kind,
        shards,
        records: records.get(&kind).copied().unwrap_or(0),
    };
    store.layout.machines().map(machine).collect()
}

fn snapshots(store: &AtRest) -> Result<Vec<SnapshotReport>, StorageError> {
    let snapshots = Snapshots::new(std::sync::Arc::clone(&store.state));
    let mut found = Vec::new();
    for (kind, name, shards) in store.layout.machines() {
        for shard in 0..shards {
            let list = snapshots.list(Kind(kind).stream(shard))?;
            found.extend(list.into_iter().map(|(position, bytes)| SnapshotReport {
                machine: name.to_owned(),
                shard,
                position: position.0,
                bytes,
            }));
        }
    }
    Ok(found)
}

fn orders(store: &AtRest) -> Result<OrdersReport, StorageError> {
    let archived = archive::count(&*store.state)?;
    let rebuilt = rebuild_each(store.layout.orders(), &*store.journal, &store.state);
    Ok(match rebuilt {
        Ok(shards) => {
            let live: usize = shards.iter().map(|shard| shard.iter().count()).sum();
            OrdersReport { in_memory: Some(live as u64), archived, trouble: None }
        }
        Err(error) => OrdersReport { in_memory: None, archived, trouble: Some(error.to_string()) },
    })
}
