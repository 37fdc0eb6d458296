//! Who gets in, how often, and what is never told: this machine only without keys, rates,
//! connections, secrets. Roles and lists are in `http`.

use std::{fs, io::Write, net::TcpStream, path::Path, process::Command, thread, time::Duration};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    client::{Client, Server, eventually, serve},
    program::{self, tidegate},
};

fn key(name: &str, secret: &str, more: &str) -> String {
    let hash: String =
        Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[[access.keys]]\nname = '{name}'\nrole = 'admin'\nsha256 = '{hash}'\n{more}\n")
}

fn order(quantity: u64) -> Value {
    json!({"user": "ann", "lines": [{"sku": "tee", "quantity": quantity}]})
}

fn stock(client: &mut Client) {
    client.put("/v1/skus/tee", &json!({})).expect(200);
    client.post("/v1/skus/tee/stock", "in", &json!({"delta": 10, "reason": ""})).expect(200);
}

#[test]
fn without_keys_only_this_machine_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    stock(&mut server.client());
    let before = server.client().get("/v1/skus/tee").expect(200);
    let ask = |headers: &str| {
        let body = order(1);
        let length = body.to_string().len();
        let head = "POST /v1/orders HTTP/1.1\r\nidempotency-key: k\r\n\
                    content-type: application/json\r\n";
        let bytes = format!("{head}{headers}content-length: {length}\r\n\r\n{body}");
        server.client().exchange(bytes.as_bytes(), false).unwrap()
    };
    for headers in [
        "host: shop.example\r\n",
        "host: localhost.shop.example\r\n",
        "host: 127.0.0.1@shop.example\r\n",
        "host: 10.0.0.1:8080\r\n",
        "host: localhost\r\norigin: http://shop.example\r\n",
        "host: localhost\r\norigin: null\r\n",
        "host: localhost\r\nx-forwarded-for: 127.0.0.1\r\n",
        "host: localhost\r\nforwarded: for=127.0.0.1\r\n",
    ] {
        println!("{headers}");
        ask(headers).assert_problem(401, "unauthorized");
    }
    assert_eq!(server.client().get("/v1/skus/tee").expect(200), before);
    let first = ask("host: LocalHost:1\r\norigin: http://LocalHost:1\r\n").expect(201);
    for headers in ["host: [::1]:8080\r\n", "host: 127.0.0.2\r\n"] {
        assert_eq!(ask(headers).expect(201), first);
    }
}

#[test]
fn rates_count_by_key_and_by_address_however_a_path_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let rates = "[rates]\nper_address_per_second = 1\nper_address_burst = 6\n\
                 per_key_per_second = 1\nper_key_burst = 2\n";
    let config = [rates, &key("one", "1", ""), &key("two", "2", "")].concat();
    let server = Server::start_with(&folder.path().join("data"), &config);
    let (mut one, mut two) = (server.client().with_key("1"), server.client().with_key("2"));
    for _ in 0..10 {
        one.get("/healthz").expect(200);
    }
    one.get("/v1/skus/tee").assert_problem(404, "unknown-sku");
    one.get("/%761/skus/tee").assert_problem(404, "unknown-sku");
    let limited = one.get("/v1/skus/tee");
    limited.assert_problem(429, "rate-limited");
    assert_eq!(limited.header("retry-after"), Some("1"));
    two.get("/v1/skus/tee").assert_problem(404, "unknown-sku");
    // Guessing keys counts for the address, whatever a header says about it.
    let mut statuses = Vec::new();
    for number in 0..8 {
        let address = format!("10.0.0.{number}");
        let headers = [("x-forwarded-for", &*address), ("authorization", "Bearer guess")];
        statuses.push(server.client().send("GET", "/%761/skus/tee", &headers, None).status);
    }
    assert!(statuses.starts_with(&[401]) && statuses.contains(&429), "{statuses:?}");
}

#[test]
fn no_more_connections_are_served_than_configured() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[limits]\nconnections_max = 2\n[http]\nworkers = 4\n";
    let server = Server::start_with(&folder.path().join("data"), config);
    let (mut one, mut other) = (server.client(), server.client());
    one.get("/healthz").expect(200);
    other.get("/healthz").expect(200);
    let mut third = TcpStream::connect(server.address).unwrap();
    third.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    third.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(third.peek(&mut [0]).is_err(), "a third connection is served");
    drop(one);
    third.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(third.peek(&mut [0]).unwrap(), 1);
    other.get("/healthz").expect(200);
}

#[test]
fn connections_leave_the_store_the_files_that_it_needs() {
    const FILES: usize = 512;
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let program = tidegate();
    let mut limited = Command::new("sh");
    limited.args(["-c", r#"ulimit -Sn 64 && ulimit -Hn 512 && exec "$0" "$@""#]);
    limited.arg(program.get_program());
    for (variable, _) in program.get_envs() {
        limited.env_remove(variable);
    }
    let mut command = serve(limited, &data, "");
    command.stderr(fs::File::create(&log).unwrap());
    let server = Server::of(command);
    let of_process = |what: &str| format!("/proc/{}/{what}", server.pid());
    let limits = fs::read_to_string(of_process("limits")).unwrap();
    let limit = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let limit: Vec<_> = limit.split_whitespace().skip(3).take(2).collect();
    assert_eq!(limit, ["512", "512"], "it is raised as far as it goes");

    let mut client = server.client();
    client.put("/v1/skus/tee", &json!({})).expect(200);
    let others: Vec<_> = (0..FILES).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    let open = || fs::read_dir(of_process("fd")).unwrap().count();
    eventually(|| open() > 2 * 85);
    // Whoever is taken too many would be by now.
    let stock = json!({"delta": 1, "reason": "delivery"});
    for number in 0..100 {
        client.post("/v1/skus/tee/stock", &format!("in-{number}"), &stock).expect(200);
    }
    assert!(open() < FILES - 100, "{} of {FILES} files are open", open());
    drop(others);
    assert_eq!(client.get("/v1/skus/tee").expect(200)["on_hand"], 100);
    let log = fs::read_to_string(&log).unwrap();
    assert!(log.contains("only 85 connections are taken") && log.contains("LimitNOFILE"), "{log}");
}

#[test]
fn no_key_is_ever_logged() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = ["good-secret", "old-secret", "bad-secret", "basic-secret", "other-secret"];
    for format in ["text", "json"] {
        let mut config = format!("[log]\nformat = '{format}'\nrequests = true\n");
        config += &key("good", secrets[0], "");
        config += &key("old", secrets[1], "expires_at = '2020-01-01T00:00:00Z'");
        let (data, log) = (folder.path().join(format), folder.path().join("log"));
        let mut command = serve(tidegate(), &data, &config);
        command.env("RUST_LOG", "trace").stderr(fs::File::create(&log).unwrap());
        let server = Server::of(command);
        stock(&mut server.client().with_key(secrets[0]));
        server.client().with_key(secrets[1]).get("/v1/skus/tee").expect(401);
        server.client().with_key(secrets[2]).get("/v1/skus/tee").expect(401);
        let basic = format!("Basic {}", secrets[3]);
        let headers = [("authorization", &*basic), ("x-api-key", secrets[4])];
        server.client().send("GET", "/v1/skus/tee?key=other-secret", &headers, None).expect(401);
        server.terminate();
        assert!(server.wait().success());
        let log = fs::read_to_string(&log).unwrap();
        assert!(log.contains("/v1/skus/tee") && log.contains("answered"), "{log}");
        assert!(log.contains("good") && log.contains("TRACE"), "{log}");
        for secret in secrets {
            let bytes = format!("{:?}", secret.as_bytes());
            assert!(!log.contains(secret) && !log.contains(&bytes), "{secret} is in the log");
        }
        assert!(format == "text" || log.lines().all(|line| line.starts_with('{')), "{log}");
    }
}

#[test]
fn a_retry_at_the_same_time_gets_the_same_answer_quoted_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    stock(&mut server.client());
    let ask = |key: &str| server.client().post("/v1/orders", key, &order(2)).expect(201);
    let answers: Vec<Value> = thread::scope(|scope| {
        let asking: Vec<_> = ["a-1", "\"a-1\""]
            .repeat(4)
            .into_iter()
            .map(|key| scope.spawn(move || ask(key)))
            .collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let mut client = server.client();
    assert_eq!(client.get("/v1/skus/tee").expect(200)["held"], 2);
    // What was read once and has not changed is not sent again.
    let hold = json!({"user": "ann", "sku": "tee", "quantity": 1});
    let hold = client.post("/v1/holds", "h", &hold).expect(201);
    let hold = format!("/v1/holds/{}", hold["id"].as_str().unwrap());
    for path in [hold.as_str(), "/v1/users/ann/orders"] {
        let tag = client.get(path).header("etag").unwrap().to_owned();
        assert_eq!(client.send("GET", path, &[("if-none-match", &tag)], None).status, 304);
    }
    client.post(&format!("{hold}/release"), "", &json!({})).expect(200);
    let released = client.get(&hold);
    assert_eq!(released.expect(200)["state"], "released");
}

#[test]
fn what_a_server_has_open_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let file = folder.path().join("stock.csv");
    fs::write(&file, "sku,delta\ntee,1\n").unwrap();
    let run = |command: &str, more: &[&Path]| {
        let arguments = [Path::new(command), Path::new("--data"), &data];
        program::run(arguments.into_iter().chain(more.iter().copied()))
    };
    run("import-stock", &[&file])
        .assert_failed(&["is open elsewhere", "POST /v1/skus/{sku}/stock"]);
    run("audit", &[]).assert_failed(&["is open elsewhere"]);
    run("inspect", &[]).assert_failed(&["is open elsewhere"]);
    run("serve", &[Path::new("--listen"), Path::new("127.0.0.1:0")])
        .assert_failed(&["is open elsewhere"]);
    server.client().get("/v1/skus/tee").assert_problem(404, "unknown-sku");
}

#[test]
fn a_server_needs_no_argument_and_all_commands_mean_the_same_store() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = tidegate();
    command.current_dir(&folder).arg("serve").stderr(std::process::Stdio::null());
    let server = Server::of({
        command.stdout(std::process::Stdio::piped());
        command
    });
    stock(&mut server.client());
    server.terminate();
    assert!(server.wait().success());
    let ran = |variable: Option<&str>| {
        let mut command = tidegate();
        command.current_dir(&folder).arg("audit");
        variable.map(|data| command.env("TIDEGATE_DATA", data));
        program::Ran::of(&command.output().unwrap())
    };
    assert_eq!(ran(None).code, Some(0));
    ran(Some("elsewhere")).assert_failed(&["elsewhere is not a Tidegate store"]);
}
