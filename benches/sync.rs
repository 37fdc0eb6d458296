//! How fast a PostgreSQL database gets what a store has: by the worker that follows the journal, by
//! the same worker when it loads all anew, and by a plain COPY of the same rows into the same
//! tables. Afterwards there must be as many rows as were sold, and the same by all ways. How far
//! behind it is under load it does not measure.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant},
};

use ::tidegate::{
    Adjustment, NewOrder, PaymentEvent, Position, SkuPatch, Tidegate,
    postgres::{Options, Worker},
};
use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt, TryStreamExt, future::try_join_all, pin_mut};
use tokio_postgres::{Client, Config, NoTls};

use crate::{
    load::{Asked, Until, ask_many},
    peers::postgres,
    row::Row,
    work::{hashed, sku_name},
};

const SKUS: u64 = 1_000;
const IN_FLIGHT: u64 = 256;
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Bytes of a COPY that are handed over at once.
const COPY_PART: usize = 1 << 16;

const TABLES: [&str; 7] =
    ["orders", "order_lines", "payments", "skus", "stock", "holds", "movements"];

/// What loading takes from the store, and following from an event: it need not be the same.
const MAY_DIFFER: [&str; 2] = ["changed_at", "position"];
/// What the journal tells and the store does not: loading can't bring it back.
const NOT_LOADED: &str = "movements";

/// SKUs whose stock is not the sum of its movements.
const CONTRADICTIONS: &str = "select count(*) from tidegate.stock s full join (select sku, \
     location, sum(on_hand) as on_hand, sum(held) as held, sum(allocated) as allocated \
     from tidegate.movements group by sku, location) m using (sku, location) \
     where s.on_hand is distinct from m.on_hand or s.held is distinct from m.held \
     or s.allocated is distinct from m.allocated";

/// What each table has.
type Contents = BTreeMap<&'static str, Content>;

/// The rows of a table, and sums of the hashes of what is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    rows: i64,
    all: String,
    /// Without [`MAY_DIFFER`].
    same: String,
}

/// The rows of each table, as COPY takes them.
type Copies = Vec<(String, Vec<u8>)>;

/// Four rows: following and loading `orders` orders, and COPY of what each has written.
pub(crate) async fn run(dir: &Path, orders: u64) -> Result<Vec<Row>> {
    if postgres::version().is_err() {
        println!("sync: no PostgreSQL here; left out");
        return Ok(Vec::new());
    }
    let folder = tempfile::tempdir_in(dir)?;
    let (store, data) = (folder.path().join("store"), folder.path().join("postgres"));
    std::fs::create_dir(&data)?;
    let mut server = postgres::begin(&data)?;
    let mut config = Config::new();
    config.host_path(&data).user("tidegate").dbname("postgres");
    let client = server
        .wait_until(async || {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(connection);
            Ok(client)
        })
        .await?;
    let gate = Tidegate::builder(store).events_retained_bytes(1 << 40).open().await?;
    fill(&gate, orders).await?;
    let bench = Bench { gate, client, url: url(&data), orders };
    let rows = bench.all().await;
    bench.gate.close().await?;
    rows
}

fn url(data: &Path) -> String {
    let host = data.display().to_string().replace('%', "%25").replace('/', "%2F");
    format!("postgres://tidegate@{host}/postgres?sslmode=disable")
}

/// Orders of one to three lines: half of them are paid, half of those are shipped, and some are
/// cancelled.
async fn fill(gate: &Tidegate, orders: u64) -> Result<()> {
    let define = (0..SKUS as usize).map(|sku| async move {
        let name = sku_name(sku);
        gate.stock().define(&name, SkuPatch::default().price_minor(1_990)).await?;
        let delivery = Adjustment::new(name, 1_000_000, "delivery");
        gate.stock().adjust(delivery, "delivery").await?;
        anyhow::Ok(())
    });
    try_join_all(define).await?;
    let of = gate.clone();
    let place = move |n: u64| {
        let gate = of.clone();
        async move {
            let order = NewOrder::new(format!("user-{}", n / 3));
            let lines = skus_of(n).map(|sku| sku_name(sku as usize));
            let order = lines.fold(order, |order, sku| order.line(sku, 1));
            let key = format!("order-{n}");
            let receipt = gate.orders().place(order, &key).await?;
            if n % 2 == 1 {
                let payment = PaymentEvent::captured("bank", &key, receipt.total_minor);
                gate.orders().pay(receipt.id, payment).await?;
            }
            match n % 8 {
                1 | 5 => drop(gate.orders().fulfil(receipt.id, None, &key).await?),
                2 => drop(gate.orders().cancel(receipt.id, &key).await?),
                _ => {}
            }
            Ok(())
        }
    };
    let _: Asked<()> = ask_many(IN_FLIGHT, Until::numbers(orders), place).await?;
    ensure!(gate.report().oldest <= Position::ZERO.next(), "the journal was trimmed");
    Ok(())
}

/// What the `n`-th order is for, a unit each; the same SKU may come twice, and is one line then.
fn skus_of(n: u64) -> impl Iterator<Item = u64> {
    (0..=n % 3).map(move |line| hashed(&[n, line]) % SKUS)
}

/// How many rows there must be of what was sold; movements are held against stock instead.
fn expected(orders: u64) -> [(&'static str, u64); 6] {
    let lines = (0..orders).map(|n| skus_of(n).collect::<BTreeSet<u64>>().len() as u64).sum();
    [
        ("orders", orders),
        ("order_lines", lines),
        ("payments", orders / 2),
        ("skus", SKUS),
        ("stock", SKUS),
        ("holds", 0),
    ]
}

struct Bench {
    gate: Tidegate,
    client: Client,
    url: String,
    orders: u64,
}

impl Bench {
    async fn all(&self) -> Result<Vec<Row>> {
        let (mut rows, mut followed) = (Vec::new(), Contents::new());
        for (loads, who) in [(0, "following"), (1, "loading")] {
            if loads > 0 {
                self.client.batch_execute("update tidegate.sync set position = null").await?;
            }
            let seconds = self.worker(loads).await?;
            let (contents, copies) = (self.contents().await?, self.copies().await?);
            let mut brought = row(who, &contents, seconds);
            brought.faults = self.faults(&contents).await?;
            if loads == 0 {
                followed.clone_from(&contents);
            }
            let alike = |table: &str| {
                let same = |there: &Contents| there.get(table).map(|there| there.same.clone());
                table == NOT_LOADED || same(&followed) == same(&contents)
            };
            let other = TABLES.into_iter().filter(|table| !alike(table));
            brought.faults.extend(other.map(|table| format!("{table} is not as by following")));
            rows.push(brought);
            self.empty().await?;
            let seconds = self.copy(&copies).await?;
            let copied = self.contents().await?;
            let mut row = row(&format!("COPY of what is written by {who}"), &copied, seconds);
            if copied != contents {
                row.faults.push(format!("by COPY there are other rows: {copied:?}, {contents:?}"));
            }
            rows.push(row);
            self.empty().await?;
        }
        Ok(rows)
    }

    /// Lets a worker bring everything into the database; gives how many seconds that took.
    async fn worker(&self, loads: u64) -> Result<f64> {
        let worker = Worker::new(Options::new(&self.url)?);
        let (figures, end) = (worker.figures(), self.gate.events().durable());
        let begun = Instant::now();
        let running = tokio::spawn(worker.run(self.gate.clone()));
        while figures.report().position < end {
            ensure!(!running.is_finished(), "the worker has ended: {:?}", figures.report());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let seconds = begun.elapsed().as_secs_f64();
        running.abort();
        let report = figures.report();
        ensure!(report.loads == loads && report.failures == 0, "{report:?}");
        Ok(seconds)
    }

    /// What is wrong with what is there, by what was sold.
    async fn faults(&self, contents: &Contents) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        for (table, expected) in expected(self.orders) {
            let found = contents.get(table).map_or(0, |there| there.rows.unsigned_abs());
            if found != expected {
                faults.push(format!("{table} has {found} rows, not {expected}"));
            }
        }
        let wrong: i64 = self.client.query_one(CONTRADICTIONS, &[]).await?.get(0);
        if wrong > 0 {
            faults.push(format!("the stock of {wrong} SKUs is not the sum of its movements"));
        }
        Ok(faults)
    }

    async fn contents(&self) -> Result<Contents> {
        let mut contents = Contents::new();
        let hash = |what: &str| format!("coalesce(sum(hashtextextended({what}, 0)), 0)::text");
        let (all, same) = (hash("t::text"), hash("(to_jsonb(t) - $1::text[])::text"));
        for table in TABLES {
            let sql = format!("select count(*), {all}, {same} from tidegate.{table} t");
            let row = self.client.query_one(&sql, &[&&MAY_DIFFER[..]]).await?;
            let content = Content { rows: row.get(0), all: row.get(1), same: row.get(2) };
            contents.insert(table, content);
        }
        Ok(contents)
    }

    /// Takes a copy of every table; no column that the server computes.
    async fn copies(&self) -> Result<Copies> {
        let mut copies = Copies::new();
        for table in TABLES {
            let sql = "select string_agg(column_name, ', ' order by ordinal_position) \
                       from information_schema.columns where table_schema = 'tidegate' \
                       and table_name = $1 and is_generated = 'NEVER'";
            let columns: String = self.client.query_one(sql, &[&table]).await?.get(0);
            let of = format!("tidegate.{table} ({columns})");
            let out = self.client.copy_out(&format!("copy {of} to stdout (format binary)")).await?;
            let bytes = out.try_fold(Vec::new(), |mut all, part| async move {
                all.extend_from_slice(&part);
                Ok(all)
            });
            copies.push((of, bytes.await?));
        }
        Ok(copies)
    }

    /// Writes copies into the same tables, with their indexes, in one transaction.
    async fn copy(&self, copies: &Copies) -> Result<f64> {
        let begun = Instant::now();
        self.client.batch_execute("begin").await?;
        for (of, bytes) in copies {
            let copy = format!("copy {of} from stdin (format binary)");
            let sink = self.client.copy_in::<_, bytes::Bytes>(&copy).await?;
            pin_mut!(sink);
            for part in bytes.chunks(COPY_PART) {
                sink.send(bytes::Bytes::copy_from_slice(part)).await?;
            }
            sink.finish().await.context("COPY")?;
        }
        self.client.batch_execute("commit").await?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// The tables as they were made; what is written next finds the log at its beginning.
    async fn empty(&self) -> Result<()> {
        let tables = TABLES.map(|table| format!("tidegate.{table}")).join(", ");
        self.client.batch_execute(&format!("truncate {tables}")).await?;
        self.client.batch_execute("checkpoint").await?;
        Ok(())
    }
}

fn row(who: &str, contents: &Contents, seconds: f64) -> Row {
    let counts: Vec<u64> = contents.values().map(|there| there.rows.unsigned_abs()).collect();
    let mut row = Row::of("sync", who, "row");
    row.durability = "fsync=on, one transaction or batches".to_owned();
    row.good_per_second = counts.iter().sum::<u64>() as f64 / seconds;
    row.hash = format!("{:016x}", hashed(&counts));
    row
}
