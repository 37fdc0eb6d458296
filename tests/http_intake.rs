//! Asynchronous intake on the wire: where an order waits, a full queue, a deadline that passes, and
//! figures. What the queue does is tested in `intake`, with a clock that can be set.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Answer, Client, Server, eventually};

fn shop(intake: &str) -> (TempDir, Server, Client) {
    let folder = tempfile::tempdir().unwrap();
    let config = format!("[store]\norder_shards = 1\n[intake]\norders_per_second = 1\n{intake}");
    let server = Server::start_with(&folder.path().join("data"), &config);
    let mut client = server.client();
    client.put("/v1/skus/tee", &json!({"price_minor": 1_500})).expect(200);
    let delta = json!({"delta": 5_000, "reason": "delivery"});
    client.post("/v1/skus/tee/stock", "in", &delta).expect(200);
    (folder, server, client)
}

fn queue(client: &mut Client, key: &str) -> Answer {
    let order = json!({"user": "ann", "lines": [{"sku": "tee", "quantity": 1}]}).to_string();
    let headers = [("idempotency-key", key), ("prefer", "respond-async")];
    client.send("POST", "/v1/orders", &headers, Some(order.as_bytes()))
}

fn path(order: &Value) -> String {
    format!("/v1/orders/{}", order["id"].as_str().unwrap())
}

fn figure(client: &mut Client, name: &str) -> f64 {
    let page = String::from_utf8(client.get("/metrics").body).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name}")).trim().parse().unwrap()
}

#[test]
fn an_order_in_the_queue_says_where_it_waits() {
    let (_folder, _server, mut client) = shop("");
    // One goes at once and then one each second; far fewer than wait here.
    let places: Vec<_> = (0..40).map(|number| queue(&mut client, &format!("o-{number}"))).collect();
    let order = places[39].expect(202);
    assert_eq!(order["state"], "queued");
    let position = order["queue"]["position"].as_u64().unwrap();
    assert!((2..=40).contains(&position), "{order}");
    assert!(order["queue"]["expected_wait_ms"].as_u64().unwrap() > 0, "{order}");
    assert!(order["queue"]["deadline"].as_str().unwrap().ends_with('Z'), "{order}");
    let read = client.get(&path(&order));
    let tag = read.header("etag").unwrap().to_owned();
    let read = read.expect(200);
    assert!(read["queue"]["position"].as_u64().unwrap() <= position, "{read}");
    assert_eq!(read["queue"]["deadline"], order["queue"]["deadline"]);
    // A repeat is the same order.
    let again = queue(&mut client, "o-39").expect(202);
    assert_eq!(again["id"], order["id"]);
    eventually(|| client.get(&path(&order)).header("etag") != Some(tag.as_str()));

    let first = places[0].expect(202);
    eventually(|| client.get(&path(&first)).expect(200)["state"] == "awaiting_payment");
    assert_eq!(client.get(&path(&first)).expect(200).get("queue"), None);
    let cancel = format!("{}/cancel", path(&order));
    let cancelled = client.post(&cancel, "c", &json!({})).expect(200);
    assert_eq!((&cancelled["state"], cancelled.get("queue")), (&json!("cancelled"), None));
    eventually(|| figure(&mut client, "tidegate_intake_cancelled_total") == 1.0);
    assert!(figure(&mut client, "tidegate_intake_waiting_orders") > 0.0);
    // Who waits for the answer does not wait for them.
    let order = json!({"user": "bob", "lines": [{"sku": "tee", "quantity": 1}]});
    let order = client.post("/v1/orders", "at-once", &order).expect(201);
    assert_eq!((&order["state"], order.get("queue")), (&json!("awaiting_payment"), None));
}

#[test]
fn a_full_queue_is_said_with_when_to_come_again() {
    let (_folder, _server, mut client) = shop("queued_max = 3\n");
    let mut full = None;
    for number in 0..1_000 {
        let answer = queue(&mut client, &format!("o-{number}"));
        if answer.status != 202 {
            full = Some((answer, format!("o-{number}")));
            break;
        }
    }
    let (answer, key) = full.expect("it is full at some time");
    answer.assert_problem(429, "queue-full");
    let wait_ms = answer.json()["expected_wait_ms"].as_u64().unwrap();
    assert!((1..=4_000).contains(&wait_ms), "{wait_ms}");
    let retry = answer.header("retry-after").unwrap().parse::<u64>().unwrap();
    assert_eq!(retry, wait_ms.div_ceil(1_000));
    eventually(|| queue(&mut client, &key).status == 202);
}

#[test]
fn an_order_that_has_waited_too_long_is_rejected_for_that() {
    let (_folder, _server, mut client) = shop("deadline_ms = 1\n");
    let queued = queue(&mut client, "o-1").expect(202);
    let rejected = || client.get(&path(&queued)).expect(200)["state"] == "rejected";
    eventually(rejected);
    let order = client.get(&path(&queued)).expect(200);
    assert_eq!(order["rejection"]["type"], "/problems/queue-timeout");
    assert_eq!(client.get("/v1/skus/tee").expect(200)["held"], 0);
    assert_eq!(queue(&mut client, "o-1").expect(202)["state"], "rejected");
    eventually(|| figure(&mut client, "tidegate_intake_timed_out_total") == 1.0);
}
