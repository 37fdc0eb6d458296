//! Topics, consumer groups and dead letters on the wire: published once, leased by one, tried
//! again, given up and replayed, over a restart as well; who may, and what bad input changes. How
//! groups work is tested in `topics`.

use std::{fs, thread, time::Duration};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::{
    client::{Answer, Client, Server, eventually, serve},
    program::{self, tidegate},
};

const GROUP: &str = "/v1/topics/risk/groups/mail";

fn server() -> (TempDir, Server, Client) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let client = server.client();
    (folder, server, client)
}

fn publish(client: &mut Client, payload: Value, key: &str) -> Value {
    let mut message = json!({"payload": payload});
    if !key.is_empty() {
        message["key"] = key.into();
    }
    client.post("/v1/topics/risk/messages", "", &message).expect(201)
}

/// Makes the group, which tries at once and `attempts` times.
fn group(client: &mut Client, attempts: u32) -> Value {
    let retry = json!({"attempts_max": attempts, "backoff_ms": 0, "backoff_ms_max": 0});
    client.put(GROUP, &json!({"begin": "oldest", "retry": retry})).expect(200)
}

/// Up to `max` messages for a minute; there must be one soon.
fn lease(client: &mut Client, max: u64) -> Vec<Value> {
    lease_for(client, max, 60_000)
}

fn lease_for(client: &mut Client, max: u64, lease_ms: u64) -> Vec<Value> {
    let wanted = json!({"max": max, "wait_ms": 30_000, "lease_ms": lease_ms});
    let leases = client.post(&format!("{GROUP}/lease"), "", &wanted).expect(200);
    let messages = leases["messages"].as_array().unwrap().clone();
    assert!(!messages.is_empty(), "no message in time");
    messages
}

fn one(client: &mut Client) -> Value {
    lease(client, 1).remove(0)
}

fn name(message: &Value) -> Value {
    json!({"id": message["id"], "lease": message["lease"]})
}

fn names(messages: &[Value]) -> Value {
    json!({"messages": messages.iter().map(name).collect::<Vec<_>>()})
}

/// Says something of messages; the status of each outcome.
fn say(client: &mut Client, what: &str, body: &Value) -> Vec<u64> {
    let told = client.post(&format!("{GROUP}/{what}"), "", body).expect(200);
    let outcomes = told["outcomes"].as_array().unwrap().clone();
    let sent = body["messages"].as_array().unwrap();
    assert!(outcomes.iter().zip(sent).all(|(told, sent)| told["id"] == sent["id"]), "{told}");
    assert_eq!(outcomes.len(), sent.len());
    for outcome in &outcomes {
        let problem = &outcome["problem"];
        match outcome["status"].as_u64().unwrap() {
            200 => assert!(problem.is_null(), "{outcome}"),
            status => assert_eq!(problem["status"], status, "{outcome}"),
        }
        if outcome["status"] == 409 {
            assert_eq!(problem["type"], "/problems/lease-over");
        }
    }
    outcomes.iter().map(|outcome| outcome["status"].as_u64().unwrap()).collect()
}

fn delete(client: &mut Client, path: &str) -> Answer {
    client.send("DELETE", path, &[], None)
}

fn payloads(messages: &[Value]) -> Vec<&Value> {
    messages.iter().map(|message| &message["payload"]).collect()
}

#[test]
fn a_message_is_published_once_by_its_key_and_kept_as_it_was_sent() {
    let (_folder, _server, mut client) = server();
    group(&mut client, 3);
    let path = "/v1/topics/risk/messages";
    // Digits that no float has, and an order of names that no map keeps.
    let text = r#"{"payload": {"b": 1.00000000000000000001, "a": [ ]}, "key": "ann"}"#;
    let keyed = [("idempotency-key", "k-1")];
    let first = client.send("POST", path, &keyed, Some(text.as_bytes())).expect(201);
    assert_eq!(client.send("POST", path, &keyed, Some(text.as_bytes())).expect(201), first);
    assert_eq!((&first["topic"], &first["taken_at"]), (&json!("risk"), &first["due_at"]));
    let other = client.post(path, "k-1", &json!({"payload": 2}));
    other.assert_problem(409, "idempotency-conflict");
    let second = publish(&mut client, json!("unkeyed"), "");
    let third = publish(&mut client, json!("unkeyed"), "");
    assert_ne!(second["number"], third["number"], "without a key it is another message");

    let wanted = json!({"max": 9, "wait_ms": 30_000});
    let leases = client.post(&format!("{GROUP}/lease"), "", &wanted);
    let raw = String::from_utf8(leases.body.clone()).unwrap();
    assert!(raw.contains(r#""payload":{"b": 1.00000000000000000001, "a": [ ]}"#), "{raw}");
    let mut messages = leases.expect(200)["messages"].as_array().unwrap().clone();
    while messages.len() < 3 {
        messages.extend(lease(&mut client, 9));
    }
    let (sent, got) = ([&first, &second, &third], &messages);
    assert!(sent.iter().zip(got).all(|(sent, got)| sent["number"] == got["number"]));
    assert_eq!((&got[0]["key"], &got[0]["attempt"]), (&json!("ann"), &json!(1)));
    assert_eq!(got[1]["key"], Value::Null);
    assert_eq!(say(&mut client, "ack", &names(&messages)), [200, 200, 200]);
    assert_eq!(say(&mut client, "ack", &names(&messages[..1])), [409], "it is over by then");

    let late = json!({"payload": "later", "delay_ms": 31_622_400_000_u64});
    let late = client.post(path, "", &late).expect(201);
    assert!(late["due_at"].as_str() > late["taken_at"].as_str(), "{late}");
    let seen = client.get(GROUP).expect(200);
    assert_eq!((&seen["done"], &seen["open"]["lag"]), (&json!(3), &json!(0)));
    client
        .post("/v1/topics/events/messages", "", &json!({"payload": 1}))
        .assert_problem(409, "built-in-topic");
}

#[test]
fn messages_of_one_key_come_one_after_the_other_and_failed_ones_again() {
    let (_folder, _server, mut client) = server();
    group(&mut client, 9);
    for (payload, key) in [(1, "ann"), (2, "ann"), (3, "")] {
        publish(&mut client, json!(payload), key);
    }
    let mut messages = lease(&mut client, 9);
    while messages.len() < 2 {
        messages.extend(lease(&mut client, 9));
    }
    assert_eq!(payloads(&messages), [1, 3], "the second of `ann` waits for the first");
    let seen = client.get(GROUP).expect(200);
    assert_eq!((&seen["open"]["lag"], &seen["open"]["leased"]), (&json!(3), &json!(2)));
    assert_eq!(seen["open"]["lag_is_exact"], true);
    assert!(seen["open"]["oldest_at"].as_str() == messages[0]["published_at"].as_str());

    let mut failed = names(&messages[..1]);
    failed["cause"] = "the mail server is away".into();
    assert_eq!(say(&mut client, "fail", &failed), [200]);
    assert_eq!(say(&mut client, "fail", &failed), [409]);
    let again = one(&mut client);
    assert_eq!((&again["payload"], &again["attempt"]), (&json!(1), &json!(2)));
    assert_eq!(again["id"], messages[0]["id"]);
    assert_ne!(again["lease"], messages[0]["lease"]);
    // One after the other: an old lease, one that is none, and the right one.
    let none = json!({"id": again["id"], "lease": "x"});
    let mixed = json!({"messages": [name(&messages[0]), none, name(&again)]});
    assert_eq!(say(&mut client, "ack", &mixed), [409, 409, 200]);
    assert_eq!(payloads(&[one(&mut client)]), [2]);
    let all = client.get("/v1/groups").expect(200);
    assert_eq!(all, client.get("/v1/topics/risk/groups").expect(200));
    assert_eq!(all["groups"][0]["group"], "mail");
    assert_eq!(client.get("/v1/topics/other/groups").expect(200)["groups"], json!([]));
}

#[test]
fn a_lease_that_runs_out_is_taken_by_another_and_the_late_outcome_is_refused() {
    let (_folder, server, mut client) = server();
    group(&mut client, 9);
    publish(&mut client, json!("once"), "");
    let first = lease_for(&mut client, 1, 1).remove(0);
    let second = one(&mut server.client());
    assert_eq!((&second["id"], &second["attempt"]), (&first["id"], &json!(2)));
    let late = json!({"messages": [name(&first)]});
    assert_eq!(say(&mut client, "ack", &late), [409]);
    assert_eq!(say(&mut client, "fail", &late), [409]);
    let mut longer = json!({"messages": [name(&first), name(&second)]});
    longer["lease_ms"] = 43_200_000.into();
    assert_eq!(say(&mut client, "extend", &longer), [409, 200]);
    assert_eq!(say(&mut client, "ack", &json!({"messages": [name(&second)]})), [200]);
    assert_eq!(client.get(GROUP).expect(200)["done"], 1);
}

#[test]
fn a_poison_message_becomes_a_dead_letter_is_told_and_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut command = serve(tidegate(), &folder.path().join("data"), "");
    command.stderr(fs::File::create(&log).unwrap());
    let server = Server::of(command);
    let mut client = server.client();
    group(&mut client, 2);
    for payload in ["poison", "more poison"] {
        publish(&mut client, json!(payload), "");
    }
    let dead = format!("{GROUP}/dead-letters");
    while client.get(&dead).expect(200)["dead_letters"].as_array().unwrap().len() < 2 {
        let mut failed = names(&[one(&mut client)]);
        failed["cause"] = format!("can't read it{}", "!".repeat(2_000)).into();
        assert_eq!(say(&mut client, "fail", &failed), [200]);
    }
    let page = client.get(&format!("{dead}?limit=1")).expect(200);
    let letter = &page["dead_letters"][0];
    assert_eq!((&letter["payload"], &letter["attempts"]), (&json!("poison"), &json!(2)));
    assert_eq!(letter["cause"].as_str().unwrap().len(), 1_024, "{letter}");
    let next = page["next_cursor"].as_str().unwrap();
    let page = client.get(&format!("{dead}?limit=100&cursor={next}")).expect(200);
    assert_eq!(page["dead_letters"][0]["payload"], "more poison");
    assert_eq!(page["next_cursor"], Value::Null);
    let one_of = format!("{dead}/{}", letter["id"].as_str().unwrap());
    assert_eq!(&client.get(&one_of).expect(200), letter);

    // One line for each, of bounded length.
    let told = fs::read_to_string(&log).unwrap();
    let lines: Vec<_> = told.lines().filter(|line| line.contains("dead letter")).collect();
    assert_eq!(lines.len(), 2, "{told}");
    for part in ["WARN", "topic=risk", "group=mail", "attempts=2", "can't read it!"] {
        assert!(lines.iter().all(|line| line.contains(part)), "{part} is missing in {lines:?}");
    }
    assert!(lines.iter().all(|line| line.len() < 500), "{lines:?}");
    let metrics = String::from_utf8(client.get("/metrics").body).unwrap();
    for line in [
        r#"tidegate_group_dead_letters{topic="risk",group="mail"} 2"#,
        r#"tidegate_group_retries_total{topic="risk",group="mail"} 2"#,
        r#"tidegate_group_lag_messages{topic="risk",group="mail"} 0"#,
    ] {
        assert!(metrics.lines().any(|known| known == line), "{line} is missing in {metrics}");
    }

    assert_eq!(client.post(&format!("{one_of}/replay"), "", &json!({})).status, 204);
    assert_eq!(client.post(&format!("{one_of}/replay"), "", &json!({})).status, 204);
    client.get(&one_of).assert_problem(404, "unknown-dead-letter");
    let again = one(&mut client);
    assert_eq!((&again["payload"], &again["attempt"]), (&json!("poison"), &json!(1)));
    assert_eq!(say(&mut client, "ack", &names(&[again])), [200]);
    let other = format!("{dead}/{}", page["dead_letters"][0]["id"].as_str().unwrap());
    assert_eq!(delete(&mut client, &other).status, 204);
    delete(&mut client, &other).assert_problem(404, "unknown-dead-letter");
    assert_eq!(client.get(GROUP).expect(200)["dead_letters"], 0);
}

#[test]
fn a_restart_takes_no_lease_away_from_who_is_first_to_say() {
    let (folder, server, mut client) = server();
    let made = group(&mut client, 3);
    for payload in 1..=3 {
        publish(&mut client, json!(payload), "");
    }
    let mut messages = lease(&mut client, 9);
    while messages.len() < 3 {
        messages.extend(lease(&mut client, 9));
    }
    server.terminate();
    assert!(server.wait().success());
    let server = Server::start(&folder.path().join("data"));
    let mut client = server.client();
    // How it tries again was kept, and it was opened without being asked for.
    eventually(|| {
        let seen = client.get("/v1/groups").expect(200);
        seen["groups"][0]["open"]["retry"] == made["open"]["retry"]
    });
    let mut others = names(&messages[1..]);
    assert_eq!(say(&mut client, "fail", &others), [409, 409]);
    others["lease_ms"] = 1_000.into();
    assert_eq!(say(&mut client, "extend", &others), [409, 409]);
    assert_eq!(say(&mut client, "ack", &names(&messages[..1])), [200], "nobody else has it yet");
    // Leases ended with the process: somebody else gets what is not acknowledged.
    let again = lease(&mut client, 1).remove(0);
    assert_eq!((&again["id"], &again["attempt"]), (&messages[1]["id"], &json!(2)));
    assert_eq!(say(&mut client, "ack", &names(&messages[1..])), [409, 200]);
    assert_eq!(say(&mut client, "ack", &names(&[again])), [200]);
    // The same after a kill, with all that was acknowledged.
    publish(&mut client, json!(4), "");
    let last = one(&mut client);
    server.kill();
    let server = Server::start(&folder.path().join("data"));
    let mut client = server.client();
    assert_eq!(say(&mut client, "ack", &names(&[last])), [200]);
    assert_eq!(client.get(GROUP).expect(200)["done"], 4);
    // What the server does not remember of the lease it learns.
    eventually(|| client.get(GROUP).expect(200)["open"]["lag"] == 0);
    server.terminate();
    assert!(server.wait().success());
    program::audit(&folder.path().join("data"));
}

#[test]
fn groups_are_paused_moved_and_removed() {
    let (_folder, _server, mut client) = server();
    for payload in 1..=3 {
        publish(&mut client, json!(payload), "");
    }
    client.get(GROUP).assert_problem(404, "unknown-group");
    client.post(&format!("{GROUP}/lease"), "", &json!({})).assert_problem(404, "unknown-group");
    assert_eq!(client.get("/v1/groups").expect(200)["groups"], json!([]), "nobody made it");
    client.send("PUT", GROUP, &[], None).expect(200);
    let none = client.post(&format!("{GROUP}/lease"), "", &json!({})).expect(200);
    assert_eq!(none["messages"], json!([]), "a new group begins with what comes");

    let seek = |client: &mut Client, to: &Value| {
        client.post(&format!("{GROUP}/seek"), "", &json!({"to": to}))
    };
    seek(&mut client, &json!("oldest")).expect(200);
    let first = one(&mut client);
    assert_eq!(first["payload"], 1);
    seek(&mut client, &first["id"]).expect(200);
    assert_eq!(say(&mut client, "ack", &names(&[first])), [409], "the group was moved meanwhile");
    let paused = client.post(&format!("{GROUP}/pause"), "", &json!({})).expect(200);
    assert_eq!(paused["paused"], true);
    let none = client.post(&format!("{GROUP}/lease"), "", &json!({"wait_ms": 300})).expect(200);
    assert_eq!(none["messages"], json!([]));
    let resumed = client.send("POST", &format!("{GROUP}/resume"), &[], None).expect(200);
    assert_eq!(resumed["paused"], false);
    let second = one(&mut client);
    assert_eq!(second["payload"], 2);
    seek(&mut client, &json!("9999999999999999999")).assert_problem(409, "position-ahead");
    let ahead = client.put("/v1/topics/risk/groups/new", &json!({"begin": "999999999"}));
    ahead.assert_problem(409, "position-ahead");

    assert_eq!(delete(&mut client, GROUP).status, 204);
    delete(&mut client, GROUP).assert_problem(404, "unknown-group");
    client.put(GROUP, &json!({"begin": "oldest"})).expect(200);
    assert_eq!(say(&mut client, "ack", &names(&[second])), [409], "it is another group");
    assert_eq!(one(&mut client)["payload"], 1);
}

#[test]
fn a_schedule_publishes_until_it_is_ended() {
    let (_folder, _server, mut client) = server();
    group(&mut client, 3);
    let path = "/v1/topics/risk/schedules/beat";
    client.get(path).assert_problem(404, "unknown-schedule");
    let beat = json!({"payload": {"beat": true}, "key": "k", "every_ms": 1_000});
    let made = client.put(path, &beat).expect(200);
    assert_eq!((&made["name"], &made["phase_ms"]), (&json!("beat"), &json!(0)));
    assert_eq!((&made["payload"], &made["key"]), (&beat["payload"], &beat["key"]));
    assert_eq!(one(&mut client)["payload"], beat["payload"]);
    let all = client.get("/v1/topics/risk/schedules").expect(200);
    assert_eq!(all["schedules"][0]["every_ms"], 1_000);
    let later = json!({"payload": 1, "every_ms": 1_000, "phase_ms": 7_250});
    assert_eq!(client.put(path, &later).expect(200)["phase_ms"], 250);
    for bad in [json!({"every_ms": 999}), json!({"every_ms": 1_000, "phase_ms": u64::MAX})] {
        let mut schedule = json!({"payload": 1});
        schedule.as_object_mut().unwrap().extend(bad.as_object().unwrap().clone());
        client.put(path, &schedule).assert_problem(422, "invalid-value");
    }
    assert_eq!(delete(&mut client, path).status, 204);
    delete(&mut client, path).assert_problem(404, "unknown-schedule");
}

#[test]
fn who_waits_for_a_message_gets_it_and_holds_no_end_up() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[http]\nworkers = 1\n";
    let server = Server::start_with(&folder.path().join("data"), config);
    let mut client = server.client();
    group(&mut client, 3);
    let address = server.address;
    let wait = move || {
        let wanted = json!({"wait_ms": 30_000});
        Client::new(address).post(&format!("{GROUP}/lease"), "", &wanted).expect(200)
    };
    let waiting: Vec<_> = (0..8).map(|_| thread::spawn(wait)).collect();
    thread::sleep(Duration::from_millis(300));
    // They wait at the one worker, and it has time for others.
    publish(&mut client, json!("for one of them"), "");
    eventually(|| client.get(GROUP).expect(200)["open"]["leased"] == 1);
    server.terminate();
    let got = waiting.into_iter().map(|one| one.join().unwrap());
    let messages = got.flat_map(|leases| leases["messages"].as_array().unwrap().clone());
    assert_eq!(payloads(&messages.collect::<Vec<_>>()), ["for one of them"]);
    assert!(server.wait().success());
}

#[test]
fn only_who_may_publishes_consumes_and_moves() {
    let folder = tempfile::tempdir().unwrap();
    let key = |role: &str| {
        let hash = Sha256::digest(role.as_bytes());
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("[[access.keys]]\nname = '{role}'\nrole = '{role}'\nsha256 = '{hash}'\n")
    };
    let config: String = ["read", "sell", "admin"].map(key).concat();
    let server = Server::start_with(&folder.path().join("data"), &config);
    let mut read = server.client().with_key("read");
    let mut sell = server.client().with_key("sell");
    let mut admin = server.client().with_key("admin");
    group(&mut sell, 3);
    publish(&mut sell, json!(1), "");
    let leased = one(&mut sell);

    let low = |answer: Answer| answer.assert_problem(403, "role-too-low");
    low(read.post("/v1/topics/risk/messages", "", &json!({"payload": 1})));
    low(read.put(GROUP, &json!({})));
    for what in ["lease", "ack", "fail", "extend"] {
        low(read.post(&format!("{GROUP}/{what}"), "", &names(std::slice::from_ref(&leased))));
    }
    for what in ["pause", "resume", "seek", "dead-letters/1/replay"] {
        low(sell.post(&format!("{GROUP}/{what}"), "", &json!({})));
    }
    low(delete(&mut sell, GROUP));
    low(delete(&mut sell, &format!("{GROUP}/dead-letters/1")));
    let schedule = "/v1/topics/risk/schedules/s";
    low(sell.put(schedule, &json!({"payload": 1, "every_ms": 1_000})));
    low(delete(&mut sell, schedule));
    server.client().get(GROUP).assert_problem(401, "unauthorized");

    let seen = read.get(GROUP).expect(200);
    assert_eq!((&seen["open"]["leased"], &seen["paused"]), (&json!(1), &json!(false)));
    for path in ["/v1/groups", "/v1/topics/risk/groups", "/v1/topics/risk/schedules"] {
        read.get(path).expect(200);
    }
    read.get(&format!("{GROUP}/dead-letters")).expect(200);
    admin.post(&format!("{GROUP}/pause"), "", &json!({})).expect(200);
    // Keys of different callers never meet.
    let message = json!({"payload": 2});
    let mine = sell.post("/v1/topics/risk/messages", "k", &message).expect(201);
    let theirs = admin.post("/v1/topics/risk/messages", "k", &message).expect(201);
    assert_ne!(mine["number"], theirs["number"]);
}

#[test]
fn bad_input_changes_nothing() {
    let (_folder, _server, mut client) = server();
    group(&mut client, 3);
    publish(&mut client, json!(1), "");
    let leased = one(&mut client);
    let before = client.get("/v1/groups").expect(200);
    let (messages, long) = ("/v1/topics/risk/messages", "x".repeat(65_536));
    let deep = format!(r#"{{"payload": {}1{}}}"#, "[".repeat(200), "]".repeat(200));
    let lease = format!("{GROUP}/lease");
    let (ack, fail, extend) =
        (format!("{GROUP}/ack"), format!("{GROUP}/fail"), format!("{GROUP}/extend"));
    let seek = format!("{GROUP}/seek");
    let wrong_id = json!({"messages": [{"id": "x", "lease": leased["lease"]}]}).to_string();
    let long_payload = json!({"payload": long}).to_string();
    let no_time = names(std::slice::from_ref(&leased)).to_string();
    let mut too_long = names(std::slice::from_ref(&leased));
    too_long["lease_ms"] = 43_200_001.into();
    let too_long = too_long.to_string();
    let bad_name = format!("/v1/topics/{}/messages", "t".repeat(65));
    for (method, path, body, status, slug) in [
        ("POST", messages, "{}", 422, "invalid-body"),
        ("POST", messages, r#"{"payload": 1, "x": 1}"#, 422, "invalid-body"),
        ("POST", messages, r#"{"payload": 1, "key": ""}"#, 422, "invalid-value"),
        ("POST", messages, r#"{"payload": 1, "delay_ms": 31622400001}"#, 422, "invalid-value"),
        ("POST", messages, r#"{"payload": "\ud800"}"#, 422, "invalid-value"),
        ("POST", messages, r#"{"payload": 1e999}"#, 422, "invalid-value"),
        ("POST", messages, r#"{"payload": }"#, 400, "malformed-json"),
        ("POST", messages, &deep, 422, "invalid-value"),
        ("POST", messages, &long_payload, 422, "invalid-value"),
        ("POST", &bad_name, r#"{"payload": 1}"#, 422, "invalid-value"),
        ("PUT", GROUP, r#"{"begin": "later"}"#, 422, "invalid-value"),
        ("PUT", GROUP, r#"{"retry": {"attempts_max": 0}}"#, 422, "invalid-value"),
        ("PUT", GROUP, r#"{"retry": {"backoff_ms": 86400001}}"#, 422, "invalid-value"),
        ("PUT", GROUP, r#"{"retry": [3]}"#, 422, "invalid-body"),
        ("POST", &lease, r#"{"max": 0}"#, 422, "invalid-value"),
        ("POST", &lease, r#"{"max": 257}"#, 422, "invalid-value"),
        ("POST", &lease, r#"{"wait_ms": 30001}"#, 422, "invalid-value"),
        ("POST", &lease, r#"{"lease_ms": 0}"#, 422, "invalid-value"),
        ("POST", &ack, r#"{"messages": []}"#, 422, "invalid-value"),
        ("POST", &ack, &wrong_id, 422, "invalid-value"),
        ("POST", &fail, r#"{"messages": [["1", "1"]]}"#, 422, "invalid-body"),
        ("POST", &extend, &no_time, 422, "invalid-body"),
        ("POST", &extend, &too_long, 422, "invalid-value"),
        ("POST", &seek, r#"{"to": "x"}"#, 422, "invalid-value"),
    ] {
        println!("{method} {path} {}", body.chars().take(80).collect::<String>());
        client.send(method, path, &[], Some(body.as_bytes())).assert_problem(status, slug);
    }
    let keyed = [("idempotency-key", "")];
    let message = Some(&br#"{"payload": 1}"#[..]);
    client.send("POST", messages, &keyed, message).assert_problem(400, "idempotency-key-invalid");
    client.get(&format!("{GROUP}/dead-letters?limit=101")).assert_problem(422, "invalid-value");
    client.get(&format!("{GROUP}/dead-letters?cursor=x")).assert_problem(400, "invalid-cursor");
    client.get(&format!("{GROUP}/dead-letters/x")).assert_problem(404, "unknown-dead-letter");
    let answer = client.send("PATCH", GROUP, &[], None);
    answer.assert_problem(405, "method-not-allowed");
    assert_eq!(answer.header("allow"), Some("PUT, GET, HEAD, DELETE"));
    assert_eq!(client.get("/v1/groups").expect(200), before);
    assert_eq!(say(&mut client, "ack", &names(&[leased])), [200], "it is still leased");
}
