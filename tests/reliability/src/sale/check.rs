//! Opens a store that was mistreated and compares it with the ledger: what was answered is there,
//! nothing is there twice, and every unit is where the answers put it. What was asked and never
//! answered is asked again first, with the same key. The store is left closed, and audited.

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail, ensure};
use tidegate::{Order, Tidegate};
use tokio::task::JoinSet;

use super::{
    ledger::{Cart, Ledger},
    plan::{Plan, SKUS, Step, Units},
    step::{self, Done, Trouble},
    store,
};
use crate::random::Random;

/// Carts that are looked at by one task.
const CARTS_PER_TASK: usize = 32;

/// Kept carts that are looked at once more in one check.
const KEPT_PER_CHECK: usize = 128;

/// A check that takes longer hangs.
const CHECK_WAIT: Duration = Duration::from_secs(120);

/// How long what goes on by itself may take to come to its end.
const SETTLE_WAIT: Duration = Duration::from_secs(30);

/// How the store is left after a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Closed in order.
    Closed,
    /// Only dropped: the next open finds what a crash of a quiet process leaves.
    Dropped,
}

/// Checks the store in `folder`, settles `ledger`, and audits the store. Gives the time that
/// opening took. An error is a broken promise.
pub(crate) fn check(
    folder: &Path,
    ledger: &mut Ledger,
    random: &mut Random,
    end: End,
) -> anyhow::Result<Duration> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let opened = runtime.block_on(async {
        let checking = compare(folder, ledger, random, end);
        let hung = |_| anyhow!("the check has not ended after {CHECK_WAIT:?}: something hangs");
        tokio::time::timeout(CHECK_WAIT, checking).await.map_err(hung)?
    })?;
    // Whatever still has the store must let go of it.
    drop(runtime);
    ledger.settle();
    audit(folder)?;
    Ok(opened)
}

fn audit(folder: &Path) -> anyhow::Result<()> {
    let report = tidegate::audit(folder).context("the audit does not run")?;
    ensure!(report.ok, "the audit has found something: {:#?}", report.checks);
    Ok(())
}

async fn compare(
    folder: &Path,
    ledger: &mut Ledger,
    random: &mut Random,
    end: End,
) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let gate = store(folder).open().await.context("the store does not open")?;
    let opened = began.elapsed();
    step::stock_up(&gate).await.map_err(|trouble| anyhow!("stocking up: {trouble:?}"))?;

    ledger.open = each(&gate, ledger.open.drain().collect(), random).await?.into_iter().collect();
    let kept = (0..KEPT_PER_CHECK.min(ledger.kept.len()))
        .map(|_| ledger.kept[random.below(ledger.kept.len() as u64) as usize].clone());
    each(&gate, kept.collect::<HashMap<_, _>>().into_iter().collect(), random).await?;
    levels_agree(&gate, ledger.levels()).await?;
    if end == End::Closed {
        gate.close().await.context("the checked store does not close")?;
    }
    Ok(opened)
}

/// Finishes and checks every cart, many at a time; gives them as they are now.
async fn each(
    gate: &Tidegate,
    carts: Vec<(String, Cart)>,
    random: &mut Random,
) -> anyhow::Result<Vec<(String, Cart)>> {
    let mut tasks = JoinSet::new();
    for some in carts.chunks(CARTS_PER_TASK) {
        let (gate, some, mut random) = (gate.clone(), some.to_vec(), Random::new(random.number()));
        tasks.spawn(async move {
            let mut done = Vec::with_capacity(some.len());
            for (name, mut cart) in some {
                let again = random.below(4) == 0;
                one(&gate, &name, &mut cart, again)
                    .await
                    .with_context(|| format!("cart {name}, of which is known: {cart:?}"))?;
                done.push((name, cart));
            }
            Ok::<_, anyhow::Error>(done)
        });
    }
    let mut all = Vec::with_capacity(carts.len());
    while let Some(done) = tasks.join_next().await {
        all.extend(done??);
    }
    Ok(all)
}

/// Asks again for what has no answer, then looks whether the store has what was answered.
async fn one(gate: &Tidegate, name: &str, cart: &mut Cart, again: bool) -> anyhow::Result<()> {
    let plan = Plan::of(name);
    if cart.asked > cart.answered {
        let done = ask(gate, name, &plan, plan.steps[cart.answered], cart).await?;
        match done {
            Done::Placed(id) => cart.order = Some(id),
            Done::SoldOut => cart.refused = true,
            Done::Changed => {}
        }
        cart.answered = cart.asked;
    }
    if plan.steps[0] == Step::Adjust {
        // Told again it must change nothing; the levels will show.
        ask(gate, name, &plan, Step::Adjust, cart).await?;
        return Ok(());
    }
    let found = gate.orders().by_user(name, None, 10).await?.orders;
    if cart.steps() == 0 {
        ensure!(found.is_empty(), "it was refused and is there: {found:?}");
        return Ok(());
    }
    let [order] = &found[..] else { bail!("there are {} orders of it: {found:?}", found.len()) };
    ensure!(Some(order.id) == cart.order, "it is another order: {order:?}");
    agrees(order, &plan, cart.steps()).with_context(|| format!("{order:?}"))?;
    if again {
        match ask(gate, name, &plan, Step::Place, cart).await? {
            Done::Placed(id) if Some(id) == cart.order => {}
            Done::Placed(id) => bail!("placed again it is another order, {id}"),
            _ => bail!("placed again it is refused"),
        }
    }
    Ok(())
}

async fn ask(
    gate: &Tidegate,
    name: &str,
    plan: &Plan,
    step: Step,
    cart: &Cart,
) -> anyhow::Result<Done> {
    loop {
        match step::take(gate, name, plan, step, cart.order).await {
            Ok(done) => return Ok(done),
            Err(Trouble::Busy) => tokio::time::sleep(Duration::from_millis(2)).await,
            Err(trouble) => bail!("asked to {step:?}: {trouble:?}"),
        }
    }
}

fn agrees(order: &Order, plan: &Plan, steps: usize) -> anyhow::Result<()> {
    let state = plan.state(steps);
    ensure!(Some(order.state) == state, "it is {}, and was answered {state:?}", order.state);
    ensure!(order.total_minor == plan.total_minor(), "its total is another");
    ensure!(order.history.captured_minor == plan.captured_minor(steps), "other money has come in");
    ensure!(order.history.payments.len() <= 1, "it was paid more than once");
    ensure!(order.lines.len() == plan.lines.len(), "it has other lines");
    for (line, (sku, quantity)) in order.lines.iter().zip(&plan.lines) {
        ensure!(
            line.sku.as_str() == SKUS[*sku] && u64::from(line.quantity) == *quantity,
            "another line"
        );
        let units = (line.shipped.into(), line.returned.into());
        ensure!(units == plan.shipped(steps, *quantity), "shipped and returned: {units:?}");
    }
    Ok(())
}

/// Waits until the store's levels are as they must be.
async fn levels_agree(gate: &Tidegate, expected: [Units; SKUS.len()]) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let mut found = [Units::default(); SKUS.len()];
        for (sku, units) in SKUS.iter().zip(&mut found) {
            let level = gate.stock().get(sku).await?.total;
            let [on_hand, held, allocated] =
                [level.on_hand, level.held, level.allocated].map(|units| units as i64);
            *units = Units { on_hand, held, allocated };
        }
        if found == expected {
            return Ok(());
        }
        ensure!(
            began.elapsed() < SETTLE_WAIT,
            "the stock of {SKUS:?} is\n{found:?}\nand by what was answered must be\n{expected:?}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sells a cart that runs all its steps, in a store of its own.
    fn sold(name: &str, folder: &Path) -> Ledger {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let mut ledger = Ledger::default();
        runtime.block_on(async {
            let gate = store(folder).open().await.expect("it opens");
            step::stock_up(&gate).await.expect("stock comes in");
            let (plan, mut cart) = (Plan::of(name), Cart::default());
            for step in plan.steps {
                if let Done::Placed(id) = ask(&gate, name, &plan, *step, &cart).await.expect(name) {
                    cart.order = Some(id);
                }
                cart.answered += 1;
            }
            cart.asked = cart.answered;
            ledger.open.insert(name.to_owned(), cart);
        });
        ledger
    }

    fn checked(folder: &Path, ledger: &mut Ledger) -> Result<(), String> {
        let found = check(folder, ledger, &mut Random::new(1), End::Closed);
        found.map(|_| ()).map_err(|error| format!("{error:#}"))
    }

    /// A name whose plan begins with these steps and has no more.
    fn named(steps: &[Step]) -> String {
        let mut names = (0..).map(|number| format!("cart-{number}"));
        names.find(|name| Plan::of(name).steps == steps).expect("there is no end of names")
    }

    #[test]
    fn what_is_as_it_was_answered_is_sound() {
        for steps in [&[Step::Place][..], &[Step::Place, Step::Pay, Step::Ship], &[Step::Adjust]] {
            let folder = tempfile::tempdir().expect("a folder");
            let mut ledger = sold(&named(steps), folder.path());
            assert_eq!(checked(folder.path(), &mut ledger), Ok(()));
            // What was settled is still expected.
            assert_eq!(checked(folder.path(), &mut ledger), Ok(()));
        }
    }

    #[test]
    fn what_was_lost_is_found_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut ledger = sold(&named(&[Step::Place, Step::Pay]), folder.path());
        let cart = ledger.open.values().next().expect("a cart").clone();
        ledger.open.insert(named(&[Step::Place]), Cart { answered: 1, asked: 1, ..cart });
        let found = checked(folder.path(), &mut ledger).expect_err("an order was never placed");
        assert!(found.contains("there are 0 orders"), "{found}");
    }

    #[test]
    fn what_is_further_than_it_was_answered_is_found_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut ledger = sold(&named(&[Step::Place, Step::Pay]), folder.path());
        ledger.open.values_mut().for_each(|cart| (cart.asked, cart.answered) = (1, 1));
        let found = checked(folder.path(), &mut ledger).expect_err("nobody has paid");
        assert!(found.contains("it is confirmed"), "{found}");
    }

    #[test]
    fn what_was_refused_and_is_there_is_found_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut ledger = sold(&named(&[Step::Place]), folder.path());
        ledger.open.values_mut().for_each(|cart| cart.refused = true);
        let found = checked(folder.path(), &mut ledger).expect_err("it was refused");
        assert!(found.contains("it was refused and is there"), "{found}");
    }
}
