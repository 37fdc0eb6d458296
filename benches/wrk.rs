//! Placing orders over HTTP beside what the same server does on a route that only reads the same
//! body and answers: the share that is left of it. Load from `wrk`, which costs less than a client
//! that looks at each answer; so stock is counted afterwards. It tunes nothing.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{
    contender::Contender,
    peers::{http::Served, tidegate::InProcess},
    row::{Row, Waited},
    server,
    work::{Goods, hashed},
};

/// SKUs, and units of each: more than can be sold.
const SKUS: usize = 100;
const UNITS: u64 = 1_000_000_000;

/// Who, and on which route.
const ROUTES: [(&str, &str); 2] =
    [("only parsed", "/v1/orders:parse"), ("tidegate-http", "/v1/orders")];

/// Runs the two routes in turn, on a fresh store for each number of connections. No rows without
/// wrk.
pub(crate) async fn run(dir: &Path, connections: &[u64], seconds: f64) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    if let Err(why) = server::find("wrk", &[]) {
        println!("left out: {why:#}");
        return Ok(rows);
    }
    for connections in connections {
        let folder = tempfile::tempdir_in(dir)?;
        let options = ["--parse-only-route"];
        let goods = Goods::ample(&[UNITS; SKUS]);
        InProcess::start(&folder.path().join("store"), goods, None).await?.end().await?;
        let served = Served::open(folder.path(), 1, &options).await?;
        load(&served, ROUTES[0].1, "warm-up", *connections, seconds / 4.0)?;
        for (who, route) in ROUTES {
            rows.push(round(&served, who, route, *connections, seconds).await?);
        }
    }
    Ok(rows)
}

async fn round(
    served: &Served,
    who: &str,
    route: &str,
    connections: u64,
    seconds: f64,
) -> Result<Row> {
    let run = load(served, route, who, connections, seconds)?;
    let left = served.left(SKUS).await?;
    let held: u64 = left.iter().map(|left| UNITS - left).sum();
    let mut row = Row::of("http", who, "request");
    let mut answered = 0;
    if route == "/v1/orders" {
        row.durability = "synced before the answer".to_owned();
        answered = run.requests;
    }
    // The last ones of each connection may have been placed without `wrk` waiting for the answer.
    if !(answered..=answered + connections).contains(&held) {
        row.faults.push(format!("{answered} orders were answered, {held} are held"));
    }
    row.skew = "spread".to_owned();
    row.in_flight = connections;
    row.good_per_second = run.requests as f64 / run.seconds;
    row.waited = run.waited;
    row.hash = format!("{:016x}", hashed(&left));
    Ok(row)
}

/// What `wrk` said.
struct Run {
    requests: u64,
    seconds: f64,
    waited: Waited,
}

/// Runs `wrk`; an error if anything but a success was answered.
fn load(served: &Served, route: &str, run: &str, connections: u64, seconds: f64) -> Result<Run> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("place.lua");
    let mut wrk = Command::new("wrk");
    // It counts whole seconds.
    wrk.args(["-t1", &format!("-c{connections}"), &format!("-d{}s", seconds.ceil())]);
    wrk.arg("-s").arg(script).arg(format!("http://{}", served.address()));
    wrk.args(["--", route, &run.replace(' ', "-"), &SKUS.to_string()]);
    let output = wrk.output().context("starting wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("done: "));
    let figures: Vec<u64> =
        line.into_iter().flat_map(str::split_whitespace).filter_map(|f| f.parse().ok()).collect();
    let [requests, micros, bad, p50, p99, p999, max] = figures[..] else {
        anyhow::bail!("wrk said something else:\n{text}");
    };
    ensure!(bad == 0, "{route}: {bad} requests did not succeed:\n{text}");
    let [p50_us, p99_us, p999_us, max_us] = [p50, p99, p999, max].map(|us| us as f64);
    let waited = Waited { p50_us, p99_us, p999_us, max_us };
    Ok(Run { requests, seconds: micros as f64 / 1e6, waited })
}
