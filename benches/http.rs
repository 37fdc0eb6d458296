//! Placing single-line orders over HTTP, durable, beside what the same server does on a route that
//! only reads the same body and answers: a server of its own for each round, load from `wrk` on the
//! same machine, the two routes in turn. Prints medians and their ratio. It tunes nothing: the
//! server runs with its defaults.
//!
//! `cargo bench --bench http [-- CONNECTIONS [SECONDS [ROUNDS]]]`

use std::{
    error::Error,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

type Failure = Box<dyn Error + Send + Sync>;

const CONNECTIONS: [u64; 2] = [64, 256];
const SECONDS: u64 = 4;
const ROUNDS: usize = 5;

/// SKUs, and units of each: more than can be sold.
const SKUS: u64 = 100;
const UNITS: u64 = 1_000_000_000;

const PLACE: &str = "/v1/orders";
const PARSE_ONLY: &str = "/v1/orders:parse";

/// A running `tidegate serve`; killed when dropped.
struct Server {
    child: Child,
    address: String,
}

/// What `wrk` said of a run.
struct Run {
    requests: u64,
    per_second: f64,
    p50: String,
    p99: String,
}

fn main() -> Result<(), Failure> {
    let numbers: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    if Command::new("wrk").arg("-v").output().is_err() {
        return Err("this bench needs wrk: apt-get install wrk".into());
    }
    let connections =
        numbers.first().map_or(CONNECTIONS.to_vec(), |connections| vec![*connections]);
    let seconds = numbers.get(1).copied().unwrap_or(SECONDS);
    let rounds = numbers.get(2).map_or(ROUNDS, |rounds| *rounds as usize);
    for connections in connections {
        measure(connections, seconds, rounds)?;
    }
    Ok(())
}

fn measure(connections: u64, seconds: u64, rounds: usize) -> Result<(), Failure> {
    println!("{connections} connections, {rounds} rounds of {seconds} s for each route");
    let (mut parsed, mut placed, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let folder = tempfile::tempdir()?;
        let server = Server::start(&folder.path().join("store"))?;
        server.stock_up()?;
        server.load(PARSE_ONLY, "warm-up", connections, 1)?;
        let parse = server.load(PARSE_ONLY, "parse", connections, seconds)?;
        let place = server.load(PLACE, "place", connections, seconds)?;
        server.check_sold(place.requests, connections)?;
        let ratio = 100.0 * place.per_second / parse.per_second;
        println!(
            "  {round}: parse only {:.0}/s (p50 {}, p99 {}), place {:.0}/s (p50 {}, p99 {}), \
             {ratio:.1} %",
            parse.per_second, parse.p50, parse.p99, place.per_second, place.p50, place.p99,
        );
        parsed.push(parse.per_second);
        placed.push(place.per_second);
        ratios.push(ratio);
    }
    println!(
        "medians: parse only {:.0}/s, place {:.0}/s, place is {:.1} % of parse only",
        median(parsed),
        median(placed),
        median(ratios),
    );
    Ok(())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

impl Server {
    fn start(data: &Path) -> Result<Self, Failure> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.arg("serve").arg("--data").arg(data);
        command.args(["--listen", "127.0.0.1:0", "--parse-only-route"]);
        let mut child =
            command.env("RUST_LOG", "warn,actix_http=off").stdout(Stdio::piped()).spawn()?;
        let out = child.stdout.take().ok_or("no output of the server")?;
        let mut server = Self { child, address: String::new() };
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let address = line.trim().split("://").nth(1);
        server.address = address.ok_or("the server does not listen")?.to_owned();
        Ok(server)
    }

    fn stock_up(&self) -> Result<(), Failure> {
        for sku in 1..=SKUS {
            let path = format!("/v1/skus/sku-{sku}");
            self.ask("PUT", &path, &json!({"price_minor": 1990}))?;
            let delivery = json!({"delta": UNITS, "reason": "delivery"});
            self.ask("POST", &format!("{path}/stock"), &delivery)?;
        }
        Ok(())
    }

    /// That every request which was answered holds its unit. The last ones of each connection may
    /// have been placed without `wrk` waiting for the answer.
    fn check_sold(&self, answered: u64, connections: u64) -> Result<(), Failure> {
        let mut held = 0;
        for sku in 1..=SKUS {
            let level = self.ask("GET", &format!("/v1/skus/sku-{sku}"), &Value::Null)?;
            held += level["held"].as_u64().ok_or("no stock level")?;
        }
        if (answered..=answered + connections).contains(&held) {
            return Ok(());
        }
        Err(format!("{answered} orders were answered, {held} are held").into())
    }

    /// Runs `wrk`; an error if anything but a success was answered.
    fn load(&self, path: &str, run: &str, connections: u64, seconds: u64) -> Result<Run, Failure> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/http_place.lua");
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", "--latency", &format!("-c{connections}"), &format!("-d{seconds}s")]);
        wrk.arg("-s").arg(script).arg(format!("http://{}", self.address));
        wrk.args(["--", path, run, &SKUS.to_string()]);
        let output = wrk.output()?;
        let text = String::from_utf8(output.stdout)?;
        let bad = ["Non-2xx", "Socket errors"].iter().any(|sign| text.contains(sign));
        if bad || !output.status.success() {
            return Err(format!("{path}: not everything succeeded:\n{text}").into());
        }
        Run::read(&text).ok_or_else(|| format!("wrk said something else:\n{text}").into())
    }

    /// One request on a connection of its own.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, Failure> {
        let mut stream = TcpStream::connect(&self.address)?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nIdempotency-Key: {path}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len(),
        );
        stream.write_all((head + &body).as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if !answer.starts_with("HTTP/1.1 200") {
            return Err(format!("{method} {path}: {answer}").into());
        }
        Ok(serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap_or(""))?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Run {
    fn read(text: &str) -> Option<Self> {
        let find = |start: &str| {
            let line = text.lines().map(str::trim).find_map(|line| line.strip_prefix(start));
            line.map(|rest| rest.trim().to_owned())
        };
        let requests = text.lines().find(|line| line.contains(" requests in "))?;
        Some(Self {
            requests: requests.split_whitespace().next()?.parse().ok()?,
            per_second: find("Requests/sec:")?.parse().ok()?,
            p50: find("50%")?,
            p99: find("99%")?,
        })
    }
}
