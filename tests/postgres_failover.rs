//! A primary dies and its replica takes over: the worker finds it by itself and goes on where that
//! one is, which may be behind what had been written. In the end it is what the store says, row for
//! row. What else can be killed is in `postgres_sync`.

use std::{sync::Arc, time::Duration};

use tidegate::{Tidegate, postgres::Phase};
use tidegate_postgres_tests::{Database, Made, run, stock_up};
use tokio::time::sleep;

use crate::{
    postgres_sync::{Running, assert_same, follow_at, open_trimming, trimmed},
    seed::Random,
    shop::{eventually, open},
};

/// A primary and its replica. The worker is told of the replica first: it must see that it can't be
/// written.
struct Pair {
    primary: Database,
    replica: Database,
}

impl Pair {
    async fn start() -> Option<Self> {
        let primary = Database::start().await?;
        let replica = primary.replica().await;
        Some(Self { primary, replica })
    }

    fn follow(&self, gate: &Tidegate) -> Running {
        follow_at(&self.replica.url_or(&self.primary), gate)
    }

    /// Waits until both have everything.
    async fn level(&self, gate: &Tidegate) -> u64 {
        self.reached(&self.primary, gate.events().durable().0).await;
        self.reached(&self.replica, gate.events().durable().0).await
    }

    async fn reached(&self, database: &Database, end: u64) -> u64 {
        eventually("it has everything", async || {
            database.position().await.filter(|position| *position >= end)
        })
        .await
    }

    /// What the primary commits from now on is not on the replica.
    async fn cut_off(&self) -> u64 {
        let client = self.replica.client().await;
        client.batch_execute("alter system set primary_conninfo = ''").await.unwrap();
        client.batch_execute("select pg_reload_conf()").await.unwrap();
        eventually("nothing is received", async || {
            let receiving = "select from pg_stat_wal_receiver";
            client.query_opt(receiving, &[]).await.unwrap().is_none().then_some(())
        })
        .await;
        self.replica.position().await.unwrap()
    }

    /// The primary is gone, and the replica takes its place.
    fn fail_over(&mut self) {
        self.primary.kill();
        self.replica.promote();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_goes_on_where_the_replica_is() {
    let Some(mut pair) = Pair::start().await else { return };
    let mut random = Random::of("postgres_failover");
    let folder = tempfile::tempdir().unwrap();
    let gate = open(folder.path()).await;
    let made = Arc::new(Made::default());
    stock_up(&gate, "first").await;
    let worker = pair.follow(&gate);
    pair.level(&gate).await;
    let (load, maker, seed) = (gate.clone(), Arc::clone(&made), random.number());
    let load = tokio::spawn(async move { run(&load, &maker, seed, 80).await });
    sleep(Duration::from_millis(random.between(20, 400))).await;
    pair.fail_over();
    load.await.unwrap();
    assert_same(&pair.replica, &gate, &made.world(), true).await;
    let report = worker.figures.report();
    assert_eq!((report.loads, report.phase), (0, Phase::Following), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_lacks_is_written_again() {
    let Some(mut pair) = Pair::start().await else { return };
    let mut random = Random::of("postgres_failover_behind");
    let folder = tempfile::tempdir().unwrap();
    let gate = open(folder.path()).await;
    let made = Arc::new(Made::default());
    stock_up(&gate, "first").await;
    let worker = pair.follow(&gate);
    run(&gate, &made, random.number(), 10).await;
    pair.level(&gate).await;
    let behind = pair.cut_off().await;
    run(&gate, &made, random.number(), 20).await;
    let written = pair.reached(&pair.primary, gate.events().durable().0).await;
    assert!(
        written > behind && pair.replica.position().await == Some(behind),
        "{written} {behind}"
    );
    // Something is under way, too.
    let (load, maker, seed) = (gate.clone(), Arc::clone(&made), random.number());
    let load = tokio::spawn(async move { run(&load, &maker, seed, 20).await });
    pair.fail_over();
    load.await.unwrap();
    assert_same(&pair.replica, &gate, &made.world(), true).await;
    let report = worker.figures.report();
    assert_eq!((report.loads, report.set_back), (0, 1), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_lacks_and_the_journal_too_is_loaded() {
    let Some(mut pair) = Pair::start().await else { return };
    let mut random = Random::of("postgres_failover_trimmed");
    let folder = tempfile::tempdir().unwrap();
    let gate = open_trimming(folder.path()).await;
    let made = Arc::new(Made::default());
    stock_up(&gate, "first").await;
    let worker = pair.follow(&gate);
    run(&gate, &made, random.number(), 30).await;
    pair.level(&gate).await;
    let behind = pair.cut_off().await;
    drop(worker);

    let gate = trimmed(gate, folder.path(), &made, behind, random.number()).await;
    let worker = pair.follow(&gate);
    run(&gate, &made, random.number(), 10).await;
    let end = gate.events().durable().0;
    eventually("the primary has everything", async || {
        (worker.figures.report().position.0 >= end).then_some(())
    })
    .await;
    let loads = worker.figures.report().loads;
    let (load, maker, seed) = (gate.clone(), Arc::clone(&made), random.number());
    let load = tokio::spawn(async move { run(&load, &maker, seed, 20).await });
    pair.fail_over();
    load.await.unwrap();
    assert_same(&pair.replica, &gate, &made.world(), false).await;
    let report = worker.figures.report();
    assert_eq!((report.loads - loads, report.set_back), (1, 1), "{report:?}");
    assert!(report.failures > 0 && report.trouble.is_none(), "{report:?}");
}
