//! How a server ends when it is asked to: what is in flight is answered, connections with nothing
//! on them are not waited for, and a second signal ends it at once. Ends under load are in
//! `http_kills`.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
};

use serde_json::json;

use crate::{
    client::{Answer, Server},
    program,
};

/// Longer than a test waits, so that nothing here ends by waiting.
const PATIENT: &str = "[timeouts]\ndrain_seconds_max = 600\nbody_read_ms_max = 600000\n";

/// A request of which the server has read the head, and waits for the body.
struct Unfinished {
    stream: BufReader<TcpStream>,
    body: String,
}

impl Unfinished {
    fn begin(server: &Server, key: &str) -> Self {
        let body = json!({"user": "ann", "lines": [{"sku": "tee", "quantity": 1}]}).to_string();
        let mut stream = TcpStream::connect(server.address).unwrap();
        let head = format!(
            "POST /v1/orders HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             idempotency-key: {key}\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
            server.address,
            body.len(),
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 100"), "{line:?}");
        stream.read_line(&mut line).unwrap();
        Self { stream, body }
    }

    fn finish(mut self) -> Answer {
        self.stream.get_mut().write_all(self.body.as_bytes()).unwrap();
        Answer::read(&mut self.stream, false).unwrap()
    }
}

fn start(data: &std::path::Path) -> Server {
    let server = Server::start_with(data, PATIENT);
    let mut client = server.client();
    client.put("/v1/skus/tee", &json!({"price_minor": 10})).expect(200);
    let stock = json!({"delta": 10, "reason": "delivery"});
    client.post("/v1/skus/tee/stock", "in", &stock).expect(200);
    server
}

/// Asks the server to end, and waits until it has noticed.
fn begin_to_end(server: &Server) {
    server.terminate();
    // Nobody is let in, or whoever is in is told.
    while let Ok(answer) = server.client().try_get("/readyz") {
        if answer.status == 503 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn what_is_in_flight_is_answered_and_idle_connections_hold_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = start(&data);
    let mut idle = server.client();
    idle.get("/readyz").expect(200);
    let order = Unfinished::begin(&server, "one");
    begin_to_end(&server);
    let answer = order.finish();
    let placed = answer.expect(201);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(server.wait().code(), Some(0));
    drop(idle);

    let server = Server::start(&data);
    let id = placed["id"].as_str().unwrap();
    assert_eq!(server.client().get(&format!("/v1/orders/{id}")).expect(200)["id"], id);
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    program::audit(&data);
}

#[test]
fn a_second_signal_ends_a_server_at_once_and_loses_nothing_acknowledged() {
    for second in ["TERM", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let server = start(&data);
        let order = json!({"user": "ann", "lines": [{"sku": "tee", "quantity": 1}]});
        let placed = server.client().post("/v1/orders", "first", &order).expect(201);
        let waiting = Unfinished::begin(&server, "second");
        begin_to_end(&server);
        server.signal(second);
        assert_eq!(server.wait().code(), Some(1), "it did not end well, and says so");
        drop(waiting);

        let server = Server::start(&data);
        assert_eq!(server.client().post("/v1/orders", "first", &order).expect(201), placed);
        assert_eq!(server.client().get("/v1/skus/tee").expect(200)["held"], 1);
        server.terminate();
        assert_eq!(server.wait().code(), Some(0));
        program::audit(&data);
    }
}
