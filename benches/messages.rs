//! Messages: published, handed to a group of consumers, acknowledged. Tidegate's topics and Redis
//! streams, each answer synced. It counts that each message is there, or was handled, once; what
//! Redis does not promise (order per key, idempotent publishing, dead letters) it does not ask for.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ::redis::{AsyncCommands, aio::MultiplexedConnection, streams::StreamReadReply};
use anyhow::{Context, Result, anyhow, ensure};
use futures_util::future::try_join_all;
use tidegate::{ConsumerGroup, Tidegate, Topic, Whence};
use tokio::{sync::oneshot, task::JoinSet, time::timeout};

use crate::{
    load::{Asked, Until, ask_many},
    peers::redis,
    row::Row,
    server::{self, Server},
    work::hashed,
};

/// Consumers of the group, and messages that each takes at a time.
const CONSUMERS: usize = 4;
const BATCH: usize = 64;

/// More in flight tell no more.
pub(crate) const IN_FLIGHT_MAX: u64 = 1_024;

/// Different keys of messages.
const KEYS: u64 = 1_000;

/// With its number, a message of some hundred bytes.
const FILLING: &str = "it has happened, and somebody should look at it some time soon, as always";

const WAIT: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(60);

/// The number of a message after all others.
const LAST: u64 = u64::MAX;
/// How long the next message may take that is known to be there.
const PATIENCE: Duration = Duration::from_secs(30);
/// No message is trimmed before it was counted.
const RETAINED_BYTES: u64 = 1 << 40;

/// Those who wait until their message is acknowledged.
#[derive(Default)]
struct Waiting {
    callers: Mutex<Callers>,
    strays: AtomicUsize,
}

#[derive(Default)]
struct Callers {
    waiting: HashMap<u64, oneshot::Sender<()>>,
    /// Why nobody acknowledges any more.
    failed: Option<String>,
}

impl Waiting {
    fn callers(&self) -> MutexGuard<'_, Callers> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends at once, and without an answer, if nobody acknowledges any more.
    fn wait_for(&self, n: u64) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut callers = self.callers();
        if callers.failed.is_none() {
            callers.waiting.insert(n, sender);
        }
        receiver
    }

    /// Message `n` was acknowledged. Twice, or never published, it is a stray.
    fn done(&self, n: u64) {
        let caller = self.callers().waiting.remove(&n);
        if caller.is_none_or(|caller| caller.send(()).is_err()) {
            self.strays.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lets `consumers` go on until the first of them fails; then nobody waits any more.
    async fn watch(&self, mut consumers: JoinSet<Result<()>>) {
        let why = match consumers.join_next().await {
            None => return,
            Some(Ok(Ok(()))) => "it has ended".to_owned(),
            Some(Ok(Err(error))) => format!("{error:#}"),
            Some(Err(panic)) => panic.to_string(),
        };
        let mut callers = self.callers();
        callers.waiting.clear();
        callers.failed = Some(why);
    }

    fn why(&self) -> anyhow::Error {
        anyhow!("a consumer: {}", self.callers().failed.as_deref().unwrap_or("its answer is lost"))
    }
}

/// Who carries messages.
enum Carrier {
    Tidegate { gate: Tidegate, topic: Topic<String> },
    Redis { connections: Vec<MultiplexedConnection>, next: AtomicUsize, _server: Server },
}

/// Rows for publishing alone, and for publishing until the message is acknowledged.
pub(crate) async fn run(dir: &Path, in_flight: &[u64], seconds: f64) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let with_redis = server::find("redis-server", &[]).is_ok();
    if !with_redis {
        println!("redis-streams: no redis-server on PATH; left out");
    }
    for handled in [false, true] {
        for in_flight in in_flight {
            rows.push(measure(dir, false, handled, *in_flight, seconds).await?);
            if with_redis {
                rows.push(measure(dir, true, handled, *in_flight, seconds).await?);
            }
        }
    }
    Ok(rows)
}

async fn measure(
    dir: &Path,
    is_redis: bool,
    handled: bool,
    in_flight: u64,
    seconds: f64,
) -> Result<Row> {
    let folder = tempfile::tempdir_in(dir)?;
    let waiting = Arc::new(Waiting::default());
    let (carrier, consumers) = match is_redis {
        true => start_redis(folder.path(), in_flight, handled.then_some(&waiting)).await?,
        false => start_tidegate(folder.path(), handled.then_some(&waiting)).await?,
    };
    let watched = Arc::clone(&waiting);
    let watching = tokio::spawn(async move { watched.watch(consumers).await });
    let carrier = Arc::new(carrier);
    let (of, waits) = (Arc::clone(&carrier), Arc::clone(&waiting));
    let asked: Asked<()> = ask_many(in_flight, Until::seconds(seconds / 4.0, seconds), move |n| {
        let (carrier, waits) = (Arc::clone(&of), Arc::clone(&waits));
        async move {
            let acknowledged = handled.then(|| waits.wait_for(n));
            carrier.publish(n).await?;
            match acknowledged {
                Some(acknowledged) => acknowledged.await.map_err(|_| waits.why()),
                None => Ok(()),
            }
        }
    })
    .await?;
    // The consumers end with who watches them.
    watching.abort();
    let who = if is_redis { "redis-streams" } else { "tidegate" };
    let what = if handled { "handled" } else { "published" };
    let mut row = Row::of(what, who, "message");
    row = row.with_load(&asked, |()| true)?;
    row.durability = "synced before the answer".to_owned();
    row.in_flight = in_flight;
    let strays = waiting.strays.load(Ordering::Relaxed);
    if strays > 0 {
        row.faults.push(format!("{strays} messages were handled more than once"));
    }
    let messages = asked.answers.len() as u64;
    if !handled {
        let found = carrier.count().await?;
        if found != messages {
            row.faults.push(format!("{messages} messages were published, {found} are there"));
        }
    }
    // Each that is handled was held against this when it was acknowledged.
    row.hash = format!("{:016x}", hashed(&[u64::from(handled)]));
    if let Some(carrier) = Arc::into_inner(carrier) {
        carrier.end().await?;
    }
    Ok(row)
}

impl Carrier {
    async fn publish(&self, n: u64) -> Result<()> {
        match self {
            Self::Tidegate { topic, .. } => {
                let message = format!("{n} {FILLING}");
                topic.publish(&message).key(format!("key-{}", n % KEYS)).await?;
            }
            Self::Redis { connections, next, .. } => {
                let next = next.fetch_add(1, Ordering::Relaxed);
                let mut connection = connections[next % connections.len()].clone();
                let fields = [("text", format!("{n} {FILLING}"))];
                let _: String = connection.xadd("messages", "*", &fields).await?;
            }
        }
        Ok(())
    }

    /// How many messages are there. In a topic, where one more is published for that, each must be
    /// there once.
    async fn count(&self) -> Result<u64> {
        match self {
            Self::Tidegate { topic, .. } => {
                self.publish(LAST).await?;
                let mut feed = topic.feed(Whence::Oldest);
                let mut found = HashSet::new();
                loop {
                    let next = timeout(PATIENCE, feed.next()).await;
                    let next = next.context("the message published last is not there")??;
                    match number(&serde_json::from_slice::<String>(next.payload.bytes())?)? {
                        LAST => return Ok(found.len() as u64),
                        n => ensure!(found.insert(n), "message {n} is there twice"),
                    }
                }
            }
            Self::Redis { connections, .. } => {
                let mut connection = connections[0].clone();
                Ok(connection.xlen("messages").await?)
            }
        }
    }

    async fn end(self) -> Result<()> {
        if let Self::Tidegate { gate, topic } = self {
            drop(topic);
            gate.close().await?;
        }
        Ok(())
    }
}

/// The number that a message begins with.
fn number(text: &str) -> Result<u64> {
    Ok(text.split(' ').next().unwrap_or_default().parse()?)
}

async fn start_tidegate(
    data: &Path,
    waiting: Option<&Arc<Waiting>>,
) -> Result<(Carrier, JoinSet<Result<()>>)> {
    let builder = Tidegate::builder(data).events_retained_bytes(RETAINED_BYTES);
    let gate = builder.open().await?;
    let topic: Topic<String> = gate.topic("messages")?;
    let mut consumers = JoinSet::new();
    if let Some(waiting) = waiting {
        let group = topic.group("consumers").begin(Whence::Oldest).open().await?;
        for _ in 0..CONSUMERS {
            consumers.spawn(consume(group.clone(), Arc::clone(waiting)));
        }
    }
    Ok((Carrier::Tidegate { gate, topic }, consumers))
}

async fn consume(group: ConsumerGroup<String>, waiting: Arc<Waiting>) -> Result<()> {
    loop {
        let leases = group.lease(BATCH, WAIT, LEASE).await?;
        try_join_all(leases.iter().map(|leased| leased.ack())).await?;
        for leased in &leases {
            waiting.done(number(&leased.value()?)?);
        }
    }
}

async fn start_redis(
    data: &Path,
    in_flight: u64,
    waiting: Option<&Arc<Waiting>>,
) -> Result<(Carrier, JoinSet<Result<()>>)> {
    let (server, client, _) = redis::serve(data, "always", redis::Reach::SocketOnly).await?;
    let mut connections = Vec::new();
    for _ in 0..in_flight.min(redis::CONNECTIONS_MAX) {
        connections.push(redis::connect(&client).await?);
    }
    let mut consumers = JoinSet::new();
    if let Some(waiting) = waiting {
        let () = connections[0].clone().xgroup_create_mkstream("messages", "group", "0").await?;
        for number in 0..CONSUMERS {
            let connection = redis::connect(&client).await?;
            consumers.spawn(consume_redis(connection, format!("c{number}"), Arc::clone(waiting)));
        }
    }
    let next = AtomicUsize::new(0);
    Ok((Carrier::Redis { connections, next, _server: server }, consumers))
}

async fn consume_redis(
    mut connection: MultiplexedConnection,
    consumer: String,
    waiting: Arc<Waiting>,
) -> Result<()> {
    loop {
        let mut read = ::redis::cmd("XREADGROUP");
        read.arg("GROUP").arg("group").arg(&consumer).arg("COUNT").arg(BATCH);
        read.arg("BLOCK").arg(WAIT.as_millis() as u64).arg("STREAMS").arg("messages").arg(">");
        let read: Option<StreamReadReply> = read.query_async(&mut connection).await?;
        let entries: Vec<_> =
            read.into_iter().flat_map(|read| read.keys).flat_map(|key| key.ids).collect();
        if entries.is_empty() {
            continue;
        }
        let ids: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
        let acknowledged: usize = connection.xack("messages", "group", &ids).await?;
        ensure!(acknowledged == ids.len(), "{acknowledged} of {} were acknowledged", ids.len());
        for entry in &entries {
            let text: String = entry.get("text").context("a message without its text")?;
            waiting.done(number(&text)?);
        }
    }
}
