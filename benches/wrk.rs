//! A server over HTTP, each thing beside what the same server does on a route that only reads the
//! body of an order and answers, just before and just after: the share that is left of it. Load
//! from `wrk`, which costs less than a client that looks at each answer; so the server's own count
//! of them is looked at, and some are asked for again. Beside both, what a bare socket gets from
//! the same `wrk`, and Redis from its own load generator. It tunes nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use tidegate::OrderId;

use crate::{
    bare::{Bare, answer_of},
    contender::Contender,
    peers::{
        http::{Served, make},
        redis::{Reach, Redis},
    },
    row::{Row, Waited},
    server,
    shop::{SKUS, SOLD_OUT, Shop, UNITS},
    work::{Goods, Order, Outcome, hashed},
};

/// A request that is only parsed.
const PARSED: &str = concat!(
    "POST /v1/orders:parse HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n",
    "Idempotency-Key: 1\r\nContent-Length: 62\r\n\r\n",
    r#"{"user": "user-1", "lines": [{"sku": "sku-1", "quantity": 1}]}"#,
);

/// SKUs that are ordered.
const WANTED: usize = 100;

/// Orders of each connection before Redis is timed.
const WARM_UP_EACH: u64 = 100;

/// Answers that are looked at, of a kind that `wrk` only counts.
const LOOKED_AT: u64 = 20;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Parse,
    Place,
    Refused,
    ReadLive,
    ReadFinished,
}

impl Ask {
    /// What is held against [`Ask::Parse`].
    const ALL: [Self; 4] = [Self::Place, Self::Refused, Self::ReadLive, Self::ReadFinished];

    fn name(self) -> &'static str {
        match self {
            Self::Parse => "only parsed",
            Self::Place => "placed",
            Self::Refused => "sold out",
            Self::ReadLive => "read, a live order",
            Self::ReadFinished => "read, a finished order",
        }
    }

    /// What the server counts for each answer that is right, and for no other.
    fn series(self) -> String {
        let (path, method, status) = match self {
            Self::Refused => return r#"tidegate_http_problems_total{type="sold-out"}"#.to_owned(),
            Self::Parse => ("/v1/orders:parse", "POST", 201),
            Self::Place => ("/v1/orders", "POST", 201),
            Self::ReadLive | Self::ReadFinished => ("/v1/orders/{id}", "GET", 200),
        };
        let labels = format!(r#"path="{path}",method="{method}",status="{status}""#);
        format!("tidegate_http_requests_total{{{labels}}}")
    }

    /// The script, and what it is told: a path, the first SKU and how many; or a file of paths.
    fn script(self, data: &Path) -> (&'static str, Vec<String>) {
        let place = |path: &str, first: usize, skus: usize| {
            // No two runs with keys that count have the same.
            let run = format!("{self:?}");
            let told = vec![path.to_owned(), run, first.to_string(), skus.to_string()];
            ("place.lua", told)
        };
        let read = |live| ("read.lua", vec![paths(data, live).display().to_string()]);
        match self {
            Self::Parse => place("/v1/orders:parse", 0, WANTED),
            Self::Place => place("/v1/orders", 0, WANTED),
            Self::Refused => place("/v1/orders", SOLD_OUT, 1),
            Self::ReadLive => read(true),
            Self::ReadFinished => read(false),
        }
    }
}

/// Runs all in turn, on a fresh store with `orders` orders for each number of connections. No rows
/// without wrk.
pub(crate) async fn run(
    dir: &Path,
    connections: &[u64],
    seconds: f64,
    orders: u64,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    if let Err(why) = server::find("wrk", &[]) {
        println!("left out: {why:#}");
        return Ok(rows);
    }
    for connections in connections {
        let folder = tempfile::tempdir_in(dir)?;
        let data = folder.path();
        make(data).await?;
        let shop = Shop::fill(&data.join("store"), orders).await?;
        for live in [true, false] {
            fs::write(paths(data, live), listed(&shop.orders, live))?;
        }
        shop.gate.close().await?;
        let served = Served::open(data, 1, &["--parse-only-route"]).await?;
        load(served.address(), data, Ask::Parse, *connections, seconds / 4.0)?;
        rows.extend(beside_parsing(&served, data, *connections, seconds).await?);
        drop(served);
        rows.extend(redis(data, *connections, seconds).await?);
    }
    Ok(rows)
}

/// Rows for the route that only parses, for each of [`Ask::ALL`], and for a bare socket. The route
/// is measured before and after each of them, for half as long: a machine is not the same minute by
/// minute.
async fn beside_parsing(
    served: &Served,
    data: &Path,
    connections: u64,
    seconds: f64,
) -> Result<Vec<Row>> {
    let parsing = || round(served, data, Ask::Parse, connections, seconds / 2.0);
    let (mut parsed, mut rows) = (vec![parsing().await?], Vec::new());
    for ask in Ask::ALL {
        rows.push(round(served, data, ask, connections, seconds).await?);
        parsed.push(parsing().await?);
    }
    let bare = Bare::start(answer_of(served.address(), PARSED).await?)?;
    let run = load(&bare.address.to_string(), data, Ask::Parse, connections, seconds)?;
    rows.push(run.row("a bare socket, which parses nothing", connections));
    parsed.push(parsing().await?);
    let bases = parsed
        .windows(2)
        .map(|around| f64::midpoint(around[0].good_per_second, around[1].good_per_second));
    let beside = rows.into_iter().zip(bases).map(|(row, base)| {
        let share = row.good_per_second / base;
        row.and("of only parsed", share)
    });
    let parsed = Row::median(&parsed).map(|row| row.and("of only parsed", 1.0));
    Ok(parsed.into_iter().chain(beside).collect())
}

/// Redis, synced before the answer, over as many connections. No row without it.
async fn redis(data: &Path, connections: u64, seconds: f64) -> Result<Option<Row>> {
    if let Err(why) = server::find("redis-server", &[]).and(server::find("redis-benchmark", &[])) {
        println!("left out: {why:#}");
        return Ok(None);
    }
    let folder = data.join("redis");
    fs::create_dir(&folder)?;
    let redis = Redis::start(&folder, Goods::ample(&[UNITS]), 1, "always", Reach::Loopback).await?;
    // It counts orders, not seconds.
    let few = connections * WARM_UP_EACH;
    let (per_second, _) = redis.bench("warm", connections, few)?;
    let orders = (per_second * seconds) as u64 + connections;
    let (per_second, waited) = redis.bench("order", connections, orders)?;
    let left = redis.left(1).await?;
    let mut row = Row::of("http", "redis-always, by redis-benchmark", "request");
    if left != [UNITS - few - orders] {
        row.faults.push(format!("{few} + {orders} orders were answered, {left:?} units are left"));
    }
    row.durability = "synced before the answer".to_owned();
    (row.skew, row.in_flight) = ("hot".to_owned(), connections);
    (row.good_per_second, row.waited) = (per_second, waited);
    row.hash = format!("{:016x}", hashed(&left));
    Ok(Some(row))
}

/// The file with the paths of live, or of finished orders.
fn paths(data: &Path, live: bool) -> PathBuf {
    data.join(if live { "live" } else { "finished" })
}

fn listed(orders: &[OrderId], live: bool) -> String {
    let kind = orders.iter().skip(usize::from(!live)).step_by(2);
    kind.map(|id| format!("/v1/orders/{id}\n")).collect()
}

async fn round(
    served: &Served,
    data: &Path,
    ask: Ask,
    connections: u64,
    seconds: f64,
) -> Result<Row> {
    let series = ask.series();
    let (before, counted) = (served.left(SKUS + 1).await?, served.counted(&series).await?);
    let run = load(served.address(), data, ask, connections, seconds)?;
    let (after, now) = (served.left(SKUS + 1).await?, served.counted(&series).await?);
    let right = now - counted;
    let held: u64 = before.iter().zip(&after).map(|(before, after)| before - after).sum();
    let mut row = run.row(ask.name(), connections);
    let mut answered = 0;
    match ask {
        Ask::Parse => {}
        Ask::Place => {
            row.durability = "synced before the answer".to_owned();
            answered = run.requests;
        }
        Ask::Refused | Ask::ReadLive | Ask::ReadFinished => {
            row.durability = "shows what is synced".to_owned();
        }
    }
    // The last one of each connection may have been asked without `wrk` waiting for the answer.
    if !(run.requests..=run.requests + connections).contains(&right) {
        row.faults.push(format!("{} answers came, {right} of them are right", run.requests));
    }
    let late = if ask == Ask::Place { connections } else { 0 };
    if !(answered..=answered + late).contains(&held) {
        row.faults.push(format!("{answered} orders were answered, {held} are held"));
    }
    look(served, data, ask).await?;
    if ask == Ask::Refused {
        row.skew = "hot".to_owned();
    }
    row.hash = format!("{:016x}", hashed(&after));
    Ok(row)
}

/// Asks some times more, and looks at the answers.
async fn look(served: &Served, data: &Path, ask: Ask) -> Result<()> {
    match ask {
        Ask::Parse | Ask::Place => Ok(()),
        Ask::Refused => {
            for key in 0..LOOKED_AT {
                let order = Order { key, user: key, sku: SOLD_OUT, quantity: 1 };
                let outcome = served.place(&order).await?;
                ensure!(outcome == Outcome::SoldOut, "what is sold out was answered {outcome:?}");
            }
            Ok(())
        }
        Ask::ReadLive | Ask::ReadFinished => {
            let live = ask == Ask::ReadLive;
            let state = if live { "awaiting_payment" } else { "confirmed" };
            for path in fs::read_to_string(paths(data, live))?.lines().take(LOOKED_AT as usize) {
                let order = served.get(path).await?;
                let right = order["state"] == state
                    && order["id"].as_str().is_some_and(|id| path.ends_with(id));
                ensure!(right, "{path} was read as {order}");
            }
            Ok(())
        }
    }
}

/// What `wrk` said.
struct Run {
    requests: u64,
    seconds: f64,
    waited: Waited,
}

impl Run {
    fn per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// A row of nothing but what `wrk` said.
    fn row(&self, who: &str, connections: u64) -> Row {
        let mut row = Row::of("http", who, "request");
        (row.skew, row.in_flight) = ("spread".to_owned(), connections);
        (row.good_per_second, row.waited) = (self.per_second(), self.waited);
        row
    }
}

/// Runs `wrk`; an error if anything but what is expected was answered, as far as `wrk` sees it.
fn load(address: &str, data: &Path, ask: Ask, connections: u64, seconds: f64) -> Result<Run> {
    let (script, told) = ask.script(data);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let mut wrk = Command::new("wrk");
    // It counts whole seconds.
    wrk.args(["-t1", &format!("-c{connections}"), &format!("-d{}s", seconds.ceil())]);
    // An answer that takes longer is no answer; else it is one, however long it took.
    wrk.args(["--timeout", "10s"]);
    wrk.arg("-s").arg(script).arg(format!("http://{address}"));
    wrk.arg("--").args(told);
    let output = wrk.output().context("starting wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("done: "));
    let figures: Vec<u64> =
        line.into_iter().flat_map(str::split_whitespace).filter_map(|f| f.parse().ok()).collect();
    let [requests, micros, lost, refused, p50, p99, p999, max] = figures[..] else {
        bail!("wrk said something else:\n{text}");
    };
    let expected = if ask == Ask::Refused { requests } else { 0 };
    ensure!(lost == 0, "{ask:?}: {lost} requests had no answer:\n{text}");
    ensure!(refused == expected, "{ask:?}: {refused} of {requests} were refused:\n{text}");
    let [p50_us, p99_us, p999_us, max_us] = [p50, p99, p999, max].map(|us| us as f64);
    let waited = Waited { p50_us, p99_us, p999_us, max_us };
    Ok(Run { requests, seconds: micros as f64 / 1e6, waited })
}
