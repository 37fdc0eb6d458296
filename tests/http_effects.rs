//! Effects that commit together with an acknowledgement, on the wire: once each, or not at all. How
//! they are carried out is tested with the library, in `topics`.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Client, Server, eventually};

const GROUP: &str = "/v1/topics/paid/groups/mail";

/// A server with a message in somebody's hands.
fn leased() -> (TempDir, Server, Client, Value) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let mut client = server.client();
    let retry = json!({"attempts_max": 3, "backoff_ms": 0, "backoff_ms_max": 0});
    client.put(GROUP, &json!({"begin": "oldest", "retry": retry})).expect(200);
    client.post("/v1/topics/paid/messages", "", &json!({"payload": "o-1"})).expect(201);
    let message = one(&mut client, GROUP);
    (folder, server, client, message)
}

fn lease(client: &mut Client, group: &str, wanted: &Value) -> Vec<Value> {
    let leases = client.post(&format!("{group}/lease"), "", wanted).expect(200);
    leases["messages"].as_array().unwrap().clone()
}

fn one(client: &mut Client, group: &str) -> Value {
    lease(client, group, &json!({"wait_ms": 30_000})).pop().expect("a message in time")
}

/// The acknowledgement of a message with what follows.
fn ack(message: &Value, more: &Value) -> Value {
    let mut named = json!({"id": message["id"], "lease": message["lease"]});
    named.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"messages": [named]})
}

/// Acknowledges one message; its status, and the problem if it has one.
fn say(client: &mut Client, body: &Value) -> (u64, Value) {
    let told = client.post(&format!("{GROUP}/ack"), "", body).expect(200);
    let outcome = &told["outcomes"][0];
    (outcome["status"].as_u64().unwrap(), outcome["problem"]["type"].clone())
}

/// What was published to `mails`: the `least` that must come, and what came before a message that
/// is published after them.
fn published(client: &mut Client, least: usize) -> Vec<Value> {
    let group = "/v1/topics/mails/groups/looks";
    client.put(group, &json!({"begin": "oldest"})).expect(200);
    let mut all: Vec<Value> = (0..least).map(|_| one(client, group)).collect();
    let last = json!({"payload": "the last"});
    client.post("/v1/topics/mails/messages", "", &last).expect(201);
    while all.last().is_none_or(|message| message["payload"] != "the last") {
        all.push(one(client, group));
    }
    all.pop();
    all
}

fn group(client: &mut Client) -> Value {
    client.get(GROUP).expect(200)
}

#[test]
fn an_acknowledgement_and_what_follows_happen_once_over_a_kill() {
    let (folder, server, mut client, message) = leased();
    client.put("/v1/skus/tee", &json!({"price_minor": 1_500})).expect(200);
    let delta = json!({"delta": 1, "reason": "delivery"});
    client.post("/v1/skus/tee/stock", "in", &delta).expect(200);
    let order = json!({"user": "ann", "lines": [{"sku": "tee", "quantity": 1}]});
    let order = client.post("/v1/orders", "k", &order).expect(201)["id"].clone();
    let publish = json!([
        {"topic": "mails", "payload": {"to": "ann", "total": 1.50}, "key": "ann"},
        {"topic": "mails", "payload": "without a key"},
    ]);
    let done = ack(&message, &json!({"publish": publish, "cancel": [order]}));
    assert_eq!(say(&mut client, &done), (200, Value::Null));
    server.kill();
    let server = Server::start(&folder.path().join("data"));
    let mut client = server.client();
    // As after a lost answer: it was acknowledged, and nothing follows twice.
    assert_eq!(say(&mut client, &done), (409, json!("/problems/lease-over")));
    let path = format!("/v1/orders/{}", order.as_str().unwrap());
    eventually(|| client.get(&path).expect(200)["state"] == "cancelled");
    let mails = published(&mut client, 2);
    let payloads: Vec<_> = mails.iter().map(|mail| mail["payload"].clone()).collect();
    assert_eq!(payloads, [json!({"to": "ann", "total": 1.50}), json!("without a key")]);
    assert_eq!((&mails[0]["key"], &mails[1]["key"]), (&json!("ann"), &Value::Null));
    assert_eq!(group(&mut client)["done"], 1);
}

#[test]
fn from_a_lease_that_is_over_nothing_follows() {
    let (_folder, _server, mut client, message) = leased();
    let named = ack(&message, &json!({}));
    client.post(&format!("{GROUP}/fail"), "", &named).expect(200);
    let again = one(&mut client, GROUP);
    let publish = |text: &str| json!({"publish": [{"topic": "mails", "payload": text}]});
    let late = say(&mut client, &ack(&message, &publish("late")));
    assert_eq!(late, (409, json!("/problems/lease-over")));
    let no_lease = json!({"id": again["id"], "lease": "no lease"});
    let nobody = say(&mut client, &ack(&no_lease, &publish("nobody's")));
    assert_eq!(nobody, (409, json!("/problems/lease-over")));
    assert_eq!(say(&mut client, &ack(&again, &publish("in time"))), (200, Value::Null));
    let mails = published(&mut client, 1);
    assert_eq!(mails.iter().map(|mail| &mail["payload"]).collect::<Vec<_>>(), ["in time"]);
}

#[test]
fn what_can_not_follow_takes_the_acknowledgement_with_it() {
    let (_folder, _server, mut client, message) = leased();
    let mail = |payload: Value| json!({"topic": "mails", "payload": payload});
    let many = vec![mail(json!(1)); 17];
    let sixteen = vec![mail(json!("x".repeat(4_100))); 16];
    // What is wrong by itself refuses the request, and no message of it is done.
    for (more, slug) in [
        (json!({"publish": many}), "invalid-value"),
        (json!({"publish": [mail(json!("x".repeat(65_536)))]}), "invalid-value"),
        (json!({"publish": [{"topic": "", "payload": 1}]}), "invalid-value"),
        (json!({"publish": [{"topic": "mails", "payload": 1, "key": ""}]}), "invalid-value"),
        (json!({"publish": [{"topic": "mails"}]}), "invalid-body"),
        (json!({"publish": [{"topic": "mails", "payload": 1, "delay_ms": 1}]}), "invalid-body"),
        (json!({"publish": [["mails", 1]]}), "invalid-body"),
        (json!({"cancel": ["x"]}), "invalid-value"),
        (json!({"cancel": vec!["o-0008000000001"; 5]}), "invalid-value"),
        (json!({"cancel": "o-0008000000001"}), "invalid-body"),
        (json!({"effects": []}), "invalid-body"),
    ] {
        println!("{}", more.to_string().chars().take(80).collect::<String>());
        let answer = client.post(&format!("{GROUP}/ack"), "", &ack(&message, &more));
        answer.assert_problem(422, slug);
    }
    // What is too much, or not to be had, is the outcome of its message.
    let built_in = json!({"publish": [{"topic": "events", "payload": 1}]});
    for more in [json!({"publish": sixteen}), built_in] {
        let refused = say(&mut client, &ack(&message, &more));
        assert_eq!(refused, (422, json!("/problems/invalid-value")));
    }
    let shown = group(&mut client);
    assert_eq!((&shown["done"], &shown["open"]["leased"]), (&json!(0), &json!(1)));
    let fine = json!({"publish": [mail(json!("fine"))], "cancel": []});
    assert_eq!(say(&mut client, &ack(&message, &fine)), (200, Value::Null));
    assert_eq!(published(&mut client, 1).len(), 1);
}
