//! What a recorded process does: opens a store, sells, and ends in one of three ways. It says
//! before each command that it will ask, and after each answer that it has it, one `write` each, so
//! that the record tells exactly what was acknowledged when. It checks nothing; `verify` does.

use std::{fs::File, io::Write as _, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Result;
use tidegate::{Adjustment, NewOrder, PaymentEvent, SkuPatch, Tidegate};
use tokio::task::JoinSet;

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum End {
    /// In order.
    Close,
    /// The handle is dropped.
    Drop,
    /// As if killed: no destructor runs.
    Kill,
}

/// One run of a process on a store.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Work {
    /// The store's folder
    #[arg(long)]
    pub(crate) store: PathBuf,
    /// Where to say what is asked and answered
    #[arg(long)]
    pub(crate) words: PathBuf,
    /// The number of the first order; others never use it again
    #[arg(long)]
    pub(crate) first: u64,
    #[arg(long)]
    pub(crate) rounds: u64,
    /// Orders in each round, asked together
    #[arg(long)]
    pub(crate) orders: u64,
    /// Lines of every second order; the others have one
    #[arg(long)]
    pub(crate) lines: u64,
    /// Pause after each round
    #[arg(long)]
    pub(crate) pause_ms: u64,
    #[arg(long)]
    pub(crate) snapshot_every: u64,
    /// Of eight orders, how many come to rest; the others stay in memory, and in snapshots
    #[arg(long)]
    pub(crate) at_rest: u64,
    /// Marks set after each round, one over the other
    #[arg(long)]
    pub(crate) marks: u64,
    #[arg(long)]
    pub(crate) end: End,
}

/// Says one word to whoever records.
#[derive(Clone)]
struct Words(Arc<File>);

impl Words {
    fn say(&self, word: &str) {
        let mut file = &*self.0;
        let said = file.write_all(format!("{word}\n").as_bytes());
        said.expect("words can be written");
    }
}

/// A store with small files, as recorded processes and checks open it.
pub(crate) fn builder(store: &std::path::Path) -> tidegate::Builder {
    let small = Tidegate::builder(store).segment_bytes(1 << 20).state_log_slack_bytes(0);
    small.arbiters(1).stock_shards(2).order_shards(2).events_retained_bytes(0)
}

/// The SKU that line `line` of an order asks for. Long, so that journal and state fill up.
pub(crate) fn sku(line: u64) -> String {
    format!("sku-{line:060}")
}

pub(crate) fn user(number: u64) -> String {
    format!("user-{number}")
}

/// Long, so that the state's log fills up.
fn mark_text(mark: u64) -> String {
    format!("{mark} {}", "x".repeat(3_900))
}

/// Every second order is a large one.
pub(crate) fn lines_of(number: u64, lines: u64) -> u64 {
    if number.is_multiple_of(2) { lines } else { 1 }
}

/// The order with this number, the same whenever it is asked for.
pub(crate) fn order(number: u64, lines: u64) -> NewOrder {
    let order = NewOrder::new(user(number)).hold_ms(86_400_000);
    (0..lines_of(number, lines)).fold(order, |order, line| order.line(sku(line), 1))
}

/// Runs in this process, which ends with it.
pub(crate) fn run(work: Work) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(2).enable_all().build()?;
    runtime.block_on(sell(work))
}

async fn sell(work: Work) -> Result<()> {
    let words = File::options().create(true).append(true).open(&work.words)?;
    let words = Words(Arc::new(words));
    let gate = builder(&work.store).snapshot_every_bytes(work.snapshot_every).open().await?;
    words.say("opened");
    stock_up(&gate, &words, work.lines).await?;
    for round in 0..work.rounds {
        let mut callers = JoinSet::new();
        for number in 0..work.orders {
            let number = work.first + round * work.orders + number;
            let (gate, words, work) = (gate.clone(), words.clone(), work.clone());
            callers.spawn(async move { buy(&gate, &words, number, &work).await });
        }
        while let Some(bought) = callers.join_next().await {
            bought??;
        }
        for mark in 0..work.marks {
            let mark = (work.first + round) * work.marks + mark;
            words.say(&format!("ask mark {mark}"));
            gate.marks().set("reached", &mark_text(mark)).await?;
            words.say(&format!("has mark {mark}"));
        }
        tokio::time::sleep(Duration::from_millis(work.pause_ms)).await;
    }
    match work.end {
        End::Close => gate.close().await?,
        End::Drop => drop(gate),
        End::Kill => std::process::exit(0),
    }
    words.say("ended");
    Ok(())
}

async fn stock_up(gate: &Tidegate, words: &Words, lines: u64) -> Result<()> {
    for line in 0..lines {
        let sku = sku(line);
        gate.stock().define(&sku, SkuPatch::default()).await?;
        words.say(&format!("ask stock {line}"));
        gate.stock().adjust(Adjustment::new(&sku, 1_000_000, "arrival"), "arrival").await?;
        words.say(&format!("has stock {line}"));
    }
    Ok(())
}

/// What becomes of an order follows from its number.
async fn buy(gate: &Tidegate, words: &Words, number: u64, work: &Work) -> Result<()> {
    let (orders, lines) = (gate.orders(), work.lines);
    words.say(&format!("ask placed {number} {lines}"));
    let id = orders.place(order(number, lines), &format!("cart-{number}")).await?.id;
    words.say(&format!("has placed {number} {id}"));
    if number % 8 >= work.at_rest {
        return Ok(());
    }
    if number % 8 == 6 {
        words.say(&format!("ask cancelled {number}"));
        orders.cancel(id, "changed-my-mind").await?;
        words.say(&format!("has cancelled {number}"));
        return Ok(());
    }
    words.say(&format!("ask paid {number}"));
    orders.pay(id, PaymentEvent::captured("bank", format!("e-{number}"), 0)).await?;
    words.say(&format!("has paid {number}"));
    if number % 4 < 2 && !number.is_multiple_of(3) {
        // Time for the paid order to reach the archive, from which it then comes back.
        tokio::time::sleep(Duration::from_millis(number % 5 * 60)).await;
        words.say(&format!("ask shipped {number}"));
        orders.fulfil(id, None, "parcel").await?;
        words.say(&format!("has shipped {number}"));
    }
    Ok(())
}
