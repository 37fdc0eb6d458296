//! Random small workloads through the whole runtime, many callers at once, ended by a close or by a
//! crash: whatever was asked, the audit of what is on disk finds every invariant kept.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use tidegate::{Adjustment, AskError, NewHold, NewOrder, OrderId, PaymentEvent, SkuPatch, Units};
use tokio::task::JoinSet;

use crate::{
    seed::Random,
    shop::{Shop, assert_sound},
};

const SKUS: [&str; 5] = ["a", "b", "c", "d", "e"];
const CALLERS: usize = 6;

/// One thing that a caller does. Orders are meant by their number among those placed so far.
#[derive(Clone, Debug)]
enum Step {
    Place { user: u8, lines: Vec<(usize, u64)>, hold_ms: u64 },
    Pay { order: usize, part: u64 },
    Refund { order: usize, amount: u64 },
    Cancel { order: usize },
    Fulfil { order: usize, some: Option<(usize, u64)> },
    TakeBack { order: usize, line: (usize, u64), restock: bool },
    Adjust { sku: usize, delta: i64 },
    Define { sku: usize, limit: Option<u32>, backorder: u32 },
    Hold { sku: usize, units: u64, confirm: bool },
    Wait { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let order = 0..40_usize;
    let line = || (0..SKUS.len(), 1..4_u64);
    prop_oneof![
        8 => (0..6_u8, prop::collection::vec(line(), 1..5), 1..2_000_u64)
            .prop_map(|(user, lines, hold_ms)| Step::Place { user, lines, hold_ms }),
        6 => (order.clone(), 1..4_u64).prop_map(|(order, part)| Step::Pay { order, part }),
        1 => (order.clone(), 1..500_u64)
            .prop_map(|(order, amount)| Step::Refund { order, amount }),
        2 => order.clone().prop_map(|order| Step::Cancel { order }),
        4 => (order.clone(), prop::option::of(line()))
            .prop_map(|(order, some)| Step::Fulfil { order, some }),
        2 => (order, line(), any::<bool>())
            .prop_map(|(order, line, restock)| Step::TakeBack { order, line, restock }),
        3 => (0..SKUS.len(), -4..9_i64).prop_map(|(sku, delta)| Step::Adjust { sku, delta }),
        1 => (0..SKUS.len(), prop::option::of(1..20_u32), 0..4_u32)
            .prop_map(|(sku, limit, backorder)| Step::Define { sku, limit, backorder }),
        2 => (0..SKUS.len(), 1..3_u64, any::<bool>())
            .prop_map(|(sku, units, confirm)| Step::Hold { sku, units, confirm }),
        1 => (1..500_u64).prop_map(|ms| Step::Wait { ms }),
    ]
}

/// What all callers share.
struct Work {
    steps: Vec<Step>,
    next: AtomicUsize,
    placed: Mutex<Vec<(OrderId, u64)>>,
}

impl Work {
    fn order(&self, number: usize) -> Option<(OrderId, u64)> {
        let placed = self.placed.lock().unwrap();
        placed.get(number % placed.len().max(1)).copied()
    }
}

/// A good answer or a refusal by the rules; anything else is a fault of the runtime.
fn check<T, R: std::fmt::Display>(result: Result<T, AskError<R>>) -> Option<T> {
    match result {
        Ok(answer) => Some(answer),
        Err(AskError::Rejected(_)) => None,
        Err(error) => panic!("neither an answer nor a refusal: {error}"),
    }
}

async fn take(shop: &Shop, work: &Work, number: usize) {
    let (orders, stock, key) = (shop.gate.orders(), shop.gate.stock(), format!("k{number}"));
    let about = |order: usize| work.order(order);
    match work.steps[number].clone() {
        Step::Place { user, lines, hold_ms } => {
            let new = NewOrder::new(format!("u{user}")).hold_ms(hold_ms);
            let order = lines.iter().fold(new, |order, (sku, n)| order.line(SKUS[*sku], *n));
            if let Some(receipt) = check(orders.place(order, &key).await) {
                work.placed.lock().unwrap().push((receipt.id, receipt.total_minor));
            }
        }
        Step::Pay { order, part } => {
            if let Some((id, total_minor)) = about(order) {
                let amount = total_minor.div_ceil(part);
                check(orders.pay(id, PaymentEvent::captured("bank", key, amount)).await);
            }
        }
        Step::Refund { order, amount } => {
            if let Some((id, _)) = about(order) {
                check(orders.pay(id, PaymentEvent::refunded("bank", key, amount)).await);
            }
        }
        Step::Cancel { order } => {
            if let Some((id, _)) = about(order) {
                check(orders.cancel(id, &key).await);
            }
        }
        Step::Fulfil { order, some } => {
            if let Some((id, _)) = about(order) {
                let some = some.map(|(sku, units)| vec![Units::new(SKUS[sku], units)]);
                check(orders.fulfil(id, some, &key).await);
            }
        }
        Step::TakeBack { order, line: (sku, units), restock } => {
            if let Some((id, _)) = about(order) {
                let lines = vec![Units::new(SKUS[sku], units)];
                check(orders.take_back(id, lines, restock, &key).await);
            }
        }
        other => take_stock_step(shop, other, &key, stock).await,
    }
}

async fn take_stock_step(shop: &Shop, step: Step, key: &str, stock: &tidegate::StockClient) {
    match step {
        Step::Adjust { sku, delta } => {
            check(stock.adjust(Adjustment::new(SKUS[sku], delta, "count"), key).await);
        }
        Step::Define { sku, limit, backorder } => {
            let patch = SkuPatch {
                limit_per_user: Some(limit),
                backorder_limit: Some(backorder),
                ..SkuPatch::default()
            };
            check(stock.define(SKUS[sku], patch).await);
        }
        Step::Hold { sku, units, confirm } => {
            let hold = NewHold::new("u0", SKUS[sku], units, 300);
            if let Some(hold) = check(stock.hold(hold, key).await)
                && confirm
            {
                check(stock.confirm_hold(hold.id).await);
            }
        }
        Step::Wait { ms } => shop.time.advance_ms(ms),
        about_orders => unreachable!("{about_orders:?}"),
    }
}

async fn run(steps: Vec<Step>, crash: bool) {
    let folder = tempfile::tempdir().unwrap();
    let shop = Arc::new(Shop::at(folder.path()).await);
    for sku in SKUS {
        shop.item(sku, 12).await;
    }
    let (next, placed) = (AtomicUsize::new(0), Mutex::default());
    let work = Arc::new(Work { steps, next, placed });
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (shop, work) = (Arc::clone(&shop), Arc::clone(&work));
        callers.spawn(async move {
            loop {
                let number = work.next.fetch_add(1, Ordering::Relaxed);
                if number >= work.steps.len() {
                    return;
                }
                take(&shop, &work, number).await;
            }
        });
    }
    callers.join_all().await;
    if !crash {
        shop.gate.close().await.unwrap();
    }
    drop(shop);
    assert_sound(folder.path());
    // And once more after the recovery has driven what was open.
    let shop = Shop::at(folder.path()).await;
    let placed = work.placed.lock().unwrap().clone();
    for (id, _) in placed {
        assert_eq!(shop.get(id).await.id, id);
    }
    shop.audited().await;
}

#[test]
fn whatever_is_asked_every_invariant_is_kept() {
    let mut random = Random::of("whatever_is_asked_every_invariant_is_kept");
    let config = Config {
        cases: 16,
        // A case runs on real threads; shrinking far would take longer than reading it.
        max_shrink_iters: 64,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &random.bytes());
    let mut runner = TestRunner::new_with_rng(config, rng);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let workload = (prop::collection::vec(step(), 20..160), any::<bool>());
    let outcome = runner.run(&workload, |(steps, crash)| {
        runtime.block_on(run(steps, crash));
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
