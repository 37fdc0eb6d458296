//! The stream of events on the wire: where it begins and goes on, what moves it, how it ends, and
//! that slow readers slow nobody. What events say is tested with the library, in `events`.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};
use tidegate::{Adjustment, SkuPatch};

use crate::{
    client::{Client, Server},
    shop,
};

/// Heartbeats as often as they can be.
const OFTEN: &str = "[events]\nheartbeat_seconds = 1\n";

/// An open stream of events.
pub(crate) struct Stream<S = TcpStream> {
    socket: BufReader<S>,
    pub(crate) head: String,
    /// What came in chunks and is no whole frame yet.
    text: String,
}

/// One frame of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Frame {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) data: Value,
    pub(crate) comment: String,
}

impl Stream {
    pub(crate) fn open(address: SocketAddr, target: &str) -> Self {
        Self::open_with(address, target, "")
    }

    pub(crate) fn open_with(address: SocketAddr, target: &str, headers: &str) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let stream = Self::over(socket, target, headers);
        assert!(stream.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", stream.head);
        stream
    }
}

impl<S: Read + Write> Stream<S> {
    /// Asks, and reads the head of the answer.
    pub(crate) fn over(mut socket: S, target: &str, headers: &str) -> Self {
        let request = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        let (mut socket, mut head) = (BufReader::new(socket), String::new());
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(socket.read_line(&mut head).unwrap(), 0, "{head}");
        }
        Self { socket, head, text: String::new() }
    }

    /// The next frame; `None` once the stream has ended as it should.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let frame = Frame::read(frame);
                self.text = rest.to_owned();
                return Some(frame);
            }
            let mut size = String::new();
            self.socket.read_line(&mut size).unwrap();
            let size = usize::from_str_radix(size.trim(), 16).expect("a chunk or the last one");
            let mut chunk = vec![0; size + 2];
            self.socket.read_exact(&mut chunk).unwrap();
            if size == 0 {
                assert_eq!(self.text, "", "it ends with a whole frame");
                return None;
            }
            self.text += std::str::from_utf8(&chunk[..size]).unwrap();
        }
    }

    /// The next event.
    pub(crate) fn event(&mut self) -> Frame {
        loop {
            let frame = self.next().expect("an event");
            if !frame.event.is_empty() {
                return frame;
            }
        }
    }

    /// Events up to and including the first of this kind.
    fn until(&mut self, kind: &str) -> Vec<Frame> {
        let mut events = Vec::new();
        while events.last().is_none_or(|last: &Frame| last.event != kind) {
            events.push(self.event());
        }
        events
    }

    /// The place that a heartbeat tells once it is `position` or later.
    fn heartbeat_from(&mut self, position: u64) -> String {
        for _ in 0..60 {
            let frame = self.next().expect("a heartbeat");
            if frame.position() >= position && !frame.comment.is_empty() {
                return frame.id;
            }
        }
        panic!("60 heartbeats, and none at {position} or later");
    }
}

impl Frame {
    /// The record that its id names.
    fn position(&self) -> u64 {
        self.id.split('.').next().unwrap().parse().unwrap()
    }

    fn read(text: &str) -> Self {
        let (mut frame, mut data) = (Self::default(), String::new());
        for line in text.lines() {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?}"));
            match name {
                "id" => value.clone_into(&mut frame.id),
                "event" => value.clone_into(&mut frame.event),
                "data" => data = data + value + "\n",
                "" => value.clone_into(&mut frame.comment),
                other => panic!("{other} is no field"),
            }
        }
        assert!(!frame.id.is_empty(), "every frame says where to go on: {text}");
        if !data.is_empty() {
            frame.data = serde_json::from_str(&data).unwrap();
        }
        if !frame.event.is_empty() && frame.event != "error" {
            assert_eq!(frame.data["id"], frame.id);
            let kind = frame.data["kind"].as_str().unwrap_or("message");
            assert_eq!(kind, frame.event);
        }
        frame
    }
}

fn stock(client: &mut Client, units: i64) {
    client.put("/v1/skus/tee", &json!({"price_minor": 1_500})).expect(200);
    let delta = json!({"delta": units, "reason": "delivery"});
    client.post("/v1/skus/tee/stock", "in", &delta).expect(200);
}

fn order(client: &mut Client, key: &str) -> String {
    let tee = json!({"user": "ann", "lines": [{"sku": "tee", "quantity": 1}]});
    let order = client.post("/v1/orders", key, &tee).expect(201);
    order["id"].as_str().unwrap().to_owned()
}

fn pay(client: &mut Client, id: &str) {
    let mut payment = json!({"provider": "bank", "event_id": id, "kind": "captured"});
    payment["amount_minor"] = 1_500.into();
    client.post(&format!("/v1/orders/{id}/payments"), "", &payment).expect(200);
}

/// A server with `units` of `tee`.
fn shop(config: &str, units: i64) -> (tempfile::TempDir, Server, Client) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(&folder.path().join("data"), config);
    let mut client = server.client();
    stock(&mut client, units);
    (folder, server, client)
}

#[test]
fn any_id_leads_to_every_later_event_once() {
    let (_folder, server, mut client) = shop("", 10);
    for number in 0..3 {
        let id = order(&mut client, &format!("k-{number}"));
        pay(&mut client, &id);
    }
    client.put("/v1/skus/end", &json!({})).expect(200);
    let mut stream = Stream::open(server.address, "/v1/events?after=oldest");
    for header in
        ["content-type: text/event-stream", "cache-control: no-store", "x-accel-buffering: no"]
    {
        assert!(stream.head.contains(&format!("\r\n{header}\r\n")), "{}", stream.head);
    }
    let begin = stream.next().unwrap();
    assert_eq!((begin.id.as_str(), begin.event.as_str()), ("0", ""), "where it begins");
    let mut all = stream.until("stock.defined");
    all.extend(stream.until("stock.defined"));
    let kinds: Vec<_> = all.iter().map(|frame| frame.event.as_str()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "order.confirmed").count(), 3, "{kinds:?}");
    assert!(all.iter().any(|frame| frame.id.contains('.')), "no record has several events");
    for (place, frame) in all.iter().enumerate() {
        let (target, header) = if place % 2 == 0 {
            (format!("/v1/events?after={}", frame.id), String::new())
        } else {
            // A browser repeats the URL that it began with.
            ("/v1/events?after=oldest".to_owned(), format!("last-event-id: {}\r\n", frame.id))
        };
        let mut again = Stream::open_with(server.address, &target, &header);
        // Or further, if only what is not told comes next.
        assert!(again.next().unwrap().position() >= frame.position());
        for later in &all[place + 1..] {
            assert_eq!(again.event(), *later, "after {}", frame.id);
        }
    }
    let head = client.send("HEAD", "/v1/events", &[], None);
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    // The connection is good for more.
    client.get("/readyz").expect(200);
}

#[test]
fn without_a_place_only_what_is_new_comes() {
    let (_folder, server, mut client) = shop("", 10);
    let mut stream = Stream::open(server.address, "/v1/events");
    let begin = stream.next().unwrap();
    let id = order(&mut client, "k-1");
    let first = stream.event();
    assert_eq!((first.event.as_str(), &first.data["data"]["order"]), ("order.placed", &json!(id)));
    // Whoever left before anything came knows where to go on all the same.
    let mut again = Stream::open(server.address, &format!("/v1/events?after={}", begin.id));
    assert_eq!(again.event(), first);
}

#[test]
fn a_filter_lets_kinds_through_and_heartbeats_say_how_far_it_is() {
    let (_folder, server, mut client) = shop(OFTEN, 10);
    let target = "/v1/events?after=oldest&kinds=order.confirmed,hold.placed";
    let mut stream = Stream::open(server.address, target);
    let id = order(&mut client, "k-1");
    pay(&mut client, &id);
    let confirmed = stream.event();
    assert_eq!(confirmed.event, "order.confirmed");
    order(&mut client, "k-2");
    let accepted = "/v1/events?after=oldest&kinds=order.accepted";
    let mut accepted = Stream::open(server.address, accepted);
    let newest = [accepted.event(), accepted.event()].map(|frame| frame.position())[1];
    assert!(newest > confirmed.position());
    // Nothing of the second order passes, but the place moves on.
    let place = stream.heartbeat_from(newest);
    let hold = json!({"user": "ann", "sku": "tee", "quantity": 1, "ttl_seconds": 60});
    client.post("/v1/holds", "h-1", &hold).expect(201);
    let placed = stream.event();
    assert_eq!(placed.event, "hold.placed");
    let mut later = Stream::open(server.address, &format!("/v1/events?after={place}"));
    assert_eq!(later.event(), placed);
}

#[test]
fn a_stream_that_cant_begin_is_a_problem() {
    let (_folder, _server, mut client) = shop("", 10);
    for (target, status, slug, field) in [
        ("after=x", 400, "invalid-cursor", "after"),
        ("after=", 400, "invalid-cursor", "after"),
        ("after=-1", 400, "invalid-cursor", "after"),
        ("after=1.2.3", 400, "invalid-cursor", "after"),
        ("after=18446744073709551616", 400, "invalid-cursor", "after"),
        ("kinds=order.place", 400, "unknown-event-kind", "kinds"),
        ("kinds=", 400, "unknown-event-kind", "kinds"),
        ("kinds=order.placed,", 400, "unknown-event-kind", "kinds"),
        ("after=18446744073709551615", 409, "position-ahead", ""),
        ("after=1000000.3", 409, "position-ahead", ""),
        ("from=1", 400, "invalid-parameter", ""),
        ("after=1&after=2", 400, "invalid-parameter", ""),
    ] {
        let answer = client.get(&format!("/v1/events?{target}"));
        answer.assert_problem(status, slug);
        assert_eq!(answer.json()["field"].as_str().unwrap_or(""), field, "{target}");
    }
    let near = client.get("/v1/events?kinds=order.place").json();
    assert!(near["detail"].as_str().unwrap().contains("order.placed"), "{near}");
    for id in ["x", "oldest", "\u{e9}", ""] {
        let answer = client.send("GET", "/v1/events", &[("last-event-id", id)], None);
        answer.assert_problem(400, "invalid-cursor");
        assert_eq!(answer.json()["field"], "Last-Event-ID");
    }
    let both = client.send("GET", "/v1/events?after=x", &[("last-event-id", "1")], None);
    both.assert_problem(400, "invalid-cursor");
    client.post("/v1/events", "", &json!({})).assert_problem(405, "method-not-allowed");
    // None of these holds a place.
    let figures = String::from_utf8(client.get("/metrics").body).unwrap();
    assert!(figures.contains("\ntidegate_http_event_streams 0\n"), "{figures}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_longer_kept_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let small = shop::small(&data).events_retained_bytes(0).snapshot_every_bytes(1 << 20);
    let gate = small.open().await.unwrap();
    gate.stock().define("tea", SkuPatch::default()).await.unwrap();
    let reason = "r".repeat(200);
    for round in 0.. {
        let each = (0..128).map(|lane| {
            let (gate, reason) = (gate.clone(), reason.clone());
            async move {
                let key = format!("{round}-{lane}");
                gate.stock().adjust(Adjustment::new("tea", 1, reason), &key).await.map(drop)
            }
        });
        futures_util::future::try_join_all(each).await.unwrap();
        if gate.report().oldest.0 > 1 {
            break;
        }
    }
    gate.close().await.unwrap();
    let oldest = gate.report().oldest.0;
    drop(gate);
    let server = tokio::task::spawn_blocking(move || Server::start(&data)).await.unwrap();
    let gone = server.client().get("/v1/events?after=0");
    gone.assert_problem(410, "position-trimmed");
    let kept = gone.json()["oldest_position"].as_u64().unwrap();
    assert!(kept >= oldest, "{kept} before {oldest}");
    server
        .client()
        .get(&format!("/v1/events?after={}", kept - 2))
        .assert_problem(410, "position-trimmed");
    let mut stream = Stream::open(server.address, "/v1/events?after=oldest");
    assert_eq!(stream.next().unwrap().id, (kept - 1).to_string());
    server.client().get("/problems/position-trimmed");
}

/// Connections that book stock in at a time, and how often each: more than the buffers of a
/// connection hold, the system's included.
const WRITERS: usize = 8;
const WRITES: usize = 600;

fn write(server: &Server, round: usize) {
    let delta = json!({"delta": 1, "reason": "\u{1f375}".repeat(200)});
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (mut client, delta) = (server.client(), &delta);
            scope.spawn(move || {
                for number in 0..WRITES {
                    let key = format!("{round}-{writer}-{number}");
                    client.post("/v1/skus/tee/stock", &key, delta).expect(200);
                }
            });
        }
    });
}

#[test]
fn slow_readers_slow_nobody_and_miss_nothing() {
    const READERS: usize = 6;
    const ROUND: usize = WRITERS * WRITES;
    let (_folder, server, mut client) = shop("", 10);
    let open = |_| Stream::open(server.address, "/v1/events");
    let mut slow: Vec<_> = (0..READERS).map(open).collect();
    write(&server, 0);
    // Now all of them have what the buffers hold, and read nothing.
    let full_kib = server.memory_kib();
    write(&server, 1);
    let grown_kib = server.memory_kib().saturating_sub(full_kib);
    client.put("/v1/skus/end", &json!({})).expect(200);
    let told = slow[0].until("stock.defined");
    assert_eq!(told.len(), 2 * ROUND + 1);
    assert!(told.windows(2).all(|pair| pair[0].position() < pair[1].position()));
    let later = told.iter().skip(ROUND).map(|frame| frame.data.to_string().len());
    let later_kib = (READERS * later.sum::<usize>() / 1_024) as u64;
    println!("{full_kib} KiB, then {grown_kib} KiB more with {later_kib} KiB not taken");
    assert!(grown_kib < later_kib / 2, "what readers don't take is kept for them");
    // Stalled readers don't hold the end up either.
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn an_ending_server_ends_its_streams_and_nothing_is_missed() {
    let (folder, server, mut client) = shop("", 100);
    let mut stream = Stream::open(server.address, "/v1/events?after=oldest");
    let (mut filtered, idle) = (
        Stream::open(server.address, "/v1/events?kinds=hold.placed"),
        Stream::open(server.address, "/v1/events"),
    );
    for number in 0..20 {
        order(&mut client, &format!("k-{number}"));
    }
    let mut seen: Vec<Frame> = (0..10).map(|_| stream.event()).collect();
    server.terminate();
    let mut ended = None;
    while let Some(frame) = stream.next() {
        assert!(ended.is_none(), "after its end: {frame:?}");
        if frame.event == "error" {
            ended = Some(frame);
        } else {
            seen.push(frame);
        }
    }
    let ended = ended.expect("a last frame says why");
    assert_eq!(ended.data["type"], "/problems/shutting-down");
    assert_eq!(filtered.event().event, "error");
    assert_eq!(filtered.next(), None);
    assert_eq!(server.wait().code(), Some(0));
    drop(idle);
    let server = Server::start(&folder.path().join("data"));
    let mut rest = Stream::open(server.address, &format!("/v1/events?after={}", ended.id));
    server.client().put("/v1/skus/end", &json!({})).expect(200);
    if seen.iter().filter(|frame| frame.event == "stock.defined").count() < 2 {
        seen.extend(rest.until("stock.defined"));
    }
    let mut whole = Stream::open(server.address, "/v1/events?after=oldest");
    let mut all = whole.until("stock.defined");
    all.extend(whole.until("stock.defined"));
    assert_eq!(seen, all, "each once, over the restart");
}

#[test]
fn what_was_told_is_there_after_a_kill() {
    let (folder, server, mut client) = shop("", 1_000);
    let mut stream = Stream::open(server.address, "/v1/events?after=oldest");
    let writer = std::thread::spawn(move || {
        let tee = json!({"user": "ann", "lines": [{"sku": "tee", "quantity": 1}]});
        (0..).take_while(|n| client.try_post("/v1/orders", &format!("k-{n}"), &tee).is_ok()).count()
    });
    let seen: Vec<Frame> = (0..200).map(|_| stream.event()).collect();
    server.kill();
    assert!(writer.join().unwrap() > 0);
    let server = Server::start(&folder.path().join("data"));
    let mut again = Stream::open(server.address, "/v1/events?after=oldest");
    for known in seen {
        assert_eq!(again.event(), known);
    }
}

#[test]
fn streams_have_a_limit_and_a_place_is_given_back() {
    let config = format!("{OFTEN}streams_max = 2\n");
    let (_folder, server, mut client) = shop(&config, 10);
    let _one = Stream::open(server.address, "/v1/events");
    let two = Stream::open(server.address, "/v1/events");
    let full = client.get("/v1/events");
    full.assert_problem(429, "too-many-streams");
    assert_eq!(full.header("retry-after"), Some("5"));
    let figures = String::from_utf8(client.get("/metrics").body).unwrap();
    assert!(figures.contains("\ntidegate_http_event_streams 2\n"), "{figures}");
    drop(two);
    // A heartbeat finds out that the reader has left.
    for _ in 0..600 {
        let head = client.send("HEAD", "/v1/events", &[], None);
        if head.status == 200 {
            return;
        }
        assert_eq!(head.status, 429);
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the place of a reader who left is not given back");
}

#[test]
fn a_stream_needs_a_key() {
    let hash = crate::http::sha256("word");
    let config = format!("[[access.keys]]\nname = 'a'\nrole = 'read'\nsha256 = '{hash}'\n");
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(&folder.path().join("data"), &config);
    server.client().get("/v1/events").assert_problem(401, "unauthorized");
    server.client().with_key("other").get("/v1/events").assert_problem(401, "unauthorized");
    let key = "authorization: Bearer word\r\n";
    let mut stream = Stream::open_with(server.address, "/v1/events", key);
    assert_eq!(stream.next().unwrap().id, "0");
}
