//! How a server ends under load: asked to (SIGTERM) or not (SIGKILL). What a client saw
//! acknowledged is there afterwards, once, and nothing was oversold. Power loss is another matter.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    client::{Client, Server},
    program, shop,
};

const CLIENTS: usize = 16;
const USERS: usize = 8;

/// Orders that a client saw acknowledged, by key.
type Acknowledged = BTreeMap<String, Value>;

fn order(user: usize) -> Value {
    json!({"user": format!("user-{user}"), "lines": [{"sku": "tee", "quantity": 1}]})
}

fn define(server: &Server) {
    let mut client = server.client();
    client.put("/v1/skus/tee", &json!({"price_minor": 10})).expect(200);
    let stock = json!({"delta": 1_000_000, "reason": "delivery"});
    client.post("/v1/skus/tee/stock", "in", &stock).expect(200);
}

/// Places orders until the server is gone; gives those that were acknowledged.
fn buy(address: SocketAddr, round: usize, client: usize, count: &AtomicUsize) -> Acknowledged {
    let (mut connection, mut acknowledged) = (Client::new(address), Acknowledged::new());
    for number in 0.. {
        let key = format!("{round}-{client}-{number}");
        let Ok(answer) = connection.try_post("/v1/orders", &key, &order(client % USERS)) else {
            return acknowledged;
        };
        match answer.status {
            201 => {
                acknowledged.insert(key, answer.json());
                count.fetch_add(1, Ordering::Relaxed);
            }
            503 => answer.assert_problem(503, "shutting-down"),
            other => panic!("{other}: {answer:?}"),
        }
    }
    acknowledged
}

/// Lets all clients buy, and calls `end` when `enough` orders were acknowledged.
fn under_load(
    server: Server,
    round: usize,
    enough: usize,
    end: impl FnOnce(Server),
) -> Acknowledged {
    let (address, count) = (server.address, Arc::new(AtomicUsize::new(0)));
    let buyers: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let count = Arc::clone(&count);
            thread::spawn(move || buy(address, round, client, &count))
        })
        .collect();
    let begun = Instant::now();
    while count.load(Ordering::Relaxed) < enough {
        assert!(begun.elapsed() < Duration::from_secs(60), "no orders are acknowledged");
        thread::sleep(Duration::from_millis(2));
    }
    end(server);
    buyers.into_iter().flat_map(|buyer| buyer.join().unwrap()).collect()
}

/// Every acknowledged order is there, and its key still leads to it.
fn assert_all_there(data: &Path, acknowledged: &Acknowledged) {
    let server = Server::start(data);
    let mut client = server.client();
    for (key, known) in acknowledged {
        let user: usize = key.split('-').nth(1).unwrap().parse().unwrap();
        let again = client.post("/v1/orders", key, &order(user % USERS)).expect(201);
        assert_eq!(&again, known, "{key}");
    }
    let sku = client.get("/v1/skus/tee").expect(200);
    server.terminate();
    assert!(server.wait().success());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let gate = tidegate::Tidegate::builder(data).open().await.unwrap();
        let mut found = BTreeSet::new();
        for user in 0..USERS {
            for order in shop::orders_of(&gate, &format!("user-{user}"), 100).await {
                assert!(found.insert(order.id.to_string()), "twice: {order:?}");
            }
        }
        for known in acknowledged.values() {
            assert!(found.contains(known["id"].as_str().unwrap()), "lost: {known}");
        }
        assert_eq!(sku["held"], found.len(), "each order holds one unit");
        gate.close().await.unwrap();
    });
    program::audit(data);
}

#[test]
fn a_terminated_server_answers_what_is_in_flight_and_exits_well() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut acknowledged = Acknowledged::new();
    for round in 0..3 {
        let server = Server::start(&data);
        define(&server);
        acknowledged.extend(under_load(server, round, 300, |server| {
            // A connection with nothing on it must not hold the end up.
            let mut idle = server.client();
            idle.get("/readyz").expect(200);
            server.terminate();
            let begun = Instant::now();
            assert_eq!(server.wait().code(), Some(0));
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
            drop(idle);
        }));
    }
    assert_all_there(&data, &acknowledged);
}

#[test]
fn a_killed_server_has_every_acknowledged_order() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut acknowledged = Acknowledged::new();
    for round in 0..4 {
        let server = Server::start(&data);
        define(&server);
        acknowledged.extend(under_load(server, round, 250, Server::kill));
    }
    assert_all_there(&data, &acknowledged);
}
