//! Tidegate as a server: `tidegate serve` with its defaults, spoken to by hyper over HTTP/1.1 on
//! loopback, a connection for each order in flight. It tunes nothing.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
    header,
};
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate::OrderId;
use tokio::{
    net::TcpStream,
    sync::{Mutex, Semaphore},
};

use crate::{
    contender::{Contender, Waiting},
    peers::tidegate::InProcess,
    server::{self, Server},
    work::{Goods, Order, Outcome, sku_name},
};

/// Stock is looked at over so many connections at least.
const CONNECTIONS_MIN: u64 = 16;

/// The program: built beside this one, or on PATH.
fn program() -> Result<PathBuf> {
    let beside: Vec<PathBuf> =
        env::current_exe()?.parent().map(Path::to_owned).into_iter().collect();
    let here = beside.iter().map(|folder| folder.join("tidegate")).find(|file| file.is_file());
    here.map_or_else(|| server::find("tidegate", &[]), Ok)
}

pub(crate) fn version() -> Result<String> {
    server::version(&program()?)
}

/// Starts a server with its store in `data`; gives it and its address.
async fn serve(data: &Path, options: &[&str]) -> Result<(Server, String)> {
    let mut command = Command::new(program()?);
    command.arg("serve").arg("--data").arg(data.join("store")).args(options);
    command.args(["--listen", "127.0.0.1:0"]).env("RUST_LOG", "warn,actix_http=off");
    let mut server = Server::start(command, &data.join("log"), Signal::TERM)?;
    let log = server.log().to_owned();
    let address = async || {
        let said = fs::read_to_string(&log)?;
        let line = said.lines().find_map(|line| line.strip_prefix("listening on http://"));
        // A line that is being written has no end yet.
        let line = line.filter(|_| said.contains("documentation")).context("not yet")?;
        Ok(line.trim().to_owned())
    };
    let address = server.wait_until(address).await?;
    Ok((server, address))
}

/// Makes a store in `data` by the server itself: how many shards it has is said then, and the
/// library's default is another.
pub(crate) async fn make(data: &Path) -> Result<()> {
    serve(data, &[]).await.map(drop)
}

pub(crate) struct Served {
    connections: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    free: Semaphore,
    address: String,
    count: usize,
    server: Server,
}

#[derive(Serialize)]
struct NewOrder<'a> {
    user: &'a str,
    lines: [NewLine<'a>; 1],
}

#[derive(Serialize)]
struct NewLine<'a> {
    sku: &'a str,
    quantity: u64,
}

#[derive(Deserialize)]
struct Accepted<'a> {
    id: &'a str,
}

#[derive(Deserialize)]
struct Problem<'a> {
    r#type: &'a str,
}

impl Served {
    /// Stocks a store up, in process, which is quicker, and starts a server with it.
    pub(crate) async fn start(data: &Path, goods: Goods<'_>, in_flight: u64) -> Result<Self> {
        make(data).await?;
        InProcess::start(&data.join("store"), goods, None).await?.end().await?;
        Self::open(data, in_flight, &[]).await
    }

    /// Starts a server, with `options`, on the store in `data`.
    pub(crate) async fn open(data: &Path, in_flight: u64, options: &[&str]) -> Result<Self> {
        let (server, address) = serve(data, options).await?;
        let count = in_flight.max(CONNECTIONS_MIN) as usize;
        let connections = try_join_all((0..count).map(|_| connect(&address))).await?;
        let (connections, free) = (Mutex::new(connections), Semaphore::new(count));
        Ok(Self { connections, free, address, count, server })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Memory that the server has, in bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        self.server.memory()
    }

    /// What there is at `path`; an error unless there is something.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        let (status, text) = self.ask(Method::GET, path, path, Vec::new()).await?;
        if !status.is_success() {
            bail!("{path}: {status}: {}", String::from_utf8_lossy(&text));
        }
        Ok(serde_json::from_slice(&text)?)
    }

    /// What the server has counted in `series` of its metrics, named with its labels; 0 if there
    /// is no such.
    pub(crate) async fn counted(&self, series: &str) -> Result<u64> {
        let (status, text) = self.ask(Method::GET, "/metrics", "metrics", Vec::new()).await?;
        ensure!(status.is_success(), "/metrics: {status}");
        let text = std::str::from_utf8(&text)?;
        let figure = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(figure.map_or(Ok(0), str::parse)?)
    }

    async fn available(&self, sku: usize) -> Result<u64> {
        let item = self.get(&format!("/v1/skus/{}", sku_name(sku))).await?;
        item["available"].as_u64().context("no figure of what is available")
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        key: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.address)
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", key)
            .body(Full::new(Bytes::from(body)))?;
        let _place = self.free.acquire().await?;
        let mut connection = self.connections.lock().await.pop().context("no connection")?;
        // The server ends those that are idle for long.
        if connection.ready().await.is_err() {
            connection = connect(&self.address).await?;
        }
        let response = connection.send_request(request).await?;
        let status = response.status();
        let text = response.into_body().collect().await?.to_bytes();
        self.connections.lock().await.push(connection);
        Ok((status, text))
    }
}

async fn connect(address: &str) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Its errors are those of what is asked over it.
    tokio::spawn(connection);
    Ok(sender)
}

impl Contender for Served {
    fn place<'a>(&'a self, order: &'a Order) -> Waiting<'a, Outcome> {
        Box::pin(async {
            let line = NewLine { sku: &order.sku_name(), quantity: order.quantity };
            let new = NewOrder { user: &order.user_name(), lines: [line] };
            let body = serde_json::to_vec(&new)?;
            let key = order.key_name();
            let (status, text) = self.ask(Method::POST, "/v1/orders", &key, body).await?;
            if status == StatusCode::CREATED {
                let Accepted { id } = serde_json::from_slice(&text)?;
                return Ok(Outcome::Accepted(id.parse::<OrderId>()?.0));
            }
            let problem: Result<Problem<'_>, _> = serde_json::from_slice(&text);
            match problem.map(|problem| problem.r#type.rsplit('/').next().unwrap_or_default()) {
                Ok("sold-out") => Ok(Outcome::SoldOut),
                Ok("limit-exceeded") => Ok(Outcome::LimitReached),
                Ok("idempotency-conflict") => Ok(Outcome::Conflict),
                _ => bail!("{status}: {}", String::from_utf8_lossy(&text)),
            }
        })
    }

    fn left(&self, skus: usize) -> Waiting<'_, Vec<u64>> {
        Box::pin(async move {
            let left = stream::iter(0..skus).map(|sku| self.available(sku));
            left.buffered(self.count).try_collect().await
        })
    }
}
