//! What happens when a machine panics, when too much is asked, when callers go away, and when a
//! store closes under load. The machine that is mistreated is in `queue`.

use std::{
    path::Path,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use tidegate::{
    AskError, Builder, NewOrder, OrdersClient, Phase, Report, ShardReport, SkuPatch, StockClient,
    Tidegate, machine::Group,
};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    queue::{Command, Post, Queue},
    shop::{Shop, assert_sound, eventually, open, small},
};

const SHARDS: u16 = 3;

struct Queues {
    gate: Tidegate,
    group: Group<Queue>,
}

fn builder(folder: &Path, cut: bool) -> Builder {
    let cut = Arc::new(AtomicBool::new(cut));
    small(folder).machine_with(SHARDS, Queue::fresh, move |group| {
        Box::new(Post { group, cut: Arc::clone(&cut) })
    })
}

impl Queues {
    async fn open(folder: &Path) -> Self {
        Self::of(builder(folder, false)).await
    }

    async fn of(builder: Builder) -> Self {
        let gate = builder.open().await.unwrap();
        let group = gate.shards_of::<Queue>().unwrap();
        Self { gate, group }
    }

    async fn add(&self, shard: u16, units: u64) -> u64 {
        self.group.ask(shard, Command::Add(units)).await.unwrap()
    }

    async fn total(&self, shard: u16) -> u64 {
        self.group.ask(shard, Command::Get).await.unwrap()
    }

    fn report(&self, shard: u16) -> ShardReport {
        let Report { shards, .. } = self.gate.report();
        let mine = |report: &ShardReport| report.name == "queue" && report.index == shard;
        shards.into_iter().find(mine).unwrap()
    }

    /// Holds shard `shard` up until the returned barrier is met.
    fn block(&self, shard: u16) -> (Arc<Barrier>, impl Future<Output = ()> + use<>) {
        let barrier = Arc::new(Barrier::new(2));
        let blocked = self.group.ask(shard, Command::Block(Arc::clone(&barrier)));
        (barrier, async { blocked.await.map(|_total| ()).unwrap() })
    }
}

async fn meet(barrier: Arc<Barrier>) {
    tokio::task::spawn_blocking(move || barrier.wait()).await.unwrap();
}

#[tokio::test]
async fn a_panic_costs_the_one_command_and_keeps_those_before_and_behind() {
    let folder = tempfile::tempdir().unwrap();
    for bomb in [|| Command::PanicDeciding, || Command::PanicApplying] {
        let queues = Queues::open(folder.path()).await;
        let before = queues.total(0).await;
        let (barrier, blocked) = queues.block(0);
        let ask = |command| queues.group.ask(0, command);
        let earlier = [ask(Command::Add(1)), ask(Command::Add(1))];
        let bombed = ask(bomb());
        let later = [ask(Command::Add(1)), ask(Command::Add(1)), ask(Command::Get)];
        meet(barrier).await;
        blocked.await;

        let mut totals = Vec::new();
        for sent in earlier.into_iter().chain(later) {
            totals.push(sent.await.unwrap() - before);
        }
        assert_eq!(totals, [1, 2, 3, 4, 4], "in order, with nothing half-changed");
        match bombed.await {
            Err(AskError::Fault { shards: "queue", index: 0, panic }) => {
                assert!(panic.contains("asked to panic"), "{panic}");
            }
            other => panic!("{other:?}"),
        }
        let report = queues.report(0);
        assert_eq!((report.phase, report.restarts), (Phase::Running, 1));
        for other in 1..SHARDS {
            assert_eq!(queues.report(other).restarts, 0);
            assert_eq!(queues.report(other).phase, Phase::Running);
        }
        drop(queues);
        let again = Queues::open(folder.path()).await;
        assert_eq!(again.total(0).await, before + 4, "what panicked is not in the journal");
        again.gate.close().await.unwrap();
        assert_sound(folder.path());
    }
}

#[tokio::test]
async fn other_shards_go_on_while_one_is_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let queues = Queues::open(folder.path()).await;
    for units in 0..50 {
        queues.add(0, units).await;
    }
    let mut asks = JoinSet::new();
    for number in 0..300_u64 {
        let command = match number % 100 {
            50 => Command::PanicApplying,
            _ => Command::Add(1),
        };
        let shard = if number % 100 == 50 { 0 } else { (number % 3) as u16 };
        let ask = queues.group.ask(shard, command);
        asks.spawn(async move { (shard, ask.await) });
    }
    for (shard, outcome) in asks.join_all().await {
        match outcome {
            Ok(_) => {}
            Err(AskError::Fault { .. }) if shard == 0 => {}
            Err(other) => panic!("shard {shard}: {other:?}"),
        }
    }
    let sum: u64 = queues.total(0).await + queues.total(1).await + queues.total(2).await;
    assert_eq!(sum, (0..50).sum::<u64>() + 297);
    assert_eq!(queues.report(0).restarts, 3);
    queues.gate.close().await.unwrap();
}

#[tokio::test]
async fn a_shard_that_panics_too_often_stays_down_alone_until_the_store_is_reopened() {
    let folder = tempfile::tempdir().unwrap();
    let queues = Queues::open(folder.path()).await;
    queues.add(1, 5).await;
    let mut panics = 0;
    let dead = loop {
        match queues.group.ask(1, Command::PanicDeciding).await.unwrap_err() {
            AskError::Fault { .. } if panics < 100 => panics += 1,
            other => break other,
        }
    };
    assert!(matches!(dead, AskError::Dead { shards: "queue", index: 1 }), "{dead:?}");
    assert!(panics > 1, "a few panics are forgiven");
    assert_eq!(queues.report(1).phase, Phase::Dead);
    assert!(queues.report(1).restarts > 1);
    let refused = queues.group.ask(1, Command::Get).await;
    assert!(matches!(refused, Err(AskError::Dead { .. })), "{refused:?}");
    for shard in [0, 2] {
        assert_eq!(queues.add(shard, 3).await, 3);
        assert_eq!(queues.report(shard).phase, Phase::Running);
    }
    queues.gate.stock().define("mug", SkuPatch::default()).await.unwrap();
    queues.gate.close().await.unwrap();
    drop(queues);

    let queues = Queues::open(folder.path()).await;
    assert_eq!(queues.add(1, 1).await, 6, "reopened, it runs, and has lost nothing");
    queues.gate.close().await.unwrap();
    assert_sound(folder.path());
}

#[tokio::test]
async fn effects_that_are_open_are_driven_again_and_count_once() {
    let folder = tempfile::tempdir().unwrap();
    let cut = Queues::of(builder(folder.path(), true)).await;
    for units in 1..=10 {
        cut.group.ask(0, Command::Send { to: 1, units }).await.unwrap();
        cut.group.ask(2, Command::Send { to: 1, units }).await.unwrap();
    }
    assert_eq!(cut.total(1).await, 0, "nothing has arrived");
    drop(cut);
    // Cut off a second time, to see that being driven in vain harms nothing.
    drop(Queues::of(builder(folder.path(), true)).await);

    let queues = Queues::open(folder.path()).await;
    for shard in [0, 2] {
        queues.group.ask(shard, Command::Settled).await.unwrap();
    }
    assert_eq!(queues.total(1).await, 2 * (1..=10).sum::<u64>(), "each twice sent, once counted");
    queues.group.ask(1, Command::Send { to: 0, units: 7 }).await.unwrap();
    queues.group.ask(1, Command::Settled).await.unwrap();
    queues.gate.close().await.unwrap();
    drop(queues);
    let queues = Queues::open(folder.path()).await;
    assert_eq!((queues.total(0).await, queues.total(1).await), (7, 110));
    queues.gate.close().await.unwrap();
}

#[tokio::test]
async fn one_command_too_many_is_told_so_at_once_and_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let queues = Queues::of(builder(folder.path(), false).in_flight_max(4)).await;
    let (barrier, blocked) = queues.block(0);
    let taken: Vec<_> = (0..3).map(|_| queues.group.ask(0, Command::Add(1))).collect();
    for _ in 0..100 {
        // Answered though the shard can't answer anything now.
        match queues.group.ask(0, Command::Add(1)).await {
            Err(AskError::Overloaded { shards: "queue", index: 0, in_flight_max: 4 }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(queues.report(0).in_flight, 4);
    meet(barrier).await;
    blocked.await;
    for (sent, total) in taken.into_iter().zip(1..) {
        assert_eq!(sent.await.unwrap(), total);
    }
    assert_eq!(queues.add(0, 1).await, 4, "there is room again, and nothing was lost or doubled");
    queues.gate.close().await.unwrap();
}

#[tokio::test]
async fn a_caller_who_goes_away_does_not_take_the_command_back() {
    let folder = tempfile::tempdir().unwrap();
    let queues = Queues::open(folder.path()).await;
    let (barrier, blocked) = queues.block(0);
    for _ in 0..5 {
        drop(queues.group.ask(0, Command::Add(1)));
    }
    drop(queues.group.ask(0, Command::PanicDeciding));
    meet(barrier).await;
    blocked.await;
    assert_eq!(queues.total(0).await, 5);
    eventually("their credits are back", async || (queues.report(0).in_flight == 0).then_some(()))
        .await;
    drop(queues);
    let queues = Queues::open(folder.path()).await;
    assert_eq!(queues.total(0).await, 5);
    queues.gate.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_under_load_answers_everybody_and_keeps_what_was_accepted() {
    let shop = Shop::open().await;
    for sku in ["mug", "cup", "pot"] {
        shop.item(sku, 1_000_000).await;
    }
    let (accepted, mut told) = mpsc::unbounded_channel();
    let next = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let (gate, accepted, next) = (shop.gate.clone(), accepted.clone(), Arc::clone(&next));
        callers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let order = NewOrder::new("ada").line("mug", 1).line("cup", 1).line("pot", 1);
                match gate.orders().place(order, &format!("k{number}")).await {
                    Ok(receipt) => accepted.send(receipt).unwrap(),
                    Err(error) => return error,
                }
            }
        });
    }
    drop(accepted);
    let mut receipts = Vec::new();
    for _ in 0..500 {
        receipts.push(told.recv().await.unwrap());
    }
    shop.gate.close().await.unwrap();
    for error in callers.join_all().await {
        assert!(matches!(error, AskError::Closing | AskError::Unavailable { .. }), "{error}");
    }
    while let Some(receipt) = told.recv().await {
        receipts.push(receipt);
    }
    let refused = shop.gate.stock().get("mug").await.unwrap_err();
    assert!(matches!(refused, AskError::Closing), "{refused}");

    let shop = shop.reopened().await;
    for receipt in &receipts {
        assert_eq!(shop.get(receipt.id).await.receipt(), *receipt);
    }
    let held = shop.levels("mug").await.1;
    assert!(held >= receipts.len() as u64);
    assert_eq!((shop.levels("cup").await.1, shop.levels("pot").await.1), (held, held));
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_may_be_closed_twice_and_by_two_at_once() {
    let shop = Shop::open().await;
    shop.item("mug", 5).await;
    let receipt = shop.place(NewOrder::new("ada").line("mug", 1), "cart").await;
    let (one, other) = tokio::join!(shop.gate.close(), shop.gate.close());
    one.unwrap();
    other.unwrap();
    shop.gate.close().await.unwrap();
    let shop = shop.reopened().await;
    assert_eq!(shop.get(receipt.id).await.receipt(), receipt);
    shop.audited().await;
}

#[test]
fn a_store_is_used_from_any_thread_and_any_runtime() {
    fn assert_shared<T: Send + Sync + Clone + 'static>() {}
    fn assert_send<T: Send>(value: T) -> T {
        value
    }
    assert_shared::<Tidegate>();
    assert_shared::<OrdersClient>();
    assert_shared::<StockClient>();
    assert_shared::<Group<Queue>>();
    let single = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    let folder = tempfile::tempdir().unwrap();
    let gate = single().block_on(assert_send(small(folder.path()).open())).unwrap();
    single().block_on(assert_send(gate.stock().define("mug", SkuPatch::default()))).unwrap();
    let arrival = tidegate::Adjustment::new("mug", 40, "arrival");
    single().block_on(assert_send(gate.stock().adjust(arrival, "arrival"))).unwrap();
    let host = tokio::runtime::Runtime::new().unwrap();
    thread::scope(|scope| {
        for caller in 0..4 {
            let (gate, host) = (gate.clone(), host.handle().clone());
            scope.spawn(move || {
                let work = async move {
                    for number in 0..10 {
                        let order = NewOrder::new("ada").line("mug", 1);
                        let key = format!("{caller}-{number}");
                        assert_send(gate.orders().place(order, &key)).await.unwrap();
                    }
                };
                if caller % 2 == 0 { single().block_on(work) } else { host.block_on(work) }
            });
        }
    });
    assert_eq!(single().block_on(gate.stock().get("mug")).unwrap().available, 0);
    single().block_on(assert_send(gate.close())).unwrap();
    drop(gate);
    let gate = host.block_on(open(folder.path()));
    assert_eq!(host.block_on(gate.orders().by_user("ada", None, 99)).unwrap().orders.len(), 40);
    // Dropped inside a runtime, without a close.
    single().block_on(async move { drop(gate) });
    assert_sound(folder.path());
}
