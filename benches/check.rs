//! Whether what a contender answered, and what it then says is left, can be right: held against a
//! shop that does one order after the other. It measures nothing.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result};

use crate::{
    contender::{Contender, Entry},
    load::{Asked, Until, drive},
    work::{Order, Outcome, Work, result_hash},
};

/// What may depend on who was first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Race {
    /// Nothing: each outcome is known.
    Nothing,
    /// Who gets the last units. How many are left is known.
    LastUnits,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Of what the contender answered and has left.
    pub(crate) hash: String,
    /// What is wrong, a line each; of each kind not more than some.
    pub(crate) faults: Vec<String>,
}

/// Faults of a kind that are told; one is enough to fail, and thousands tell no more.
const FAULTS_MAX: usize = 5;

/// Orders that are asked again after a round.
const ASKED_AGAIN: u64 = 200;

/// Asks `contender` what is left and some orders again, and holds all against `work`.
pub(crate) async fn check(
    contender: &Arc<dyn Contender>,
    work: &Arc<Work>,
    asked: &Asked<Outcome>,
    race: Race,
) -> Result<Found> {
    let left = contender.left(work.stock().len()).await?;
    let mut answers: Vec<(u64, Outcome)> =
        asked.answers.iter().map(|answer| (answer.n, answer.outcome)).collect();
    answers.sort_by_key(|(n, _)| *n);
    // Placed again, and then looked at like all other repeats.
    let step = (answers.len() as u64 / ASKED_AGAIN).max(1) as usize;
    let mut again = Vec::new();
    for &(n, before) in answers.iter().step_by(step) {
        if matches!(before, Outcome::Accepted(_)) {
            again.push((n, contender.place(&work.order(n)).await?));
        }
    }
    let after = contender.left(work.stock().len()).await?;
    let mut found = judge(work, &answers, &again, &left, race);
    if after != left {
        found.faults.push("asking for orders again has moved stock".to_owned());
    }
    Ok(found)
}

/// What the first `answers.len()` orders of `work` were answered (`answers`, in order), and some of
/// them `again` after all others, and units `left` of each SKU.
fn judge(
    work: &Work,
    answers: &[(u64, Outcome)],
    again: &[(u64, Outcome)],
    left: &[u64],
    race: Race,
) -> Found {
    let model = work.model(answers.len() as u64);
    let (accepted, mut faults) = one_answer_each(work, answers.iter().chain(again));
    faults.append(&mut stock_adds_up(work.stock(), accepted.values(), left));
    let bought = bought(accepted.values());
    faults.append(&mut over_the_limit(work, &bought));
    let mut wrong = Vec::new();
    for &(n, outcome) in answers {
        let (order, expected) = (work.order(n), model.kinds[n as usize]);
        let refused = matches!(outcome, Outcome::SoldOut | Outcome::LimitReached);
        let has = bought.get(&(order.sku, order.user)).copied().unwrap_or_default();
        let may = has + order.quantity <= u64::from(work.goods().limit);
        if refused && accepted.contains_key(&order.key) {
            // Stock never comes back here, so a key that was refused is never accepted later.
            wrong.push(format!("order {n} was refused, and its key was accepted"));
        } else if outcome == Outcome::SoldOut && left[order.sku] >= order.quantity {
            wrong.push(format!("order {n} was refused, and {} are left", left[order.sku]));
        } else if outcome == Outcome::LimitReached && may {
            wrong.push(format!("order {n} was over the limit of a user who has {has}"));
        } else if race == Race::Nothing && !expected.allows(outcome) {
            wrong.push(format!("order {n} was answered {outcome:?}, not {expected:?}"));
        }
    }
    faults.extend(some(wrong));
    let changed = again.iter().filter(|(n, outcome)| answers[*n as usize].1 != *outcome);
    let changed = changed.map(|(n, outcome)| format!("order {n}, asked again: {outcome:?}"));
    faults.extend(some(changed.collect()));
    let (hash, expected) = match race {
        Race::Nothing => (
            result_hash(left, accepted.values()),
            result_hash(&model.left, model.accepted.values()),
        ),
        Race::LastUnits => (result_hash(left, []), result_hash(&model.left, [])),
    };
    if hash != expected {
        faults.push(format!("the result is {hash}, not {expected}"));
    }
    Found { hash, faults }
}

fn some(mut faults: Vec<String>) -> Vec<String> {
    faults.truncate(FAULTS_MAX);
    faults
}

/// The accepted orders by key. An accepted key has one request and one number, and no other key has
/// this number.
fn one_answer_each<'a>(
    work: &Work,
    answers: impl Iterator<Item = &'a (u64, Outcome)>,
) -> (HashMap<u64, Order>, Vec<String>) {
    let mut faults = Vec::new();
    let mut accepted: HashMap<u64, (Order, u64)> = HashMap::new();
    let mut numbers = HashSet::new();
    for (n, outcome) in answers {
        let (order, Outcome::Accepted(number)) = (work.order(*n), *outcome) else { continue };
        match accepted.get(&order.key) {
            Some((known, given)) if *known != order || *given != number => {
                faults.push(format!(
                    "key {} was accepted as {given} for {known:?}, and as {number} for {order:?}",
                    order.key
                ));
            }
            Some(_) => {}
            None => {
                if !numbers.insert(number) {
                    faults.push(format!("two keys were accepted as {number}"));
                }
                accepted.insert(order.key, (order, number));
            }
        }
    }
    let accepted = accepted.into_iter().map(|(key, (order, _))| (key, order));
    (accepted.collect(), some(faults))
}

/// Units that each user has of each SKU.
fn bought<'a>(accepted: impl Iterator<Item = &'a Order>) -> HashMap<(usize, u64), u64> {
    let mut bought = HashMap::new();
    accepted
        .for_each(|order| *bought.entry((order.sku, order.user)).or_default() += order.quantity);
    bought
}

fn over_the_limit(work: &Work, bought: &HashMap<(usize, u64), u64>) -> Vec<String> {
    let limit = u64::from(work.goods().limit);
    let over = bought.iter().filter(|(_, units)| **units > limit);
    some(over.map(|(of, units)| format!("{of:?} has {units} of at most {limit}")).collect())
}

/// What was there is sold or left, and not more than that.
pub(crate) fn stock_adds_up<'a>(
    stock: &[u64],
    accepted: impl Iterator<Item = &'a Order>,
    left: &[u64],
) -> Vec<String> {
    let mut faults = Vec::new();
    let mut sold = vec![0; left.len()];
    accepted.for_each(|order| sold[order.sku] += order.quantity);
    for (sku, stock) in stock.iter().enumerate() {
        let (sold, left) = (sold[sku], left[sku]);
        if sold > *stock {
            faults.push(format!("SKU {sku} is oversold: {sold} of {stock}"));
        } else if sold + left != *stock {
            faults.push(format!("SKU {sku}: {sold} sold and {left} left of {stock}"));
        }
    }
    some(faults)
}

/// Orders of the two proofs.
const IN_TURN: u64 = 300;
const RACING: u64 = 3_000;
const RACING_IN_FLIGHT: u64 = 64;

/// Proves, before anything is timed, that `entry` does the work right: one order after the other
/// (who takes many together gets each by itself, the same way), then many at once while stock runs
/// out. The hash is the same for all that do, and that know
/// limits.
pub(crate) async fn prove(entry: Entry, dir: &Path, seed: u64) -> Result<Found> {
    let fit = |work: Work| if entry.has_limits() { work } else { work.unlimited() };
    let in_turn = Arc::new(fit(Work::in_turn(seed)));
    let first = prove_one(entry, dir, &in_turn, (IN_TURN, 1), Race::Nothing).await?;
    let racing = Arc::new(fit(Work::racing(seed)));
    let load = (RACING, RACING_IN_FLIGHT);
    let second = prove_one(entry, dir, &racing, load, Race::LastUnits).await?;
    let hash = format!("{}-{}", first.hash, second.hash);
    Ok(Found { hash, faults: [first.faults, second.faults].concat() })
}

async fn prove_one(
    entry: Entry,
    dir: &Path,
    work: &Arc<Work>,
    (orders, in_flight): (u64, u64),
    race: Race,
) -> Result<Found> {
    let folder = tempfile::tempdir_in(dir)?;
    let contender = entry.start(folder.path(), work.goods(), in_flight).await;
    let contender: Arc<dyn Contender> =
        contender.with_context(|| format!("starting {}", entry.name()))?;
    let found = examine(&contender, work, (orders, in_flight), race).await;
    contender.end().await?;
    found
}

/// Asks for so many orders, so many at a time, and checks all that comes back.
async fn examine(
    contender: &Arc<dyn Contender>,
    work: &Arc<Work>,
    (orders, in_flight): (u64, u64),
    race: Race,
) -> Result<Found> {
    let asked = drive(contender, work, in_flight, Until::numbers(orders)).await?;
    check(contender, work, &asked, race).await
}

#[cfg(test)]
mod tests;
