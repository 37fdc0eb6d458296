//! A store with a bit of everything in it, made by asking as any host does, and what it must answer
//! from then on. It breaks nothing; those who do begin with it.

mod questions;
mod topics;

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use tidegate::{
    Adjustment, Intake, ManualTime, NewHold, NewOrder, OrderId, OrderState, PaymentEvent, SkuPatch,
    Tidegate, Units,
};

pub(crate) use questions::*;

/// When the clock of a sample begins, and where it stands whenever one is opened again.
const BEGIN_MS: u64 = 1_767_225_600_000;
const LATER_MS: u64 = BEGIN_MS + 3_600_000;
const HOUR_MS: u64 = 3_600_000;
const USERS: u64 = 17;
const PATIENCE_STEPS: u32 = 6_000;

/// An open sample, with what was answered so far.
pub(crate) struct Sample {
    pub(crate) gate: Tidegate,
    time: Arc<ManualTime>,
    questions: Questions,
}

/// Opens the sample in `dir` as it must be opened each time.
pub(crate) async fn open(dir: &Path) -> Result<Tidegate, tidegate::OpenError> {
    builder(dir).time(ManualTime::at_ms(LATER_MS)).open().await
}

fn builder(dir: &Path) -> tidegate::Builder {
    let small = Tidegate::builder(dir).segment_bytes(1 << 20).snapshot_every_bytes(300 << 10);
    // Slow enough for orders that still wait in the end, since the clock stands still then.
    let intake = Intake { deadline_ms: LATER_MS - BEGIN_MS, ..Intake::per_second(1) };
    let small = small.events_retained_bytes(2 << 20).intake(intake);
    small.stock_shards(2).order_shards(2).arbiters(1)
}

impl Sample {
    /// A new store in `dir` after `rounds` orders.
    pub(crate) async fn make(dir: &Path, rounds: u64) -> anyhow::Result<Self> {
        let time = ManualTime::at_ms(BEGIN_MS);
        let gate = builder(dir).time(Arc::clone(&time)).open().await?;
        let mut sample = Self { gate, time, questions: Questions::default() };
        sample.fill_stock(rounds).await?;
        for number in 0..rounds {
            if number == rounds / 2 {
                // A second session: its files are others than those of a store that was just made.
                sample.gate.close().await?;
                sample.gate = builder(dir).time(Arc::clone(&sample.time)).open().await?;
            }
            sample.order(number).await.with_context(|| format!("order {number}"))?;
        }
        sample.holds().await?;
        sample.gate.marks().set("how far", "to the end").await?;
        sample.publish().await?;
        sample.time.advance_ms(LATER_MS - BEGIN_MS);
        sample.settle().await?;
        sample.consume().await?;
        sample.queue().await?;
        sample.settle().await?;
        Ok(sample)
    }

    /// What the store must answer. Asked of it here, so that later answers are held against these.
    pub(crate) async fn questions(&mut self) -> anyhow::Result<String> {
        for user in 0..USERS {
            self.questions.add(&format!("user u{user}"));
        }
        for sku in ["mug", "tee", "book", "last"] {
            self.questions.add(&format!("sku {sku}"));
        }
        self.questions.add("mark how far");
        self.questions.add("mark never set");
        self.questions.text(&self.gate).await
    }

    async fn fill_stock(&mut self, rounds: u64) -> anyhow::Result<()> {
        let stock = self.gate.stock();
        for (sku, units, price) in
            [("mug", 40 * rounds, 250), ("tee", 40 * rounds, 1_999), ("book", 9 * rounds, 0)]
        {
            let price = (price > 0).then_some(price);
            let patch = SkuPatch { price_minor: Some(price), ..SkuPatch::default() };
            stock.define(sku, patch).await?;
            let units = i64::try_from(units)?;
            stock.adjust(Adjustment::new(sku, units, "arrival"), "arrival").await?;
            self.questions.add(&format!("adjust {sku} {units} arrival arrival"));
        }
        let north = Adjustment::new("mug", 500, "arrival").at("north");
        stock.adjust(north, "north").await?;
        let few = SkuPatch {
            limit_per_user: Some(Some(2)),
            backorder_limit: Some(1),
            ..SkuPatch::default()
        };
        stock.define("last", few).await?;
        stock.adjust(Adjustment::new("last", 3, "arrival"), "last").await?;
        Ok(())
    }

    /// One order, and what becomes of it: each number leads to another life.
    async fn order(&mut self, number: u64) -> anyhow::Result<()> {
        let (orders, user) = (self.gate.orders(), format!("u{}", number % USERS));
        let (key, lines) = (format!("key-{number}"), lines_of(number));
        let new =
            lines.iter().fold(NewOrder::new(&user), |new, (sku, units)| new.line(*sku, *units));
        let new = if number % 13 == 7 { new.respond_async() } else { new };
        let receipt = match orders.place(new.hold_ms(24 * HOUR_MS), &key).await {
            Ok(receipt) => receipt,
            Err(tidegate::AskError::Rejected(_)) => return Ok(()),
            Err(error) => bail!(error),
        };
        let id = receipt.id;
        self.questions.add(&format!("order {id}"));
        if number % 13 != 7 {
            let lines: Vec<_> = lines.iter().map(|(sku, n)| format!("{sku}:{n}")).collect();
            self.questions.add(&format!("place {user} {key} {}", lines.join(",")));
        }
        let total = receipt.total_minor;
        let event = |name: &str| PaymentEvent::captured("psp", format!("{name}-{number}"), total);
        match number % 9 {
            0 | 1 => {}
            2 => drop(orders.cancel(id, "cancel").await?),
            3 => {
                orders.pay(id, event("paid")).await?;
                orders.cancel(id, "cancel").await?;
                let refund = PaymentEvent::refunded("psp", format!("back-{number}"), total);
                orders.pay(id, refund).await?;
            }
            4 | 5 if number % 13 != 7 => {
                orders.pay(id, event("paid")).await?;
                orders.fulfil(id, None, "ship").await?;
                let (sku, units) = lines[0];
                orders
                    .take_back(id, vec![Units::new(sku, units)], number.is_multiple_of(2), "back")
                    .await?;
            }
            6 => {
                orders.pay(id, PaymentEvent::authorized("psp", "first", total)).await?;
                orders.pay(id, PaymentEvent::failed("psp", "second", total)).await?;
            }
            _ => drop(orders.pay(id, event("paid")).await?),
        }
        if number % 40 == 39 {
            self.late(number).await?;
        }
        Ok(())
    }

    /// An order that expires, and is paid then; and one of long ago that is shipped only now.
    async fn late(&mut self, number: u64) -> anyhow::Result<()> {
        let orders = self.gate.orders();
        let new = NewOrder::new("u1").line("mug", 1).hold_ms(50);
        let late = orders.place(new, &format!("late-{number}")).await?;
        self.questions.add(&format!("order {}", late.id));
        self.time.advance_ms(100);
        self.until(late.id, OrderState::Expired).await?;
        let paid = PaymentEvent::captured("psp", "late", late.total_minor);
        self.gate.orders().pay(late.id, paid).await?;
        let page = self.gate.orders().by_user("u8", None, 100).await?;
        let shipped = page.orders.iter().rev().find(|order| order.state == OrderState::Confirmed);
        if let Some(order) = shipped {
            self.gate.orders().fulfil(order.id, None, "ship").await?;
        }
        Ok(())
    }

    async fn until(&self, order: OrderId, state: OrderState) -> anyhow::Result<()> {
        for _ in 0..PATIENCE_STEPS {
            if self.gate.orders().get(order).await?.state == state {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("order {order} never was {state}")
    }

    async fn holds(&mut self) -> anyhow::Result<()> {
        // Refused by stock itself; what is sold out, the board may have refused before.
        let unknown = NewOrder::new("u4").line("nobody-knows-it", 1);
        let refused = self.gate.orders().place(unknown, "unknown").await;
        ensure!(refused.is_err(), "what nobody knows was sold");
        let stock = self.gate.stock();
        for number in 0..12_u64 {
            let ttl_ms = if number % 4 == 3 { 1_000 } else { 24 * HOUR_MS };
            let new = NewHold::new(format!("u{number}"), "tee", 1 + number % 3, ttl_ms);
            let hold = stock.hold(new, &format!("hold-{number}")).await?;
            match number % 4 {
                0 => drop(stock.release_hold(hold.id).await?),
                1 => {
                    stock.confirm_hold(hold.id).await?;
                    stock.ship_hold(hold.id).await?;
                }
                2 => drop(stock.extend_hold(hold.id, 48 * HOUR_MS).await?),
                _ => {}
            }
            self.questions.add(&format!("hold {}", hold.id));
        }
        Ok(())
    }

    /// Orders in the queue: one of each shard goes at once, the others wait.
    async fn queue(&mut self) -> anyhow::Result<()> {
        for number in 0..8 {
            let new = NewOrder::new("u2").line("mug", 1).respond_async();
            let receipt = self.gate.orders().place(new, &format!("queued-{number}")).await?;
            if number == 6 {
                self.gate.orders().cancel(receipt.id, "cancel").await?;
            }
            self.questions.add(&format!("order {}", receipt.id));
            self.questions.add(&format!("place-in-queue {}", receipt.id));
        }
        Ok(())
    }

    /// Waits until nothing is left that comes by itself: what was due has expired, what rests has
    /// been archived.
    async fn settle(&self) -> anyhow::Result<()> {
        let (mut before, mut same) = (None, 0);
        for _ in 0..PATIENCE_STEPS {
            let report = self.gate.report();
            let now = (report.appended, report.durable, report.projector.rows);
            let still = report.projector.backlog == 0 && before == Some(now);
            same = if still { same + 1 } else { 0 };
            if same == 50 {
                return Ok(());
            }
            before = Some(now);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("the sample never comes to rest")
    }
}

/// Copies a folder and what is in it.
pub(crate) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let from = entry?.path();
        let to = to.join(from.file_name().context("a name")?);
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to).with_context(|| from.display().to_string())?;
        }
    }
    Ok(())
}

/// Small orders and large ones, over one stock shard and over both, and some for what is sold out.
fn lines_of(number: u64) -> Vec<(&'static str, u64)> {
    match number % 7 {
        0 => vec![("mug", 1)],
        1 => vec![("mug", 2), ("tee", 1)],
        2 => vec![("tee", 3)],
        3 => vec![("book", 1), ("mug", 1), ("tee", 1)],
        4 => vec![("book", 2)],
        5 => vec![("last", 1), ("mug", 1)],
        _ => vec![("mug", 4), ("book", 1)],
    }
}
