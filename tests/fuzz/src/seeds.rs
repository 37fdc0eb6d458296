//! Where the seeds come from: a small store with a bit of everything, made anew each time and read
//! record by record and row by row. So no encoded bytes are kept in the repository.

use std::collections::BTreeMap;

use tidegate_storage::{
    Journal, Position, SNAPSHOT_TABLE, Snapshots, State, Store, StreamId, Table,
};

use crate::sample::Sample;

/// Orders of the store: enough for every kind of event.
const ORDERS: u64 = 90;

/// What was found in the store.
pub struct Seeds {
    /// Records of the journal, by kind of machine.
    pub records: BTreeMap<u32, Vec<Vec<u8>>>,
    /// Snapshots, by stream.
    pub snapshots: BTreeMap<u32, Vec<u8>>,
    /// Rows of the state, by table.
    pub rows: BTreeMap<u8, Vec<Vec<u8>>>,
    /// What the store answers: questions and JSON.
    pub answers: String,
    /// The payload of its manifest.
    pub manifest: Vec<u8>,
}

impl Seeds {
    /// Makes the store and reads it.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn make() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let dir = folder.path().join("store");
        let runtime = tokio::runtime::Runtime::new()?;
        let answers = runtime.block_on(async {
            let mut sample = Sample::make(&dir, ORDERS).await?;
            let answers = sample.questions().await?;
            sample.gate.close().await?;
            anyhow::Ok(answers)
        })?;
        drop(runtime);
        let opened = Store::open_existing(&dir, &Default::default())?;
        let (mut records, mut snapshots, mut rows) = Default::default();
        read_records(&*opened.journal, &mut records)?;
        for stream in (1..=4).flat_map(|kind| [kind << 16, kind << 16 | 1]) {
            let saved = Snapshots::new(opened.state.clone()).latest(StreamId(stream))?;
            if let Some((_, bytes)) = saved {
                BTreeMap::insert(&mut snapshots, stream, bytes);
            }
        }
        for table in (0..=u8::MAX).filter(|table| *table != SNAPSHOT_TABLE.0) {
            let found = opened.state.scan(Table(table), b"", None, 64)?;
            let values: Vec<_> = found.into_iter().map(|(_, value)| value).collect();
            if !values.is_empty() {
                BTreeMap::insert(&mut rows, table, values);
            }
        }
        Ok(Self { records, snapshots, rows, answers, manifest: opened.manifest })
    }

    /// A few records of one kind of machine: short ones of each first byte.
    #[must_use]
    pub fn of_kind(&self, kind: u32) -> Vec<Vec<u8>> {
        self.records.get(&kind).cloned().unwrap_or_default()
    }

    /// The snapshots of one kind of machine.
    #[must_use]
    pub fn images_of(&self, kind: u32) -> Vec<Vec<u8>> {
        let of_kind = self.snapshots.iter().filter(|(stream, _)| **stream >> 16 == kind);
        of_kind.map(|(_, bytes)| bytes.clone()).collect()
    }
}

/// Up to eight records for each kind and each kind of event, which is the byte after the version.
fn read_records(
    journal: &dyn Journal,
    records: &mut BTreeMap<u32, Vec<Vec<u8>>>,
) -> anyhow::Result<()> {
    let mut reader = journal.read(Position(journal.oldest().0 - 1))?;
    let mut seen: BTreeMap<(u32, Option<u8>), usize> = BTreeMap::new();
    while let Some(entry) = reader.next()? {
        let kind = entry.stream.0 >> 16;
        let count = seen.entry((kind, entry.bytes.get(1).copied())).or_default();
        *count += 1;
        if *count <= 8 {
            records.entry(kind).or_default().push(entry.bytes.to_vec());
        }
    }
    Ok(())
}
