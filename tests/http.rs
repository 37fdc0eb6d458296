//! What the server promises, on the wire: the life of an order and of a hold, keys, tags, batches,
//! access. What it refuses is in `http_bad_input`, how it ends in `http_ends`.

use std::{
    collections::BTreeSet,
    io::{BufReader, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    client::{Answer, Client, Server},
    program,
};

/// A server on a new store with ten units of `tee` at 1,500.
fn shop() -> (TempDir, Server, Client) {
    shop_with("")
}

fn shop_with(config: &str) -> (TempDir, Server, Client) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(&folder.path().join("data"), config);
    let mut client = server.client();
    stock(&mut client, "tee", 10);
    (folder, server, client)
}

fn stock(client: &mut Client, sku: &str, units: i64) {
    let options = json!({"price_minor": 1_500, "currency": "EUR"});
    client.put(&format!("/v1/skus/{sku}"), &options).expect(200);
    let delta = json!({"delta": units, "reason": "delivery"});
    client.post(&format!("/v1/skus/{sku}/stock"), &format!("in-{sku}"), &delta).expect(200);
}

fn tees(user: &str, quantity: u64) -> Value {
    json!({"user": user, "lines": [{"sku": "tee", "quantity": quantity}]})
}

#[test]
fn an_order_lives_from_placed_to_refunded() {
    let (_folder, server, mut client) = shop();
    let placed = client.post("/v1/orders", "o-1", &tees("ann", 2));
    let order = placed.expect(201);
    let path = format!("/v1/orders/{}", order["id"].as_str().unwrap());
    assert_eq!(placed.header("location"), Some(path.as_str()));
    assert_eq!(order["state"], "awaiting_payment");
    assert_eq!((&order["user"], &order["total_minor"]), (&json!("ann"), &json!(3_000)));
    assert_eq!(order["lines"][0]["amount_minor"], 3_000);
    assert!(order["expires_at"].as_str().unwrap().ends_with('Z'), "{order}");
    let sku = client.get("/v1/skus/tee").expect(200);
    assert_eq!((&sku["held"], &sku["available"]), (&json!(2), &json!(8)));

    let payment = |kind: &str, event: &str, amount: u64| {
        let mut payment = json!({"provider": "bank", "event_id": event, "kind": kind});
        payment["amount_minor"] = amount.into();
        payment
    };
    let payments = format!("{path}/payments");
    let order = client.post(&payments, "", &payment("authorized", "e1", 3_000)).expect(200);
    assert_eq!(order["payment_status"], "authorized");
    let order = client.post(&payments, "", &payment("captured", "e2", 3_000)).expect(200);
    assert_eq!((&order["state"], &order["payment_status"]), (&json!("confirmed"), &json!("paid")));
    let again = client.post(&payments, "", &payment("captured", "e2", 3_000)).expect(200);
    assert_eq!(again["captured_minor"], 3_000);
    let other = client.post(&payments, "", &payment("captured", "e2", 2_999));
    other.assert_problem(409, "payment-conflict");

    let order = client.post(&format!("{path}/fulfilments"), "f-1", &json!({})).expect(200);
    assert_eq!(order["state"], "completed");
    assert_eq!(order["fulfilment_status"], "fulfilled");
    client
        .post(&format!("{path}/cancel"), "c-1", &json!({}))
        .assert_problem(409, "already-shipped");
    let returned = json!({"lines": [{"sku": "tee", "quantity": 1}], "restock": true});
    let order = client.post(&format!("{path}/returns"), "r-1", &returned).expect(200);
    assert_eq!(order["refund_due_minor"], 1_500);
    assert_eq!(order["payment_status"], "refund_due");
    let order = client.post(&payments, "", &payment("refunded", "e3", 1_500)).expect(200);
    assert_eq!(order["payment_status"], "partially_refunded");
    assert_eq!(order["fulfilment_status"], "partially_returned");
    let sku = client.get("/v1/skus/tee").expect(200);
    assert_eq!((&sku["on_hand"], &sku["available"]), (&json!(9), &json!(9)));

    let list = client.get("/v1/users/ann/orders").expect(200);
    assert_eq!((&list["orders"][0], &list["next_cursor"]), (&order, &Value::Null));
    assert_eq!(client.get(&path).expect(200), order);
    server.terminate();
    assert!(server.wait().success());
}

#[test]
fn a_key_gives_the_same_answer_and_never_serves_two_requests() {
    let (_folder, _server, mut client) = shop();
    let first = client.post("/v1/orders", "k", &tees("ann", 2)).expect(201);
    let path = format!("/v1/orders/{}", first["id"].as_str().unwrap());
    client.post(&format!("{path}/cancel"), "c", &json!({})).expect(200);
    // Whatever has become of the order since.
    assert_eq!(client.post("/v1/orders", "k", &tees("ann", 2)).expect(201), first);
    client.post("/v1/orders", "k", &tees("ann", 3)).assert_problem(409, "idempotency-conflict");
    client.post("/v1/orders", "k", &tees("bob", 2)).assert_problem(409, "idempotency-conflict");
    assert_eq!(client.get("/v1/skus/tee").expect(200)["held"], 0);

    let delta = |units: i64| json!({"delta": units, "reason": "more"});
    let moved = client.post("/v1/skus/tee/stock", "s", &delta(5)).expect(200);
    assert_eq!(client.post("/v1/skus/tee/stock", "s", &delta(5)).expect(200), moved);
    let other = client.post("/v1/skus/tee/stock", "s", &delta(6));
    other.assert_problem(409, "idempotency-conflict");
    assert_eq!(client.get("/v1/skus/tee").expect(200)["on_hand"], 15);

    // A refusal leaves the key free.
    client.post("/v1/orders", "big", &tees("ann", 16)).assert_problem(409, "sold-out");
    client.post("/v1/orders", "big", &tees("ann", 15)).expect(201);
}

#[test]
fn an_option_that_is_null_is_cleared_and_an_absent_one_stays() {
    let (_folder, _server, mut client) = shop();
    let all =
        json!({"price_minor": 5, "currency": "EUR", "limit_per_user": 6, "backorder_limit": 7});
    let full = client.put("/v1/skus/cap", &all).expect(200);
    assert_eq!(client.put("/v1/skus/cap", &json!({})).expect(200), full);
    for (option, cleared) in [
        ("price_minor", json!(null)),
        ("currency", json!(null)),
        ("limit_per_user", json!(null)),
        ("backorder_limit", json!(0)),
    ] {
        let mut expected = client.put("/v1/skus/cap", &all).expect(200);
        assert_eq!(expected[option], all[option]);
        expected[option] = cleared;
        assert_eq!(client.put("/v1/skus/cap", &json!({option: null})).expect(200), expected);
        assert_eq!(client.get("/v1/skus/cap").expect(200), expected);
    }
}

#[test]
fn lines_are_summed_and_prices_are_unit_prices() {
    let (_folder, _server, mut client) = shop();
    stock(&mut client, "cap", 5);
    let lines = json!([
        {"sku": "tee", "quantity": 2, "price_minor": 100},
        {"sku": "cap", "quantity": 1},
        {"sku": "tee", "quantity": 3, "price_minor": 100},
    ]);
    let order = client.post("/v1/orders", "k", &json!({"user": "ann", "lines": lines}));
    let order = order.expect(201);
    assert_eq!(order["total_minor"], 2_000);
    let tee = json!({"sku": "tee", "location": "main", "quantity": 5, "amount_minor": 500,
        "shipped": 0, "returned": 0});
    assert_eq!(order["lines"][0], tee);
    assert_eq!(order["lines"][1]["amount_minor"], 1_500);
    let read = client.get(&format!("/v1/orders/{}", order["id"].as_str().unwrap())).expect(200);
    assert_eq!(read["lines"], order["lines"]);

    let mixed = json!([{"sku": "tee", "quantity": 1, "price_minor": 1},
        {"sku": "tee", "quantity": 1}]);
    let answer = client.post("/v1/orders", "m", &json!({"user": "ann", "lines": mixed}));
    answer.assert_problem(409, "mixed-amounts");
}

#[test]
fn an_order_may_be_answered_when_it_is_queued() {
    let (_folder, _server, mut client) = shop();
    let body = tees("ann", 1).to_string();
    let headers = [("idempotency-key", "a"), ("prefer", "respond-async, wait=1")];
    let answer = client.send("POST", "/v1/orders", &headers, Some(body.as_bytes()));
    let order = answer.expect(202);
    assert_eq!(answer.header("preference-applied"), Some("respond-async"));
    let path = answer.header("location").unwrap().to_owned();
    assert!(path.ends_with(order["id"].as_str().unwrap()));
    let mut state = order["state"].clone();
    while state == "queued" {
        state = client.get(&path).expect(200)["state"].clone();
    }
    assert_eq!(state, "awaiting_payment");
}

#[test]
fn reads_are_tagged() {
    let (_folder, _server, mut client) = shop();
    let order = client.post("/v1/orders", "k", &tees("ann", 1)).expect(201);
    let path = format!("/v1/orders/{}", order["id"].as_str().unwrap());
    for (path, change) in
        [(path.as_str(), format!("{path}/cancel")), ("/v1/skus/tee", path.clone())]
    {
        let first = client.get(path);
        let tag = first.header("etag").unwrap().to_owned();
        let known = |client: &mut Client| {
            client.send("GET", path, &[("if-none-match", &format!("\"x\", W/{tag}"))], None)
        };
        if path.starts_with("/v1/orders") {
            let same = known(&mut client);
            assert_eq!((same.status, same.header("etag")), (304, Some(tag.as_str())));
            client.post(&change, "c", &json!({})).expect(200);
        } else {
            assert_eq!(known(&mut client).status, 304);
            client.put(path, &json!({"price_minor": 7})).expect(200);
        }
        let changed = known(&mut client);
        assert_eq!(changed.status, 200);
        assert_ne!(changed.header("etag"), Some(tag.as_str()));
        let head = client.send("HEAD", path, &[], None);
        assert_eq!((head.status, head.body.len()), (200, 0));
    }
}

#[test]
fn a_batch_has_an_outcome_for_each_order() {
    let (_folder, _server, mut client) = shop();
    let order = |key: &str, quantity: u64| {
        let mut order = tees("ann", quantity);
        order["idempotency_key"] = key.into();
        order
    };
    let batch = json!({"orders": [order("a", 4), order("b", 11), order("a", 4), order("a", 5)]});
    let answer = client.post("/v1/orders:batch", "", &batch).expect(200);
    let outcomes = answer["outcomes"].as_array().unwrap();
    let statuses: Vec<_> = outcomes.iter().map(|it| it["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 409, 201, 409], "{answer}");
    assert_eq!(outcomes[0], outcomes[2]);
    assert_eq!(outcomes[1]["problem"]["type"], "/problems/sold-out");
    assert_eq!(outcomes[3]["problem"]["type"], "/problems/idempotency-conflict");
    let many: Vec<_> = (0..1_000).map(|n| order(&format!("n-{n}"), 1)).collect();
    let answer = client.post("/v1/orders:batch", "", &json!({"orders": many})).expect(200);
    let outcomes = answer["outcomes"].as_array().unwrap();
    assert_eq!(outcomes.iter().filter(|it| it["status"] == 201).count(), 6);
    let many: Vec<_> = (0..1_001).map(|n| order(&format!("n-{n}"), 1)).collect();
    let answer = client.post("/v1/orders:batch", "", &json!({"orders": many}));
    answer.assert_problem(422, "invalid-value");
}

#[test]
fn a_hold_lives_and_has_one_outcome() {
    let (_folder, _server, mut client) = shop();
    let hold = json!({"user": "ann", "sku": "tee", "quantity": 3, "ttl_seconds": 60});
    let placed = client.post("/v1/holds", "h", &hold).expect(201);
    assert_eq!(client.post("/v1/holds", "h", &hold).expect(201), placed);
    assert_eq!(placed["state"], "held");
    let path = format!("/v1/holds/{}", placed["id"].as_str().unwrap());
    let ask = |client: &mut Client, verb: &str, body: Value| {
        client.post(&format!("{path}/{verb}"), "", &body)
    };
    let extended = ask(&mut client, "extend", json!({"ttl_seconds": 600})).expect(200);
    assert!(extended["expires_at"].as_str() > placed["expires_at"].as_str());
    ask(&mut client, "ship", json!({})).assert_problem(409, "hold-not-confirmed");
    assert_eq!(ask(&mut client, "confirm", json!({})).expect(200)["state"], "confirmed");
    assert_eq!(ask(&mut client, "confirm", json!({})).expect(200)["state"], "confirmed");
    ask(&mut client, "release", json!({})).assert_problem(409, "hold-settled");
    assert!(ask(&mut client, "ship", json!({})).expect(200)["shipped_at"].is_string());
    assert_eq!(client.get(&path).expect(200)["settled_at"].as_str().map(str::len), Some(24));
    assert_eq!(client.get("/v1/skus/tee").expect(200)["on_hand"], 7);
    client.get("/v1/holds/h-zzzz").assert_problem(404, "unknown-hold");
}

#[test]
fn a_users_orders_come_in_pages_newest_first() {
    let (_folder, _server, mut client) = shop();
    let mut ids: Vec<String> = Vec::new();
    for number in 0..7 {
        let order = client.post("/v1/orders", &format!("k{number}"), &tees("ann", 1)).expect(201);
        ids.insert(0, order["id"].as_str().unwrap().to_owned());
    }
    client.post("/v1/orders", "bob", &tees("bob", 1)).expect(201);
    let (mut found, mut path) = (Vec::new(), "/v1/users/ann/orders?limit=3".to_owned());
    loop {
        let page = client.get(&path).expect(200);
        let orders = page["orders"].as_array().unwrap();
        assert!(orders.len() <= 3);
        found.extend(orders.iter().map(|order| order["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/users/ann/orders?limit=3&cursor={next}");
    }
    // Several may be placed in one millisecond, by different shards.
    found.sort_unstable();
    ids.sort_unstable();
    assert_eq!(found, ids);
}

#[test]
fn keys_have_roles_and_limits() {
    // SHA-256 of the words read, sell, admin, old, gone and far.
    let hashes = ["read", "sell", "admin", "old", "gone", "far"].map(sha256);
    let key = |name: &str, role: &str, at: usize, more: &str| {
        let hash = &hashes[at];
        format!("[[access.keys]]\nname = '{name}'\nrole = '{role}'\nsha256 = '{hash}'\n{more}\n")
    };
    let mut config = "[access]\ndeny_keys = ['gone']\n".to_owned();
    config += &key("read", "read", 0, "");
    config += &key("sell", "sell", 1, "");
    config += &key("admin", "admin", 2, "");
    config += &key("old", "admin", 3, "expires_at = '2020-01-01T00:00:00Z'");
    config += &key("gone", "admin", 4, "");
    config += &key("far", "admin", 5, "allow = ['10.0.0.0/8']");
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(&folder.path().join("data"), &config);
    let client = |key: &str| server.client().with_key(key);
    stock(&mut client("admin"), "tee", 10);
    client("sell").put("/v1/skus/x", &json!({})).assert_problem(403, "role-too-low");
    client("read").post("/v1/orders", "k", &tees("a", 1)).assert_problem(403, "role-too-low");
    client("read").get("/v1/skus/tee").expect(200);
    for (key, status, slug) in [
        ("wrong", 401, "unauthorized"),
        ("", 401, "unauthorized"),
        ("old", 401, "api-key-expired"),
        ("gone", 403, "api-key-denied"),
        ("far", 403, "api-key-denied"),
    ] {
        client(key).get("/v1/skus/tee").assert_problem(status, slug);
    }
    let nobody = server.client().get("/v1/skus/tee");
    nobody.assert_problem(401, "unauthorized");
    assert_eq!(nobody.header("www-authenticate"), Some("Bearer"));
    server.client().get("/healthz").expect(200);
    // Keys of different callers never meet.
    let one = client("sell").post("/v1/orders", "k", &tees("ann", 1)).expect(201);
    let other = client("admin").post("/v1/orders", "k", &tees("ann", 1)).expect(201);
    assert_ne!(one["id"], other["id"]);
    // Every operation on the store asks for a key.
    let document = server.client().get("/openapi.json").expect(200);
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|_| path.starts_with("/v1/")) {
            let answer = server.client().send(&method.to_uppercase(), path, &[], None);
            answer.assert_problem(401, "unauthorized");
        }
    }
}

pub(crate) fn sha256(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn addresses_are_denied_and_rates_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let deny = "[access]\ndeny = ['127.0.0.0/8']\n";
    let server = Server::start_with(&folder.path().join("one"), deny);
    server.client().get("/v1/skus/tee").assert_problem(403, "address-denied");
    let allow = "[access]\nallow = ['10.0.0.0/8']\n";
    let server = Server::start_with(&folder.path().join("two"), allow);
    server.client().get("/v1/skus/tee").assert_problem(403, "address-denied");
    let rates = "[rates]\nper_address_per_second = 1\nper_address_burst = 3\n";
    let server = Server::start_with(&folder.path().join("three"), rates);
    let mut client = server.client();
    let mut answers = (0..4).map(|_| client.get("/v1/skus/tee"));
    answers.by_ref().take(3).for_each(|answer| answer.assert_problem(404, "unknown-sku"));
    let last = answers.next().unwrap();
    last.assert_problem(429, "rate-limited");
    assert_eq!(last.header("retry-after"), Some("1"));
}

#[test]
fn a_body_in_pieces_is_read_whole() {
    let (_folder, server, mut client) = shop();
    let body = tees("ann", 1);
    let text = body.to_string();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_nodelay(true).unwrap();
    let head = "POST /v1/orders HTTP/1.1\r\nhost: localhost\r\nidempotency-key: o-1\r\n\
                content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunks = text
        .as_bytes()
        .chunks(9)
        .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)));
    let pieces: Vec<_> = std::iter::once(head.to_owned()).chain(chunks).collect();
    for piece in pieces.iter().map(String::as_str).chain(["0\r\n\r\n"]) {
        stream.write_all(piece.as_bytes()).unwrap();
        // So that the next one is likely to come later than it is looked for.
        std::thread::sleep(Duration::from_millis(5));
    }
    let placed = Answer::read(&mut BufReader::new(stream), false).unwrap().expect(201);
    assert_eq!(client.post("/v1/orders", "o-1", &body).expect(201), placed);
}

#[test]
fn every_answer_has_a_trace_id_of_its_own() {
    let (_folder, _server, mut client) = shop();
    let ids: BTreeSet<String> = (0..20)
        .map(|_| client.get("/healthz").header("trace-id").unwrap().to_owned())
        .inspect(|id| {
            let hex = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            assert!(hex && id.len() == 32, "{id}");
        })
        .collect();
    assert_eq!(ids.len(), 20);
}

#[test]
fn the_server_describes_itself() {
    let (_folder, server, mut client) = shop();
    assert_eq!(client.get("/readyz").expect(200)["status"], "ready");
    assert_eq!(client.get("/healthz").expect(200)["status"], "alive");
    let page = client.get("/docs");
    assert_eq!(page.status, 200);
    let text = String::from_utf8(page.body).unwrap();
    assert!(
        text.contains("/docs/docs.js") && !text.contains("http://") && !text.contains("https:")
    );
    for path in ["/docs/docs.js", "/docs/docs.css", "/problems/sold-out"] {
        assert_eq!(client.get(path).status, 200, "{path}");
    }
    let document = client.get("/openapi.json").expect(200);
    assert_eq!(document["paths"].as_object().unwrap().len(), 44);
    let headers = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")];
    let answer = client.send("GET", "/healthz", &headers, None);
    assert_eq!(answer.header("trace-id"), Some("0af7651916cd43dd8448eb211c80319c"));
    drop(server);
}

#[test]
fn what_can_be_reached_from_outside_needs_keys() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    let ran = program::run(["serve", "--data", &data, "--listen", "0.0.0.0:0"]);
    ran.assert_failed(&["0.0.0.0:0", "no API key"]);
    let file = folder.path().join("a.toml");
    std::fs::write(&file, "[limits]\nbody_byte_max = 1\n").unwrap();
    let file = file.display().to_string();
    let ran = program::run(["config", "check", "--config", &file]);
    ran.assert_failed(&["limits.body_byte_max", "did you mean `body_bytes_max`"]);
    let ran = program::run(["config", "defaults"]);
    std::fs::write(&file, ran.stdout).unwrap();
    let ran = program::run(["config", "check", "--config", &file]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "the defaults are a configuration");
    let ran = program::run(["config", "new-key", "shop", "--role", "sell"]);
    let (key, rest) = ran.stdout.split_once('\n').unwrap();
    assert!(rest.contains(&sha256(key)), "{rest}");
}
