//! Views from outside: sales over HTTP with the position of a write, an order with its SKUs, and
//! `tidegate view` on a closed store. What views hold is in `views` and `views_sales`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    client::{Client, Server},
    program::{Ran, run},
    seed::Random,
};

const ON: &str = "[views]\nsales = true\n";

fn stock(client: &mut Client, sku: &str, price_minor: u64) {
    client.put(&format!("/v1/skus/{sku}"), &json!({"price_minor": price_minor})).expect(200);
    let delta = json!({"delta": 10, "reason": "delivery"});
    client.post(&format!("/v1/skus/{sku}/stock"), "in", &delta).expect(200);
}

/// Places an order over both SKUs and pays it; gives its path and the last answer's position.
fn sell(client: &mut Client, key: &str) -> (String, String) {
    let lines = json!([{"sku": "tee", "quantity": 2}, {"sku": "mug", "quantity": 1}]);
    let placed = client.post("/v1/orders", key, &json!({"user": "ann", "lines": lines}));
    let path = format!("/v1/orders/{}", placed.expect(201)["id"].as_str().unwrap());
    let payment =
        json!({"provider": "bank", "event_id": "1", "kind": "captured", "amount_minor": 250});
    let paid = client.post(&format!("{path}/payments"), "", &payment);
    paid.expect(200);
    (path, paid.header("tidegate-position").unwrap().to_owned())
}

fn sold(page: &Value) -> Vec<(u64, u64)> {
    let number = |period: &Value, name: &str| period[name].as_u64().unwrap();
    let periods = page["periods"].as_array().unwrap().iter();
    periods.map(|period| (number(period, "sold_units"), number(period, "sold_minor"))).collect()
}

#[test]
fn sales_show_what_was_just_written() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(&folder.path().join("data"), ON);
    let mut client = server.client();
    stock(&mut client, "tee", 100);
    stock(&mut client, "mug", 50);
    for number in 1..=5 {
        let (_, position) = sell(&mut client, &format!("o-{number}"));
        let path = format!("/v1/skus/tee/sales?step=day&min_position={position}");
        let answer = client.get(&path);
        let page = answer.expect(200);
        // It may be midnight.
        let sums = sold(&page).into_iter().fold((0, 0), |sum, day| (sum.0 + day.0, sum.1 + day.1));
        assert_eq!(sums, (2 * number, 200 * number), "{page}");
        let reached: u64 = answer.header("tidegate-position").unwrap().parse().unwrap();
        assert!(reached >= position.parse().unwrap());
        if number == 5 {
            let last = page["periods"].as_array().unwrap().last().unwrap();
            assert_eq!(last["stock"], json!({"on_hand": 10, "held": 0, "allocated": 10}));
            let tag = answer.header("etag").unwrap().to_owned();
            let again = client.send("GET", &path, &[("if-none-match", &tag)], None);
            assert_eq!(again.status, 304);
            assert!(again.header("tidegate-position").is_some());
        }
    }
    let none = client.get("/v1/skus/tee/sales?from_ms=9007199254740991").expect(200);
    assert_eq!(none, json!({"periods": [], "next_from_ms": null}));
    let none = client.get("/v1/skus/tee/sales?to_ms=0&limit=1").expect(200);
    assert_eq!(none["periods"], json!([]));
    client.get("/v1/skus/cup/sales").assert_problem(404, "unknown-sku");
    for (query, status, problem) in [
        ("limit=0", 422, "invalid-value"),
        ("limit=1001", 422, "invalid-value"),
        ("from_ms=9007199254740992", 422, "invalid-value"),
        ("from_ms=-1", 400, "invalid-parameter"),
        ("step=week", 400, "invalid-parameter"),
        ("until=1", 400, "invalid-parameter"),
        ("min_position=9007199254740991", 409, "position-ahead"),
    ] {
        let answer = client.get(&format!("/v1/skus/tee/sales?{query}"));
        answer.assert_problem(status, problem);
    }
}

#[test]
fn an_order_comes_with_its_skus_as_they_are_now() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let mut client = server.client();
    stock(&mut client, "tee", 100);
    stock(&mut client, "mug", 50);
    let (path, _) = sell(&mut client, "o-1");
    client.put("/v1/skus/tee", &json!({"price_minor": 70, "limit_per_user": 3})).expect(200);
    let detail = client.get(&format!("{path}/detail")).expect(200);
    assert_eq!(detail["order"], client.get(&path).expect(200));
    assert_eq!(detail["items"][0], client.get("/v1/skus/tee").expect(200));
    assert_eq!(detail["items"][1], client.get("/v1/skus/mug").expect(200));
    assert_eq!(detail["items"][0]["price_minor"], 70);
    assert_eq!(detail["order"]["lines"][0]["amount_minor"], 200);
    client.get("/v1/orders/o-1/detail").assert_problem(404, "unknown-order");
    // Nothing is switched on here.
    client.get("/v1/skus/tee/sales").assert_problem(404, "unknown-view");
    assert_eq!(client.get("/v1/views").expect(200), json!({"views": []}));
    client.post("/v1/views/sales/rebuild", "", &json!({})).assert_problem(404, "unknown-view");
}

#[test]
fn killed_servers_lose_no_sale_and_count_none_twice() {
    let mut random = Random::of("killed_servers_lose_no_sale_and_count_none_twice");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for round in 0..5 {
        let server = Server::start_with(&data, ON);
        let mut client = server.client();
        stock(&mut client, "tee", 100);
        stock(&mut client, "mug", 50);
        let more = json!({"delta": 100, "reason": "more"});
        for sku in ["tee", "mug"] {
            client.post(&format!("/v1/skus/{sku}/stock"), &format!("{round}"), &more).expect(200);
        }
        for number in 0..random.between(1, 20) {
            sell(&mut client, &format!("{round}-{number}"));
        }
        if random.number().is_multiple_of(2) {
            client.post("/v1/views/sales/rebuild", "", &json!({})).expect(202);
        }
        std::thread::sleep(Duration::from_millis(random.between(0, 20)));
        server.kill();
    }
    let server = Server::start_with(&data, ON);
    let mut client = server.client();
    let (_, position) = sell(&mut client, "last");
    let page = client.get("/v1/users/ann/orders?limit=100").expect(200);
    let orders = page["orders"].as_array().unwrap();
    assert!(orders.iter().all(|order| order["state"] == "confirmed"));
    let count = orders.len() as u64;
    for (sku, units, minor) in [("tee", 2, 200), ("mug", 1, 50)] {
        let path = format!("/v1/skus/{sku}/sales?min_position={position}");
        let hours = sold(&client.get(&path).expect(200));
        let sums = hours.into_iter().fold((0, 0), |sum, hour| (sum.0 + hour.0, sum.1 + hour.1));
        assert_eq!(sums, (units * count, minor * count));
    }
}

fn view(data: &std::path::Path, arguments: &[&str]) -> Ran {
    let first = ["view", arguments[0]].into_iter();
    let data = ["--data", data.to_str().unwrap()];
    run(first.chain(arguments[1..].iter().copied()).chain(data))
}

/// What the server says of its only view.
fn views(client: &mut Client) -> Value {
    client.get("/v1/views").expect(200)["views"][0].take()
}

/// The same commands, asked of a server that has built its view so often.
fn of_a_server(url: &str, builds: u64) {
    let of = |arguments: &[&str]| run(["view"].iter().chain(arguments).chain(&["--url", url]));
    let rebuilt = of(&["rebuild", "sales", "--json"]);
    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    let shown = of(&["show", "sales", "--json"]).json();
    assert_eq!((&shown["builds"], &shown["failures"]), (&json!(builds + 1), &json!(0)));
    assert_eq!(shown["rows"], rebuilt.json()["rows"]);
    let mut listed = of(&["list", "--json"]).json()["views"].take();
    // A record may have come in between, and the view may be about to take it.
    for moves in ["lag_records", "lag_ms", "position"] {
        listed[0][moves] = shown[moves].clone();
    }
    assert_eq!(listed, json!([shown]));
    assert!(of(&["list"]).stdout.contains("sales  version 1, following, "));
    assert_eq!((of(&["show", "buyers"]).code, of(&["rebuild", "buyers"]).code), (Some(1), Some(1)));
}

#[test]
fn a_view_is_listed_shown_and_built_anew() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let missing = view(&data, &["rebuild", "sales"]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(!data.exists(), "a rebuild makes no store");

    let server = Server::start_with(&data, ON);
    let mut client = server.client();
    stock(&mut client, "tee", 100);
    stock(&mut client, "mug", 50);
    let (_, position) = sell(&mut client, "o-1");
    client.post("/v1/views/sales/rebuild", "", &json!({})).expect(202);
    let path = format!("/v1/skus/mug/sales?min_position={position}");
    assert_eq!(sold(&client.get(&path).expect(200)), [(1, 50)]);
    crate::client::eventually(|| views(&mut client)["rebuilding"] == json!(false));
    let metrics = client.get("/metrics");
    let text = String::from_utf8(metrics.body).unwrap();
    assert!(text.contains("\ntidegate_view_builds_total{view=\"sales\"} "), "{text}");
    of_a_server(
        &format!("http://{}", server.address),
        views(&mut client)["builds"].as_u64().unwrap(),
    );
    server.terminate();
    assert!(server.wait().success());

    let listed = view(&data, &["list", "--json"]).json();
    let rows = listed["views"][0]["rows"].as_u64().unwrap();
    assert!(rows >= 5, "{listed}");
    let shown = view(&data, &["show", "sales", "--json"]).json();
    assert_eq!(shown, listed["views"][0]);
    assert_eq!((&shown["version"], &shown["rebuilding"]), (&json!(1), &json!(false)));
    let rebuilt = view(&data, &["rebuild", "sales", "--json"]);
    assert_eq!((rebuilt.code, rebuilt.json()["rows"].as_u64()), (Some(0), Some(rows)));
    assert_eq!(view(&data, &["show", "buyers"]).code, Some(1));
    let foreign = view(&data, &["rebuild", "buyers"]);
    assert_eq!(foreign.code, Some(1));
    assert!(foreign.stderr.contains("not a built-in view"), "{foreign:?}");
    let text = view(&data, &["list"]).stdout;
    assert!(text.contains("sales  version 1, "), "{text}");
}
