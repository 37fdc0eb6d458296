//! A shard over a journal that says when something is on disk: nothing is told to anybody before,
//! and nothing that others may have seen is forgotten. What machines decide is tested with them.

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tidegate_machines::{
    Answer, Decision, Fingerprint, KeyHash, Level, Location, Machine, NewLine, OrderCommand,
    Orders, OrdersConfig, PlaceOrder, Refusal, Sku, SkuPatch, Stock, StockCommand, StockConfig,
    StockRejection, StockReply, Timestamp, UserId,
};
use tidegate_storage::{Journal, MemoryJournal, MemoryState, Position, Snapshots, State};

use crate::{
    AskError, Board, Clock, Durable, FromOrders, FromStock, Group, Kind, Kit, KnownKeys,
    ManualTime, NoEffects, Phase, Projector, Retained, ShardOptions, Shards, Threads, snapshot_all,
};

/// What the tests stand on.
struct Ground {
    journal: Arc<MemoryJournal>,
    state: Arc<dyn State>,
    threads: Threads,
}

impl Ground {
    fn new() -> Self {
        let (journal, state) = (Arc::new(MemoryJournal::manual()), Arc::new(MemoryState::new()));
        Self { journal, state, threads: Threads::start(1).unwrap() }
    }

    fn kit<M: Durable>(&self, fresh: impl Fn(u16) -> M + Send + Sync + 'static) -> Kit<M> {
        let journal: Arc<dyn Journal> = self.journal.clone();
        Kit {
            journal,
            state: Arc::clone(&self.state),
            clock: Arc::new(Clock::new(ManualTime::at_ms(1_000))),
            fresh: Box::new(fresh),
            options: ShardOptions::default(),
        }
    }

    fn group<M: Durable>(&self, fresh: impl Fn(u16) -> M + Send + Sync + 'static) -> Group<M> {
        Group::new(1, self.kit(fresh))
    }

    /// A stock shard with its board, and the order shard that it answers, which does not run yet.
    fn stock(&self) -> (Group<Stock>, Arc<Board>, Group<Orders>) {
        let (idempotency_retention_ms, idempotency_keys_max) = (86_400_000, 100);
        let group = self.group(move |shard| {
            Stock::new(StockConfig { shard, idempotency_retention_ms, idempotency_keys_max })
        });
        let stock_shards = 1;
        let orders = self.group(move |shard| {
            let (idempotency_retention_ms, idempotency_keys_max) = (86_400_000, 100);
            Orders::new(OrdersConfig {
                shard,
                stock_shards,
                idempotency_retention_ms,
                idempotency_keys_max,
                intake: None,
            })
        });
        let board = Arc::new(Board::default());
        let arbiters = self.threads.arbiters();
        group.start(arbiters, |_| Box::new(FromStock::new(orders.clone(), Arc::clone(&board))));
        (group, board, orders)
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test)
}

/// Waits for what comes by itself; hangs if it never does.
async fn until(there: impl Fn() -> bool) {
    while !there() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Until the group's one shard has decided `commands` and its turn is over.
async fn decided<M: Durable>(group: &Group<M>, commands: u64) {
    until(|| group.report()[0].commands >= commands).await;
    group.inspect(0, |_, _| ()).await;
}

fn is_ready<F: Future>(asked: std::pin::Pin<&mut F>) -> bool {
    asked.poll(&mut task::Context::from_waker(task::Waker::noop())).is_ready()
}

fn hold(key: u128, sku: &Sku, quantity: u64) -> StockCommand {
    StockCommand::Hold {
        key: KeyHash(key),
        fingerprint: Fingerprint(1),
        user: UserId::new("ada").unwrap(),
        sku: sku.clone(),
        location: Location::default(),
        quantity,
        ttl_ms: 60_000,
    }
}

#[test]
fn no_reply_no_refusal_no_reading_and_no_board_is_ahead_of_the_disk() {
    run(async {
        let ground = Ground::new();
        let (stock, board, _) = ground.stock();
        stock.restore().await.unwrap();
        let (sku, main) = (Sku::new("mug").unwrap(), Location::default());
        let define = StockCommand::Define { sku: sku.clone(), patch: SkuPatch::default() };
        let arrive = StockCommand::Adjust {
            key: KeyHash(1),
            fingerprint: Fingerprint(1),
            sku: sku.clone(),
            location: main.clone(),
            delta: 1,
            reason: String::new(),
        };
        let [mut defined, mut arrived] = [define, arrive].map(|it| Box::pin(stock.ask(0, it)));
        decided(&stock, 2).await;
        assert!(!is_ready(defined.as_mut()) && !is_ready(arrived.as_mut()));
        ground.journal.commit();
        defined.await.unwrap();
        arrived.await.unwrap();

        // Each in a turn of its own: a turn waits for itself, not only for those before it.
        let before = ground.journal.appended();
        let mut held = pin!(stock.ask(0, hold(2, &sku, 1)));
        decided(&stock, 3).await;
        assert!(ground.journal.appended() > before && ground.journal.durable() == before);
        let mut refused = pin!(stock.ask(0, hold(3, &sku, 1)));
        decided(&stock, 4).await;
        let mut shown = pin!(stock.ask(0, StockCommand::Get { sku: sku.clone() }));
        decided(&stock, 5).await;
        assert!(!is_ready(held.as_mut()), "a reply");
        assert!(!is_ready(refused.as_mut()), "a refusal by what is not on disk");
        assert!(!is_ready(shown.as_mut()), "a reading of what is not on disk");
        assert!(!board.is_sold_out(&sku, &main));

        ground.journal.commit();
        held.await.unwrap();
        let no = refused.await.unwrap_err();
        let sold_out = StockRejection::Refused(Refusal::SoldOut {
            sku: sku.clone(),
            location: main.clone(),
            requested: 1,
            available: 0,
        });
        assert_eq!(no.rejection(), Some(&sold_out));
        let StockReply::Item(item) = shown.await.unwrap() else { panic!("no item") };
        assert_eq!(item.total, Level { on_hand: 1, held: 1, allocated: 0 }, "each event once");
        until(|| board.is_sold_out(&sku, &main)).await;
    });
}

#[test]
fn no_order_is_archived_before_it_is_on_disk() {
    run(async {
        let ground = Ground::new();
        let (stock, _, orders) = ground.stock();
        // It does not run: what it is told stays where it can be counted.
        let projector = Projector::new(Arc::clone(&ground.state));
        orders.start(ground.threads.arbiters(), |_| {
            let known = Arc::new(KnownKeys::new(1));
            Box::new(FromOrders::new(stock.clone(), projector.handle(), known))
        });
        stock.restore().await.unwrap();
        orders.restore().await.unwrap();
        let line = NewLine {
            sku: Sku::new("unknown").unwrap(),
            location: Location::default(),
            quantity: 1,
            amount_minor: None,
        };
        let mut placed = pin!(orders.ask(
            0,
            OrderCommand::Place(PlaceOrder {
                key: KeyHash(1),
                fingerprint: Fingerprint(1),
                user: UserId::new("ada").unwrap(),
                lines: vec![line],
                hold_ms: 60_000,
                respond_async: true,
                hint: None,
            })
        ));
        // What stock said is the second command: the order is rejected, and at rest.
        decided(&orders, 2).await;
        assert!(!is_ready(placed.as_mut()));
        assert_eq!(projector.report().backlog, 0, "a row of what may never have been");
        ground.journal.commit();
        placed.await.unwrap();
        until(|| projector.report().backlog == 1).await;
    });
}

#[test]
fn a_failed_sync_answers_everybody_who_waits_and_everybody_to_come() {
    run(async {
        let ground = Ground::new();
        let (stock, ..) = ground.stock();
        stock.restore().await.unwrap();
        let define = |sku: &str| StockCommand::Define {
            sku: Sku::new(sku).unwrap(),
            patch: SkuPatch::default(),
        };
        let waits = stock.ask(0, define("mug"));
        decided(&stock, 1).await;
        ground.journal.fail_next_sync();
        ground.journal.commit();
        let waited = waits.await;
        assert!(matches!(waited, Err(AskError::Unavailable { .. })), "{waited:?}");
        let later = stock.ask(0, define("cup")).await;
        assert!(matches!(later, Err(AskError::Unavailable { .. })), "{later:?}");
        assert_eq!(stock.report()[0].phase, Phase::Poisoned);
        assert_eq!(ground.journal.durable(), Position::ZERO);
    });
}

/// Counts, and panics when it is told to.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Count(u64);

enum Say {
    More,
    HowMany,
    Panic,
}

impl Machine for Count {
    type Command = Say;
    type Event = ();
    type Reply = u64;
    type Rejection = ();
    type Effect = ();

    fn decide(&self, say: &Say, _: Timestamp) -> Result<Decision<Self>, ()> {
        Ok(match say {
            Say::More => Decision::event(()).answered(Answer::Now(self.0 + 1)),
            Say::HowMany => Decision::reply(self.0),
            Say::Panic => panic!("asked to panic"),
        })
    }

    fn apply(&mut self, (): &()) {
        self.0 += 1;
    }

    fn outstanding(&self) -> Vec<()> {
        Vec::new()
    }
}

impl Durable for Count {
    const KIND: Kind = Kind(Kind::FIRST_FREE.0 + 1);
    const NAME: &'static str = "counts";
}

/// Notes what it is told by others, in lines; a long note is over the journal's bound.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Notes(Vec<u64>);

/// The number of a note in the only line, and its bytes.
struct Note(u64, usize);

impl Machine for Notes {
    type Command = Note;
    type Event = (u64, Vec<u8>);
    type Reply = ();
    type Rejection = ();
    type Effect = ();

    fn decide(&self, note: &Note, _: Timestamp) -> Result<Decision<Self>, ()> {
        Ok(Decision::event((note.0, vec![0; note.1])))
    }

    fn apply(&mut self, (number, _): &(u64, Vec<u8>)) {
        self.0.push(*number);
    }

    fn outstanding(&self) -> Vec<()> {
        Vec::new()
    }
}

impl Durable for Notes {
    const KIND: Kind = Kind(Kind::FIRST_FREE.0 + 2);
    const NAME: &'static str = "notes";

    fn place_in_line(note: &Note) -> Option<(u64, u64)> {
        Some((0, note.0))
    }
}

#[test]
fn nothing_overtakes_what_the_journal_has_no_room_for() {
    run(async {
        let ground = Ground::new();
        let notes = ground.group(|_| Notes::default());
        notes.start(ground.threads.arbiters(), |_| Box::new(NoEffects));
        notes.restore().await.unwrap();
        let too_long = ground.journal.batch_bytes_max();
        notes.tell(0, vec![Note(1, 1), Note(2, too_long), Note(3, 1)]);
        decided(&notes, 3).await;
        let noted = || notes.inspect(0, |notes, _| notes.0.clone());
        assert_eq!(noted().await, Some(vec![1]), "3 builds on 2, which was not done");
        notes.tell(0, vec![Note(2, 1), Note(3, 1)]);
        decided(&notes, 5).await;
        assert_eq!(noted().await, Some(vec![1, 2, 3]));
        assert_eq!(notes.report()[0].phase, Phase::Running);
    });
}

#[test]
fn more_shards_than_an_arbiter_has_threads_are_rebuilt_together() {
    run(async {
        let ground = Ground::new();
        let counts = Group::new(600, ground.kit(|_| Count::default()));
        counts.start(ground.threads.arbiters(), |_| Box::new(NoEffects));
        counts.restore().await.unwrap();
        assert!(counts.report().iter().all(|shard| shard.phase == Phase::Running));
    });
}

#[test]
fn a_shard_that_restarts_waits_for_what_it_has_appended() {
    run(async {
        let ground = Ground::new();
        let counts = ground.group(|_| Count::default());
        counts.start(ground.threads.arbiters(), |_| Box::new(NoEffects));
        counts.restore().await.unwrap();
        let mut more = Box::pin(counts.ask(0, Say::More));
        let panics = counts.ask(0, Say::Panic);
        let many = counts.ask(0, Say::HowMany);
        assert!(matches!(panics.await, Err(AskError::Fault { .. })));
        // Time for a rebuild from what is on disk, which is nothing, if it did not wait.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(counts.report()[0].phase, Phase::Restoring);
        assert!(!is_ready(more.as_mut()));
        ground.journal.commit();
        assert_eq!(more.await.unwrap(), 1);
        assert_eq!(many.await.unwrap(), 1, "what others may have seen was forgotten");
    });
}

#[test]
fn a_snapshot_holds_nothing_that_is_not_on_disk() {
    run(async {
        let ground = Ground::new();
        let counts = ground.group(|_| Count::default());
        counts.start(ground.threads.arbiters(), |_| Box::new(NoEffects));
        counts.restore().await.unwrap();
        let more = counts.ask(0, Say::More);
        decided(&counts, 1).await;
        let (journal, state) = (Arc::clone(&ground.journal), Arc::clone(&ground.state));
        let groups: [Arc<dyn Shards>; 1] = [Arc::new(counts.clone())];
        let snapshot = std::thread::spawn(move || {
            snapshot_all(&groups, &*journal, &state, Retained::default())
        });
        let saved = || Snapshots::new(Arc::clone(&ground.state)).latest(Count::KIND.stream(0));
        // Time for it to be written, if it did not wait.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(saved().unwrap(), None);
        ground.journal.commit();
        snapshot.join().unwrap().unwrap();
        more.await.unwrap();
        assert_eq!(saved().unwrap().unwrap().0, Position(1));
    });
}

/// Is asked again while it decides, as by callers who are quick.
#[derive(Clone, Serialize, Deserialize)]
struct Restless;

struct Again {
    left: Arc<AtomicU64>,
    /// Who is asked again; nobody, for who only wants to know how often it still will be.
    group: Option<Group<Restless>>,
}

impl Machine for Restless {
    type Command = Again;
    type Event = ();
    type Reply = u64;
    type Rejection = Infallible;
    type Effect = Infallible;

    fn decide(&self, again: &Again, _: Timestamp) -> Result<Decision<Self>, Infallible> {
        let left = again.left.load(Ordering::SeqCst);
        if let Some(group) = again.group.as_ref().filter(|_| left > 0) {
            again.left.store(left - 1, Ordering::SeqCst);
            let next = Again { left: Arc::clone(&again.left), group: Some(group.clone()) };
            group.tell(0, vec![next]);
        }
        Ok(Decision::reply(left))
    }

    fn apply(&mut self, (): &()) {}

    fn outstanding(&self) -> Vec<Infallible> {
        Vec::new()
    }
}

impl Durable for Restless {
    const KIND: Kind = Kind::FIRST_FREE;
    const NAME: &'static str = "restless";
}

#[test]
fn a_shard_that_is_asked_without_end_leaves_others_their_turn() {
    const TIMES: u64 = 1_000_000;
    run(async {
        let ground = Ground::new();
        let [restless, other] = [(); 2].map(|()| ground.group(|_| Restless));
        for group in [&restless, &other] {
            group.start(ground.threads.arbiters(), |_| Box::new(NoEffects));
            group.restore().await.unwrap();
        }
        let left = Arc::new(AtomicU64::new(TIMES));
        let first = Again { left: Arc::clone(&left), group: Some(restless.clone()) };
        restless.tell(0, vec![first]);
        until(|| left.load(Ordering::SeqCst) < TIMES).await;
        let asked = other.ask(0, Again { left: Arc::clone(&left), group: None }).await;
        assert!(asked.unwrap() > 0, "its turn came only when nobody asked any more");
        left.store(0, Ordering::SeqCst);
    });
}
