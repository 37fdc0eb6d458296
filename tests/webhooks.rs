//! Webhooks against an endpoint on this machine, which answers as a test wants. What is signed, and
//! which addresses are public, is tested with the code.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tidegate::{
    NewOrder, Retry, Topic, Whence,
    webhooks::{Endpoint, Secret, Sender},
};

use crate::{
    client::{self, Server},
    program::{Ran, tidegate},
    shop::{Shop, eventually},
};

/// What came, and what is answered.
#[derive(Default)]
struct Desk {
    came: Vec<Came>,
    /// Status lines and headers for the next requests; then 204.
    answers: VecDeque<&'static str>,
}

/// A request.
#[derive(Clone, Debug)]
struct Came {
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Came {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn is_signed_with(&self, secret: &Secret) -> bool {
        let header = |name: &str| self.headers[name].as_str();
        let seconds = header("webhook-timestamp").parse().unwrap();
        secret.verifies(header("webhook-id"), seconds, &self.body, header("webhook-signature"))
    }
}

/// An endpoint. Its threads end with the process.
struct Receiver {
    url: String,
    desk: Arc<Mutex<Desk>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hooks?token=secret", listener.local_addr().unwrap());
        let desk = Arc::new(Mutex::new(Desk::default()));
        let shared = Arc::clone(&desk);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, desk) = (stream.unwrap(), Arc::clone(&shared));
                // An error is a client that has gone.
                thread::spawn(move || answer(stream, &desk));
            }
        });
        Self { url, desk }
    }

    fn next_answers(&self, answers: impl IntoIterator<Item = &'static str>) {
        self.desk.lock().unwrap().answers.extend(answers);
    }

    fn came(&self) -> Vec<Came> {
        self.desk.lock().unwrap().came.clone()
    }

    fn endpoint(&self, name: &str, secret: &Secret) -> Endpoint {
        let retry = Retry { attempts_max: 3, backoff_ms: 0, backoff_ms_max: 0 };
        Endpoint::new(name, &self.url, secret.clone()).unwrap().allow_private().retry(retry)
    }
}

fn answer(stream: TcpStream, desk: &Mutex<Desk>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut line, mut headers) = (String::new(), BTreeMap::new());
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        assert_eq!(line.trim_end(), "POST /hooks?token=secret HTTP/1.1");
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        let mut body = vec![0; headers["content-length"].parse().unwrap()];
        reader.read_exact(&mut body)?;
        let mut desk = desk.lock().unwrap();
        desk.came.push(Came { headers, body });
        let answer = desk.answers.pop_front().unwrap_or("204 No Content\r\n");
        drop(desk);
        if answer == "hang" {
            thread::sleep(Duration::from_secs(60));
            return Ok(());
        }
        write!(&stream, "HTTP/1.1 {answer}Content-Length: 0\r\n\r\n")?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_is_posted_once_it_is_taken_signed_and_in_order() {
    let shop = Shop::open().await;
    let (receiver, old, new) =
        (Receiver::start(), Secret::random().unwrap(), Secret::random().unwrap());
    // The first is refused once, and once it is not answered in time.
    receiver.next_answers(["500 Internal Server Error\r\n", "hang"]);
    let endpoint = receiver
        .endpoint("crm", &old)
        .also_signed_with(new.clone())
        .only(["stock.defined", "stock.adjusted"])
        .timeout(Duration::from_millis(500));
    let sender = Sender::start(&shop.gate, [endpoint]).await.unwrap();
    shop.item("mug", 5).await;
    let order = shop.place(NewOrder::new("ann").line("mug", 1), "k").await.id;
    let posted = eventually("all is posted", async || {
        let came = receiver.came();
        (came.len() == 4).then_some(came)
    })
    .await;
    let kinds: Vec<_> =
        posted.iter().map(|came| came.json()["type"].as_str().unwrap().to_owned()).collect();
    let defined = "stock.defined";
    assert_eq!(kinds, [defined, defined, defined, "stock.adjusted"], "in the order of the SKU");
    assert_eq!(posted[3].json()["data"]["sku"], "mug");
    let ids: Vec<_> = posted.iter().map(|came| came.headers["webhook-id"].clone()).collect();
    assert_eq!((&ids[0], &ids[1]), (&ids[1], &ids[2]), "a message keeps its id");
    assert!(ids[3] != ids[2] && ids[0].starts_with(shop.gate.id()));
    for came in &posted {
        assert!(came.is_signed_with(&old) && came.is_signed_with(&new));
        assert!(!came.is_signed_with(&Secret::random().unwrap()));
        assert_eq!(came.headers["content-type"], "application/json");
    }

    let delivered = async || {
        let report = sender.report().remove(0);
        (report.delivered == 2).then_some(report)
    };
    let report = eventually("both are acknowledged", delivered).await;
    assert_eq!((report.failed, report.failures_in_a_row, report.left_alone), (2, 0, false));
    let log = sender.deliveries("crm", 10).await.unwrap().unwrap();
    let told: Vec<_> = log.iter().map(|it| (it.attempt, it.status, it.error.is_none())).collect();
    assert_eq!(
        told,
        [(1, Some(204), true), (3, Some(204), true), (2, None, false), (1, Some(500), false)]
    );
    assert!(sender.deliveries("else", 10).await.unwrap().is_none());

    // Nothing of it is about the order, and what is behind stays so over a restart.
    sender.stop().await;
    shop.gate.orders().cancel(order, "cancel").await.unwrap();
    let shop = shop.reopened().await;
    shop.item("tee", 1).await;
    let endpoint = receiver.endpoint("crm", &new).only(["stock.defined"]);
    let sender = Sender::start(&shop.gate, [endpoint]).await.unwrap();
    eventually("the rest is posted", async || (receiver.came().len() == 5).then_some(())).await;
    eventually("the log is kept, and goes on", async || {
        let log = sender.deliveries("crm", 99).await.unwrap().unwrap();
        (log.len() == 5).then_some(())
    })
    .await;
    sender.stop().await;
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_endpoint_takes_is_a_dead_letter_and_gone_is_gone() {
    let shop = Shop::open().await;
    let (receiver, secret) = (Receiver::start(), Secret::random().unwrap());
    let topic: Topic<u32> = shop.gate.topic("numbers").unwrap();
    let endpoint = receiver.endpoint("mail", &secret).topic("numbers");
    let sender = Sender::start(&shop.gate, [endpoint]).await.unwrap();
    // Followed, it would come back to where it was and be taken.
    let moved = "307 Temporary Redirect\r\nLocation: /hooks?token=secret\r\n";
    receiver.next_answers([moved, moved, moved]);
    topic.publish(&1).await.unwrap();
    let group = topic.group("webhook-mail").begin(Whence::Now).open().await.unwrap();
    let dead =
        eventually("it is given up", async || group.dead_letters(None, 10).await.unwrap().pop())
            .await;
    assert_eq!(dead.attempts, 3);
    assert_eq!(dead.cause, "307 Temporary Redirect, which is not followed");
    group.replay(dead.letter.id).await.unwrap();
    eventually("it is posted again", async || (receiver.came().len() == 4).then_some(())).await;
    assert_eq!(receiver.came()[3].json()["type"], "numbers");
    assert_eq!(receiver.came()[3].json()["data"], 1);

    receiver.next_answers(["410 Gone\r\n"]);
    topic.publish(&2).await.unwrap();
    let paused = async || group.view().await.unwrap().paused.then_some(());
    eventually("its group is paused", paused).await;
    let test = sender.test("mail").await.unwrap().unwrap();
    assert_eq!((test.status, test.kind.as_str()), (Some(204), "webhook.test"));
    assert!(receiver.came().last().unwrap().is_signed_with(&secret));
    group.resume().await.unwrap();
    let two = async || {
        let taken = |came: &Came| came.json()["data"] == 2;
        (receiver.came().iter().filter(|came| taken(came)).count() == 2).then_some(())
    };
    eventually("it is posted once more", two).await;
    sender.stop().await;
    drop(group);
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_an_endpoint_refuses_do_not_keep_others_back() {
    let shop = Shop::open().await;
    let (receiver, secret) = (Receiver::start(), Secret::random().unwrap());
    let topic: Topic<u32> = shop.gate.topic("numbers").unwrap();
    receiver.next_answers(["422 Unprocessable Content\r\n"; 9]);
    let endpoint = receiver.endpoint("mail", &secret).topic("numbers").workers(1);
    let sender = Sender::start(&shop.gate, [endpoint]).await.unwrap();
    for number in 1..=4 {
        topic.publish(&number).key("k").await.unwrap();
    }
    // Three are tried three times each; then the fourth is taken, at once.
    eventually("the last is posted", async || (receiver.came().len() == 10).then_some(())).await;
    let report = sender.report().remove(0);
    assert!(!report.left_alone, "{report:?}");
    assert_eq!(receiver.came()[9].json()["data"], 4);
    sender.stop().await;
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_to_this_machine_unless_that_is_allowed() {
    let shop = Shop::open().await;
    let (receiver, secret) = (Receiver::start(), Secret::random().unwrap());
    let at = |url: &str| Endpoint::new("e", url, secret.clone());
    for url in ["", "crm.example/hooks", "ftp://crm.example", "https://ann:key@crm.example/"] {
        let error = at(url).unwrap_err().to_string();
        assert!(url.is_empty() || !error.contains("key"), "{error}");
    }
    assert!(Endpoint::new("E", "https://crm.example/", secret.clone()).is_err());
    // Without TLS, and to addresses of our own.
    let barred =
        [receiver.url.as_str(), "https://127.0.0.1/", "https://[::1]/", "https://10.0.0.1/"];
    for url in barred {
        let Err(error) = Sender::start(&shop.gate, [at(url).unwrap()]).await else {
            panic!("{url} is let through");
        };
        assert!(error.to_string().contains("allow private addresses"), "{error}");
    }
    // A name is found out when it is resolved.
    let port = receiver.url.split([':', '/']).nth(4).unwrap();
    let test = at(&format!("https://localhost:{port}/")).unwrap().test().await.unwrap();
    let error = test.error.unwrap();
    assert!(error.contains("not on the public internet"), "{error}");
    assert!(receiver.came().is_empty());
    let mistyped = receiver.endpoint("a", &secret).only(["order.confirm"]);
    let error = mistyped.check().unwrap_err().to_string();
    assert!(error.contains("order.confirm"), "{error}");
    assert!(receiver.endpoint("a", &secret).topic("t").only(["order.confirmed"]).check().is_err());
    let twice = [receiver.endpoint("a", &secret), receiver.endpoint("a", &secret)];
    assert!(Sender::start(&shop.gate, twice).await.is_err());
    let shown = format!("{:?}", receiver.endpoint("a", &secret));
    assert!(!shown.contains("secret"), "{shown}");
    shop.audited().await;
}

#[test]
fn a_server_posts_what_its_configuration_names() {
    let folder = tempfile::tempdir().unwrap();
    let (receiver, secret) = (Receiver::start(), Secret::random().unwrap());
    let config = format!(
        "[[webhooks.endpoints]]\nname = 'crm'\nurl = '{}'\nsecret = '{}'\n\
         kinds = ['stock.defined']\nallow_private = true\n",
        receiver.url,
        secret.reveal(),
    );
    let hash: String = Sha256::digest(b"sell").iter().map(|byte| format!("{byte:02x}")).collect();
    let seller = format!("[[access.keys]]\nname = 'till'\nrole = 'sell'\nsha256 = '{hash}'\n");
    let guarded = Server::start_with(&folder.path().join("guarded"), &format!("{config}{seller}"));
    let mut till = guarded.client().with_key("sell");
    let lease = till.post("/v1/topics/events/groups/webhook-crm/lease", "", &serde_json::json!({}));
    lease.assert_problem(403, "role-too-low");
    drop(till);
    guarded.terminate();
    assert!(guarded.wait().success());
    let server = Server::start_with(&folder.path().join("data"), &config);
    let mut client = server.client();
    client.put("/v1/skus/mug", &serde_json::json!({})).expect(200);
    let url = format!("http://{}", server.address);
    let run = |words: &[&str]| {
        let mut command = tidegate();
        Ran::of(&command.arg("webhook").args(words).args(["--url", &url]).output().unwrap())
    };
    // What it says is on its way at its own time.
    client::eventually(|| !receiver.came().is_empty());
    let came = receiver.came().remove(0);
    assert!(came.is_signed_with(&secret));
    assert_eq!(came.json()["type"], "stock.defined");
    let taken = "tidegate_webhook_delivered_total{endpoint=\"crm\"} 1";
    let mut page = || String::from_utf8(client.get("/metrics").body).unwrap();
    client::eventually(|| page().contains(taken));
    let tested = run(&["test", "crm"]);
    assert_eq!(tested.code, Some(0), "{tested:?}");
    assert!(tested.stdout.contains("webhook.test test-"), "{tested:?}");
    receiver.next_answers(["500 Internal Server Error\r\n"]);
    let refused = run(&["test", "crm"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stdout.contains("FAILED: 500 Internal Server Error"), "{refused:?}");
    let listed = run(&["list"]);
    assert!(listed.stdout.contains("topic events, group webhook-crm"), "{listed:?}");
    let log = run(&["deliveries", "crm", "--json"]);
    let log: Value = serde_json::from_str(&log.stdout).unwrap();
    assert_eq!(log["deliveries"][0]["kind"], "stock.defined", "{log}");
    assert_eq!(log["deliveries"][0]["status"], 204);
    let unknown = run(&["test", "else"]);
    assert!(unknown.stderr.contains("unknown-webhook"), "{unknown:?}");
    server.terminate();
    assert!(server.wait().success());
}
