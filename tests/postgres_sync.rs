//! A PostgreSQL database follows a store, whatever is killed meanwhile: in the end its tables are
//! what the store says, row for row, and at every moment they are without contradiction.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tidegate::{
    Adjustment, NewOrder, PaymentEvent, SkuPatch, Tidegate,
    postgres::{self, Error, Figures, Options, Phase, Worker},
};
use tidegate_postgres_tests::{
    Database, FILLER, Made, World, contradiction, run, settled, stock_up,
};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    seed::Random,
    shop::{eventually, open, small},
};

/// A worker at work; ended as by a crash when dropped.
pub(crate) struct Running {
    task: JoinHandle<Result<(), Error>>,
    pub(crate) figures: Figures,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn follow(database: &Database, gate: &Tidegate) -> Running {
    follow_at(&database.url(), gate)
}

pub(crate) fn follow_at(url: &str, gate: &Tidegate) -> Running {
    // Small batches, so that there are many places to be killed at.
    let options = Options::new(url).unwrap().batch_events_max(16).batch_ms_max(2);
    let worker = Worker::new(options);
    let figures = worker.figures();
    Running { task: tokio::spawn(worker.run(gate.clone())), figures }
}

/// Why a worker ended that trying again does not help.
async fn final_error(database: &Database, gate: &Tidegate) -> Error {
    let mut running = follow(database, gate);
    (&mut running.task).await.unwrap().unwrap_err()
}

/// Waits until the tables are what the store says.
pub(crate) async fn assert_same(
    database: &Database,
    gate: &Tidegate,
    world: &World,
    all_movements: bool,
) {
    let settled = settled(database, gate, world, all_movements).await;
    settled.unwrap_or_else(|different| panic!("{different}"));
}

/// Reads the tables until told to end, and finds no contradiction in them at any moment.
fn reader(database: &Database) -> (Arc<AtomicBool>, JoinHandle<u64>) {
    let (end, url) = (Arc::new(AtomicBool::new(false)), database.url());
    let ended = Arc::clone(&end);
    let task = tokio::spawn(async move {
        let mut looks = 0;
        while !ended.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(20)).await;
            // It is killed meanwhile, and at first there are no tables.
            let connected = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
            let Ok((client, connection)) = connected else { continue };
            tokio::spawn(connection);
            if let Ok(found) = contradiction(&client).await {
                assert_eq!(found, None);
                looks += 1;
            }
        }
        looks
    });
    (end, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_the_tables_are_what_the_store_says() {
    let Some(mut database) = Database::start().await else { return };
    let mut random = Random::of("postgres_sync_kills");
    let folder = tempfile::tempdir().unwrap();
    let mut gate = open(folder.path()).await;
    let made = Arc::new(Made::default());
    stock_up(&gate, "first").await;
    let mut worker = follow(&database, &gate);
    let (end, reading) = reader(&database);
    let rounds: u64 = std::env::var("TIDEGATE_ROUNDS").map_or(6, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        let (load, maker) = (gate.clone(), Arc::clone(&made));
        let seed = random.number();
        let load = tokio::spawn(async move { run(&load, &maker, seed, 40).await });
        sleep(Duration::from_millis(random.between(20, 400))).await;
        match round % 3 {
            // The worker, at any point.
            0 => {
                for _ in 0..5 {
                    worker = follow(&database, &gate);
                    sleep(Duration::from_millis(random.between(1, 150))).await;
                }
            }
            // The database, with the worker left to find it again.
            1 => {
                database.kill();
                sleep(Duration::from_millis(random.between(1, 300))).await;
                database.run().await;
            }
            // The store, with everything in flight, and the worker with it.
            _ => {
                load.abort();
                let _ = load.await;
                drop(worker);
                gate = crashed(gate, folder.path()).await;
                worker = follow(&database, &gate);
                continue;
            }
        }
        load.await.unwrap();
    }
    assert_same(&database, &gate, &made.world(), true).await;
    end.store(true, Ordering::Relaxed);
    assert!(reading.await.unwrap() > 0, "nobody looked");
    assert_eq!(worker.figures.report().loads, 0, "the journal is whole: nothing is loaded");

    // What is written at closing arrives as well.
    let closed = gate.events().durable();
    gate.close().await.unwrap();
    (&mut worker.task).await.unwrap().unwrap();
    assert!(database.position().await >= Some(closed.0));
}

/// Drops the store with everything in flight and opens it again. Those who use it have been ended.
async fn crashed(gate: Tidegate, folder: &Path) -> Tidegate {
    drop(gate);
    eventually("the folder is free", async || small(folder).open().await.ok()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_journal_no_longer_tells_is_loaded() {
    let Some(database) = Database::start().await else { return };
    let mut random = Random::of("postgres_sync_load");
    let folder = tempfile::tempdir().unwrap();
    let made = Arc::new(Made::default());
    let mut gate = open_trimming(folder.path()).await;
    stock_up(&gate, "first").await;
    let trimmed = async |gate, past, seed| trimmed(gate, folder.path(), &made, past, seed).await;
    gate = trimmed(gate, 0, random.number()).await;

    // A new database, loaded while the store is at work.
    let (load, maker, seed) = (gate.clone(), Arc::clone(&made), random.number());
    let load = tokio::spawn(async move { run(&load, &maker, seed, 60).await });
    let worker = follow(&database, &gate);
    load.await.unwrap();
    assert_same(&database, &gate, &made.world(), false).await;
    assert_eq!(worker.figures.report().loads, 1);
    drop(worker);

    // Away for too long, and loaded again, at work and read meanwhile.
    let there = database.position().await.unwrap();
    gate = trimmed(gate, there, random.number()).await;
    let (end, reading) = reader(&database);
    let (load, maker, seed) = (gate.clone(), Arc::clone(&made), random.number());
    let load = tokio::spawn(async move { run(&load, &maker, seed, 60).await });
    let worker = follow(&database, &gate);
    load.await.unwrap();
    assert_same(&database, &gate, &made.world(), false).await;
    assert_eq!(worker.figures.report().loads, 1);

    // Somebody has meddled: what does not fit is noticed, and everything is loaded.
    let client = database.client().await;
    let meddling = "delete from tidegate.orders; delete from tidegate.order_lines";
    client.batch_execute(meddling).await.unwrap();
    let loaded = eventually("it is loaded again", async || {
        run(&gate, &made, 7, 5).await;
        let loads = worker.figures.report().loads;
        (loads > 1).then_some(loads)
    });
    loaded.await;
    assert_same(&database, &gate, &made.world(), false).await;
    end.store(true, Ordering::Relaxed);
    let _ = reading.await;
}

/// Opens a store that is trimmed as far as snapshots allow, at each closing.
pub(crate) async fn open_trimming(folder: &Path) -> Tidegate {
    small(folder).events_retained_bytes(0).open().await.unwrap()
}

/// Works and opens again until nothing up to `past` is left in the journal: two snapshots are kept,
/// and whole files are trimmed.
pub(crate) async fn trimmed(
    mut gate: Tidegate,
    folder: &Path,
    made: &Arc<Made>,
    past: u64,
    seed: u64,
) -> Tidegate {
    for _ in 0..8 {
        run(&gate, made, seed, 20).await;
        fill(&gate).await;
        gate.close().await.unwrap();
        drop(gate);
        gate = open_trimming(folder).await;
        if gate.report().oldest.0 > past + 1 {
            return gate;
        }
    }
    panic!("nothing was trimmed");
}

/// Makes the journal longer than a file of it.
async fn fill(gate: &Tidegate) {
    let reason = "x".repeat(200);
    gate.stock().define(FILLER, SkuPatch::default()).await.unwrap();
    for number in 0..40 {
        let wave = (0..100).map(|of| {
            let add = Adjustment::new(FILLER, 1, reason.clone());
            let key = format!("{}-{number}-{of}", gate.events().durable());
            let gate = gate.clone();
            async move { gate.stock().adjust(add, &key).await.unwrap() }
        });
        futures(wave).await;
    }
}

/// Runs all at once.
async fn futures<T: Send + 'static>(
    all: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) {
    let mut set = tokio::task::JoinSet::new();
    all.for_each(|one| drop(set.spawn(one)));
    while let Some(done) = set.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_works_one_waits_and_a_foreign_database_is_refused() {
    let Some(mut database) = Database::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let gate = open(folder.path()).await;
    let made = Arc::new(Made::default());
    let options = Options::new(&database.url()).unwrap();

    // An outage at the start.
    database.kill();
    let first = follow(&database, &gate);
    stock_up(&gate, "first").await;
    eventually("the outage is seen", async || {
        let report = first.figures.report();
        (report.trouble.is_some() && report.lag_records > 0).then_some(())
    })
    .await;
    assert!(postgres::status(&options).await.is_err());
    database.run().await;
    assert_same(&database, &gate, &made.world(), true).await;
    eventually("all is well", async || {
        let report = first.figures.report();
        (report.trouble.is_none() && report.lag_records == 0).then_some(())
    })
    .await;

    let second = follow(&database, &gate);
    let until = async |worker: &Running, phase| {
        let is = async || (worker.figures.report().phase == phase).then_some(());
        eventually(&format!("it is {phase}"), is).await;
    };
    until(&second, Phase::Waiting).await;
    run(&gate, &made, 1, 10).await;
    assert_same(&database, &gate, &made.world(), true).await;
    assert_eq!(first.figures.report().phase, Phase::Following);
    let status = postgres::status(&options).await.unwrap();
    assert!(status.is_good() && status.waiting >= 1, "{status:?}");
    assert_eq!(status.store_id.as_deref(), Some(gate.id()));
    drop(first);
    until(&second, Phase::Following).await;
    run(&gate, &made, 2, 10).await;
    assert_same(&database, &gate, &made.world(), true).await;

    // A worker that has lost its lock and does not know writes nothing.
    let client = database.client().await;
    client.batch_execute("update tidegate.sync set position = position - 1").await.unwrap();
    let failures = second.figures.report().failures;
    run(&gate, &made, 3, 3).await;
    eventually("it is noticed", async || {
        (second.figures.report().failures > failures).then_some(())
    })
    .await;
    assert_same(&database, &gate, &made.world(), true).await;
    drop(second);

    let (elsewhere, other) = (tempfile::tempdir().unwrap(), "another store");
    let stranger = open(elsewhere.path()).await;
    eventually("the lock is free", async || {
        let status = postgres::status(&options).await.unwrap();
        (!status.working).then_some(())
    })
    .await;
    let error = final_error(&database, &stranger).await;
    assert!(matches!(error, Error::OtherStore { .. }), "{error}");
    assert!(error.to_string().contains(other), "{error}");

    client.batch_execute("update tidegate.sync set position = 999999999").await.unwrap();
    let error = final_error(&database, &gate).await;
    assert!(matches!(error, Error::Ahead { .. }), "{error}");
    let newer = "insert into tidegate.migrations values (1000, 'newer')";
    client.batch_execute(newer).await.unwrap();
    let error = final_error(&database, &gate).await;
    assert!(matches!(error, Error::NewerSchema { found: 1000, .. }), "{error}");
    assert!(!postgres::status(&options).await.unwrap().is_good());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_can_be_read_as_a_report_would() {
    let Some(database) = Database::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let gate = open(folder.path()).await;
    let (stock, orders) = (gate.stock(), gate.orders());
    stock.define("mug", SkuPatch::default().price_minor(250)).await.unwrap();
    stock.adjust(Adjustment::new("mug", 10, "arrival"), "k").await.unwrap();
    let receipt = orders.place(NewOrder::new("ada").line("mug", 2), "k").await.unwrap();
    orders.pay(receipt.id, PaymentEvent::captured("bank", "e", 500)).await.unwrap();
    orders.fulfil(receipt.id, None, "k").await.unwrap();
    let _worker = follow(&database, &gate);
    let client = database.client().await;
    let query = "select user_id, state, total_minor, payment_status, sku, quantity, shipped, \
                 on_hand, available from tidegate.orders join tidegate.order_lines on \
                 order_id = id join tidegate.stock using (sku, location) where state = 'completed'";
    let row = eventually("the order is there", async || {
        client.query_opt(query, &[]).await.ok().flatten()
    })
    .await;
    let texts: [&str; 4] = [row.get(0), row.get(1), row.get(3), row.get(4)];
    assert_eq!(texts, ["ada", "completed", "paid", "mug"]);
    let numbers: [i64; 5] = [row.get(2), row.get(5), row.get(6), row.get(7), row.get(8)];
    assert_eq!(numbers, [500, 2, 2, 8, 8]);
    let kinds = "select array_agg(kind order by position, number) from tidegate.movements";
    let kinds: Vec<String> = client.query_one(kinds, &[]).await.unwrap().get(0);
    assert_eq!(kinds, ["stock.adjusted", "stock.held", "stock.allocated", "stock.shipped"]);
    gate.close().await.unwrap();
}

#[tokio::test]
async fn certificates_are_checked_as_the_address_says() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    Database::give(&certificate, &made.cert.pem());
    Database::give(&key, &made.signing_key.serialize_pem());
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let settings = [("ssl", "on"), ("ssl_cert_file", &*certificate), ("ssl_key_file", &*key)];
    let Some(database) = Database::start_with(&settings).await else { return };
    let root = format!("sslrootcert={certificate}");
    for (host, parameters, good) in [
        ("localhost", "sslmode=disable".to_owned(), true),
        ("localhost", "sslmode=require".to_owned(), true),
        ("localhost", format!("sslmode=verify-full&{root}"), true),
        ("127.0.0.1", format!("sslmode=verify-full&{root}"), false),
        ("127.0.0.1", format!("sslmode=verify-ca&{root}"), true),
        ("localhost", "sslmode=verify-full".to_owned(), false),
    ] {
        // The last asks the system for who may sign, and is refused here if it knows nobody.
        let asked = match Options::new(&database.url_at(host, &parameters)) {
            Ok(options) => postgres::status(&options).await.map(drop),
            Err(error) => Err(error),
        };
        assert_eq!(asked.is_ok(), good, "{host} {parameters}: {asked:?}");
    }
}
