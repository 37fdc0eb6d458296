//! The process that is killed: it publishes numbers, and two groups handle them. It says which
//! numbers are published, and decides nothing about when it ends.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::ensure;
use tidegate::{
    AskError, ConsumeError, ConsumerGroup, ConsumersRejection, Effects, Retry, Tidegate, Whence,
};
use tokio::task::JoinSet;

use super::{
    ATTEMPTS_MAX, GROUPS, Nature, PUBLISHERS, TOPIC, check::auditor, handled_by, key_of, store,
    topic,
};
use crate::Verdict;

/// A pause between two messages of a publisher, so that consumers keep up.
const PAUSE: Duration = Duration::from_millis(1);

/// How long a message may be in hands.
const LEASE: Duration = Duration::from_millis(300);

const WAIT: Duration = Duration::from_millis(100);

/// Consumers of a group in each process.
const CONSUMERS: usize = 3;

/// Publish and consume until killed, for the tool that does.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Where the store is.
    folder: PathBuf,
    /// How many messages of each publisher are known to be published.
    #[arg(long, value_delimiter = ',')]
    from: Vec<u64>,
}

/// Never comes to an end by itself.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let gate = store(&arguments.folder).open().await?;
        let mut tasks = begin(&gate, &arguments.from).await?;
        let ended = tasks.join_next().await.map(|ended| ended.map_err(anyhow::Error::from));
        ended.unwrap_or_else(|| Err(anyhow::anyhow!("there was no task")))?
    })
}

/// Lets publishers and consumers begin, none of which comes to an end but by an error. `from` is
/// how many messages of each publisher are known to be published.
pub(crate) async fn begin(
    gate: &Tidegate,
    from: &[u64],
) -> anyhow::Result<JoinSet<anyhow::Result<Verdict>>> {
    ensure!(from.len() as u64 == PUBLISHERS, "--from: one for each publisher");
    auditor(&topic(gate)?).await?;
    for name in GROUPS {
        auditor(&handled_by(gate, name)?).await?;
    }
    let mut tasks = JoinSet::new();
    for name in GROUPS {
        let group = Arc::new(group(gate, name).await?);
        for _ in 0..CONSUMERS {
            let (gate, group) = (gate.clone(), Arc::clone(&group));
            tasks.spawn(async move {
                loop {
                    some(&gate, &group, false).await?;
                }
            });
        }
    }
    for (publisher, from) in (0..).zip(from) {
        tasks.spawn(publish(gate.clone(), publisher, *from));
    }
    Ok(tasks)
}

/// A group, as everybody opens it.
pub(super) async fn group(gate: &Tidegate, name: &str) -> anyhow::Result<ConsumerGroup<u64>> {
    let retry = Retry { attempts_max: ATTEMPTS_MAX, backoff_ms: 1, backoff_ms_max: 20 };
    Ok(topic(gate)?.group(name).begin(Whence::Oldest).retry(retry).open().await?)
}

async fn publish(gate: Tidegate, publisher: u64, from: u64) -> anyhow::Result<Verdict> {
    let topic = topic(&gate)?;
    for turn in from.. {
        let number = turn * PUBLISHERS + publisher;
        let delay_ms = if Nature::of(number) == Nature::Delayed { 50 } else { 0 };
        // What was published when the process was killed, unheard, is not published again.
        let message = topic.publish(&number).key(key_of(number)).delay_ms(delay_ms);
        message.idempotency(format!("{TOPIC}-{number}")).await?;
        println!("{number}");
        tokio::time::sleep(PAUSE).await;
    }
    Ok(Verdict::Held)
}

/// Handles what is there; how many messages that were. `mended`: nobody fails any more.
pub(super) async fn some(
    gate: &Tidegate,
    group: &ConsumerGroup<u64>,
    mended: bool,
) -> anyhow::Result<usize> {
    let leases = group.lease(16, WAIT, LEASE).await?;
    let (count, handled) = (leases.len(), handled_by(gate, group.id().group.as_str())?);
    for leased in leases {
        let number = leased.value()?;
        let first = leased.attempt() == 1;
        let told = match Nature::of(number) {
            Nature::Bad if !mended => leased.fail("nobody can handle it").await,
            Nature::Fails if first => leased.fail("not at once").await,
            Nature::Hangs if first => Ok(()),
            _ => {
                let key = key_of(number);
                leased.ack_with(Effects::new().publish(&handled, &number, Some(&key))).await
            }
        };
        match told {
            // Its time was over: it is handed out again.
            Err(ConsumeError::Ask(AskError::Rejected(ConsumersRejection::Late { .. }))) => {}
            told => told?,
        }
    }
    Ok(count)
}
