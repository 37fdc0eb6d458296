//! The built-in view of sales under random work, crashes and rebuilds: its figures are what the
//! orders themselves say, and rows that were kept up to date are those that are built anew.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tidegate::{
    Builder, Level, ManualTime, Order, OrderState, Sales, SalesHour, SalesRow, SalesStep, Sku,
    Tidegate, ViewReader, machine::Timestamp,
};
use tidegate_postgres_tests::{Made, World, run, stock_up};

use crate::{
    seed::Random,
    shop::{BEGIN_MS, orders_of, small},
    views::trim,
};

/// A guard against hanging, not a promise about speed.
const PATIENCE: Duration = Duration::from_secs(60);

const HOUR_MS: u64 = 3_600_000;

/// Units and amount sold, units and value returned, by SKU and hour.
type Figures = BTreeMap<(String, u64), [u64; 4]>;

fn selling(folder: &Path, time: &Arc<ManualTime>) -> Builder {
    small(folder).time(Arc::clone(time)).view(Sales)
}

fn count(order: &Order, figures: &mut Figures) {
    if !matches!(order.state, OrderState::Confirmed | OrderState::Completed) {
        return;
    }
    let mut add = |sku: &Sku, at: Timestamp, what: [u64; 4]| {
        let sums = figures.entry((sku.to_string(), at.0 / HOUR_MS)).or_default();
        sums.iter_mut().zip(what).for_each(|(sum, more)| *sum += more);
    };
    for line in &order.lines {
        add(&line.sku, order.placed_at, [line.quantity.into(), line.amount_minor.unwrap(), 0, 0]);
    }
    let mut before = BTreeMap::new();
    for back in &order.history.returns {
        for moved in &back.lines {
            let line = order.line(&moved.sku, &moved.location).unwrap();
            let units: &mut u64 = before.entry((&moved.sku, &moved.location)).or_default();
            let value = |units: u64| units * line.amount_minor.unwrap() / u64::from(line.quantity);
            let minor = value(*units + moved.quantity) - value(*units);
            *units += moved.quantity;
            add(&moved.sku, back.at, [0, 0, moved.quantity, minor]);
        }
    }
}

/// What the orders and the stock say.
async fn expected(gate: &Tidegate, world: &World) -> (Figures, BTreeMap<String, Level>) {
    let (mut figures, mut levels) = (Figures::new(), BTreeMap::new());
    for user in &world.users {
        orders_of(gate, user, 200).await.iter().for_each(|order| count(order, &mut figures));
    }
    for sku in &world.skus {
        if let Ok(item) = gate.stock().get(sku).await {
            levels.insert(sku.clone(), item.total);
        }
    }
    figures.retain(|_, sums| *sums != [0; 4]);
    (figures, levels)
}

fn sums(hour: &SalesHour) -> [u64; 4] {
    [hour.sold_units, hour.sold_minor, hour.returned_units, hour.returned_minor]
}

/// What the view says, in pages of `limit` periods.
async fn found(
    gate: &Tidegate,
    world: &World,
    step: SalesStep,
    limit: usize,
) -> (Figures, BTreeMap<String, Level>) {
    let (mut figures, mut levels) = (Figures::new(), BTreeMap::new());
    let sales = gate.view::<Sales>().unwrap();
    for sku in &world.skus {
        let name = Sku::new(sku).unwrap();
        let mut from = Some(Timestamp(0));
        while let Some(begin) = from {
            let all = (begin, Timestamp(u64::MAX));
            let page = sales.periods(&name, all, step, limit).await.unwrap();
            assert!(page.periods.len() <= limit);
            for period in page.periods {
                levels.extend(period.figures.level.map(|level| (sku.clone(), level)));
                figures.insert((sku.clone(), period.begin.0 / HOUR_MS), sums(&period.figures));
            }
            from = page.next;
        }
    }
    figures.retain(|_, sums| *sums != [0; 4]);
    (figures, levels)
}

/// Waits until nothing happens any more, and holds the view against the orders.
async fn assert_right(gate: &Tidegate, world: &World) {
    let begun = Instant::now();
    let sales = gate.view::<Sales>().unwrap();
    loop {
        let position = gate.position();
        sales.at_least(position, PATIENCE).await.unwrap();
        let expected = expected(gate, world).await;
        let found = found(gate, world, SalesStep::Hour, 3).await;
        // What time brings comes by itself.
        let quiet = gate.position() == position && sales.position() == position;
        if quiet || begun.elapsed() > PATIENCE {
            assert_eq!(found, expected);
            let mut days = Figures::new();
            for ((sku, hour), sums) in expected.0 {
                let day = days.entry((sku, hour / 24 * 24)).or_default();
                day.iter_mut().zip(sums).for_each(|(sum, more)| *sum += more);
            }
            let (found, levels) = self::found(gate, world, SalesStep::Day, 2).await;
            assert_eq!((found, levels), (days, expected.1));
            return;
        }
    }
}

/// Every row, but for levels of hours that have gone, unless they are asked for.
async fn rows(sales: &ViewReader<Sales>, with_levels: bool) -> Vec<(Vec<u8>, SalesRow)> {
    let mut all = sales.scan("", None, usize::MAX - 1).await.unwrap().rows;
    all.retain_mut(|(_, row)| match row {
        SalesRow::Hour(hour) if !with_levels => {
            hour.level = None;
            *hour != SalesHour::default()
        }
        _ => true,
    });
    all
}

/// Rows that followed the events against those that are built now.
async fn assert_same_when_rebuilt(gate: &Tidegate, world: &World, with_levels: bool) {
    let sales = gate.view::<Sales>().unwrap();
    let begun = Instant::now();
    loop {
        assert_right(gate, world).await;
        let (position, before) = (sales.position(), rows(&sales, with_levels).await);
        sales.rebuild().finished().await.unwrap();
        let after = rows(&sales, with_levels).await;
        if sales.position() == position || begun.elapsed() > PATIENCE {
            assert_eq!(before, after);
            assert_eq!(
                sales.report().rows,
                sales.scan("", None, 1 << 20).await.unwrap().rows.len() as u64
            );
            assert!(before.len() > 50, "only {} rows", before.len());
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_are_what_the_orders_say_over_crashes_and_rebuilds() {
    let mut random = Random::of("figures_are_what_the_orders_say_over_crashes_and_rebuilds");
    let (folder, time) = (tempfile::tempdir().unwrap(), ManualTime::at_ms(BEGIN_MS));
    let made = Arc::new(Made::default());
    let mut gate = selling(folder.path(), &time).open().await.unwrap();
    stock_up(&gate, "first").await;
    for round in 0..6 {
        let rebuild = gate.rebuild_view("sales").filter(|_| round % 2 == 1);
        run(&gate, &made, random.number(), 25).await;
        time.advance_ms(random.between(1, 3 * HOUR_MS));
        run(&gate, &made, random.number(), 25).await;
        match random.number() % 3 {
            0 => gate.close().await.unwrap(),
            1 => {
                if let Some(mut rebuild) = rebuild {
                    rebuild.finished().await.unwrap();
                }
                assert_right(&gate, &made.world()).await;
            }
            _ => {
                // Wherever it is: this is no close.
                let _ = gate.rebuild_view("sales");
                tokio::time::sleep(Duration::from_millis(random.between(0, 30))).await;
            }
        }
        drop(gate);
        gate = selling(folder.path(), &time).open().await.unwrap();
    }
    assert_same_when_rebuilt(&gate, &made.world(), true).await;
    gate.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_built_from_a_trimmed_journal_under_load_is_right() {
    let mut random = Random::of("what_is_built_from_a_trimmed_journal_under_load_is_right");
    let (folder, time) = (tempfile::tempdir().unwrap(), ManualTime::at_ms(BEGIN_MS));
    let made = Arc::new(Made::default());
    let trimmed = || {
        let small = selling(folder.path(), &time);
        small.snapshot_every_bytes(1 << 20).events_retained_bytes(0)
    };
    let gate = trimmed().open().await.unwrap();
    stock_up(&gate, "first").await;
    run(&gate, &made, random.number(), 40).await;
    time.advance_ms(2 * HOUR_MS);
    trim(&gate).await;
    for _ in 0..3 {
        // Orders leave memory, come back and change while everything is read.
        let load = tokio::spawn({
            let (gate, made, seed) = (gate.clone(), Arc::clone(&made), random.number());
            async move { run(&gate, &made, seed, 60).await }
        });
        let mut rebuilds = 0;
        while !load.is_finished() {
            let mut rebuild = gate.rebuild_view("sales").unwrap();
            rebuild.finished().await.unwrap();
            rebuilds += 1;
        }
        load.await.unwrap();
        println!("{rebuilds} rebuilds under load");
        assert_right(&gate, &made.world()).await;
        time.advance_ms(HOUR_MS / 2);
    }
    assert_same_when_rebuilt(&gate, &made.world(), false).await;
    // A crash while it is built: the old rows are there, the new ones come.
    let _ = gate.rebuild_view("sales").unwrap();
    drop(gate);
    let gate = trimmed().open().await.unwrap();
    assert_right(&gate, &made.world()).await;
    gate.close().await.unwrap();
    drop(gate);
    // Away for so long that the journal no longer has what it missed: it is built anew by itself.
    let away = small(folder.path()).time(Arc::clone(&time));
    let away = away.snapshot_every_bytes(1 << 20).events_retained_bytes(0);
    let gate = away.open().await.unwrap();
    run(&gate, &made, random.number(), 20).await;
    trim(&gate).await;
    gate.close().await.unwrap();
    drop(gate);
    let gate = trimmed().open().await.unwrap();
    assert_right(&gate, &made.world()).await;
    assert_eq!(gate.view::<Sales>().unwrap().report().builds, 1);
    gate.close().await.unwrap();
}
