//! What must be in a store after its last kill: every message handled by every group, in the order
//! of its key, and what followed from it once. It reads what any consumer can.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    path::Path,
    time::Duration,
};

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use serde::de::DeserializeOwned;
use tidegate::{ConsumerGroup, Tidegate, Topic, Whence};

use super::{
    GROUPS, KEYS, Nature, Told, handled_by, key_of, store, topic,
    work::{group, some},
};

/// How long nothing must come until nothing more will: longer than any lease, wait or delay.
pub(crate) const QUIET: Duration = Duration::from_millis(1_500);

const PAGE: usize = 256;

/// What was found.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) published: u64,
    pub(crate) dead: u64,
}

/// Opens the store, compares, and audits it.
pub(super) fn check(folder: &Path, told: &Told) -> anyhow::Result<Counts> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let counts = runtime.block_on(async {
        let gate = store(folder).open().await?;
        let counts = compare(&gate, told).await;
        gate.close().await?;
        counts
    })?;
    let report = tidegate::audit(folder)?;
    ensure!(report.ok, "the audit: {:?}", report.checks);
    Ok(counts)
}

/// Lets the groups come to an end, and compares with what was told to be published.
pub(crate) async fn compare(gate: &Tidegate, told: &Told) -> anyhow::Result<Counts> {
    let published = unread(&topic(gate)?).await?;
    let all: BTreeSet<u64> = published.iter().copied().collect();
    ensure!(all.len() == published.len(), "a number was published twice");
    if let Some(number) = told.numbers().find(|number| !all.contains(number)) {
        anyhow::bail!("{number} was told to be published, and is not there");
    }
    let dead = try_join_all(GROUPS.map(|name| compare_group(gate, name, &all))).await?;
    Ok(Counts { published: all.len() as u64, dead: dead.iter().sum() })
}

/// One group; how many messages it had given up, of `all`.
async fn compare_group(gate: &Tidegate, name: &str, all: &BTreeSet<u64>) -> anyhow::Result<u64> {
    let group = group(gate, name).await?;
    end(gate, &group, false).await?;
    let given_up = dead_letters(&group).await?;
    let bad: BTreeSet<u64> =
        all.iter().copied().filter(|number| Nature::of(*number) == Nature::Bad).collect();
    ensure!(given_up.values().copied().eq(bad.iter().copied()), "{name} gave up {given_up:?}");
    let effects = handled_by(gate, name)?;
    let mut handled = unread(&effects).await?;
    ordered(&handled).with_context(|| name.to_owned())?;
    let expected: BTreeSet<u64> = all.difference(&bad).copied().collect();
    once(&handled, &expected).with_context(|| name.to_owned())?;
    for id in given_up.keys() {
        group.replay(*id).await?;
    }
    end(gate, &group, true).await?;
    handled.extend(unread(&effects).await?);
    once(&handled, all).with_context(|| format!("{name}, after the replay"))?;
    Ok(given_up.len() as u64)
}

/// One bad message must hold up nobody, and be handled once it can be.
pub(super) fn one_bad_among(folder: &Path, messages: u64) -> anyhow::Result<()> {
    const BAD: u64 = 13;
    ensure!(Nature::of(BAD) == Nature::Bad && messages > BAD, "too few messages");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let gate = store(folder).open().await?;
        let numbers = topic(&gate)?;
        // Numbers of which no other is bad, whatever their nature is.
        let good = (0..).filter(|number| Nature::of(*number) == Nature::Good);
        let all: Vec<u64> = std::iter::once(BAD).chain(good).take(messages as usize).collect();
        for some in all.chunks(1_024) {
            let publish = |number: &u64| {
                let message = numbers.publish(number).key(key_of(*number));
                async move { message.await }
            };
            try_join_all(some.iter().map(publish)).await?;
        }
        let group = group(&gate, "one").await?;
        let work = || end(&gate, &group, false);
        try_join_all((0..8).map(|_| work())).await?;
        let dead = dead_letters(&group).await?;
        ensure!(dead.values().eq([&BAD]), "dead letters: {dead:?}");
        ensure!(group.view().await?.done == messages - 1, "{}", group.view().await?.done);
        let (id, _) = dead.first_key_value().context("a dead letter")?;
        group.replay(*id).await?;
        end(&gate, &group, true).await?;
        ensure!(group.view().await?.done == messages && dead_letters(&group).await?.is_empty());
        drop(group);
        gate.close().await?;
        anyhow::Ok(())
    })
}

/// Works until nothing comes any more.
async fn end(gate: &Tidegate, group: &ConsumerGroup<u64>, mended: bool) -> anyhow::Result<()> {
    let mut quiet = std::time::Instant::now();
    while quiet.elapsed() < QUIET {
        if some(gate, group, mended).await? > 0 {
            quiet = std::time::Instant::now();
        }
    }
    Ok(())
}

/// Every value in a topic that was not asked for before, in its order.
pub(crate) async fn unread<T: DeserializeOwned>(topic: &Topic<T>) -> anyhow::Result<Vec<T>> {
    let reader = auditor(topic).await?;
    let (mut values, mut quiet) = (Vec::new(), std::time::Instant::now());
    while quiet.elapsed() < QUIET {
        let leases = reader.lease(PAGE, QUIET / 4, 20 * QUIET).await?;
        try_join_all(leases.iter().map(|leased| leased.ack())).await?;
        for leased in leases {
            values.push((leased.id(), leased.value()?));
            quiet = std::time::Instant::now();
        }
    }
    // Different keys are handed out in any order.
    values.sort_by_key(|(id, _)| *id);
    Ok(values.into_iter().map(|(_, value)| value).collect())
}

/// The group that reads a topic in the end. It is there from the beginning, so that all is kept.
pub(crate) async fn auditor<T>(topic: &Topic<T>) -> anyhow::Result<ConsumerGroup<T>> {
    Ok(topic.group("auditor").begin(Whence::Oldest).open().await?)
}

async fn dead_letters(
    group: &ConsumerGroup<u64>,
) -> anyhow::Result<BTreeMap<tidegate::MessageId, u64>> {
    let (mut all, mut after) = (BTreeMap::new(), None);
    loop {
        let page = group.dead_letters(after, 100).await?;
        for dead in &page {
            all.insert(dead.letter.id, serde_json::from_slice(dead.letter.payload.bytes())?);
        }
        match page.last() {
            Some(last) => after = Some(last.letter.id),
            None => return Ok(all),
        }
    }
}

/// Each number of `expected` must be there once, and no other.
pub(crate) fn once<T: Ord + Debug>(handled: &[T], expected: &BTreeSet<T>) -> anyhow::Result<()> {
    let found: BTreeSet<&T> = handled.iter().collect();
    ensure!(found.len() == handled.len(), "an effect happened twice");
    let missing: Vec<_> = expected.iter().filter(|one| !found.contains(one)).take(3).collect();
    let foreign: Vec<_> = found.iter().filter(|one| !expected.contains(one)).take(3).collect();
    ensure!(missing.is_empty() && foreign.is_empty(), "missing {missing:?}, foreign {foreign:?}");
    Ok(())
}

/// Numbers of one key must be in the order in which they were published, but for those that were
/// published late.
fn ordered(handled: &[u64]) -> anyhow::Result<()> {
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for number in handled.iter().filter(|number| Nature::of(**number) != Nature::Delayed) {
        if let Some(before) = last.insert(number % KEYS, *number) {
            ensure!(before < *number, "{number} was handled after {before}");
        }
    }
    Ok(())
}
