//! Whole orders on one hot item: placed, held, and answered when they are on disk, in process, the
//! load included. Prints medians of several rounds, beside a bare `fdatasync` loop on the same
//! disk.
//!
//! `cargo bench --bench hot_item [-- IN_FLIGHT ORDERS [ROUNDS]]`

use std::{
    error::Error,
    fs::File,
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hdrhistogram::Histogram;
use quanta::Clock;
use tidegate::{Adjustment, NewOrder, SkuPatch, Tidegate};
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn Error + Send + Sync>;

/// In flight, and orders in a round.
const LOADS: [(u64, u64); 4] = [(1, 5_000), (64, 200_000), (1_024, 500_000), (8_192, 500_000)];
const ROUNDS: usize = 5;

struct Round {
    per_second: f64,
    p50_us: u64,
    p99_us: u64,
    commits: u64,
    sync_us: u64,
    bytes: u64,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let numbers: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let (loads, rounds) = match numbers[..] {
        [in_flight, orders] => (vec![(in_flight, orders)], ROUNDS),
        [in_flight, orders, rounds] => (vec![(in_flight, orders)], rounds as usize),
        _ => (LOADS.to_vec(), ROUNDS),
    };
    println!("a bare 4 KiB write and fdatasync: p50 {} µs", bare_sync_us()?);
    println!("in flight    orders/s    p50 µs    p99 µs  orders a sync  sync µs  bytes an order");
    for (in_flight, orders) in loads {
        let mut measured = Vec::new();
        for _ in 0..rounds {
            measured.push(round(in_flight, orders).await?);
        }
        let median = |figure: fn(&Round) -> f64| {
            let mut figures: Vec<f64> = measured.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures[figures.len() / 2]
        };
        println!(
            "{in_flight:>9} {:>11.0} {:>9.0} {:>9.0} {:>14.1} {:>8.0} {:>15.0}",
            median(|round| round.per_second),
            median(|round| round.p50_us as f64),
            median(|round| round.p99_us as f64),
            orders as f64 / median(|round| round.commits as f64),
            median(|round| round.sync_us as f64),
            median(|round| round.bytes as f64) / orders as f64,
        );
    }
    Ok(())
}

fn bare_sync_us() -> Result<u64, Failure> {
    let folder = tempfile::tempdir()?;
    let file = File::create(folder.path().join("bare"))?;
    file.write_all_at(&vec![0; 4 << 20], 0)?;
    file.sync_all()?;
    let (clock, mut micros) = (Clock::new(), Histogram::<u64>::new(3)?);
    for block in 0..1_000 {
        let start = clock.now();
        file.write_all_at(&[1; 4096], block * 4096)?;
        file.sync_data()?;
        micros += (clock.now() - start).as_micros() as u64;
    }
    Ok(micros.value_at_quantile(0.5))
}

async fn round(in_flight: u64, orders: u64) -> Result<Round, Failure> {
    let folder = tempfile::tempdir()?;
    let gate = Tidegate::builder(folder.path()).open().await?;
    let rules = SkuPatch { limit_per_user: Some(Some(2)), ..SkuPatch::default() };
    gate.stock().define("hot", rules).await?;
    gate.stock().adjust(Adjustment::new("hot", i64::try_from(orders)?, "stock"), "stock").await?;
    let (clock, next) = (Clock::new(), Arc::new(AtomicU64::new(0)));
    let before = gate.report().journal;
    let start = clock.now();
    let mut callers = JoinSet::new();
    for _ in 0..in_flight {
        let (gate, clock, next) = (gate.clone(), clock.clone(), Arc::clone(&next));
        callers.spawn(async move {
            // Plain numbers: a histogram for each of thousands of callers would cost more than they.
            let mut micros = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= orders {
                    return Ok::<_, Failure>(micros);
                }
                let begun = clock.now();
                let order = NewOrder::new(format!("user-{number}")).line("hot", 1);
                gate.orders().place(order, &format!("order-{number}")).await?;
                micros.push((clock.now() - begun).as_micros() as u64);
            }
        });
    }
    let mut micros = Histogram::<u64>::new(3)?;
    let done = callers.join_all().await;
    let seconds = (clock.now() - start).as_secs_f64();
    for caller in done {
        caller?.into_iter().for_each(|one| micros += one);
    }
    let after = gate.report().journal;
    let item = gate.stock().get("hot").await?;
    if item.total.held != orders {
        return Err(format!("{} of {orders} held", item.total.held).into());
    }
    gate.close().await?;
    let commits = (after.commits - before.commits).max(1);
    Ok(Round {
        per_second: orders as f64 / seconds,
        p50_us: micros.value_at_quantile(0.5),
        p99_us: micros.value_at_quantile(0.99),
        commits,
        sync_us: (after.sync_us - before.sync_us) / commits,
        bytes: after.bytes - before.bytes,
    })
}
