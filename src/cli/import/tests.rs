//! Imports that are taken up again later than the store remembers what it has of them. Those taken
//! up at once are tested with the program.

use std::{path::Path, sync::Arc};

use tidegate::{ManualTime, Tidegate};

use super::Import;

const HOUR_MS: u64 = 60 * 60 * 1_000;

/// One import, and a store whose clock stands still.
struct Case {
    folder: tempfile::TempDir,
    time: Arc<ManualTime>,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("s.csv"), "sku,delta\ntea,10\ntea,5\ntea,1\n").unwrap();
        Self { folder, time: ManualTime::at_ms(1_700_000_000_000) }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs the import where no more than `keys_max` lines can be applied, and says how it ended,
    /// and how many units there are then.
    async fn run(&self, keys_max: usize) -> (Result<u64, String>, u64) {
        let builder = Tidegate::builder(self.path().join("data")).time(Arc::clone(&self.time));
        let builder = builder.stock_shards(1).order_shards(1).idempotency_keys_max(keys_max);
        let gate = builder.open().await.unwrap();
        let file = self.path().join("s.csv");
        let ran = Import { gate: gate.clone(), id: "one".to_owned(), file }.run(3).await;
        let units = gate.stock().get("tea").await.unwrap().total.on_hand;
        gate.close().await.unwrap();
        (ran.map(|outcome| outcome.imported).map_err(|error| format!("{error:#}")), units)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_begun_a_day_ago_are_never_applied_twice() {
    let case = Case::new();
    // Cut short, as by a kill: one line is there, then two.
    let (ended, units) = case.run(1).await;
    assert_eq!((ended.is_err(), units), (true, 10), "{ended:?}");
    case.time.advance_ms(12 * HOUR_MS);
    let (ended, units) = case.run(2).await;
    assert_eq!((ended.is_err(), units), (true, 15), "{ended:?}");
    // A day after the first, half a day after the second.
    case.time.advance_ms(13 * HOUR_MS);
    let (ended, units) = case.run(1_000).await;
    assert_eq!(units, 15);
    let error = ended.unwrap_err();
    for part in ["lines 2 to 4 of ", "s.csv", "25 hours ago", "all lines after 4"] {
        assert!(error.contains(part), "{part:?} is missing in: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_begun_within_a_day_are_finished_and_then_in_no_doubt() {
    let case = Case::new();
    assert!(case.run(2).await.0.is_err());
    case.time.advance_ms(22 * HOUR_MS);
    assert_eq!(case.run(1_000).await, (Ok(3), 16));
    case.time.advance_ms(100 * HOUR_MS);
    assert_eq!(case.run(1_000).await, (Ok(0), 16));
}
