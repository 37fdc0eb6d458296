//! More than a store can take: shards that hang, that are asked too much for a long while, that
//! fail under load, and a state that is slower than the sale. What is answered stays right, and
//! what waits stays bounded. Disks that fail are in `disks` and in the reliability tools.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tidegate::{
    Adjustment, AskError, Builder, Level, NewOrder, OrderState, PaymentEvent, ShardReport,
    SkuPatch, Tidegate, machine::Group,
};
use tokio::task::JoinSet;

use crate::{
    queue::{Command, Post, Queue},
    shop::{assert_sound, eventually, orders_of, small},
};

/// Shards of the mistreated machine: one on each of the store's two arbiters.
const SHARDS: u16 = 2;

fn builder(folder: &Path) -> Builder {
    let cut = Arc::new(AtomicBool::new(false));
    small(folder).machine_with(SHARDS, Queue::fresh, move |group| {
        Box::new(Post { group, cut: Arc::clone(&cut) })
    })
}

async fn opened(builder: Builder) -> (Tidegate, Group<Queue>) {
    let gate = builder.open().await.unwrap();
    let group = gate.shards_of::<Queue>().unwrap();
    (gate, group)
}

fn report(gate: &Tidegate, shard: u16) -> ShardReport {
    let mut shards = gate.report().shards.into_iter();
    shards.find(|report| report.name == "queue" && report.index == shard).unwrap()
}

async fn stock_up(gate: &Tidegate, units: u64) {
    gate.stock().define("mug", SkuPatch::default()).await.unwrap();
    gate.stock().adjust(Adjustment::new("mug", units as i64, "all"), "all").await.unwrap();
}

/// Sold by callers who try again when they are told that there is too much; how often they were.
async fn sell_in_spite(gate: &Tidegate, orders: u64) -> u64 {
    let (next, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..32 {
        let (gate, next, refused) = (gate.clone(), Arc::clone(&next), Arc::clone(&refused));
        callers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= orders {
                    return;
                }
                let placed = loop {
                    let order = NewOrder::new("ada").line_for("mug", 1, 100);
                    match gate.orders().place(order, &format!("cart-{number}")).await {
                        Err(AskError::Backlogged { at_rest_max: 1 }) => {
                            refused.fetch_add(1, Ordering::Relaxed);
                            tokio::task::yield_now().await;
                        }
                        placed => break placed.unwrap(),
                    }
                };
                let event = PaymentEvent::captured("bank", format!("pay-{number}"), 100);
                let paid = gate.orders().pay(placed.id, event).await.unwrap();
                assert_eq!(paid.state, OrderState::Confirmed);
            }
        });
    }
    callers.join_all().await;
    refused.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_hangs_holds_up_nobody_on_other_threads_and_forgets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (gate, group) = opened(builder(folder.path()).in_flight_max(8)).await;
    let barrier = Arc::new(Barrier::new(2));
    let hanging = group.ask(0, Command::Block(Arc::clone(&barrier)));
    let waiting: Vec<_> = (0..7).map(|_| group.ask(0, Command::Add(1))).collect();
    // Others are asked, answered and made durable as if nothing were.
    for total in 1..=200 {
        assert_eq!(group.ask(1, Command::Add(1)).await.unwrap(), total);
    }
    for _ in 0..100 {
        let refused = group.ask(0, Command::Add(1)).await;
        assert!(matches!(refused, Err(AskError::Overloaded { index: 0, .. })), "{refused:?}");
    }
    assert_eq!(report(&gate, 0).in_flight, 8, "what waits for it is bounded");
    tokio::task::spawn_blocking(move || barrier.wait()).await.unwrap();
    hanging.await.unwrap();
    for (sent, total) in waiting.into_iter().zip(1..) {
        assert_eq!(sent.await.unwrap(), total, "in order, each once");
    }
    gate.close().await.unwrap();
    assert_sound(folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_at_rest_in_a_shard_that_hangs_are_archived_when_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (gate, group) = opened(builder(folder.path())).await;
    stock_up(&gate, 1_000_000).await;
    let (paid, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut callers = JoinSet::new();
    for caller in 0..16 {
        let (gate, paid, over) = (gate.clone(), Arc::clone(&paid), Arc::clone(&over));
        callers.spawn(async move {
            for number in 0.. {
                let order = NewOrder::new("ada").line_for("mug", 1, 100);
                let name = format!("{caller}-{number}");
                let placed = gate.orders().place(order, &name).await.unwrap();
                let event = PaymentEvent::captured("bank", name, 100);
                gate.orders().pay(placed.id, event).await.unwrap();
                paid.fetch_add(1, Ordering::Relaxed);
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
    }
    let mut hung = false;
    while !hung {
        // Both arbiters, and so both order shards.
        let barriers = [(); 2].map(|()| Arc::new(Barrier::new(2)));
        let block = |(shard, barrier)| group.ask(shard, Command::Block(Arc::clone(barrier)));
        let hanging: Vec<_> = (0..).zip(&barriers).map(block).collect();
        tokio::time::sleep(Duration::from_millis(30)).await;
        hung = gate.report().projector.backlog > 0;
        if hung {
            // It waits for a shard that hangs, and now for longer than it has patience.
            tokio::time::sleep(Duration::from_millis(2_500)).await;
        }
        for barrier in barriers {
            tokio::task::spawn_blocking(move || barrier.wait()).await.unwrap();
        }
        for hanging in hanging {
            hanging.await.unwrap();
        }
    }
    over.store(true, Ordering::Relaxed);
    callers.join_all().await;
    let all = async || {
        let (projector, paid) = (gate.report().projector, paid.load(Ordering::Relaxed));
        (projector.backlog == 0 && projector.rows >= paid).then_some(())
    };
    eventually("every order is archived", all).await;
    gate.close().await.unwrap();
    assert_sound(folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_too_much_for_long_a_shard_answers_each_that_it_takes_once_and_right() {
    const BOUND: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    let (gate, group) = opened(builder(folder.path()).in_flight_max(BOUND)).await;
    let most = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let (gate, group, most) = (gate.clone(), group.clone(), Arc::clone(&most));
        callers.spawn(async move {
            let (mut totals, mut refused) = (Vec::new(), 0_u64);
            for _ in 0..200 {
                match group.ask(0, Command::Add(1)).await {
                    Ok(total) => totals.push(total),
                    Err(AskError::Overloaded { .. }) => {
                        refused += 1;
                        tokio::task::yield_now().await;
                    }
                    Err(other) => panic!("{other:?}"),
                }
                most.fetch_max(report(&gate, 0).held, Ordering::Relaxed);
            }
            (totals, refused)
        });
    }
    let (mut totals, mut refused) = (Vec::new(), 0);
    for (taken, not) in callers.join_all().await {
        totals.extend(taken);
        refused += not;
    }
    assert_eq!(totals.len() as u64 + refused, 64 * 200);
    assert!(refused > 0, "64 callers are more than {BOUND}");
    let distinct: BTreeSet<u64> = totals.iter().copied().collect();
    assert_eq!(distinct.len(), totals.len(), "no two were given the same total");
    assert_eq!(distinct.last().copied(), Some(totals.len() as u64), "and none was missed");
    assert!(most.load(Ordering::Relaxed) <= BOUND as u64, "{most:?} replies were held");
    eventually("every credit is back", async || (report(&gate, 0).in_flight == 0).then_some(()))
        .await;
    gate.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_that_fail_under_load_lose_nothing_and_carry_each_sum_once() {
    let folder = tempfile::tempdir().unwrap();
    let (gate, group) = opened(builder(folder.path())).await;
    let mut callers = JoinSet::new();
    for caller in 0..16_u64 {
        let group = group.clone();
        callers.spawn(async move {
            let (mut added, mut carried) = ([0; 2], [0; 2]);
            for number in 0..60 {
                let shard = ((caller + number) % 2) as u16;
                let to = 1 - shard;
                // Two of each shard's five forgiven panics.
                let bomb = caller < 4 && number == 20;
                let command = match number % 3 {
                    _ if bomb && caller % 2 == 0 => Command::PanicApplying,
                    _ if bomb => Command::PanicDeciding,
                    0 => Command::Send { to, units: 3 },
                    _ => Command::Add(1),
                };
                let sent = matches!(command, Command::Send { .. });
                match group.ask(shard, command).await {
                    Ok(_) if sent => carried[usize::from(to)] += 3,
                    Ok(_) => added[usize::from(shard)] += 1,
                    Err(AskError::Fault { .. }) if bomb => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
            (added, carried)
        });
    }
    let mut expected = [0; 2];
    for (added, carried) in callers.join_all().await {
        for shard in 0..2 {
            expected[shard] += added[shard] + carried[shard];
        }
    }
    for shard in 0..SHARDS {
        group.ask(shard, Command::Settled).await.unwrap();
        assert_eq!(report(&gate, shard).restarts, 2);
    }
    let totals = async |group: &Group<Queue>| {
        [group.ask(0, Command::Get).await.unwrap(), group.ask(1, Command::Get).await.unwrap()]
    };
    assert_eq!(totals(&group).await, expected);
    drop((gate, group));
    let (gate, group) = opened(builder(folder.path())).await;
    assert_eq!(totals(&group).await, expected, "and so after a crash");
    gate.close().await.unwrap();
    assert_sound(folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_falls_behind_holds_new_orders_up_and_nothing_else() {
    const ORDERS: u64 = 600;
    let folder = tempfile::tempdir().unwrap();
    let gate = small(folder.path()).at_rest_max(1).open().await.unwrap();
    stock_up(&gate, ORDERS).await;
    // With so small a bound, orders are refused whenever any has just been paid.
    let refused = sell_in_spite(&gate, ORDERS).await;
    assert!(refused > 0, "the bound was never met");
    let mugs = gate.stock().get("mug").await.unwrap().total;
    assert_eq!(mugs, Level { on_hand: ORDERS, held: 0, allocated: ORDERS }, "each was sold once");
    assert_eq!(orders_of(&gate, "ada", 100).await.len() as u64, ORDERS);
    let idle = async || (gate.report().projector.backlog == 0).then_some(());
    eventually("all of them are archived", idle).await;
    gate.close().await.unwrap();
    assert_sound(folder.path());
}
