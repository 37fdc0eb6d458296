//! Redis with an append-only file: stock, limit, idempotency key and queue push in one script, as
//! shops do. A private server on a Unix socket; on loopback as well only for `redis-benchmark`,
//! which asks as `wrk` does. The script is atomic; it knows no second server.

use std::{
    net::TcpListener,
    path::Path,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context, Result, bail, ensure};
use redis::{AsyncCommands, AsyncConnectionConfig, Client, Script, aio::MultiplexedConnection};
use rustix::process::Signal;

use crate::{
    contender::{Contender, Waiting},
    row::Waited,
    server::{self, Server},
    work::{Goods, Order, Outcome, sku_name},
};

/// KEYS: the idempotency key, the stock, the queue, what users have of this SKU. ARGV: the request,
/// its quantity, its line in the queue, its user, units that a user may have. Answers the order's
/// number, 0 for sold out, −1 for a key of another request, −2 for a user who would have too much.
const PLACE: &str = "
local known = redis.call('GET', KEYS[1])
if known then
    local number, request = string.match(known, '^(%d+) (.*)$')
    if request == ARGV[1] then return tonumber(number) end
    return -1
end
local quantity = tonumber(ARGV[2])
if tonumber(redis.call('GET', KEYS[2])) < quantity then return 0 end
if redis.call('HINCRBY', KEYS[4], ARGV[4], quantity) > tonumber(ARGV[5]) then
    redis.call('HINCRBY', KEYS[4], ARGV[4], -quantity)
    return -2
end
redis.call('DECRBY', KEYS[2], quantity)
local number = redis.call('RPUSH', KEYS[3], ARGV[3])
redis.call('SET', KEYS[1], number .. ' ' .. ARGV[1], 'EX', 86400)
return number";

/// Each pipelines what is in flight on it. Redis syncs once for all that it reads in one turn, from
/// as many connections as have something to say.
pub(crate) const CONNECTIONS_MAX: u64 = 8;

/// Where a server can be reached besides its Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    SocketOnly,
    /// A free port of loopback.
    Loopback,
}

/// How often a server is started with a port that somebody else may have taken meanwhile.
const PORTS_TRIED: usize = 3;

/// SKUs that are stocked up in one command.
const FILL_AT_ONCE: usize = 1_000;

pub(crate) fn settings(fsync: &str) -> String {
    format!(
        "appendfsync {fsync}, no RDB, no rewrites, one script, up to {CONNECTIONS_MAX} pipelined \
         connections on a Unix socket"
    )
}

pub(crate) fn version() -> Result<String> {
    server::version(&server::find("redis-server", &[])?)
}

pub(crate) struct Redis {
    script: Script,
    connections: Vec<MultiplexedConnection>,
    next: AtomicUsize,
    limit: u32,
    /// 0 for none, which is Redis's word for it.
    port: u16,
    _server: Server,
}

impl Redis {
    pub(crate) async fn start(
        data: &Path,
        goods: Goods<'_>,
        in_flight: u64,
        fsync: &str,
        reach: Reach,
    ) -> Result<Self> {
        let (server, client, port) = serve(data, fsync, reach).await?;
        let mut first = connect(&client).await?;
        let mut connections = vec![first.clone()];
        while (connections.len() as u64) < in_flight.min(CONNECTIONS_MAX) {
            connections.push(connect(&client).await?);
        }
        let pairs: Vec<(String, u64)> =
            (0..).zip(goods.stock).map(|(sku, units)| (stock_key(sku), *units)).collect();
        for pairs in pairs.chunks(FILL_AT_ONCE) {
            let () = first.mset(pairs).await?;
        }
        let script = Script::new(PLACE);
        script.load_async(&mut first).await?;
        let (next, limit) = (AtomicUsize::new(0), goods.limit);
        Ok(Self { script, connections, next, limit, port, _server: server })
    }

    /// Places `orders` orders of one unit of SKU 0 by `redis-benchmark`, over `connections`, each
    /// of which asks one order, waits for its answer, and asks the next. Gives orders a second,
    /// and how long was waited. A second run needs another `name`: what `redis-benchmark` draws
    /// follows from its process's number and the second it began in, and may come again.
    ///
    /// # Errors
    /// The server was not started for [`Reach::Loopback`]; `redis-benchmark` has failed.
    pub(crate) fn bench(&self, name: &str, connections: u64, orders: u64) -> Result<(f64, Waited)> {
        // Numbers of 12 digits, drawn for each order; two of them never fall together in one run.
        const NUMBER: &str = "__rand_int__";
        let (key, sku) = (format!("{name}-{NUMBER}-{NUMBER}"), sku_name(0));
        let user = format!("user-{NUMBER}");
        let request = format!("{user} {sku} 1");
        ensure!(self.port != 0, "this server has no port");
        let mut command = Command::new(server::find("redis-benchmark", &[])?);
        command.args(["--csv", "--precision", "3", "-p"]).arg(self.port.to_string());
        command.args(["-r", "2147483647", "-c"]).arg(connections.to_string());
        command.arg("-n").arg(orders.to_string());
        command.args(["evalsha", self.script.get_hash(), "4", &key, &stock_key(0), "orders"]);
        command.arg(format!("bought:{sku}")).args([&request, "1", &format!("{key} {request}")]);
        command.args([&user, &self.limit.to_string()]);
        let output = command.output().context("starting redis-benchmark")?;
        let [text, errors] =
            [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said));
        ensure!(output.status.success(), "redis-benchmark: {}:\n{text}{errors}", output.status);
        let line = text.lines().last().unwrap_or_default().rsplit("\",\"");
        // From the right: the maximum, p99, p95, p50, the minimum, the mean, orders a second.
        let figures: Vec<f64> =
            line.take(7).filter_map(|text| text.trim_matches('"').parse().ok()).collect();
        let [max, p99, _, p50, _, _, per_second] = figures[..] else {
            bail!("redis-benchmark said something else:\n{text}{errors}");
        };
        let [p50_us, p99_us, max_us] = [p50, p99, max].map(|ms| ms * 1_000.0);
        Ok((per_second, Waited { p50_us, p99_us, p999_us: 0.0, max_us }))
    }

    fn connection(&self) -> MultiplexedConnection {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.connections[next % self.connections.len()].clone()
    }
}

/// A private server with its data in `data`, ready to be asked; and its port, 0 for none.
pub(crate) async fn serve(data: &Path, fsync: &str, reach: Reach) -> Result<(Server, Client, u16)> {
    if reach == Reach::SocketOnly {
        let (server, client) = start(data, fsync, 0).await?;
        return Ok((server, client, 0));
    }
    let mut tried = 0;
    loop {
        // It was free a moment ago; the server takes no port that it would have to choose.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        tried += 1;
        match start(data, fsync, port).await {
            Ok((server, client)) => return Ok((server, client, port)),
            Err(error) if tried == PORTS_TRIED => return Err(error),
            Err(_) => {}
        }
    }
}

async fn start(data: &Path, fsync: &str, port: u16) -> Result<(Server, Client)> {
    let socket = data.join("socket");
    let mut command = Command::new(server::find("redis-server", &[])?);
    command.arg("--port").arg(port.to_string()).args(["--bind", "127.0.0.1"]);
    command.args(["--save", "", "--appendonly", "yes"]);
    command.args(["--appendfsync", fsync, "--auto-aof-rewrite-percentage", "0"]);
    command.arg("--unixsocket").arg(&socket).arg("--dir").arg(data);
    let mut server = Server::start(command, &data.join("log"), Signal::TERM)?;
    let client = Client::open(format!("redis+unix://{}", socket.display()))?;
    let _: MultiplexedConnection = server.wait_until(async || connect(&client).await).await?;
    Ok((server, client))
}

/// A connection that waits for an answer however long it takes, as all others here do.
pub(crate) async fn connect(client: &Client) -> Result<MultiplexedConnection> {
    let patient = AsyncConnectionConfig::new().set_response_timeout(None);
    Ok(client.get_multiplexed_async_connection_with_config(&patient).await?)
}

fn stock_key(sku: usize) -> String {
    format!("stock:{}", sku_name(sku))
}

impl Contender for Redis {
    fn place<'a>(&'a self, order: &'a Order) -> Waiting<'a, Outcome> {
        Box::pin(async {
            let Order { quantity, sku, .. } = order;
            let (key, user) = (order.key_name(), order.user_name());
            let request = format!("{user} {} {quantity}", order.sku_name());
            let line = format!("{key} {request}");
            let mut call = self.script.key(key);
            call.key(stock_key(*sku)).key("orders").key(format!("bought:{}", order.sku_name()));
            call.arg(request).arg(*quantity).arg(line).arg(user).arg(self.limit);
            let number: i64 = call.invoke_async(&mut self.connection()).await?;
            match number {
                -2 => Ok(Outcome::LimitReached),
                -1 => Ok(Outcome::Conflict),
                0 => Ok(Outcome::SoldOut),
                number => Ok(Outcome::Accepted(u64::try_from(number)?)),
            }
        })
    }

    fn left(&self, skus: usize) -> Waiting<'_, Vec<u64>> {
        Box::pin(async move {
            let mut connection = self.connection();
            let keys: Vec<String> = (0..skus).map(stock_key).collect();
            let left: Vec<u64> = connection.mget(&keys).await.context("units below nothing")?;
            if left.len() != skus {
                bail!("{} of {skus} SKUs are there", left.len());
            }
            Ok(left)
        })
    }
}
