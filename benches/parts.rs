//! Parts that touch no disk, by criterion: a whole order by the machines alone, and a question to a
//! shard beside one over a bare channel. Percentiles of single runs are not given: looking at the
//! clock takes as long as what is measured. What touches the disk is in `store/`.
//!
//! `benches/run parts`, or `cargo bench --bench parts` in this folder.

use std::{
    convert::Infallible,
    hash::Hasher,
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;
use tidegate::{
    Tidegate,
    machine::{Durable, Group, Kind},
};
use tidegate_machines::{
    Decision, Fingerprint, KeyHash, Location, Machine, NewLine, OpOutcome, OrderCommand,
    OrderEffect, Orders, OrdersConfig, PlaceOrder, Sku, SkuPatch, Stock, StockCommand, StockConfig,
    StockEffect, Timestamp, UserId, bounds,
};
use tokio::sync::{mpsc, oneshot};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const KEYS_MAX: usize = 1_000_000;

/// Orders that one shop gets: more would measure how memory grows.
const ORDERS: u64 = 10_000;

/// An order shard and a stock shard, and nothing between them.
struct Shop {
    orders: Orders,
    stock: Stock,
    skus: Vec<Sku>,
}

impl Shop {
    fn open(skus: usize, units: i64) -> Self {
        let idempotency_retention_ms = bounds::IDEMPOTENCY_RETENTION_MS_MIN;
        let (shard, idempotency_keys_max) = (0, KEYS_MAX);
        let stock = StockConfig { shard, idempotency_retention_ms, idempotency_keys_max };
        let stock_shards = 1;
        let orders = OrdersConfig {
            shard,
            stock_shards,
            idempotency_retention_ms,
            idempotency_keys_max,
            intake: None,
        };
        let names = (0..skus).map(|sku| Sku::new(&format!("sku-{sku}")).expect("a name"));
        let (orders, stock) = (Orders::new(orders), Stock::new(stock));
        let mut shop = Self { orders, stock, skus: names.collect() };
        for (number, sku) in (0..).zip(shop.skus.clone()) {
            let patch = SkuPatch::default().price_minor(1_990);
            run(&mut shop.stock, &StockCommand::Define { sku: sku.clone(), patch });
            if units > 0 {
                let (key, fingerprint) = (KeyHash(number), Fingerprint(0));
                let (location, reason) = (Location::default(), "delivery".to_owned());
                let delta = units;
                let delivery =
                    StockCommand::Adjust { key, fingerprint, sku, location, delta, reason };
                run(&mut shop.stock, &delivery);
            }
        }
        shop
    }

    /// All that the machines do for an order; whether its stock is held.
    fn place(&mut self, number: u64) -> bool {
        let sku = self.skus[number as usize % self.skus.len()].clone();
        let line = NewLine { sku, location: Location::default(), quantity: 1, amount_minor: None };
        let place = OrderCommand::Place(PlaceOrder {
            key: KeyHash(u128::from(number)),
            fingerprint: Fingerprint(number),
            user: UserId::new(&format!("user-{number}")).expect("a name"),
            lines: vec![line],
            hold_ms: 900_000,
            respond_async: false,
            hint: None,
        });
        let mut held = false;
        for effect in run(&mut self.orders, &place).effects {
            let OrderEffect::Op { op, .. } = effect else { continue };
            for effect in run(&mut self.stock, &StockCommand::Op(op)).effects {
                let StockEffect::Outcome { op, order, outcome, .. } = effect;
                held = matches!(outcome, OpOutcome::Held { .. });
                run(&mut self.orders, &OrderCommand::Outcome { op, order, outcome });
            }
        }
        held
    }
}

/// Decides and applies. What these benches ask is never rejected by a machine itself.
fn run<M: Machine>(machine: &mut M, command: &M::Command) -> Decision<M> {
    let Ok(decision) = machine.decide(command, NOW) else { panic!("a machine has said no") };
    if let Some(event) = &decision.event {
        machine.apply(event);
    }
    decision
}

fn machines(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("machine");
    group.throughput(Throughput::Elements(1));
    let cases = [
        ("an order, hot", 1, ORDERS as i64),
        ("an order, spread", 1_000, ORDERS as i64),
        ("a refusal, hot", 1, 0),
    ];
    for (name, skus, units) in cases {
        let mut shop = Shop::open(skus, units);
        let held = (0..ORDERS).filter(|number| shop.place(*number)).count() as u64;
        assert_eq!(held, if units == 0 { 0 } else { ORDERS }, "{name}: a wrong result");
        let stock = serde_json::to_vec(&shop.stock).expect("a state");
        let mut hash = SipHasher13::new();
        hash.write(&stock);
        println!(
            "machine/{name}: durability none, in flight 1, batch 1, {held} accepted, {} refused, \
             result {:016x}",
            ORDERS - held,
            hash.finish()
        );
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|orders| {
                let mut took = Duration::ZERO;
                for from in (0..orders).step_by(ORDERS as usize) {
                    let mut shop = Shop::open(skus, units);
                    let start = Instant::now();
                    for number in 0..ORDERS.min(orders - from) {
                        black_box(shop.place(number));
                    }
                    took += start.elapsed();
                }
                took
            });
        });
    }
    group.finish();
}

/// A machine that answers and keeps nothing.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Echo;

impl Machine for Echo {
    type Command = u64;
    type Event = ();
    type Reply = u64;
    type Rejection = Infallible;
    type Effect = Infallible;

    fn decide(&self, command: &u64, _now: Timestamp) -> Result<Decision<Self>, Infallible> {
        Ok(Decision::reply(command + 1))
    }

    fn apply(&mut self, _event: &()) {}

    fn outstanding(&self) -> Vec<Infallible> {
        Vec::new()
    }
}

impl Durable for Echo {
    const KIND: Kind = Kind::FIRST_FREE;
    const NAME: &'static str = "echo";
}

type Asked = (u64, oneshot::Sender<u64>);

async fn ask_shard(echo: &Group<Echo>, number: u64) -> u64 {
    echo.ask(0, number).await.unwrap_or(0)
}

async fn ask_channel(channel: &mpsc::UnboundedSender<Asked>, number: u64) -> u64 {
    let (answer, told) = oneshot::channel();
    // A wrong answer, if nobody is there any more.
    let _ = channel.send((number, answer));
    told.await.unwrap_or(0)
}

fn mailbox(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let opening = Tidegate::builder(folder.path()).machine(1, |_| Echo).open();
    let gate = runtime.block_on(opening).expect("a store");
    let echo = gate.shards_of::<Echo>().expect("a shard");
    let (channel, mut asked) = mpsc::unbounded_channel::<Asked>();
    runtime.spawn(async move {
        while let Some((number, answer)) = asked.recv().await {
            // Who has gone away need not know.
            let _ = answer.send(number + 1);
        }
    });
    let mut group = criterion.benchmark_group("mailbox");
    for in_flight in [1, 64] {
        let numbers = || 0..in_flight;
        let expected: u64 = numbers().map(|number| number + 1).sum();
        let by_shard = async || -> u64 {
            join_all(numbers().map(|number| ask_shard(&echo, number))).await.iter().sum()
        };
        let by_channel = async || -> u64 {
            join_all(numbers().map(|number| ask_channel(&channel, number))).await.iter().sum()
        };
        assert_eq!(runtime.block_on(by_shard()), expected, "a wrong result");
        assert_eq!(runtime.block_on(by_channel()), expected, "a wrong result");
        println!("mailbox: durability none, in flight {in_flight}, batch 1, result {expected}");
        group.throughput(Throughput::Elements(in_flight));
        group.bench_function(format!("{in_flight} in flight, a shard"), |bencher| {
            bencher.iter(|| runtime.block_on(by_shard()));
        });
        group.bench_function(format!("{in_flight} in flight, a bare channel"), |bencher| {
            bencher.iter(|| runtime.block_on(by_channel()));
        });
    }
    group.finish();
    runtime.block_on(gate.close()).expect("an orderly end");
}

criterion_group!(parts, machines, mailbox);
criterion_main!(parts);
