//! `tidegate serve` with a PostgreSQL database that follows: the server, with its worker in it, and
//! the database are killed under load, each when its time has come by a seed. What is wrong in
//! detail is looked for in `postgres_sync`.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::json;
use tidegate::Tidegate;
use tidegate_postgres_tests::{Database, World};

use crate::{
    client::{Client, Server},
    postgres_sync::{assert_same, follow},
    program,
    seed::Random,
};

const ROUNDS: u64 = 3;
const BUYERS: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_load_is_followed_all_the_same() {
    let Some(mut database) = Database::start().await else { return };
    let mut random = Random::of("postgres_serve");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let config = format!("[postgres]\nurl = '{}'\nbatch_events_max = 16\n", database.url());
    let rounds = std::env::var("TIDEGATE_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        let server = Server::start_with(&data, &config);
        let mut client = server.client();
        for sku in ["mug", "cup"] {
            client.put(&format!("/v1/skus/{sku}"), &json!({"price_minor": 100})).expect(200);
            let more = json!({"delta": 100, "reason": "arrival"});
            client.post(&format!("/v1/skus/{sku}/stock"), &format!("a{round}"), &more).expect(200);
        }
        let end = Arc::new(AtomicBool::new(false));
        let buyers: Vec<_> = (0..BUYERS)
            .map(|buyer| {
                let (client, end) = (server.client(), Arc::clone(&end));
                let random = Random::from_seed(random.number());
                thread::spawn(move || buy(client, buyer, random, &end))
            })
            .collect();
        thread::sleep(Duration::from_millis(random.between(200, 800)));
        if round % 2 == 1 {
            database.kill();
            thread::sleep(Duration::from_millis(random.between(1, 100)));
            database.run().await;
        }
        server.kill();
        end.store(true, Ordering::Relaxed);
        buyers.into_iter().for_each(|buyer| buyer.join().unwrap());
    }

    let server = Server::start_with(&data, &config);
    let metrics = |client: &mut Client| String::from_utf8(client.get("/metrics").body).unwrap();
    let mut client = server.client();
    crate::client::eventually(|| {
        let page = metrics(&mut client);
        page.contains("\ntidegate_postgres_lag_records 0\n")
            && page.contains("\ntidegate_postgres_phase{phase=\"following\"} 1\n")
    });
    let url = database.url();
    let status = |more: &[&str]| {
        let begin = ["sync", "status", "--json", "--postgres", &url];
        program::run(begin.iter().chain(more))
    };
    let ran = status(&[]);
    assert_eq!((ran.code, &ran.json()["working"]), (Some(0), &json!(true)), "{ran:?}");
    server.terminate();
    assert!(server.wait().success());
    // Nobody is at work, but everything is there.
    assert_eq!(status(&[]).code, Some(1));
    let ran = status(&["--data", data.to_str().unwrap()]);
    assert_eq!((ran.code, &ran.json()["lag_records"]), (Some(0), &json!(0)), "{ran:?}");
    let ran = program::run(["sync", "status", "--postgres", &url]);
    assert!(ran.stdout.contains("NONE at work"), "{ran:?}");
    compare(&database, &data).await;
}

async fn compare(database: &Database, data: &Path) {
    let gate = Tidegate::builder(data).open().await.unwrap();
    let _worker = follow(database, &gate);
    let world = World {
        users: (0..BUYERS).map(|buyer| format!("user-{buyer}")).collect(),
        skus: vec!["mug".to_owned(), "cup".to_owned()],
        orders: Vec::new(),
        holds: Vec::new(),
    };
    assert_same(database, &gate, &world, true).await;
    let count = "select count(*) from tidegate.orders";
    let sold: i64 = database.client().await.query_one(count, &[]).await.unwrap().get(0);
    assert!(sold > 0, "nothing was sold");
}

/// Places orders, pays most of them and ships some, until the server is gone.
fn buy(mut client: Client, buyer: u64, mut random: Random, end: &AtomicBool) {
    while !end.load(Ordering::Relaxed) {
        let key = format!("k{}", random.number());
        let sku = if random.number().is_multiple_of(2) { "mug" } else { "cup" };
        let lines = json!([{"sku": sku, "quantity": random.between(1, 3)}]);
        let order = json!({"user": format!("user-{buyer}"), "lines": lines});
        let Ok(placed) = client.try_post("/v1/orders", &key, &order) else { return };
        if placed.status != 201 {
            continue;
        }
        let placed = placed.json();
        let path = format!("/v1/orders/{}", placed["id"].as_str().unwrap());
        let paid = json!({"provider": "bank", "event_id": key, "kind": "captured",
            "amount_minor": placed["total_minor"]});
        let Ok(_) = client.try_post(&format!("{path}/payments"), &key, &paid) else { return };
        if random.number().is_multiple_of(2) {
            let fulfil = client.try_post(&format!("{path}/fulfilments"), &key, &json!({}));
            let Ok(_) = fulfil else { return };
        }
    }
}
