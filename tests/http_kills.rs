//! A server under load that ends again and again, by SIGKILL or by SIGTERM, at moments drawn from a
//! seed, while clients ask again with the same key for what had no answer. In the end there is what
//! they were told, once. `TIDEGATE_ROUNDS` says how often it ends. Power loss is another matter.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    client::{Answer, Client, Server},
    program,
    seed::Random,
};

/// How often a server ends, unless the environment says otherwise.
const ROUNDS: usize = 4;

/// Connections; each has one order in flight.
const BUYERS: usize = 32;
const USERS: usize = 10;

/// SKUs, the last two of which sell out after some rounds.
const SKUS: usize = 8;
const RARE: usize = 2;
const RARE_UNITS: usize = 40;

/// How a server comes to its end.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// SIGKILL.
    Killed,
    /// SIGTERM; at times a second signal while it ends.
    Asked,
}

/// An order that somebody wants, with its idempotency key.
#[derive(Clone)]
struct Wanted {
    key: String,
    body: Value,
}

/// One client, which places one order after the other.
struct Buyer {
    name: usize,
    random: Random,
    count: usize,
    /// Has had no answer.
    open: Option<Wanted>,
    accepted: Vec<(Wanted, Value)>,
    refused: usize,
}

/// A store, and who buys from it.
struct Case {
    folder: tempfile::TempDir,
    random: Random,
    rounds: usize,
    buyers: Vec<Buyer>,
}

#[test]
fn a_server_killed_under_load_keeps_what_it_acknowledged_once() {
    Case::new("a_server_killed_under_load_keeps_what_it_acknowledged_once").run(End::Killed);
}

#[test]
fn a_server_asked_to_end_under_load_loses_nothing_and_exits_well() {
    Case::new("a_server_asked_to_end_under_load_loses_nothing_and_exits_well").run(End::Asked);
}

impl Case {
    fn new(test: &str) -> Self {
        let mut random = Random::of(test);
        let rounds = std::env::var("TIDEGATE_ROUNDS")
            .map_or(ROUNDS, |rounds| rounds.parse().expect("TIDEGATE_ROUNDS is a whole number"));
        let buyers = (0..BUYERS).map(|name| Buyer::new(name, &mut random)).collect();
        Self { folder: tempfile::tempdir().unwrap(), random, rounds, buyers }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn run(mut self, end: End) {
        for round in 0..self.rounds {
            if end == End::Killed && self.random.number().is_multiple_of(2) {
                // While it recovers, or as it begins to serve.
                let delay = Duration::from_micros(self.random.between(0, 100_000));
                Server::kill_starting(&self.data(), delay);
            }
            let server = Server::start(&self.data());
            stock_up(&mut server.client(), self.rounds);
            self.sell_until(server, end);
            let count = |of: fn(&Buyer) -> usize| self.buyers.iter().map(of).sum::<usize>();
            println!(
                "round {round}: {} accepted, {} refused, {} open",
                count(|buyer| buyer.accepted.len()),
                count(|buyer| buyer.refused),
                count(|buyer| usize::from(buyer.open.is_some())),
            );
        }
        self.check();
        program::audit(&self.data());
    }

    /// Lets all buy until a drawn number of orders was accepted, and then ends the server.
    fn sell_until(&mut self, server: Server, end: End) {
        let Self { random, buyers, .. } = self;
        let (address, accepted) = (server.address, &AtomicUsize::new(0));
        let enough = random.between(50, 500) as usize;
        thread::scope(|scope| {
            for buyer in buyers {
                scope.spawn(move || buyer.buy(address, end, accepted));
            }
            let begun = Instant::now();
            while accepted.load(Ordering::Relaxed) < enough {
                assert!(begun.elapsed() < Duration::from_secs(60), "no orders are accepted");
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(Duration::from_micros(random.between(0, 3_000)));
            match end {
                End::Killed => server.kill(),
                End::Asked => ask_to_end(server, random),
            }
        });
    }

    /// Asks for everything once more, reads all there is, and compares.
    fn check(&mut self) {
        let server = Server::start(&self.data());
        let address = server.address;
        thread::scope(|scope| {
            for buyer in &mut self.buyers {
                scope.spawn(move || buyer.ask_again(address));
            }
        });
        let mut client = server.client();
        let mut found: BTreeMap<String, Value> = BTreeMap::new();
        for user in 0..USERS {
            for order in orders_of(&mut client, &format!("user-{user}")) {
                let before = found.insert(order["id"].as_str().unwrap().to_owned(), order);
                assert_eq!(before, None, "an order is listed twice");
            }
        }
        let mut held = BTreeMap::new();
        for line in found.values().flat_map(|order| order["lines"].as_array().unwrap()) {
            *held.entry(line["sku"].as_str().unwrap().to_owned()).or_insert(0) +=
                line["quantity"].as_u64().unwrap();
        }
        // Takes each out that somebody knows of, so that none may be left.
        for (_, known) in self.buyers.iter().flat_map(|buyer| &buyer.accepted) {
            let order = found.remove(known["id"].as_str().unwrap());
            let order = order.unwrap_or_else(|| panic!("lost, or known by two keys: {known}"));
            let same = ["user", "lines", "total_minor", "placed_at", "expires_at", "state"];
            for field in same {
                assert_eq!(order[field], known[field], "{field} of {order}");
            }
        }
        assert!(found.is_empty(), "nobody's, or a key's second one: {found:?}");
        for sku in 0..SKUS {
            let (sku, units) = (name(sku), units(sku, self.rounds));
            let level = client.get(&format!("/v1/skus/{sku}")).expect(200);
            let held = held.get(&sku).copied().unwrap_or(0);
            assert!(held > 0 && held <= units, "{sku}: {held} of {units}");
            assert_eq!((&level["on_hand"], &level["held"]), (&units.into(), &held.into()), "{sku}");
            assert_eq!(level["available"], units - held, "{sku}");
        }
        server.terminate();
        assert_eq!(server.wait().code(), Some(0));
    }
}

/// SIGTERM, and half the time once more or SIGINT too, as wrappers do. The second one may come when
/// all is done.
fn ask_to_end(server: Server, random: &mut Random) {
    server.signal("TERM");
    if random.number().is_multiple_of(2) {
        assert_eq!(server.wait().code(), Some(0));
        return;
    }
    thread::sleep(Duration::from_micros(random.between(0, 20_000)));
    server.signal(if random.number().is_multiple_of(2) { "INT" } else { "TERM" });
    let code = server.wait().code();
    assert!(matches!(code, Some(0 | 1)), "{code:?}");
}

impl Buyer {
    fn new(name: usize, random: &mut Random) -> Self {
        let random = Random::from_seed(random.number());
        Self { name, random, count: 0, open: None, accepted: Vec::new(), refused: 0 }
    }

    /// Places orders until the server is gone. First of all the one that had no answer.
    fn buy(&mut self, address: SocketAddr, end: End, accepted: &AtomicUsize) {
        let mut connection = Client::new(address);
        loop {
            let wanted = self.open.take().unwrap_or_else(|| self.next());
            let answer = connection.try_post("/v1/orders", &wanted.key, &wanted.body);
            match answer {
                Err(_) => {
                    self.open = Some(wanted);
                    return;
                }
                Ok(answer) if answer.status == 503 && end == End::Asked => {
                    answer.assert_problem(503, "shutting-down");
                    self.open = Some(wanted);
                }
                Ok(answer) => {
                    accepted.fetch_add(usize::from(answer.status == 201), Ordering::Relaxed);
                    self.take(wanted, &answer);
                }
            }
        }
    }

    fn take(&mut self, wanted: Wanted, answer: &Answer) {
        if answer.status == 409 {
            answer.assert_problem(409, "sold-out");
            self.refused += 1;
            return;
        }
        self.accepted.push((wanted, answer.expect(201)));
    }

    /// What has no answer gets one, and what has one gets the same.
    fn ask_again(&mut self, address: SocketAddr) {
        let mut connection = Client::new(address);
        let mut post = |Wanted { key, body }: &Wanted| connection.post("/v1/orders", key, body);
        if let Some(wanted) = self.open.take() {
            let answer = post(&wanted);
            self.take(wanted, &answer);
        }
        for (wanted, known) in &self.accepted {
            assert_eq!(&post(wanted).expect(201), known, "{}", wanted.key);
        }
    }

    /// One to three lines, some of them with a price of their own.
    fn next(&mut self) -> Wanted {
        self.count += 1;
        let (first, lines) = (self.random.number(), self.random.between(1, 4));
        let priced = self.random.number().is_multiple_of(2);
        let lines: Vec<_> = (0..lines)
            .map(|line| {
                let sku = name((first + 3 * line) as usize % SKUS);
                let quantity = self.random.between(1, 4);
                match priced {
                    true => json!({"sku": sku, "quantity": quantity, "price_minor": line + 5}),
                    false => json!({"sku": sku, "quantity": quantity}),
                }
            })
            .collect();
        let user = format!("user-{}", self.name % USERS);
        let body = json!({"user": user, "lines": lines, "hold_seconds": 86_400});
        Wanted { key: format!("{}-{}", self.name, self.count), body }
    }
}

fn name(sku: usize) -> String {
    format!("sku-{sku}")
}

/// How many there are.
fn units(sku: usize, rounds: usize) -> u64 {
    (if sku < SKUS - RARE { 1_000_000 } else { RARE_UNITS * rounds }) as u64
}

/// Each time the same, with the same keys.
fn stock_up(client: &mut Client, rounds: usize) {
    for sku in 0..SKUS {
        let (path, units) = (format!("/v1/skus/{}", name(sku)), units(sku, rounds));
        client.put(&path, &json!({"price_minor": 10 + sku})).expect(200);
        let delivery = json!({"delta": units, "reason": "delivery"});
        client.post(&format!("{path}/stock"), &format!("in-{sku}"), &delivery).expect(200);
    }
}

/// All orders of a user, page by page.
fn orders_of(client: &mut Client, user: &str) -> Vec<Value> {
    let (mut orders, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/users/{user}/orders?limit=100{cursor}");
        let mut page = client.get(&path).expect(200);
        orders.append(page["orders"].as_array_mut().unwrap());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return orders,
        }
    }
}
