//! A dispatcher over a journal that does not always do what it is asked: what is tried again, and
//! what is kept for whom. Changes of a group are tested on real stores.

#![allow(clippy::unwrap_used)]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tidegate_machines::{
    Consumers, ConsumersCommand, ConsumersConfig, GroupId, GroupName, MessageId, NewMessage,
    Payload, Publish, Retry, TopicName, Topics, TopicsCommand, TopicsConfig,
};
use tidegate_storage::{
    Batch, Done, Entry, Journal, JournalStats, MemoryJournal, MemoryState, Position, Reader, State,
    StorageError, Urgency, Watch,
};

use super::{ConsumeError, Dispatcher, Means, Whence};
use crate::{
    AskError, Clock, Durable, Group, Kit, ManualTime, NoEffects, Retained, ShardOptions, Shards,
    Threads,
    feed::{FeedError, Letters, Tap},
    snapshot_all,
};

type Result<T> = std::result::Result<T, StorageError>;

/// What a journal does once, at some moment.
type Hook = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// A guard against hanging, not a promise about speed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A journal that fails some reads, keeps everything, and says when somebody waits for it or has
/// read all of it.
struct Odd {
    journal: MemoryJournal,
    failures: AtomicUsize,
    trimmed: Mutex<Position>,
    at_wait: Hook,
    at_end: Hook,
}

/// Gives what there is; when there is no more, something may happen before that is said.
struct ToTheEnd {
    reader: Box<dyn Reader>,
    at_end: Hook,
}

impl Reader for ToTheEnd {
    fn next(&mut self) -> Result<Option<Entry<'_>>> {
        let entry = self.reader.next()?;
        if entry.is_none() {
            let at_end = self.at_end.lock().unwrap().take();
            at_end.into_iter().for_each(|run| run());
        }
        Ok(entry)
    }
}

impl Journal for Odd {
    fn append(&self, batch: Batch, urgency: Urgency, done: Done) -> Result<Position> {
        self.journal.append(batch, urgency, done)
    }
    fn batch_bytes_max(&self) -> usize {
        self.journal.batch_bytes_max()
    }
    fn appended(&self) -> Position {
        self.journal.appended()
    }
    fn durable(&self) -> Position {
        self.journal.durable()
    }
    fn wait_durable(&self, position: Position) -> Result<()> {
        let at_wait = self.at_wait.lock().unwrap().take();
        at_wait.into_iter().for_each(|run| run());
        self.journal.wait_durable(position)
    }
    fn watch(&self, watch: Watch) {
        self.journal.watch(watch);
    }
    fn oldest(&self) -> Position {
        self.journal.oldest()
    }
    fn read(&self, after: Position) -> Result<Box<dyn Reader>> {
        self.journal.read(after)
    }
    fn follow(&self, after: Position) -> Result<Box<dyn Reader>> {
        let less = |left: usize| left.checked_sub(1);
        match self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
            Ok(_) => Err(StorageError::Poisoned { cause: Box::new(StorageError::Closed) }),
            Err(_) => {
                let (reader, at_end) = (self.journal.follow(after)?, Arc::clone(&self.at_end));
                Ok(Box::new(ToTheEnd { reader, at_end }))
            }
        }
    }
    fn before_last(&self, bytes: u64) -> Position {
        self.journal.before_last(bytes)
    }
    fn trim(&self, through: Position) -> Result<()> {
        *self.trimmed.lock().unwrap() = through;
        Ok(())
    }
    fn stats(&self) -> JournalStats {
        self.journal.stats()
    }
    fn close(&self) -> Result<()> {
        self.journal.close()
    }
}

/// What the tests stand on: a topic `t`, and consumer groups.
struct Ground {
    journal: Arc<Odd>,
    state: Arc<dyn State>,
    time: Arc<ManualTime>,
    clock: Arc<Clock>,
    threads: Threads,
    topics: Group<Topics>,
    consumers: Group<Consumers>,
}

impl Ground {
    async fn new() -> Self {
        Self::with(ShardOptions::default()).await
    }

    async fn with(options: ShardOptions) -> Self {
        let journal = Arc::new(Odd {
            journal: MemoryJournal::new(),
            failures: AtomicUsize::new(0),
            trimmed: Mutex::new(Position::ZERO),
            at_wait: Hook::default(),
            at_end: Hook::default(),
        });
        let state: Arc<dyn State> = Arc::new(MemoryState::new());
        let time = ManualTime::at_ms(1_000);
        let clock = Arc::new(Clock::new(Arc::clone(&time)));
        let threads = Threads::start(1).unwrap();
        let topics = TopicsConfig {
            shard: 0,
            idempotency_retention_ms: 86_400_000,
            idempotency_keys_max: 100,
        };
        let consumers = ConsumersConfig { shard: 0, idle_ms_max: 1_000 };
        let fresh = move || Topics::new(topics.clone());
        let topics = group((&journal, &state, &clock), ShardOptions::default(), fresh);
        let fresh = move || Consumers::new(consumers.clone());
        let consumers = group((&journal, &state, &clock), options, fresh);
        topics.start(threads.arbiters(), |_| Box::new(NoEffects));
        consumers.start(threads.arbiters(), |_| Box::new(NoEffects));
        topics.restore().await.unwrap();
        consumers.restore().await.unwrap();
        Self { journal, state, time, clock, threads, topics, consumers }
    }

    async fn publish(&self) {
        publish(&self.topics).await;
    }

    async fn open(&self) -> Dispatcher {
        let of = of();
        let means = Means {
            consumers: self.consumers.clone(),
            shard: 0,
            letters: Letters::of(of.topic.clone(), 1),
            of,
            tap: Tap::new(self.journal.clone()),
            clock: Arc::clone(&self.clock),
            retry: Retry::default(),
            arbiter: self.threads.arbiters()[0].clone(),
        };
        Dispatcher::open(means, Some(Whence::Oldest)).await.unwrap()
    }

    /// What the journal is told to drop.
    fn trim(&self) -> Position {
        let groups: [Arc<dyn Shards>; 2] =
            [Arc::new(self.topics.clone()), Arc::new(self.consumers.clone())];
        let retained = Retained { bytes: 0, unconsumed_bytes_max: u64::MAX };
        snapshot_all(&groups, &*self.journal, &self.state, retained).unwrap();
        *self.journal.trimmed.lock().unwrap()
    }
}

async fn publish(topics: &Group<Topics>) {
    let message = NewMessage { key: None, payload: Payload::new(*b"x").unwrap() };
    let topic = TopicName::new("t").unwrap();
    let publish = Publish { key: None, topic, message, delay_ms: 0 };
    topics.ask(0, TopicsCommand::Publish(publish)).await.unwrap();
}

fn of() -> GroupId {
    GroupId { topic: TopicName::new("t").unwrap(), group: GroupName::new("g").unwrap() }
}

fn group<M: Durable>(
    (journal, state, clock): (&Arc<Odd>, &Arc<dyn State>, &Arc<Clock>),
    options: ShardOptions,
    fresh: impl Fn() -> M + Send + Sync + 'static,
) -> Group<M> {
    let kit = Kit {
        journal: journal.clone(),
        state: Arc::clone(state),
        clock: Arc::clone(clock),
        fresh: Box::new(move |_| fresh()),
        options,
    };
    Group::new(1, kit)
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test)
}

#[test]
fn what_can_not_be_read_is_read_later_and_said_meanwhile() {
    run(async {
        let ground = Ground::new().await;
        ground.publish().await;
        ground.journal.failures.store(2, Ordering::SeqCst);
        let group = ground.open().await;
        let mut told = 0;
        let leases = loop {
            match group.lease(1, PATIENCE, 60_000).await {
                Ok(leases) => break leases,
                Err(ConsumeError::Feed(FeedError::Storage(_))) => told += 1,
                Err(error) => panic!("{error}"),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        assert_eq!(leases.len(), 1);
        assert!(told > 0 && ground.journal.failures.load(Ordering::SeqCst) == 0);
        group.done(leases[0].letter.id, leases[0].token, Vec::new()).await.unwrap();
        ground.publish().await;
        assert_eq!(group.lease(1, PATIENCE, 60_000).await.unwrap().len(), 1);
    });
}

#[test]
fn what_comes_between_the_last_look_and_the_sleep_is_not_missed() {
    run(async {
        let ground = Ground::new().await;
        let topics = ground.topics.clone();
        // When the reader has found that there is nothing more, and before it is told so. Nothing
        // is written after it that could wake the reader again.
        let at_end = move || run(publish(&topics));
        *ground.journal.at_end.lock().unwrap() = Some(Box::new(at_end));
        let group = ground.open().await;
        assert_eq!(group.lease(1, PATIENCE, 60_000).await.unwrap().len(), 1);
    });
}

#[test]
fn messages_and_consumers_that_come_in_any_order_meet() {
    run(async {
        let ground = Ground::new().await;
        let group = ground.open().await;
        for _ in 0..200 {
            let ((), leases) = tokio::join!(ground.publish(), group.lease(1, PATIENCE, 60_000));
            let leases = leases.unwrap();
            assert_eq!(leases.len(), 1);
            group.done(leases[0].letter.id, leases[0].token, Vec::new()).await.unwrap();
        }
    });
}

#[test]
fn what_has_its_time_comes_when_the_clock_says_so() {
    run(async {
        let ground = Ground::new().await;
        let group = ground.open().await;
        ground.publish().await;
        let first = group.lease(1, PATIENCE, 60_000).await.unwrap();
        assert!(group.lease(1, Duration::ZERO, 60_000).await.unwrap().is_empty());
        // Its lease is over, and then the wait for the next attempt.
        let again = group.lease(1, PATIENCE, 60_000);
        let hours = async {
            for _ in 0..3 {
                ground.time.advance_ms(60 * 60 * 1_000);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            while group.figures().open > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                ground.time.advance_ms(1_000);
            }
        };
        let done = async {
            let again = again.await.unwrap();
            assert_eq!((again[0].letter.id, again[0].attempt), (first[0].letter.id, 2));
            group.done(again[0].letter.id, again[0].token, Vec::new()).await.unwrap();
        };
        tokio::join!(hours, done);
    });
}

#[test]
fn the_journal_is_kept_for_a_group_that_begins_while_snapshots_are_written() {
    let ground = run(Ground::new());
    for _ in 0..2 {
        run(async {
            for _ in 0..5 {
                ground.publish().await;
            }
        });
        ground.trim();
    }
    assert!(ground.trim() >= Position(5), "nobody needs it");
    let consumers = ground.consumers.clone();
    *ground.journal.at_wait.lock().unwrap() = Some(Box::new(move || {
        let open = ConsumersCommand::Open { of: of(), after: Some(MessageId::after(3)) };
        run(consumers.ask(0, open)).unwrap();
    }));
    assert_eq!(ground.trim(), Position(3));
}

/// Until the shard has room.
async fn insist<T>(mut ask: impl AsyncFnMut() -> std::result::Result<T, ConsumeError>) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(ConsumeError::Ask(AskError::Overloaded { .. })) => {}
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
}

/// Somebody else takes the shard's only room again and again: so a change may be done, and then
/// the group can't be asked how it is. It is asked again, though nothing else happens in it.
#[test]
fn a_group_that_can_not_be_asked_after_a_change_is_asked_again() {
    run(async {
        let options = ShardOptions { in_flight_max: 1, ..ShardOptions::default() };
        let ground = Ground::with(options).await;
        let group = ground.open().await;
        let (shard, of) = (ground.consumers.clone(), group.group().clone());
        let busy = Arc::new(AtomicUsize::new(1));
        let asks = Arc::clone(&busy);
        let other = std::thread::spawn(move || {
            run(async {
                while asks.load(Ordering::SeqCst) > 0 {
                    // It may be told that there is no room.
                    let _ = shard.ask(0, ConsumersCommand::View { of: of.clone() }).await;
                }
            });
        });
        for _ in 0..50 {
            insist(async || group.pause(true).await).await;
            insist(async || group.pause(false).await).await;
            publish(&ground.topics).await;
            let leases = insist(async || group.lease(1, PATIENCE, 60_000).await).await;
            assert_eq!(leases.len(), 1, "nothing is handed out any more");
            let (id, token) = (leases[0].letter.id, leases[0].token);
            insist(async || group.done(id, token, Vec::new()).await).await;
        }
        busy.store(0, Ordering::SeqCst);
        other.join().unwrap();
    });
}
