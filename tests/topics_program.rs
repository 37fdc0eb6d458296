//! `tidegate topics` and `tidegate dead-letters` against a running server, as an operator types
//! them: what they print, and what they exit with. What the server does is tested in `http_topics`.

use std::{path::Path, process::Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    client::{Client, Server, eventually},
    program::{Ran, tidegate},
};

/// A server with one key that may do everything, and how to ask it.
struct Case {
    _folder: tempfile::TempDir,
    server: Server,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hash: String =
            Sha256::digest(b"secret").iter().map(|byte| format!("{byte:02x}")).collect();
        let config = format!("[[access.keys]]\nname = 'ops'\nrole = 'admin'\nsha256 = '{hash}'\n");
        let server = Server::start_with(&folder.path().join("data"), &config);
        Self { _folder: folder, server }
    }

    fn client(&self) -> Client {
        self.server.client().with_key("secret")
    }

    fn run_with(&self, key: &str, words: &[&str]) -> Ran {
        let mut command = tidegate();
        command.env("TIDEGATE_KEY", key).args(words);
        let url = format!("http://{}/", self.server.address);
        Ran::of(&command.args(["--url", &url]).output().unwrap())
    }

    /// What a command prints that must go well and be quiet on stderr.
    fn run(&self, words: &[&str]) -> String {
        let ran = self.run_with("secret", words);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
        ran.stdout
    }

    fn json(&self, words: &[&str]) -> Value {
        let words: Vec<_> = words.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.run(&words)).unwrap()
    }
}

#[track_caller]
fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

/// Leases one message and fails it.
fn fail(client: &mut Client, group: &str, cause: &str) {
    let lease = json!({"wait_ms": 30_000});
    let leased = client.post(&format!("{group}/lease"), "", &lease).expect(200);
    let message = &leased["messages"][0];
    let named = json!({"id": message["id"], "lease": message["lease"]});
    let failed = json!({"messages": [named], "cause": cause});
    let told = client.post(&format!("{group}/fail"), "", &failed).expect(200);
    assert_eq!(told["outcomes"][0]["status"], 200, "{told}");
}

#[test]
fn an_operator_publishes_looks_and_moves_groups() {
    let case = Case::new();
    assert_eq!(case.run(&["topics", "list"]), "no consumer groups\n");
    // A name that has to be written otherwise in a path.
    let (topic, group) = ("a/b%?", "mail#1");
    let path = "/v1/topics/a%2Fb%25%3F/groups/mail%231";
    case.client().put(path, &json!({"begin": "oldest"})).expect(200);
    let payload = r#"{"score": 1.000000000000000000001}"#;
    let publish = ["topics", "publish", topic, payload, "--key", "ann", "--idempotency-key", "k"];
    let told = case.run(&publish);
    assert_has(&told, &["published to a/b%? as number "]);
    assert_eq!(case.run(&publish), told, "it is published once");
    let shown = case.run(&["topics", "show", topic, group]);
    assert_has(&shown, &["a/b%?/mail#1\n", "dead letters  0"]);
    assert!(!shown.contains("PAUSED"), "{shown}");
    assert_has(&case.run(&["topics", "pause", topic, group]), &["PAUSED"]);
    assert_eq!(case.json(&["topics", "list", topic])["groups"][0]["paused"], true);
    assert_eq!(case.json(&["topics", "resume", topic, group])["paused"], false);
    let sought = case.json(&["topics", "seek", topic, group, "now"]);
    assert_ne!(sought["position"], "0");
    assert_has(&case.run(&["topics", "list"]), &["a/b%?/mail#1", "0 messages, 0 of them"]);

    case.run_with("secret", &["topics", "seek", topic, group, "x"])
        .assert_failed(&["to must be a message's id", "(invalid-value)"]);
    case.run_with("secret", &["topics", "show", topic, "other"])
        .assert_failed(&["there is no group a/b%?/other", "(unknown-group)"]);
    case.run_with("secret", &["topics", "publish", topic, "hello"])
        .assert_failed(&["needs quotes"]);
    case.run_with("wrong", &["topics", "list"]).assert_failed(&["(unauthorized)"]);
    let nobody = Ran::of(
        &tidegate().args(["topics", "list", "--url", "http://127.0.0.1:1"]).output().unwrap(),
    );
    nobody.assert_failed(&["can't ask http://127.0.0.1:1", "does a server run there?"]);
}

#[test]
fn an_operator_watches_a_topic() {
    let case = Case::new();
    for number in 0..3 {
        let payload = format!(r#"{{"n": {number}.00}}"#);
        case.run(&["topics", "publish", "a/b", &payload, "--key", "ann"]);
    }
    let watch = ["topics", "watch", "a/b", "--after", "oldest", "--count", "2"];
    let seen = case.run(&watch);
    let lines: Vec<_> = seen.lines().collect();
    assert_eq!(lines.len(), 2, "{seen}");
    assert_has(lines[0], &[r#"ann: {"n": 0.00}"#]);
    let id = lines[1].split_whitespace().next().unwrap();
    let json = case.json(&["topics", "watch", "a/b", "--after", id, "--count", "1"]);
    assert_eq!((&json["key"], &json["payload"]), (&json!("ann"), &json!({"n": 2.00})));
    case.run_with("secret", &["topics", "watch", "a/b", "--after", "x"])
        .assert_failed(&["(invalid-cursor)"]);
    case.run_with("wrong", &watch).assert_failed(&["(unauthorized)"]);
    // The server ends while it waits for more.
    let mut command = tidegate();
    let url = format!("http://{}", case.server.address);
    command.args(["topics", "watch", "a/b", "--after", "oldest", "--url", &url]);
    let watching =
        command.env("TIDEGATE_KEY", "secret").stdout(Stdio::piped()).stderr(Stdio::piped());
    let watching = watching.spawn().unwrap();
    let (mut client, mut streams) = (case.client(), String::new());
    eventually(|| {
        streams = String::from_utf8(client.get("/metrics").body).unwrap();
        streams.contains("\ntidegate_http_event_streams 1\n")
    });
    case.server.terminate();
    let ended = Ran::of(&watching.wait_with_output().unwrap());
    assert_eq!(ended.stdout.lines().count(), 3, "{ended:?}");
    assert_has(&ended.stderr, &["(shutting-down); go on with --after "]);
    assert_ne!(ended.code, Some(0));
}

#[test]
fn an_operator_looks_at_dead_letters_replays_and_discards_them() {
    let case = Case::new();
    let (mut client, path) = (case.client(), "/v1/topics/t/groups/g");
    let once = json!({"begin": "oldest", "retry": {"attempts_max": 1}});
    client.put(path, &once).expect(200);
    for number in 0..3 {
        let payload = format!(r#"{{"n": {number}.000000000000000000000}}"#);
        case.run(&["topics", "publish", "t", &payload]);
        fail(&mut client, path, "bad\u{1b}[2Jword");
    }
    let listed = case.run(&["dead-letters", "list", "t", "g"]);
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert_has(&listed, &["after 1 attempts: bad\\u{1b}[2Jword"]);
    let all = case.json(&["dead-letters", "list", "t", "g"]);
    let ids: Vec<_> = (0..3).map(|at| all["dead_letters"][at]["id"].as_str().unwrap()).collect();
    let shown = case.run(&["dead-letters", "show", "t", "g", ids[1]]);
    assert_has(&shown, &[ids[1], "bad\\u{1b}[2Jword", r#"{"n": 1.000000000000000000000}"#]);
    let raw = case.run(&["dead-letters", "show", "t", "g", ids[1], "--json"]);
    assert_has(&raw, &[r#""payload":{"n": 1.000000000000000000000}"#]);

    assert_eq!(case.run(&["dead-letters", "replay", "t", "g", ids[1]]), "1 to be tried again\n");
    case.run_with("secret", &["dead-letters", "show", "t", "g", ids[1]])
        .assert_failed(&["is no dead letter", "(unknown-dead-letter)"]);
    fail(&mut client, path, "again");
    let discarded = case.json(&["dead-letters", "discard", "t", "g", ids[0]]);
    assert_eq!(discarded, json!({"discarded": [ids[0]]}));
    let replayed = case.json(&["dead-letters", "replay", "t", "g", "--all"]);
    assert_eq!(replayed, json!({"replayed": [ids[1], ids[2]]}));
    assert_eq!(case.run(&["dead-letters", "list", "t", "g"]), "");
    assert_eq!(case.run(&["dead-letters", "discard", "t", "g", "--all"]), "0 forgotten\n");
    let neither = case.run_with("secret", &["dead-letters", "discard", "t", "g"]);
    assert_eq!(neither.code, Some(2), "{neither:?}");
}

#[test]
fn who_has_seen_enough_of_a_report_makes_no_noise() {
    let case = Case::new();
    let url = format!("http://{}", case.server.address);
    for words in [
        &["config", "defaults"][..],
        &["config", "check"],
        &["topics", "list", "--url", &url],
        &["view", "list", "--url", &url],
        &["webhook", "new-secret"],
    ] {
        let mut command = tidegate();
        command.args(words).env("TIDEGATE_KEY", "secret");
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdout(writer).stderr(Stdio::piped());
        drop(reader);
        let ran = command.spawn().unwrap().wait_with_output().unwrap();
        assert_eq!((ran.status.code(), &*ran.stderr), (Some(0), &b""[..]), "{words:?}: {ran:?}");
    }
}

#[test]
fn a_server_with_a_certificate_is_asked_if_it_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let config = format!("[tls]\ncertificate_file = {certificate:?}\nkey_file = {key:?}\n");
    let server = Server::start_with(&folder.path().join("data"), &config);
    let url = format!("https://{}", server.address);
    let run = |trusted: &Path| {
        let mut command = tidegate();
        command.env("SSL_CERT_FILE", trusted).env_remove("SSL_CERT_DIR");
        Ran::of(&command.args(["topics", "list", "--url", &url]).output().unwrap())
    };
    let ran = run(&certificate);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "no consumer groups\n"), "{ran:?}");
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&certificate, other.cert.pem()).unwrap();
    run(&certificate).assert_failed(&["can't ask https://127.0.0.1"]);
}
