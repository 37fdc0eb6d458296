//! The figures of a server as Prometheus would fetch them: who may, that every line can be read,
//! that they move, and that no client can make more of them. The store's own are tested in `admin`.

use std::collections::BTreeMap;

use serde_json::json;

use crate::client::{Client, Server};

/// Samples by name and labels as written.
type Samples = BTreeMap<String, f64>;

/// Reads every line, and fails on one that is no figure.
fn figures(client: &mut Client) -> Samples {
    let answer = client.get("/metrics");
    let text = String::from_utf8(answer.body.clone()).unwrap();
    assert_eq!(answer.status, 200, "{text}");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(text.ends_with('\n'));
    let (mut samples, mut kinds) = (Samples::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(kinds.insert(name, kind).is_none(), "{name} twice");
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let known = ["", "_bucket", "_sum", "_count"].iter().any(|suffix| {
                name.strip_suffix(suffix).is_some_and(|family| kinds.contains_key(family))
            });
            assert!(known && name.starts_with("tidegate_"), "{line}");
            let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            assert!(samples.insert(series.to_owned(), value).is_none(), "{series} twice");
        }
    }
    samples
}

fn sum(samples: &Samples, name: &str) -> f64 {
    let of = |series: &&String| series.split('{').next() == Some(name);
    samples.keys().filter(of).map(|series| samples[series]).sum()
}

#[test]
fn figures_move_with_what_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let mut client = server.client();
    let before = figures(&mut client);
    client.put("/v1/skus/tee", &json!({"price_minor": 10})).expect(200);
    let delta = json!({"delta": 1, "reason": "delivery"});
    client.post("/v1/skus/tee/stock", "in", &delta).expect(200);
    let tee = json!({"user": "ann", "lines": [{"sku": "tee", "quantity": 1}]});
    client.post("/v1/orders", "k-1", &tee).expect(201);
    client.post("/v1/orders", "k-2", &tee).assert_problem(409, "sold-out");
    let after = figures(&mut client);
    let grown = |series: &str| {
        after.get(series).copied().unwrap_or(0.0) - before.get(series).copied().unwrap_or(0.0)
    };
    for (series, by) in [
        (r#"tidegate_http_requests_total{path="/v1/orders",method="POST",status="201"}"#, 1.0),
        (r#"tidegate_http_requests_total{path="/v1/orders",method="POST",status="409"}"#, 1.0),
        (r#"tidegate_http_requests_total{path="/v1/skus/{sku}",method="PUT",status="200"}"#, 1.0),
        (r#"tidegate_http_request_seconds_count{path="/v1/orders"}"#, 2.0),
        (r#"tidegate_http_request_seconds_bucket{path="/v1/orders",le="+Inf"}"#, 2.0),
        (r#"tidegate_http_problems_total{type="sold-out"}"#, 1.0),
        (r#"tidegate_http_problems_total{type="rate-limited"}"#, 0.0),
        (r#"tidegate_answer_seconds_count{machine="stock"}"#, 2.0),
    ] {
        assert_eq!(grown(series), by, "{series}");
    }
    // What is refused on its caller's thread has waited for no shard, but the caller may have been
    // quicker than the board.
    let waited = grown(r#"tidegate_answer_seconds_count{machine="orders"}"#);
    assert!((1.0..=2.0).contains(&waited), "{waited}");
    // Everything an operator asks for first.
    for name in [
        "tidegate_commands_total",
        "tidegate_in_flight_commands",
        "tidegate_batch_records_count",
        "tidegate_journal_sync_seconds_sum",
        "tidegate_journal_sync_seconds_count",
        "tidegate_journal_disk_bytes",
        "tidegate_projector_backlog_orders",
        "tidegate_restarts_total",
        "tidegate_shards",
        "tidegate_http_event_streams",
        "tidegate_uptime_seconds",
    ] {
        assert!(after.keys().any(|series| series.split('{').next() == Some(name)), "{name}");
    }
    assert!(sum(&after, "tidegate_journal_records_total") >= 5.0);
    assert_eq!(after["tidegate_ready"], 1.0);
    assert_eq!(after["tidegate_http_requests_in_flight"], 1.0);
    assert_eq!(after[r#"tidegate_shards{machine="orders",phase="dead"}"#], 0.0);
    assert_eq!(
        after[concat!("tidegate_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}")],
        1.0
    );
}

#[test]
fn no_client_makes_more_figures() {
    let folder = tempfile::tempdir().unwrap();
    let rates = "[rates]\nper_address_per_second = 1\nper_address_burst = 2\n";
    let server = Server::start_with(&folder.path().join("data"), rates);
    let mut client = server.client();
    for number in 0..30 {
        assert!([404, 429].contains(&client.get(&format!("/nowhere/{number}")).status));
        let odd = client.send(&format!("ODD{number}"), "/readyz", &[], None);
        odd.assert_problem(405, "method-not-allowed");
        assert!([404, 429].contains(&client.get(&format!("/v1/skus/{number}")).status));
    }
    let figures = figures(&mut client);
    let requests = |part: &str| -> Vec<f64> {
        let of = |series: &&String| {
            series.starts_with("tidegate_http_requests_total") && series.contains(part)
        };
        figures.keys().filter(of).map(|series| figures[series]).collect()
    };
    assert_eq!(requests(r#"path="/readyz""#), [30.0]);
    let limited = figures[r#"tidegate_http_problems_total{type="rate-limited"}"#];
    assert!(limited >= 1.0);
    assert_eq!(requests(r#"path="refused""#), [limited]);
    // One line each, however many paths and SKUs were asked for.
    let (unmatched, sku) = (requests(r#"path="unmatched""#), requests(r#"path="/v1/skus/{sku}""#));
    assert!(unmatched.len() <= 1 && sku.len() <= 1, "{figures:?}");
    assert_eq!(unmatched.iter().chain(&sku).sum::<f64>() + limited, 60.0);
}

#[test]
fn figures_need_a_key_where_there_are_keys() {
    let folder = tempfile::tempdir().unwrap();
    let hash = crate::http::sha256("word");
    let config = format!("[[access.keys]]\nname = 'a'\nrole = 'read'\nsha256 = '{hash}'\n");
    let server = Server::start_with(&folder.path().join("data"), &config);
    server.client().get("/metrics").assert_problem(401, "unauthorized");
    server.client().with_key("other").get("/metrics").assert_problem(401, "unauthorized");
    assert!(!figures(&mut server.client().with_key("word")).is_empty());
    let head = server.client().with_key("word").send("HEAD", "/metrics", &[], None);
    assert_eq!(head.status, 200);
}
