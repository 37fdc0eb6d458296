//! SQLite, embedded: write-ahead log, `synchronous=FULL`, one thread that writes. It commits all
//! that waits as one transaction, since SQLite has one writer at a time and a commit costs a sync.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::batches::{BATCH_MAX, Batches, Gatherer, answer, gather};
use crate::{
    contender::{Contender, Logged, Waiting},
    work::{Goods, Order, Outcome, sku_name},
};

/// `synchronous=FULL` syncs the log at each commit. Checkpoints stay as they are by default.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                       PRAGMA cache_size = -65536; PRAGMA temp_store = MEMORY;";

const TABLES: &str = "
CREATE TABLE stock (
    sku TEXT PRIMARY KEY, available INTEGER NOT NULL CHECK (available >= 0),
    user_limit INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE bought (
    sku TEXT, user TEXT, units INTEGER NOT NULL, PRIMARY KEY (sku, user)) WITHOUT ROWID;
CREATE TABLE orders (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE,
    user TEXT NOT NULL, sku TEXT NOT NULL, quantity INTEGER NOT NULL);";

const KNOWN: &str =
    "SELECT id, user = ?2 AND sku = ?3 AND quantity = ?4 FROM orders WHERE key = ?1";
const STOCK: &str = "SELECT available, user_limit FROM stock WHERE sku = ?1";
const BUY: &str = "INSERT INTO bought SELECT ?1, ?2, ?3 WHERE ?3 <= ?4 ON CONFLICT DO UPDATE \
                   SET units = units + ?3 WHERE units + ?3 <= ?4";
const TAKE: &str = "UPDATE stock SET available = available - ?2 WHERE sku = ?1";
const ORDER: &str = "INSERT INTO orders (key, user, sku, quantity) VALUES (?1, ?2, ?3, ?4)";

pub(crate) fn settings() -> String {
    format!("WAL, synchronous=FULL, 64 MiB cache; in process, up to {BATCH_MAX} orders a commit")
}

pub(crate) fn version() -> String {
    format!("SQLite {}", rusqlite::version())
}

pub(crate) struct Sqlite {
    gatherer: Option<Gatherer>,
    writer: Option<JoinHandle<()>>,
    reader: std::sync::Mutex<Connection>,
    commits: Arc<AtomicU64>,
}

impl Sqlite {
    pub(crate) fn start(data: &Path, goods: Goods<'_>) -> Result<Self> {
        let file = data.join("shop.sqlite");
        let mut connection = Connection::open(&file)?;
        connection.set_prepared_statement_cache_capacity(16);
        connection.execute_batch(PRAGMAS)?;
        connection.execute_batch(TABLES)?;
        let filling = connection.transaction()?;
        for (sku, units) in goods.stock.iter().enumerate() {
            let row = params![sku_name(sku), *units as i64, goods.limit];
            filling.prepare_cached("INSERT INTO stock VALUES (?1, ?2, ?3)")?.execute(row)?;
        }
        filling.commit()?;
        let (gatherer, batches) = gather();
        let commits = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&commits);
        let writer = thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || write(&mut connection, batches, &count))?;
        let reader = std::sync::Mutex::new(Connection::open(&file)?);
        Ok(Self { gatherer: Some(gatherer), writer: Some(writer), reader, commits })
    }
}

fn write(connection: &mut Connection, mut batches: Batches, commits: &AtomicU64) {
    while let Some(batch) = batches.next_blocking() {
        let outcomes = commit(connection, batch.iter().map(|(order, _)| order));
        commits.fetch_add(1, Ordering::Relaxed);
        answer(batch, outcomes);
    }
}

fn commit<'a>(
    connection: &mut Connection,
    orders: impl Iterator<Item = &'a Order>,
) -> Result<Vec<Outcome>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let outcomes = orders.map(|order| place(&transaction, order)).collect::<Result<_>>()?;
    transaction.commit()?;
    Ok(outcomes)
}

fn place(transaction: &Transaction<'_>, order: &Order) -> Result<Outcome> {
    let (key, user, sku) = (order.key_name(), order.user_name(), order.sku_name());
    let quantity = order.quantity as i64;
    let known = transaction
        .prepare_cached(KNOWN)?
        .query_row(params![key, user, sku, quantity], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?))
        })
        .optional()?;
    if let Some((id, same)) = known {
        return Ok(if same { Outcome::Accepted(id as u64) } else { Outcome::Conflict });
    }
    let (available, limit): (i64, i64) = transaction
        .prepare_cached(STOCK)?
        .query_row([&sku], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if available < quantity {
        return Ok(Outcome::SoldOut);
    }
    if transaction.prepare_cached(BUY)?.execute(params![sku, user, quantity, limit])? == 0 {
        return Ok(Outcome::LimitReached);
    }
    transaction.prepare_cached(TAKE)?.execute(params![sku, quantity])?;
    let id = transaction.prepare_cached(ORDER)?.insert(params![key, user, sku, quantity])?;
    Ok(Outcome::Accepted(id as u64))
}

impl Contender for Sqlite {
    fn place<'a>(&'a self, order: &'a Order) -> Waiting<'a, Outcome> {
        Box::pin(async {
            let gatherer = self.gatherer.as_ref();
            gatherer.ok_or_else(|| anyhow::anyhow!("it has ended"))?.place(order).await
        })
    }

    fn left(&self, skus: usize) -> Waiting<'_, Vec<u64>> {
        Box::pin(async move {
            let reader = self.reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let mut query = reader.prepare_cached("SELECT available FROM stock WHERE sku = ?1")?;
            let mut left = Vec::new();
            for sku in 0..skus {
                left.push(query.query_row([sku_name(sku)], |row| row.get::<_, i64>(0))? as u64);
            }
            Ok(left)
        })
    }

    fn logged(&self) -> Option<Logged> {
        Some(Logged { syncs: self.commits.load(Ordering::Relaxed), bytes: None })
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        drop(self.gatherer.take());
        if let Some(writer) = self.writer.take() {
            // It has ended, or its panic was told already.
            let _ = writer.join();
        }
    }
}
