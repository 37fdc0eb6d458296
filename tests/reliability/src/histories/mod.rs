//! Histories: many clients at once on a real store, and whether what they were answered could have
//! been answered by a store that does one thing after the other. A SKU, an order and a register of
//! the host's own are each checked by themselves; what holds over several of them is not asked here
//! (the audit at the end does).

mod checker;
mod order;
mod order_clients;
mod register;
mod sku;
mod sku_clients;
mod store;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::task::JoinSet;

use self::{
    checker::{Entry, Model, Refused, check},
    order_clients::Changed,
    register::{REGISTERS, Value},
    sku_clients::Contested,
    store::Store,
};
use crate::Verdict;

/// Records what many clients are answered, and looks for an order that explains it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long new rounds begin.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What is asked follows from it; how it overlaps does not.
    #[arg(long)]
    seed: Option<u64>,
    /// Keeps the store in this empty folder instead of a temporary one.
    #[arg(long)]
    data: Option<PathBuf>,
}

/// Clients of each kind.
const CLIENTS: usize = 4;

/// What each client asks in a round.
const CALLS: u64 = 12;

/// SKUs, and orders, that all clients of a round share.
const THINGS: usize = 2;

/// Which round it is: names and values of different rounds never meet.
#[derive(Clone, Copy)]
struct Round {
    number: u64,
}

/// What was seen on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    rounds: u64,
    histories: u64,
    steps: u64,
    /// Calls that nobody knows the outcome of.
    unknown: u64,
    panics: u64,
    /// Times that the store was opened again under its clients.
    reopened: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.rounds += other.rounds;
        self.histories += other.histories;
        self.steps += other.steps;
        self.unknown += other.unknown;
        self.panics += other.panics;
        self.reopened += other.reopened;
    }
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
#[error("round {round}, {thing}: {why}")]
struct NotInOrder {
    round: u64,
    thing: String,
    why: String,
}

/// Runs the tool.
///
/// # Errors
/// The store can't be opened or closed, or answers what nothing allows.
pub(crate) fn run(options: &Options) -> anyhow::Result<Verdict> {
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("histories: --seed {seed}");
    silence_asked_panics();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let temporary = tempfile::tempdir()?;
    let folder = options.data.as_deref().unwrap_or(temporary.path());
    let ran = runtime.block_on(rounds(folder, seed, |_| Instant::now() < end));
    let tally = match ran {
        Ok(tally) => tally,
        Err(error) if error.is::<NotInOrder>() => {
            println!("{error}");
            return Ok(Verdict::Broken);
        }
        Err(error) => return Err(error),
    };
    let Tally { rounds, histories, steps, unknown, panics, reopened } = tally;
    println!(
        "{rounds} rounds, {histories} histories of {steps} steps, each in an order; \
         {unknown} calls with an unknown outcome, {panics} panics, {reopened} times reopened"
    );
    let report = tidegate::audit(folder).context("auditing")?;
    if !report.ok {
        println!("the audit finds: {report:#?}");
        return Ok(Verdict::Broken);
    }
    Ok(Verdict::Held)
}

/// Panics that were asked for are no news; all others are.
fn silence_asked_panics() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let asked = panic.payload_as_str().is_some_and(|text| text.starts_with("asked to panic"));
        if !asked {
            others(panic);
        }
    }));
}

/// Plays rounds on a store in `folder` as long as `more` says so.
async fn rounds(folder: &Path, seed: u64, more: impl Fn(u64) -> bool) -> anyhow::Result<Tally> {
    let mut luck = fastrand::Rng::with_seed(seed);
    let mut store = Store::open(folder).await?;
    let mut tally = Tally::default();
    while more(tally.rounds) {
        let (after, seen) = play(store, Round { number: tally.rounds + 1 }, &mut luck).await?;
        store = after;
        tally.add(seen);
    }
    store.close().await?;
    Ok(tally)
}

/// One round: all clients at once, the store perhaps opened again under them, then the check.
async fn play(
    mut store: Store,
    round: Round,
    luck: &mut fastrand::Rng,
) -> anyhow::Result<(Store, Tally)> {
    let mut first = store.caller(0);
    let (mut skus, mut orders) = (Vec::new(), Vec::new());
    for number in 0..THINGS {
        let name = format!("sku-{}-{number}", round.number);
        skus.push(Contested::new(&mut first, name, luck).await?);
        orders.push(Changed::new(&mut first, format!("order-{}-{number}", round.number)).await?);
    }
    let histories: register::Histories = (0..REGISTERS).map(|_| Mutex::default()).collect();
    let before = registers(&mut first).await?;
    let (skus, orders, values) = (Arc::new(skus), Arc::new(orders), Arc::new(histories));

    let mut clients = JoinSet::new();
    for client in 1..=CLIENTS {
        let (caller, luck_of) = (store.caller(client), luck.fork());
        let skus = Arc::clone(&skus);
        clients.spawn(async move { sku_clients::client(caller, &skus, luck_of, CALLS).await });
        let (caller, luck_of) = (store.caller(client), luck.fork());
        let orders = Arc::clone(&orders);
        clients.spawn(async move { order_clients::client(caller, &orders, luck_of, CALLS).await });
        let (caller, luck_of) = (store.caller(client), luck.fork());
        let values = Arc::clone(&values);
        clients
            .spawn(async move { register::client(caller, &round, &values, luck_of, CALLS).await });
    }
    let mut tally = Tally { rounds: 1, ..Tally::default() };
    if luck.bool() {
        tokio::time::sleep(Duration::from_millis(luck.u64(1..40))).await;
        store = store.again(luck.bool()).await?;
        tally.reopened += 1;
    }
    while let Some(seen) = clients.join_next().await {
        tally.add(seen??);
    }
    for (number, sku) in skus.iter().enumerate() {
        settle(round, format!("SKU {number}"), &sku.start, &sku.history, &mut tally)?;
    }
    for (number, order) in orders.iter().enumerate() {
        let start = order::Order::accepted();
        settle(round, format!("order {number}"), &start, &order.history, &mut tally)?;
    }
    for (number, history) in values.iter().enumerate() {
        settle(round, format!("register {number}"), &before[number], history, &mut tally)?;
    }
    Ok((store, tally))
}

/// What the registers are worth before a round.
async fn registers(caller: &mut store::Caller) -> anyhow::Result<Vec<Value>> {
    let mut values = Vec::new();
    for shard in 0..REGISTERS {
        let read = |to: store::Handles| async move {
            store::sorted(to.registers.ask(shard, register::Command::Read).await)
        };
        values.push(Value(caller.call(read, |_| {}).await?.answer?));
    }
    Ok(values)
}

fn settle<M: Model>(
    round: Round,
    thing: String,
    start: &M,
    history: &Mutex<Vec<Entry<M::Step>>>,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let history = history.lock().unwrap_or_else(PoisonError::into_inner);
    tally.histories += 1;
    tally.steps += history.len() as u64;
    match check(start, &history) {
        Ok(()) => Ok(()),
        Err(Refused::NoOrder(why)) => Err(NotInOrder { round: round.number, thing, why }.into()),
        Err(Refused::TooHard) => {
            anyhow::bail!("round {}, {thing}: {} steps are too many", round.number, history.len())
        }
    }
}

#[cfg(test)]
mod tests;
