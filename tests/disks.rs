//! Disks that are full and folders that may not be written: a typed error, no panic, and all that
//! was acknowledged is there once the cause is mended. Where the system allows neither a small disk
//! nor another user, the test says that it was skipped.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate::{
    Adjustment, AskError, NewOrder, OpenError, OrderId, PaymentEvent, SkuPatch, StorageError,
    Tidegate,
};
use tokio::task::JoinSet;

use crate::{
    client::Server,
    program::Ran,
    shop::{assert_sound, files, open, small},
    traces,
};

/// Whom the program runs as when root's powers would hide what is forbidden.
const NOBODY: u32 = 65_534;

/// A small file system in memory; unmounted when dropped.
pub(crate) struct Disk(TempDir);

impl Disk {
    /// `None`, with a word about it, where mounting is not permitted.
    pub(crate) fn mount(megabytes: u64) -> Option<Self> {
        let disk = Self(tempfile::tempdir().unwrap());
        let size = format!("size={megabytes}m");
        let mounted = mount(&["-t", "tmpfs", "-o", &size, "tmpfs"], disk.path());
        if !mounted {
            println!("skipped: no small disk can be mounted here");
        }
        mounted.then_some(disk)
    }

    fn grow(&self, megabytes: u64) {
        let size = format!("remount,size={megabytes}m");
        assert!(mount(&["-o", &size], self.path()), "a disk that was mounted can grow");
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).output();
        drop(unmounted);
    }
}

fn mount(options: &[&str], at: &Path) -> bool {
    let mut command = Command::new("mount");
    command.args(options).arg(at).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn is_full(error: &StorageError) -> bool {
    matches!(error.root(), StorageError::Full { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let Some(disk) = Disk::mount(12) else { return };
    let folder = disk.path().join("store");
    let gate = open(&folder).await;
    gate.stock().define("mug", SkuPatch::default()).await.unwrap();
    gate.stock().adjust(Adjustment::new("mug", 1_000_000, "arrival"), "arrival").await.unwrap();

    let sold = sell_until_it_fails(&gate).await;
    assert!(sold.len() > 100, "only {} orders before the disk was full", sold.len());
    let after = gate.orders().place(NewOrder::new("late").line("mug", 1), "late").await;
    assert!(matches!(after, Err(AskError::Unavailable { .. })), "{after:?}");
    let closed = gate.close().await.unwrap_err();
    assert!(is_full(&closed), "{closed}");
    drop(gate);

    disk.grow(128);
    let gate = open(&folder).await;
    for (number, id) in &sold {
        gate.orders().get(*id).await.unwrap_or_else(|error| panic!("order {number}: {error}"));
        let again = gate.orders().place(order(*number), &format!("cart-{number}")).await;
        assert_eq!(again.unwrap().id, *id, "asked again, order {number} is another");
    }
    let mug = gate.stock().get("mug").await.unwrap().total;
    assert!(mug.held + mug.allocated >= sold.len() as u64);
    gate.close().await.unwrap();
    assert_sound(&folder);
}

fn order(number: u64) -> NewOrder {
    // Long names fill a disk sooner.
    NewOrder::new(format!("{number:060}")).line("mug", 1)
}

/// Many callers at once, until the first is told that the disk is full; the acknowledged orders.
async fn sell_until_it_fails(gate: &Tidegate) -> Vec<(u64, OrderId)> {
    let next = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let (gate, next) = (gate.clone(), Arc::clone(&next));
        callers.spawn(async move {
            let mut sold = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let placed = gate.orders().place(order(number), &format!("cart-{number}")).await;
                let id = match placed {
                    Ok(receipt) => receipt.id,
                    Err(AskError::Unavailable { why }) => {
                        assert!(why.contains("no room left on the disk"), "{why}");
                        return sold;
                    }
                    Err(other) => panic!("a full disk is no reason for: {other}"),
                };
                sold.push((number, id));
                // Some are paid and go to the archive, so that both engines meet the end.
                if number.is_multiple_of(3) {
                    let event = PaymentEvent::captured("bank", format!("e-{number}"), 0);
                    drop(gate.orders().pay(id, event).await);
                }
            }
        });
    }
    callers.join_all().await.into_iter().flatten().collect()
}

#[tokio::test]
async fn a_disk_too_full_for_a_store_says_so_and_takes_it_once_there_is_room() {
    let Some(disk) = Disk::mount(4) else { return };
    let folder = disk.path().join("store");
    let big = || small(&folder).segment_bytes(16 << 20);
    let error = big().open().await.err().expect("16 MiB don't fit into 4");
    let OpenError::Storage(error) = error else { panic!("{error}") };
    assert!(is_full(&error), "{error}");
    let (_place, program) = place_for_others();
    let ran = replay(&program, &folder, None).unwrap();
    ran.assert_failed(&["no room left on the disk", "free some space"]);
    disk.grow(64);
    let gate = big().open().await.unwrap();
    gate.stock().define("mug", SkuPatch::default()).await.unwrap();
    gate.close().await.unwrap();
    assert_sound(&folder);
}

#[tokio::test]
async fn a_disk_that_fills_up_while_serving_stops_the_sale_and_a_restart_goes_on() {
    let Some(disk) = Disk::mount(24) else { return };
    let folder = disk.path().join("store");
    // The segment at hand stays small; there will be no room for one of the usual size.
    let gate = open(&folder).await;
    for sku in wide_skus() {
        gate.stock().define(&sku, SkuPatch::default()).await.unwrap();
        gate.stock().adjust(Adjustment::new(&sku, 1_000_000, "arrival"), "arrival").await.unwrap();
    }
    gate.close().await.unwrap();
    drop(gate);

    let server = Server::start(&folder);
    let mut client = server.client();
    let mut sold: Vec<Value> = Vec::new();
    let failed = loop {
        let number = sold.len();
        let answer = client.post("/v1/orders", &format!("cart-{number}"), &wide_order(number));
        if answer.status != 201 {
            break answer;
        }
        sold.push(answer.json());
    };
    failed.assert_problem(503, "unavailable");
    assert!(failed.json()["detail"].as_str().unwrap().contains("no room left on the disk"));
    assert!(sold.len() > 100, "only {} orders before the disk was full", sold.len());
    let number = sold.len();
    let after = client.post("/v1/orders", "after", &wide_order(number + 1));
    after.assert_problem(503, "unavailable");
    assert_eq!(client.get("/readyz").expect(503)["status"], "poisoned");
    assert_eq!(client.get("/healthz").expect(200)["status"], "alive");
    server.terminate();
    let _either_way = server.wait();

    disk.grow(256);
    let server = Server::start(&folder);
    let mut client = server.client();
    for (number, order) in sold.iter().enumerate() {
        let key = format!("cart-{number}");
        let again = client.post("/v1/orders", &key, &wide_order(number)).expect(201);
        assert_eq!(again["id"], order["id"], "asked again, order {number} is another");
    }
    // The one whose outcome was unknown is there now, once, whatever had become of it.
    client.post("/v1/orders", &format!("cart-{number}"), &wide_order(number)).expect(201);
    for sku in wide_skus() {
        assert_eq!(client.get(&format!("/v1/skus/{sku}")).expect(200)["held"], number + 1);
    }
    server.terminate();
    assert!(server.wait().success());
    assert_sound(&folder);
}

/// Long names fill a disk sooner.
fn wide_skus() -> impl Iterator<Item = String> {
    (0..20).map(|number| format!("{number:060}"))
}

/// One of each.
fn wide_order(number: usize) -> Value {
    let lines: Vec<Value> = wide_skus().map(|sku| json!({"sku": sku, "quantity": 1})).collect();
    json!({"user": format!("user-{number}"), "lines": lines})
}

#[test]
fn a_folder_that_may_not_be_written_is_named() {
    // Root may write everywhere, so the program runs as nobody then.
    let user = (fs::metadata("/proc/self").unwrap().uid() == 0).then_some(NOBODY);
    let (place, program) = place_for_others();
    let inside = |name: &str| place.path().join(name);
    let (empty, store, absent) = (inside("empty"), inside("store"), inside("absent"));
    fs::create_dir(&empty).unwrap();
    let made = replay(&program, &store, None).unwrap();
    assert_eq!(made.code, Some(0), "{made:?}");
    let before = files(&store);
    set_mode(&empty, 0o555);
    set_modes(&store, 0o555, 0o444);
    set_mode(place.path(), 0o555);

    for folder in [&empty, &store, &absent] {
        let Some(ran) = replay(&program, folder, user) else { break };
        ran.assert_failed(&["cannot be written", &folder.display().to_string(), "its owner"]);
    }
    set_mode(place.path(), 0o755);
    set_modes(&store, 0o755, 0o644);
    assert!(!absent.exists());
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
    assert!(files(&store) == before, "the store was changed");
    assert_sound(&store);
}

/// Replays the bundled trace into `data`; as another user, if that is given and permitted.
fn replay(program: &Path, data: &Path, user: Option<u32>) -> Option<Ran> {
    let mut command = Command::new(program);
    command.env_remove("RUST_LOG").arg("replay").arg("trace.csv.gz").arg("--data").arg(data);
    // A copy, since another user may not reach this folder.
    let place = program.parent().unwrap();
    command.current_dir(place);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    match command.output() {
        Ok(output) => Some(Ran::of(&output)),
        Err(error) => {
            println!("skipped: the program can't be run as another user ({error})");
            None
        }
    }
}

/// A folder that others can enter, with the program and the bundled trace in it.
fn place_for_others() -> (TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    set_mode(place.path(), 0o755);
    let program = place.path().join("tidegate");
    fs::copy(env!("CARGO_BIN_EXE_tidegate"), &program).unwrap();
    fs::copy(traces::bundled(), place.path().join("trace.csv.gz")).unwrap();
    (place, program)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Sets the mode of every folder and file from `path` down.
fn set_modes(path: &Path, folders: u32, others: u32) {
    if !path.is_dir() {
        return set_mode(path, others);
    }
    set_mode(path, folders);
    for entry in fs::read_dir(path).unwrap() {
        set_modes(&entry.unwrap().path(), folders, others);
    }
}
