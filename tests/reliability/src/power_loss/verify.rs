//! Opens what a power loss has left, as anybody would, and holds it against what was acknowledged
//! before. It doesn't know how the image was made.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use tidegate::{OrderState, Tidegate};

use super::work::{builder, lines_of, order, sku, user};
use crate::random::Random;

/// Orders looked at more closely in each image.
const CLOSER_LOOKS: usize = 12;

/// What a caller has asked of an order, and has an answer to, as steps: 1 placed, 2 paid or
/// cancelled, 3 shipped.
#[derive(Clone, Debug, Default)]
struct Known {
    lines: u64,
    id: Option<String>,
    asked: BTreeSet<String>,
    has: BTreeSet<String>,
}

/// Everything that was said up to the power loss.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    orders: BTreeMap<u64, Known>,
    stock_asked: BTreeSet<u64>,
    stock_has: BTreeSet<u64>,
    mark_asked: Option<u64>,
    mark_has: Option<u64>,
    pub(crate) anything: bool,
}

impl Said {
    pub(crate) fn hear(&mut self, word: &str) -> Result<()> {
        let mut parts = word.split(' ');
        let mut part = || parts.next().context("a short word");
        let had = match part()? {
            "opened" | "ended" => return Ok(()),
            first => first == "has",
        };
        self.anything |= had;
        let (what, number) = (part()?.to_owned(), part()?.parse()?);
        match what.as_str() {
            "stock" if had => drop(self.stock_has.insert(number)),
            "stock" => drop(self.stock_asked.insert(number)),
            "mark" if had => self.mark_has = Some(number),
            "mark" => self.mark_asked = Some(number),
            _ => {
                let known = self.orders.entry(number).or_default();
                match (what.as_str(), had) {
                    ("placed", true) => known.id = Some(part()?.to_owned()),
                    ("placed", false) => known.lines = part()?.parse()?,
                    _ => {}
                }
                let steps = if had { &mut known.has } else { &mut known.asked };
                steps.insert(what);
            }
        }
        Ok(())
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.orders.values().map(|known| known.has.len()).sum::<usize>() + self.stock_has.len()
    }
}

/// An error is a broken promise.
pub(crate) async fn verify(store: &Path, said: &Said, luck: &mut Random) -> Result<()> {
    // An audit opens the store too, so the first to open a crashed one is this or that.
    if luck.percent(50) {
        audit(store, said)?;
    }
    let gate = builder(store).open().await.context("it doesn't open")?;
    look(&gate, said, luck).await?;
    if luck.percent(30) {
        gate.close().await.context("it doesn't close")?;
        drop(gate);
        audit(store, said).context("after the first close")?;
    } else {
        drop(gate);
        if luck.percent(30) {
            audit(store, said).context("after it was opened")?;
        }
    }
    Ok(())
}

fn audit(store: &Path, said: &Said) -> Result<()> {
    if !store.join("tidegate.store").exists() {
        ensure!(!said.anything, "the store is gone, though something was acknowledged");
        return Ok(());
    }
    match tidegate::audit(store) {
        Ok(report) if report.ok => Ok(()),
        // Killed before it was ever open, a store has no machines yet.
        Err(error) => bail!("it can't be audited: {error}"),
        Ok(report) => bail!("the audit finds {:?}", report.checks.iter().find(|check| !check.ok)),
    }
}

async fn look(gate: &Tidegate, said: &Said, luck: &mut Random) -> Result<()> {
    for (number, known) in &said.orders {
        if let Some(id) = &known.id {
            let order = gate.orders().get(id.parse()?).await;
            let order = order.with_context(|| format!("order {number} ({id}) is lost"))?;
            fits(known, order.state).with_context(|| format!("order {number} ({id})"))?;
        }
    }
    stock(gate, said).await?;
    mark(gate, said).await?;
    let all: Vec<_> = said.orders.iter().collect();
    for _ in 0..CLOSER_LOOKS.min(all.len()) {
        let (number, known) = all[luck.below(all.len() as u64) as usize];
        once(gate, *number, known, luck.percent(40)).await?;
    }
    Ok(())
}

/// Whether an order is as its last answer said, or as a later command that was asked makes it.
fn fits(known: &Known, found: OrderState) -> Result<()> {
    let (has, asked) = (|step| known.has.contains(step), |step| known.asked.contains(step));
    let possible = match found {
        OrderState::AwaitingPayment => !has("paid") && !has("cancelled"),
        OrderState::Confirmed => asked("paid") && !has("shipped"),
        OrderState::Completed => asked("shipped"),
        OrderState::Cancelled => asked("cancelled"),
        _ => false,
    };
    ensure!(possible, "it is {found}, acknowledged was {:?}", known.has);
    Ok(())
}

/// Units on hand: what has come less what was shipped, but for what was never answered.
async fn stock(gate: &Tidegate, said: &Said) -> Result<()> {
    for line in &said.stock_has {
        let lines = |known: &&Known| known.lines > 0;
        let shipped = |steps: fn(&Known) -> &BTreeSet<String>| {
            let of = said.orders.iter().filter(|(_, known)| lines(known));
            let has_line = |number, lines| *line < lines_of(number, lines);
            of.filter(|(number, known)| {
                steps(known).contains("shipped") && has_line(**number, known.lines)
            })
            .count() as u64
        };
        let found = gate.stock().get(&sku(*line)).await;
        let found = found.with_context(|| format!("SKU {line} is lost"))?.total;
        let (most, least) = (1_000_000 - shipped(|k| &k.has), 1_000_000 - shipped(|k| &k.asked));
        ensure!(
            (least..=most).contains(&found.on_hand),
            "SKU {line}: {} on hand, not {least} to {most}",
            found.on_hand
        );
    }
    Ok(())
}

async fn mark(gate: &Tidegate, said: &Said) -> Result<()> {
    let found = gate.marks().get("reached").await?;
    let number = |text: String| text.split(' ').next().unwrap_or_default().parse::<u64>();
    let found = found.map(number).transpose()?;
    ensure!(
        said.mark_has <= found && found <= said.mark_asked,
        "the mark is {found:?}; acknowledged was {:?}, asked {:?}",
        said.mark_has,
        said.mark_asked
    );
    Ok(())
}

/// The order is there once, and asked for again it is the same.
async fn once(gate: &Tidegate, number: u64, known: &Known, again: bool) -> Result<()> {
    let mine = gate.orders().by_user(&user(number), None, 10).await?.orders;
    ensure!(mine.len() <= 1, "{} orders of one cart {number}", mine.len());
    if let Some(id) = &known.id {
        ensure!(mine.len() == 1, "order {number} isn't among its user's orders");
        ensure!(mine[0].id.to_string() == *id, "cart {number} has order {}", mine[0].id);
    }
    if again {
        let key = format!("cart-{number}");
        let placed = gate.orders().place(order(number, known.lines), &key).await;
        let placed = placed.with_context(|| format!("order {number}, asked for again"))?;
        if let Some(id) = known.id.as_ref().or(mine.first().map(|o| o.id.to_string()).as_ref()) {
            ensure!(placed.id.to_string() == *id, "cart {number}, asked again: {}", placed.id);
        }
        let mine = gate.orders().by_user(&user(number), None, 10).await?.orders;
        ensure!(mine.len() == 1, "{} orders of cart {number}, asked again", mine.len());
    }
    Ok(())
}
