//! What `/readyz` says as a server opens its store and loses its disk, what requests are answered
//! meanwhile, and how it ends. A dead shard has no test here: no request makes one.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use crate::{
    client::{Client, Server, eventually, serve},
    disks::Disk,
    program::tidegate,
};

const ORDER: &str = r#"{"user": "ann", "lines": [{"sku": "tee", "quantity": 1}]}"#;

fn stock(server: &Server) {
    let mut client = server.client();
    client.put("/v1/skus/tee", &json!({})).expect(200);
    client.post("/v1/skus/tee/stock", "in", &json!({"delta": 1_000, "reason": ""})).expect(200);
}

fn is(client: &mut Client, state: &str) -> bool {
    let answer = client.get("/readyz");
    let status = answer.json()["status"].clone();
    assert_eq!(answer.status, if status == "ready" { 200 } else { 503 });
    status == state
}

#[test]
fn a_store_that_is_being_opened_is_recovering() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data);
    stock(&server);
    server.terminate();
    assert!(server.wait().success());
    // As long as nobody writes to a pipe, whoever opens the store waits for the rest of it.
    let manifest = data.join("tidegate.store");
    let bytes = fs::read(&manifest).unwrap();
    fs::remove_file(&manifest).unwrap();
    assert!(Command::new("mkfifo").arg(&manifest).status().unwrap().success());

    let server = Server::early(serve(tidegate(), &data, ""));
    let mut client = server.client();
    assert!(is(&mut client, "recovering"));
    assert_eq!(client.get("/healthz").expect(200)["status"], "alive");
    let answer = client.get("/v1/skus/tee");
    answer.assert_problem(503, "recovering");
    assert!(answer.header("retry-after").is_some());
    fs::write(&manifest, bytes).unwrap();
    eventually(|| is(&mut client, "ready"));
    assert_eq!(client.get("/v1/skus/tee").expect(200)["on_hand"], 1_000);
}

#[test]
fn a_server_that_ends_takes_nothing_more_and_answers_what_is_in_flight() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    stock(&server);
    let mut client = server.client();
    assert!(is(&mut client, "ready"));
    let mut slow = TcpStream::connect(server.address).unwrap();
    let head = format!(
        "POST /v1/orders HTTP/1.1\r\nhost: localhost\r\nidempotency-key: slow\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        ORDER.len()
    );
    let (first, rest) = ORDER.split_at(9);
    slow.write_all(format!("{head}{first}").as_bytes()).unwrap();
    // Its worker may be slow to see it. Who asks for the figures is in flight as well.
    eventually(|| {
        let figures = String::from_utf8(client.get("/metrics").body).unwrap();
        figures.lines().any(|line| line == "tidegate_http_requests_in_flight 2")
    });
    server.terminate();
    // It takes nothing more, so nobody can ask whether it is draining who has no request in flight.
    eventually(|| TcpStream::connect(server.address).is_err());
    slow.write_all(rest.as_bytes()).unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(server.wait().success());
}

/// The program, for which a file that may not grow is an error and no signal.
fn patient() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_tidegate")]);
    command.env_remove("RUST_LOG");
    command
}

/// Uses up all room.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("ballast");
    let mut file = fs::File::create(&path).unwrap();
    while file.write_all(&[1; 4_096]).is_ok() {}
    path
}

#[test]
fn a_lost_disk_is_told_and_loses_nothing() {
    let Some(disk) = Disk::mount(84) else { return };
    let data = disk.path().join("data");
    let mut command = serve(patient(), &data, "");
    // The log is on the same disk, and must not be what ends the server either.
    command.env("RUST_LOG", "debug").stderr(fs::File::create(disk.path().join("log")).unwrap());
    let server = Server::of(command);
    stock(&server);
    let mut client = server.client();
    // No room for the state, while the journal still has its prepared file.
    let ballast = fill(disk.path());
    let orders = |numbers: std::ops::Range<u32>| {
        let order = |number| {
            json!({"idempotency_key": format!("k{number}"), "user": format!("{number:060}"),
                "lines": [{"sku": "tee", "quantity": 1}], "hold_seconds": 1})
        };
        json!({"orders": numbers.map(order).collect::<Vec<_>>()})
    };
    let batch = orders(0..100);
    let placed = client.post("/v1/orders:batch", "", &batch).expect(200);
    assert!(placed["outcomes"].as_array().unwrap().iter().all(|it| it["status"] == 201));
    // They expire and come to rest. The state's log has a prepared file, too, but its index can't
    // grow; so at some time more of them can't be archived.
    let mut next = 100;
    eventually(|| {
        client.post("/v1/orders:batch", "", &orders(next..next + 2)).expect(200);
        next += 2;
        is(&mut client, "failed")
    });
    eventually(|| client.get("/v1/skus/tee").expect(200)["held"] == 0);
    assert_eq!(client.get("/v1/skus/tee").expect(200)["on_hand"], 1_000);

    let limited = Command::new("prlimit").args(["--fsize=0", "--pid", &server.pid()]).status();
    if !limited.is_ok_and(|status| status.success()) {
        return println!("skipped: no limit can be put on the files of a process here");
    }
    let order = serde_json::from_str(ORDER).unwrap();
    client.post("/v1/orders", "late", &order).assert_problem(503, "unavailable");
    eventually(|| is(&mut client, "poisoned"));
    client.post("/v1/orders", "later", &order).assert_problem(503, "unavailable");
    assert_eq!(client.get("/healthz").expect(200)["status"], "alive");
    server.terminate();
    assert_eq!(server.wait().code(), Some(1), "it says that it did not close cleanly");

    fs::remove_file(ballast).unwrap();
    let server = Server::start(&data);
    let mut client = server.client();
    assert!(is(&mut client, "ready"));
    assert_eq!(client.post("/v1/orders:batch", "", &batch).expect(200), placed);
    assert_eq!(client.get("/v1/skus/tee").expect(200)["held"], 0);
}
