//! The stream of a topic's messages on the wire: where it begins and goes on, what it tells, who
//! may have it. What it shares with the stream of events is tested there, in `http_events`.

use serde_json::{Value, json};
use tidegate::Tidegate;

use crate::{
    client::{Client, Server},
    http::sha256,
    http_events::{Frame, Stream},
    shop,
};

const STREAM: &str = "/v1/topics/risk/stream";

fn publish(client: &mut Client, payload: &Value) {
    let message = json!({"payload": payload, "key": "ann"});
    client.post("/v1/topics/risk/messages", "", &message).expect(201);
}

fn payloads(frames: &[Frame]) -> Vec<&Value> {
    frames.iter().map(|frame| &frame.data["payload"]).collect()
}

#[test]
fn messages_come_as_they_are_leased_and_any_id_leads_to_the_later_ones() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let mut client = server.client();
    let group = "/v1/topics/risk/groups/g";
    client.put(group, &json!({"begin": "oldest"})).expect(200);
    // As it was sent, which may be on several lines.
    let text = "{\"payload\": {\r\n \"total\": 1.50\n}, \"key\": \"ann\"}";
    let sent = Some(text.as_bytes());
    let messages = "/v1/topics/risk/messages";
    assert_eq!(client.send("POST", messages, &[], sent).status, 201);
    let mut new = Stream::open(server.address, STREAM);
    for number in 0..3 {
        publish(&mut client, &json!(number));
    }
    client.post("/v1/topics/other/messages", "", &json!({"payload": "of another"})).expect(201);
    publish(&mut client, &json!("last"));

    let mut stream = Stream::open(server.address, &format!("{STREAM}?after=oldest"));
    assert!(stream.head.contains("\r\ncontent-type: text/event-stream\r\n"), "{}", stream.head);
    assert_eq!(stream.next().unwrap().id, "0");
    let all: Vec<_> = (0..5).map(|_| stream.event()).collect();
    let told = [json!({"total": 1.50}), json!(0), json!(1), json!(2), json!("last")];
    assert_eq!(payloads(&all), told.iter().collect::<Vec<_>>());
    assert!(all.iter().all(|frame| frame.event == "message"));
    let wanted = json!({"max": 1, "wait_ms": 30_000});
    let leased = client.post(&format!("{group}/lease"), "", &wanted).expect(200);
    let mut leased = leased["messages"][0].clone();
    for own in ["lease", "attempt", "leased_until"] {
        leased.as_object_mut().unwrap().remove(own);
    }
    assert_eq!(all[0].data, leased);
    // One that begins now is told what comes from now on.
    assert_eq!((0..4).map(|_| new.event()).collect::<Vec<_>>(), all[1..]);

    for (place, frame) in all.iter().enumerate().take(4) {
        let (target, header) = if place % 2 == 0 {
            (format!("{STREAM}?after={}", frame.id), String::new())
        } else {
            (format!("{STREAM}?after=oldest"), format!("last-event-id: {}\r\n", frame.id))
        };
        let mut again = Stream::open_with(server.address, &target, &header);
        assert_eq!(again.event(), all[place + 1], "after {}", frame.id);
    }
    let head = client.send("HEAD", STREAM, &[], None);
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    // It is no consumer: the group has all of it still.
    assert_eq!(client.get(group).expect(200)["open"]["lag"], 5);
    server.terminate();
    let ended = stream.event();
    assert_eq!((&*ended.event, &ended.data["type"]), ("error", &json!("/problems/shutting-down")));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn the_built_in_topic_is_a_stream_too() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let mut stream = Stream::open(server.address, "/v1/topics/events/stream");
    server.client().put("/v1/skus/tee", &json!({"price_minor": 1_500})).expect(200);
    let frame = stream.event();
    assert_eq!(frame.data["payload"]["kind"], "stock.defined");
    assert_eq!((&frame.data["key"], &frame.data["number"]), (&json!("tee"), &Value::Null));
}

#[test]
fn who_may_not_or_asks_for_what_is_not_gets_a_problem() {
    let key = |role: &str| {
        let hash = sha256(role);
        format!("[[access.keys]]\nname = '{role}'\nrole = '{role}'\nsha256 = '{hash}'\n")
    };
    let config = format!("[events]\nstreams_max = 1\n{}", key("read"));
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(&folder.path().join("data"), &config);
    server.client().get(STREAM).assert_problem(401, "unauthorized");
    let mut client = server.client().with_key("read");
    for (query, status, slug) in [
        ("after=x", 400, "invalid-cursor"),
        ("after=1000000.3", 409, "position-ahead"),
        ("from=oldest", 400, "invalid-parameter"),
        ("after=1&after=2", 400, "invalid-parameter"),
    ] {
        client.get(&format!("{STREAM}?{query}")).assert_problem(status, slug);
    }
    client.get("/v1/topics/%00/stream").assert_problem(422, "invalid-value");
    client.post(STREAM, "", &json!({})).assert_problem(405, "method-not-allowed");
    let bearer = "authorization: Bearer read\r\n";
    let _open = Stream::open_with(server.address, STREAM, bearer);
    client.get(STREAM).assert_problem(429, "too-many-streams");
    // They share their places with the streams of events.
    client.get("/v1/events").assert_problem(429, "too-many-streams");
    let figures = String::from_utf8(client.get("/metrics").body).unwrap();
    assert!(figures.contains("\ntidegate_http_event_streams 1\n"), "{figures}");
}

/// Publishes until the journal is trimmed.
async fn trimmed(gate: &Tidegate) {
    let topic = gate.topic::<String>("risk").unwrap();
    let text = "x".repeat(10_000);
    while gate.report().oldest.0 <= 1 {
        let each = (0..64).map(|_| async { topic.publish(&text).await.map(drop) });
        futures_util::future::try_join_all(each).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_longer_kept_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let small = shop::small(&data).events_retained_bytes(0).snapshot_every_bytes(1 << 20);
    let gate = small.open().await.unwrap();
    trimmed(&gate).await;
    gate.close().await.unwrap();
    drop(gate);
    let server = tokio::task::spawn_blocking(move || Server::start(&data)).await.unwrap();
    let gone = server.client().get(&format!("{STREAM}?after=0"));
    gone.assert_problem(410, "position-trimmed");
    let kept = gone.json()["oldest_position"].as_u64().unwrap();
    let mut stream = Stream::open(server.address, &format!("{STREAM}?after=oldest"));
    assert_eq!(stream.next().unwrap().id, (kept - 1).to_string());
}
