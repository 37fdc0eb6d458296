//! Everything that a client can get wrong, on the wire: the status and the type of the problem, and
//! that nothing has changed.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Answer, Client, Server};

const ORDER: &str = r#"{"user": "ann", "lines": [{"sku": "tee", "quantity": 1}]}"#;

/// A SKU with 65 bytes.
const LONG: &str = "/v1/skus/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Method, path, headers, body; status, type of the problem.
type Row<'a> = (&'a str, &'a str, Vec<(&'a str, &'a str)>, Option<&'a [u8]>, u16, &'a str);

/// A server whose state is compared before and after.
struct Case {
    _folder: TempDir,
    server: Server,
    before: Vec<Value>,
    order: String,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = "[limits]\nbody_bytes_max = 65536\nheader_bytes_max = 8192\n\
                      order_lines_max = 8\n[timeouts]\nbody_read_ms_max = 300\n\
                      head_read_ms_max = 1000\n";
        let server = Server::start_with(&folder.path().join("data"), config);
        let mut client = server.client();
        client.put("/v1/skus/tee", &json!({"price_minor": 10})).expect(200);
        let stock = json!({"delta": 10, "reason": "delivery"});
        client.post("/v1/skus/tee/stock", "in", &stock).expect(200);
        let order: Value = serde_json::from_str(ORDER).unwrap();
        let order = client.post("/v1/orders", "first", &order).expect(201);
        let order = format!("/v1/orders/{}", order["id"].as_str().unwrap());
        let mut case = Self { _folder: folder, server, before: Vec::new(), order };
        case.before = case.state();
        case
    }

    fn state(&self) -> Vec<Value> {
        let mut client = self.server.client();
        let mut read = |path: &str| client.get(path).expect(200);
        vec![read("/v1/skus/tee"), read("/v1/users/ann/orders"), read(&self.order)]
    }

    fn client(&self) -> Client {
        self.server.client()
    }

    /// Posts an order with this body.
    fn order(&self, body: impl AsRef<[u8]>) -> Answer {
        let key = [("idempotency-key", "new")];
        self.client().send("POST", "/v1/orders", &key, Some(body.as_ref()))
    }

    fn assert_unchanged(&self) {
        assert_eq!(self.state(), self.before);
    }

    /// Sends each request; each must be its problem, and nothing may have changed.
    fn refuses(&self, rows: Vec<Row<'_>>) {
        for (method, path, headers, body, status, slug) in rows {
            println!("{method} {path}");
            let answer = self.client().send(method, path, &headers, body);
            answer.assert_problem(status, slug);
            if status == 405 {
                assert!(answer.header("allow").is_some_and(|allow| !allow.contains(method)));
            }
        }
        self.assert_unchanged();
    }
}

#[test]
fn bodies_that_are_wrong_change_nothing() {
    let case = Case::new();
    let lines = |line: &str| format!(r#"{{"user": "ann", "lines": [{line}]}}"#);
    let deep = format!(r#"{{"user": {}1{}}}"#, "[".repeat(500), "]".repeat(500));
    let deep_unknown = format!(r#"{{"x": {}1{}}}"#, "[".repeat(500), "]".repeat(500));
    let many = [r#"{"sku": "tee", "quantity": 1}"#; 9].join(",");
    let huge = format!(r#"{{"user": "{}"}}"#, "x".repeat(70_000));
    let rows: Vec<(Vec<u8>, u16, &str)> = vec![
        (b"".to_vec(), 400, "malformed-json"),
        (b"{".to_vec(), 400, "malformed-json"),
        (b"{'user': 1}".to_vec(), 400, "malformed-json"),
        (format!("{ORDER} x").into(), 400, "malformed-json"),
        (b"{\"user\": \"\xff\"}".to_vec(), 400, "malformed-json"),
        (br#"{"user": "\ud800"}"#.to_vec(), 400, "malformed-json"),
        (deep.into(), 422, "invalid-body"),
        (deep_unknown.into(), 422, "invalid-body"),
        (b"[]".to_vec(), 422, "invalid-body"),
        (b"null".to_vec(), 422, "invalid-body"),
        (br#"["ann", [], 1]"#.to_vec(), 422, "invalid-body"),
        (br#"{"user": "ann"}"#.to_vec(), 422, "invalid-body"),
        (br#"{"user": 7, "lines": []}"#.to_vec(), 422, "invalid-body"),
        (br#"{"user": "ann", "lines": {}}"#.to_vec(), 422, "invalid-body"),
        (br#"{"user": "ann", "user": "bob", "lines": []}"#.to_vec(), 422, "invalid-body"),
        (br#"{"user": "ann", "lines": [], "coupon": "X"}"#.to_vec(), 422, "invalid-body"),
        (lines(r#"["tee", 1]"#).into(), 422, "invalid-body"),
        (lines(r#"{"sku": "tee", "quantity": 1, "x": 1}"#).into(), 422, "invalid-body"),
        (lines(r#"{"sku": "tee", "quantity": 1.5}"#).into(), 422, "invalid-body"),
        (lines(r#"{"sku": "tee", "quantity": -1}"#).into(), 422, "invalid-body"),
        (lines(r#"{"sku": "tee", "quantity": "1"}"#).into(), 422, "invalid-body"),
        (lines(r#"{"sku": "tee", "quantity": 1, "quantity": 1}"#).into(), 422, "invalid-body"),
        (lines(r#"{"sku": "tee", "quantity": 18446744073709551616}"#).into(), 422, "invalid-body"),
        (lines(r#"{"sku": "tee", "quantity": 1e400}"#).into(), 400, "malformed-json"),
        (lines(r#"{"sku": "tee", "quantity": NaN}"#).into(), 400, "malformed-json"),
        (lines(r#"{"sku": "tee", "quantity": 0}"#).into(), 422, "invalid-value"),
        (lines(r#"{"sku": "tee", "quantity": 1000001}"#).into(), 422, "invalid-value"),
        (lines(r#"{"sku": "t e", "quantity": 1}"#).into(), 422, "invalid-value"),
        (lines(r#"{"sku": "tee", "quantity": 1, "location": ""}"#).into(), 422, "invalid-value"),
        (
            lines(r#"{"sku": "tee", "quantity": 2, "price_minor": 9007199254740991}"#).into(),
            409,
            "amount-too-large",
        ),
        (
            lines(r#"{"sku": "tee", "quantity": 2, "price_minor": 18446744073709551615}"#).into(),
            422,
            "invalid-value",
        ),
        (lines("").into(), 422, "invalid-value"),
        (lines(&many).into(), 422, "invalid-value"),
        (lines(r#"{"sku": "hat", "quantity": 1}"#).into(), 404, "unknown-sku"),
        (lines(r#"{"sku": "tee", "quantity": 10}"#).into(), 409, "sold-out"),
        (huge.into(), 413, "body-too-large"),
    ];
    for (body, status, slug) in rows {
        let answer = case.order(&body);
        println!("{}", String::from_utf8_lossy(&body[..body.len().min(80)]));
        answer.assert_problem(status, slug);
    }
    case.assert_unchanged();
}

#[test]
fn requests_that_are_wrong_change_nothing() {
    let case = Case::new();
    let body = Some(ORDER.as_bytes());
    let keyed = [("idempotency-key", "new")];
    let (long, big) = ("k".repeat(256), "x".repeat(10_000));
    let cancel = format!("{}/cancel", case.order);
    let rows: Vec<Row<'_>> = vec![
        ("POST", "/v1/orders", vec![], body, 400, "idempotency-key-missing"),
        ("POST", "/v1/orders", vec![("idempotency-key", "")], body, 400, "idempotency-key-invalid"),
        (
            "POST",
            "/v1/orders",
            vec![("idempotency-key", "a b")],
            body,
            400,
            "idempotency-key-invalid",
        ),
        (
            "POST",
            "/v1/orders",
            vec![("idempotency-key", &long)],
            body,
            400,
            "idempotency-key-invalid",
        ),
        ("POST", "/v1/orders", vec![keyed[0], keyed[0]], body, 400, "idempotency-key-invalid"),
        ("POST", "/v1/holds", vec![], body, 400, "idempotency-key-missing"),
        ("POST", "/v1/skus/tee/stock", vec![], body, 400, "idempotency-key-missing"),
        ("POST", &cancel, vec![], None, 400, "idempotency-key-missing"),
        ("POST", &cancel, keyed.to_vec(), Some(b"{\"x\": 1}"), 422, "invalid-body"),
        (
            "POST",
            "/v1/orders",
            vec![keyed[0], ("content-type", "text/plain")],
            body,
            415,
            "unsupported-media-type",
        ),
        (
            "POST",
            "/v1/orders",
            vec![keyed[0], ("content-encoding", "gzip")],
            body,
            415,
            "unsupported-media-type",
        ),
        (
            "POST",
            "/v1/orders",
            vec![("idempotency-key", "\"new")],
            body,
            400,
            "idempotency-key-invalid",
        ),
        ("POST", "/v1/orders", vec![keyed[0], ("x-big", &big)], body, 431, "headers-too-large"),
        (
            "POST",
            "/v1/orders",
            vec![("idempotency-key", "first")],
            Some(br#"{"user": "ann", "lines": [{"sku": "tee", "quantity": 2}]}"#),
            409,
            "idempotency-conflict",
        ),
    ];
    case.refuses(rows);
}

#[test]
fn paths_and_methods_that_are_wrong_change_nothing() {
    let case = Case::new();
    let rows = [
        ("DELETE", "/v1/orders", 405, "method-not-allowed"),
        ("PATCH", "/v1/skus/tee", 405, "method-not-allowed"),
        ("GET", "/v2/orders", 404, "route-not-found"),
        ("GET", "/v1/orders/", 404, "route-not-found"),
        ("GET", "/v1/orders/banana", 404, "unknown-order"),
        ("GET", "/v1/orders/o-000000000009z", 404, "unknown-order"),
        ("GET", "/v1/orders/o-fzzzzzzzzzzzz", 404, "unknown-order"),
        ("GET", "/v1/holds/h-fzzzzzzzzzzzz", 404, "unknown-hold"),
        ("GET", "/v1/skus/hat", 404, "unknown-sku"),
        ("GET", "/v1/skus/a%20b", 422, "invalid-value"),
        ("GET", "/v1/skus/a%ffb", 422, "invalid-value"),
        ("GET", "/v1/skus/%00", 422, "invalid-value"),
        ("GET", "/v1/skus/a%2Fb", 404, "unknown-sku"),
        ("GET", LONG, 422, "invalid-value"),
        ("GET", "/v1/users/ann/orders?cursor=%ff", 400, "invalid-cursor"),
        ("GET", "/v1/users/ann/orders?limit=1&limit=2", 400, "invalid-parameter"),
        ("GET", "/v1/users/ann/orders?cursor=1", 400, "invalid-cursor"),
        ("GET", "/v1/users/ann/orders?limit=0", 422, "invalid-value"),
        ("GET", "/v1/users/ann/orders?limit=101", 422, "invalid-value"),
        ("GET", "/v1/users/ann/orders?limit=x", 400, "invalid-parameter"),
        ("GET", "/v1/users/ann/orders?page=2", 400, "invalid-parameter"),
    ];
    let rows = rows.map(|(method, path, status, slug)| (method, path, vec![], None, status, slug));
    case.refuses(rows.to_vec());
}

#[test]
fn values_of_every_operation_are_checked() {
    let case = Case::new();
    let payments = format!("{}/payments", case.order);
    let fulfilments = format!("{}/fulfilments", case.order);
    let returns = format!("{}/returns", case.order);
    let unit = json!([{"sku": "tee", "quantity": 1}]);
    let payment = json!({"provider": "p", "event_id": "e", "kind": "stolen", "amount_minor": 1});
    let hold =
        |seconds: u64| json!({"user": "a", "sku": "tee", "quantity": 1, "ttl_seconds": seconds});
    let good = json!({"idempotency_key": "g", "user": "ann", "lines": unit});
    let bad = json!({"idempotency_key": "b", "user": "a b", "lines": unit});
    for (path, body, status, slug) in [
        (payments.as_str(), payment, 422, "invalid-body"),
        (fulfilments.as_str(), json!({"lines": unit}), 409, "wrong-state"),
        (returns.as_str(), json!({"lines": unit}), 409, "wrong-state"),
        (returns.as_str(), json!({}), 422, "invalid-body"),
        ("/v1/skus/tee/stock", json!({"delta": 0, "reason": ""}), 422, "invalid-value"),
        ("/v1/skus/tee/stock", json!({"delta": 1, "reason": "a\u{0}b"}), 422, "invalid-value"),
        ("/v1/skus/tee/stock", json!({"delta": -10, "reason": ""}), 409, "below-committed"),
        ("/v1/skus/hat/stock", json!({"delta": 1, "reason": ""}), 404, "unknown-sku"),
        ("/v1/holds", hold(0), 422, "invalid-value"),
        ("/v1/holds", hold(2_592_001), 422, "invalid-value"),
        ("/v1/orders:batch", json!({"orders": []}), 422, "invalid-value"),
        ("/v1/orders:batch", json!({"orders": [good, bad]}), 422, "invalid-value"),
    ] {
        println!("{path} {body}");
        case.client().post(path, "new", &body).assert_problem(status, slug);
    }
    for body in [
        json!({"currency": "eur"}),
        json!({"price_minor": 9_007_199_254_740_992_u64}),
        json!({"price_minor": -1}),
        json!({"color": "red"}),
    ] {
        assert_eq!(case.client().put("/v1/skus/tee", &body).status, 422, "{body}");
    }
    case.assert_unchanged();
}

#[test]
fn whoever_is_slow_is_not_waited_for() {
    let case = Case::new();
    let head = "POST /v1/orders HTTP/1.1\r\nhost: localhost\r\nidempotency-key: new\r\n\
                content-type: application/json\r\ncontent-length: 100\r\n\r\n{\"user\":";
    let answer = case.client().exchange(head.as_bytes(), false).unwrap();
    answer.assert_problem(408, "body-timeout");
    let answer = case.client().exchange(b"POST /v1/orders HTTP/1.1\r\nhost:", false).unwrap();
    assert_eq!(answer.status, 408);
    // One that goes away in the middle is not an order either.
    let mut stream = TcpStream::connect(case.server.address).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    drop(stream);
    std::thread::sleep(Duration::from_millis(50));
    for garbage in ["\0\0\0\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET /v1/orders\r\n\r\n"] {
        let answer = case.client().exchange(garbage.as_bytes(), false);
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 400), "{garbage:?}");
    }
    let chunked = "POST /v1/orders HTTP/1.1\r\nhost: localhost\r\nidempotency-key: new\r\n\
                   content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    let bytes = [chunked, &chunk, &chunk, &chunk, "0\r\n\r\n"].concat();
    let answer = case.client().exchange(bytes.as_bytes(), false).unwrap();
    answer.assert_problem(413, "body-too-large");
    case.assert_unchanged();
}

#[test]
fn a_request_ends_where_it_says() {
    let case = Case::new();
    // A body that was refused unread is no request, and the one behind it is.
    let body = "DELETE /v1/orders HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let head = |path: &str, more: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{more}content-length: ")
    };
    for (path, status) in [("/nowhere", "404"), ("/v1/orders", "400")] {
        let first = format!("{}{}\r\n\r\n{body}", head(path, ""), body.len());
        let next = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let mut stream = TcpStream::connect(case.server.address).unwrap();
        stream.write_all([&first, next].concat().as_bytes()).unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        let statuses: Vec<_> =
            answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
        assert_eq!(statuses, [status, "200"], "{answers}");
    }
    // Whoever asks first whether a body is welcome, is told that it is too large.
    let ask = format!(
        "{}999999\r\n\r\n",
        head(
            "/v1/orders",
            "idempotency-key: new\r\n\
        content-type: application/json\r\nexpect: 100-continue\r\n"
        )
    );
    let mut client = case.client();
    let mut answer = client.exchange(ask.as_bytes(), false).unwrap();
    if answer.status == 100 {
        answer = client.exchange(b"", false).unwrap();
    }
    answer.assert_problem(413, "body-too-large");
    let old = format!("GET {} HTTP/1.0\r\n\r\n", case.order);
    let answer = case.client().exchange(old.as_bytes(), false).unwrap();
    assert_eq!(answer.expect(200), case.before[2]);
    // Two lengths, or a length and chunks: nobody can say where these end.
    for more in ["content-length: 5\r\n", "transfer-encoding: chunked\r\n"] {
        let bytes = format!("{}0\r\n\r\n0\r\n\r\n", head("/v1/orders", more));
        assert_eq!(case.client().exchange(bytes.as_bytes(), false).unwrap().status, 400, "{more}");
    }
    case.assert_unchanged();
}

#[test]
fn a_cursor_gives_nothing_of_anybody_else() {
    let case = Case::new();
    let order: Value = serde_json::from_str(ORDER).unwrap();
    case.client().post("/v1/orders", "second", &order).expect(201);
    let page = case.client().get("/v1/users/ann/orders?limit=1").expect(200);
    let cursor = page["next_cursor"].as_str().unwrap();
    let bobs = case.client().get(&format!("/v1/users/bob/orders?cursor={cursor}")).expect(200);
    assert_eq!(bobs, json!({"orders": [], "next_cursor": null}));
    let cut = &cursor[..cursor.len() - 1];
    let cut = case.client().get(&format!("/v1/users/ann/orders?cursor={cut}"));
    cut.assert_problem(400, "invalid-cursor");
}
