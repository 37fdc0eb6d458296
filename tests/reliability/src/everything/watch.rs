//! Groups that are told every event of orders and stock, and note each in a topic of their own, in
//! the commit that acknowledges it. They do nothing else with it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use futures_util::future::{join_all, try_join_all};
use serde_json::Value;
use tidegate::{
    AskError, ConsumeError, ConsumerGroup, ConsumersRejection, Effects, FeedError, Position, Retry,
    Tidegate, Topic, Whence,
};
use tokio::task::JoinSet;

use crate::{
    Verdict,
    messages::{
        ATTEMPTS_MAX,
        check::{QUIET, auditor, once, unread},
    },
};

/// Who is told.
const WATCHERS: [&str; 2] = ["ledger", "mail"];

/// Events in hands at a time, and how long they may be.
const SOME: usize = 64;
const LEASE: Duration = Duration::from_millis(500);

const WAIT: Duration = Duration::from_millis(100);

/// As for messages: kills alone must not make a dead letter.
const RETRY: Retry = Retry { attempts_max: ATTEMPTS_MAX, backoff_ms: 1, backoff_ms_max: 20 };

async fn watcher(gate: &Tidegate, name: &str) -> anyhow::Result<ConsumerGroup<Value>> {
    let events: Topic<Value> = gate.topic("events")?;
    Ok(events.group(name).begin(Whence::Oldest).retry(RETRY).open().await?)
}

/// Where a watcher notes what it has seen: the place of each event in the journal.
fn seen_by(gate: &Tidegate, name: &str) -> anyhow::Result<Topic<String>> {
    Ok(gate.topic(&format!("seen-by-{name}"))?)
}

/// Lets the watchers begin, for as long as the process lives.
pub(super) async fn begin(
    gate: &Tidegate,
    tasks: &mut JoinSet<anyhow::Result<Verdict>>,
) -> anyhow::Result<()> {
    for name in WATCHERS {
        auditor(&seen_by(gate, name)?).await?;
        let (gate, group) = (gate.clone(), Arc::new(watcher(gate, name).await?));
        tasks.spawn(async move {
            loop {
                some(&gate, &group).await?;
            }
        });
    }
    Ok(())
}

/// Notes what is there; how much that was.
async fn some(gate: &Tidegate, group: &ConsumerGroup<Value>) -> anyhow::Result<usize> {
    let leases = group.lease(SOME, WAIT, LEASE).await?;
    let seen = seen_by(gate, group.id().group.as_str())?;
    let note = leases.iter().map(|leased| {
        let place = leased.id().to_string();
        leased.ack_with(Effects::new().publish(&seen, &place, None))
    });
    for told in join_all(note).await {
        match told {
            // Its time was over: it is handed out again.
            Err(ConsumeError::Ask(AskError::Rejected(ConsumersRejection::Late { .. }))) => {}
            told => told?,
        }
    }
    Ok(leases.len())
}

/// Lets the watchers come to an end, and holds what they have seen against the journal. Gives how
/// many events there were.
pub(super) async fn compare(gate: &Tidegate) -> anyhow::Result<u64> {
    let before = &happened(gate).await?;
    let each = WATCHERS.map(|name| async move {
        let group = watcher(gate, name).await?;
        let mut quiet = std::time::Instant::now();
        while quiet.elapsed() < QUIET {
            if some(gate, &group).await? > 0 {
                quiet = std::time::Instant::now();
            }
        }
        ensure!(group.dead_letters(None, 1).await?.is_empty(), "{name} gave up on an event");
        let seen = unread(&seen_by(gate, name)?).await?;
        let told: BTreeSet<&String> = seen.iter().collect();
        // Some orders expire while all this is looked at.
        let mut all = happened(gate).await?;
        all.retain(|place| before.contains(place) || told.contains(place));
        once(&seen, &all).with_context(|| format!("events told to {name}"))
    });
    try_join_all(each).await?;
    Ok(before.len() as u64)
}

/// The place of every event in the journal, which must be whole.
async fn happened(gate: &Tidegate) -> anyhow::Result<BTreeSet<String>> {
    ensure!(gate.report().oldest <= Position::ZERO.next(), "the journal was trimmed");
    let end = gate.events().durable();
    let (mut feed, mut all) = (gate.events().from_oldest(), BTreeSet::new());
    while feed.cursor().position < end {
        match tokio::time::timeout(WAIT, feed.next()).await {
            Ok(Ok(event)) => drop(all.insert(event.cursor().to_string())),
            Ok(Err(FeedError::Closed)) => break,
            Ok(Err(error)) => return Err(error.into()),
            // Records that are no events only move the cursor.
            Err(_) => {}
        }
    }
    Ok(all)
}
