//! `tidegate inspect`: that it tells what is in a store, and that the store does not notice. Also
//! what it and `audit` say of a store that is open.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde_json::Value;
use tidegate::NewOrder;

use crate::{
    program::{Ran, run},
    shop::{self, Shop},
};

fn inspect(data: &Path, more: &[&str]) -> Ran {
    let fixed = ["inspect".as_ref(), "--data".as_ref(), data.as_os_str()];
    run(fixed.into_iter().chain(more.iter().map(std::ffi::OsStr::new)))
}

fn json(data: &Path) -> Value {
    let ran = inspect(data, &["--json"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    ran.json()
}

/// Everything about every file that a change would change.
fn traces(folder: &Path) -> BTreeMap<PathBuf, (SystemTime, u64, Vec<u8>)> {
    let (mut found, mut left) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(path) = left.pop() {
        let about = fs::metadata(&path).unwrap();
        let bytes = if about.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else {
            fs::read(&path).unwrap()
        };
        found.insert(path, (about.modified().unwrap(), about.len(), bytes));
    }
    found
}

fn assert_untouched<T>(data: &Path, work: impl FnOnce() -> T) -> T {
    let before = traces(data);
    let result = work();
    let after = traces(data);
    let names = |files: &BTreeMap<PathBuf, _>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after), "files came or went");
    for (path, was) in &before {
        assert!(after[path] == *was, "{} has changed", path.display());
    }
    result
}

/// A store with orders at rest and live ones.
async fn filled(folder: &Path) -> Shop {
    let shop = Shop::at(folder).await;
    shop.item("tea", 100).await;
    for number in 0..20 {
        let order = NewOrder::new("ann").line("tea", 1);
        let placed = shop.place(order, &format!("k-{number}")).await;
        if number < 12 {
            shop.gate.orders().cancel(placed.id, &format!("c-{number}")).await.unwrap();
        }
    }
    shop
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_store_is_told_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let shop = filled(folder.path()).await;
    shop.gate.close().await.unwrap();
    let last = shop.gate.report().durable.0;
    drop(shop);
    let report = assert_untouched(folder.path(), || json(folder.path()));
    let machines = report["machines"].as_array().unwrap();
    let named: Vec<_> =
        machines.iter().map(|machine| (&machine["name"], &machine["shards"])).collect();
    let expected = [("stock", 3), ("orders", 2), ("topics", 2), ("consumers", 2)];
    let expected = expected.map(|(name, shards)| (Value::from(name), Value::from(shards)));
    assert!(named.iter().copied().eq(expected.iter().map(|(name, shards)| (name, shards))));
    let journal = &report["journal"];
    assert_eq!((journal["oldest"].as_u64(), journal["last"].as_u64()), (Some(1), Some(last)));
    let records: u64 = machines.iter().map(|machine| machine["records"].as_u64().unwrap()).sum();
    assert_eq!(records, last, "each record belongs to a machine");
    assert_eq!(journal["oldest_at_ms"], shop::BEGIN_MS);
    assert_eq!(journal["last_at_ms"], shop::BEGIN_MS);
    assert_eq!(journal["torn_tail"], false);
    let segments = journal["segments"].as_array().unwrap();
    assert_eq!((&segments[0]["first"], &segments[0]["bytes"]), (&1.into(), &(1 << 20).into()));
    assert_eq!(segments[segments.len() - 1]["last"], last);
    let snapshots = report["snapshots"].as_array().unwrap();
    assert_eq!(snapshots.len(), 9, "one of each shard, from the close: {snapshots:?}");
    assert!(snapshots.iter().all(|snapshot| snapshot["bytes"].as_u64() > Some(0)));
    assert!(snapshots.iter().all(|snapshot| snapshot["position"].as_u64() <= Some(last)));
    assert_eq!(report["orders"]["in_memory"], 8);
    assert_eq!(report["orders"]["archived"], 12);
    assert!(report["state_bytes"].as_u64() > Some(0));

    let text = assert_untouched(folder.path(), || inspect(folder.path(), &[])).stdout;
    for part in ["stock  3 shards", "orders in memory  8", "orders archived  12", ".seg: 1 to "] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    shop::assert_sound(folder.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_store_with_a_torn_tail_is_told_and_not_mended() {
    let folder = tempfile::tempdir().unwrap();
    let shop = filled(folder.path()).await;
    drop(shop);
    let before = json(folder.path());
    assert_eq!(before["orders"]["in_memory"].as_u64().map(|live| live >= 8), Some(true));
    // A write that was cut short: bytes after the end that are no frame.
    let segment = before["journal"]["segments"].as_array().unwrap().last().unwrap().clone();
    let path = folder.path().join("journal").join(segment["file"].as_str().unwrap());
    let mut bytes = fs::read(&path).unwrap();
    let end = segment["used_bytes"].as_u64().unwrap() as usize;
    bytes[end..end + 20].fill(7);
    fs::write(&path, bytes).unwrap();
    let report = assert_untouched(folder.path(), || json(folder.path()));
    assert_eq!(report["journal"]["torn_tail"], true);
    assert_eq!(report["journal"]["last"], before["journal"]["last"]);
    let text = assert_untouched(folder.path(), || inspect(folder.path(), &[])).stdout;
    assert!(text.contains("torn"), "{text}");
    shop::assert_sound(folder.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_open_is_refused_by_inspect_and_audit() {
    let folder = tempfile::tempdir().unwrap();
    let shop = filled(folder.path()).await;
    for command in ["inspect", "audit"] {
        let arguments = [command.as_ref(), "--data".as_ref(), folder.path().as_os_str()];
        let ran = run(arguments);
        ran.assert_failed(&["is open elsewhere", "close it there first"]);
    }
    // It did not notice.
    shop.place(NewOrder::new("bob").line("tea", 1), "k-bob").await;
    shop.gate.close().await.unwrap();
    drop(shop);
    json(folder.path());
}

#[test]
fn what_is_no_store_is_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none");
    inspect(&none, &[]).assert_failed(&["is not a Tidegate store"]);
    assert!(!none.exists());
    assert_untouched(folder.path(), || {
        inspect(folder.path(), &[]).assert_failed(&["is not a Tidegate store"]);
    });
}
