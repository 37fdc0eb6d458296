//! PostgreSQL: order row, the user's units and stock update in one transaction. Either each order
//! by itself, in one call of a function, or all that waits in one statement. A private server on a
//! Unix socket.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use rustix::process::Signal;
use tokio::sync::{Mutex, Semaphore};
use tokio_postgres::{Client, Config, NoTls, Row, Statement};

use super::batches::{Ask, BATCH_MAX, Batches, Gatherer, answer, gather};
use crate::{
    contender::{Contender, Logged, Waiting},
    server::{self, Server},
    work::{Goods, Order, Outcome, sku_name},
};

const SQL: &str = include_str!("postgres.sql");
const PLACE_FITTING: &str = include_str!("postgres_batch.sql");
const PLACE: &str = "SELECT place($1, $2, $3, $4)";
const PLACE_EACH: &str = "SELECT place(key, buyer, sku, quantity) \
     FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) \
     WITH ORDINALITY AS ask (key, buyer, sku, quantity, n) ORDER BY n";

/// For the statements of batches: one plan for each, made once and by indexes, as tables that are
/// empty when it is made are large when it is used.
const PLANNED_ONCE: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off";

/// Transactions that wait for the disk share a sync, so there are more of them than processors;
/// beyond this many they are in each other's way.
const CONNECTIONS_MAX: u64 = 32;

/// Transactions that want the same row share no sync: each waits for the one before. So there are
/// no more of them than rows, or than PostgreSQL's wiki recommends where they don't wait: two for
/// each core, and one for the disk.
fn connections(in_flight: u64, rows: usize) -> u64 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    in_flight.min(CONNECTIONS_MAX).min((2 * cores + 1).max(rows) as u64)
}

/// Beyond the defaults: no checkpoint within a round, memory for all rows, room in the log.
const SETTINGS: [&str; 6] = [
    "shared_buffers=1GB",
    "max_wal_size=8GB",
    "min_wal_size=1GB",
    "wal_buffers=64MB",
    "checkpoint_timeout=30min",
    "jit=off",
];

pub(crate) fn settings(batched: bool) -> String {
    let how = if batched {
        format!(
            "all that waits in one statement, prepared, up to {BATCH_MAX} orders, one connection; \
             what is left of them in a second"
        )
    } else {
        let hot = connections(CONNECTIONS_MAX, 1);
        format!(
            "one call of a function, prepared, up to {CONNECTIONS_MAX} connections, \
             {hot} on a hot row"
        )
    };
    let settings = SETTINGS.join(", ");
    format!("fsync=on, synchronous_commit=on, {settings}, Unix socket; {how}")
}

/// Where Debian keeps what it does not put on PATH, newest first.
fn elsewhere() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
    versions.sort();
    versions.reverse();
    versions
}

pub(crate) fn version() -> Result<String> {
    server::find("initdb", &elsewhere())?;
    server::version(&server::find("postgres", &elsewhere())?)
}

struct Connection {
    client: Client,
    place: Statement,
}

impl Connection {
    async fn open(config: &Config) -> Result<Self> {
        let (client, connection) = config.connect(NoTls).await?;
        // Its errors are those of what is asked over it.
        tokio::spawn(connection);
        // The statement needs what `SQL` makes; only the first connection is there before.
        if client.query_opt("SELECT FROM pg_proc WHERE proname = 'place'", &[]).await?.is_none() {
            client.batch_execute(SQL).await?;
        }
        let place = client.prepare(PLACE).await?;
        Ok(Self { client, place })
    }
}

pub(crate) struct Postgres {
    connections: Mutex<Vec<Connection>>,
    free: Semaphore,
    /// For whoever commits in batches.
    gatherer: Option<Gatherer>,
    batches: Arc<AtomicU64>,
    looks: Connection,
    _server: Server,
}

impl Postgres {
    /// `in_flight` callers with connections of their own, as far as there are; or batches for all.
    pub(crate) async fn start(
        data: &Path,
        goods: Goods<'_>,
        in_flight: Option<u64>,
    ) -> Result<Self> {
        let mut server = begin(data)?;
        let mut config = Config::new();
        config.host_path(data).user("tidegate").dbname("postgres");
        let looks = server.wait_until(async || Connection::open(&config).await).await?;
        let skus: Vec<String> = (0..goods.stock.len()).map(sku_name).collect();
        let units: Vec<i64> = goods.stock.iter().map(|units| *units as i64).collect();
        let fill = "INSERT INTO stock SELECT sku, units, $3 \
                    FROM unnest($1::text[], $2::bigint[]) AS goods (sku, units)";
        looks.client.execute(fill, &[&skus, &units, &i64::from(goods.limit)]).await?;
        // Each by itself: several at once would be a transaction. Only of stock: a table that is
        // known to be empty gets plans that read all of it, and sessions keep these as it grows.
        for statement in ["VACUUM ANALYZE stock", "CHECKPOINT"] {
            looks.client.batch_execute(statement).await?;
        }
        let count = in_flight.map_or(0, |callers| connections(callers, goods.stock.len())) as usize;
        let connections = try_join_all((0..count).map(|_| Connection::open(&config))).await?;
        let (mut gatherer, batches) = (None, Arc::new(AtomicU64::new(0)));
        if in_flight.is_none() {
            let (hand_in, waiting) = gather();
            gatherer = Some(hand_in);
            let sets = Sets::of(Connection::open(&config).await?.client).await?;
            tokio::spawn(commit_batches(sets, waiting, Arc::clone(&batches)));
        }
        let (connections, free) = (Mutex::new(connections), Semaphore::new(count));
        Ok(Self { connections, free, gatherer, batches, looks, _server: server })
    }
}

/// Makes a database in `data` and starts its server. It refuses to run as root.
pub(crate) fn begin(data: &Path) -> Result<Server> {
    let folder = data.join("db");
    let mut init = Command::new(server::find("initdb", &elsewhere())?);
    init.args(["--no-sync", "--auth=trust", "--username=tidegate", "--encoding=UTF8"]);
    init.args(["--locale=C", "--pgdata"]).arg(&folder).current_dir(data);
    server::as_ordinary_user(&mut init, data)?;
    let made = init.output().context("starting initdb")?;
    ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    let mut command = Command::new(server::find("postgres", &elsewhere())?);
    command.arg("-D").arg(&folder).arg("-k").arg(data).current_dir(data);
    for setting in SETTINGS.into_iter().chain(["listen_addresses="]) {
        command.args(["-c", setting]);
    }
    server::as_ordinary_user(&mut command, data)?;
    // "Fast": ends sessions, writes a checkpoint, ends.
    Server::start(command, &data.join("log"), Signal::INT)
}

/// A connection with the statements for many orders.
struct Sets {
    client: Client,
    fitting: Statement,
    each: Statement,
}

impl Sets {
    async fn of(client: Client) -> Result<Self> {
        client.batch_execute(PLANNED_ONCE).await?;
        let fitting = client.prepare(PLACE_FITTING).await?;
        let each = client.prepare(PLACE_EACH).await?;
        Ok(Self { client, fitting, each })
    }
}

async fn commit_batches(sets: Sets, mut waiting: Batches, count: Arc<AtomicU64>) {
    while let Some(batch) = waiting.next().await {
        let outcomes = place_batch(&sets, &batch).await;
        count.fetch_add(1, Ordering::Relaxed);
        answer(batch, outcomes);
    }
}

/// First all new orders of SKUs with stock for all of them, and of users who may have them, what is
/// sold out, and repeats, in one statement. What is left over are SKUs that run out, users who
/// would have too much and keys that come twice: those one after the other, in another.
async fn place_batch(sets: &Sets, batch: &[Ask]) -> Result<Vec<Outcome>> {
    let Sets { client, fitting, each } = sets;
    let orders: Vec<&Order> = batch.iter().map(|(order, _)| order).collect();
    let mut outcomes = vec![None; orders.len()];
    for row in ask(client, fitting, &orders).await? {
        let n: i64 = row.get(0);
        outcomes[n as usize - 1] = Some(outcome(row.get(1)));
    }
    let over = (0..orders.len()).filter(|n| outcomes[*n].is_none());
    let over: Vec<usize> = over.collect();
    if !over.is_empty() {
        let orders: Vec<&Order> = over.iter().map(|n| orders[*n]).collect();
        let rows = ask(client, each, &orders).await?;
        for (n, row) in over.into_iter().zip(rows) {
            outcomes[n] = Some(outcome(row.get(0)));
        }
    }
    outcomes.into_iter().collect::<Option<_>>().context("an order without an outcome")
}

async fn ask(client: &Client, asked: &Statement, orders: &[&Order]) -> Result<Vec<Row>> {
    let keys: Vec<String> = orders.iter().map(|order| order.key_name()).collect();
    let users: Vec<String> = orders.iter().map(|order| order.user_name()).collect();
    let skus: Vec<String> = orders.iter().map(|order| order.sku_name()).collect();
    let quantities: Vec<i64> = orders.iter().map(|order| order.quantity as i64).collect();
    Ok(client.query(asked, &[&keys, &users, &skus, &quantities]).await?)
}

fn outcome(number: i64) -> Outcome {
    match number {
        -2 => Outcome::LimitReached,
        -1 => Outcome::Conflict,
        0 => Outcome::SoldOut,
        number => Outcome::Accepted(number as u64),
    }
}

impl Contender for Postgres {
    fn place<'a>(&'a self, order: &'a Order) -> Waiting<'a, Outcome> {
        Box::pin(async {
            if let Some(gatherer) = &self.gatherer {
                return gatherer.place(order).await;
            }
            let _place = self.free.acquire().await?;
            let connection = self.connections.lock().await.pop().context("no connection")?;
            let Connection { client, place } = &connection;
            let (key, user, sku) = (order.key_name(), order.user_name(), order.sku_name());
            let row = client.query_one(place, &[&key, &user, &sku, &(order.quantity as i64)]).await;
            self.connections.lock().await.push(connection);
            Ok(outcome(row?.get(0)))
        })
    }

    fn left(&self, skus: usize) -> Waiting<'_, Vec<u64>> {
        Box::pin(async move {
            let names: Vec<String> = (0..skus).map(sku_name).collect();
            let sql = "SELECT available FROM unnest($1::text[]) WITH ORDINALITY AS asked (sku, n) \
                       JOIN stock USING (sku) ORDER BY n";
            let rows = self.looks.client.query(sql, &[&names]).await?;
            ensure!(rows.len() == skus, "{} of {skus} SKUs are there", rows.len());
            Ok(rows.iter().map(|row| row.get::<_, i64>(0) as u64).collect())
        })
    }

    /// Of batches only. The server counts its syncs too, but tells of them a second late.
    fn logged(&self) -> Option<Logged> {
        self.gatherer.as_ref()?;
        Some(Logged { syncs: self.batches.load(Ordering::Relaxed), bytes: None })
    }
}
