//! Messages in the sample, and groups that consume them: every kind of event that a topic or a
//! group has, and an end at which nothing comes by itself any more. It asks no questions itself.

use std::time::Duration;

use anyhow::{Context, ensure};
use tidegate::{
    ConsumerGroup, Effects, Leased, NewOrder, NewSchedule, OrderState, Retry, Tidegate, Topic,
    Whence,
};

use super::{HOUR_MS, Sample};

const TOPIC: &str = "risk";
const MESSAGES: u64 = 9;
const LEASE_FOR: Duration = Duration::from_secs(3_600);
/// Long enough for a message that is there; nothing is waited for in vain.
const WAIT: Duration = Duration::from_secs(60);

/// The topic, for who asks.
pub(crate) fn topic(gate: &Tidegate) -> anyhow::Result<Topic<String>> {
    Ok(gate.topic(TOPIC)?)
}

/// The group `name`, for who asks.
pub(crate) async fn group(gate: &Tidegate, name: &str) -> anyhow::Result<ConsumerGroup<String>> {
    let twice = Retry { attempts_max: 2, backoff_ms: 0, backoff_ms_max: 0 };
    Ok(topic(gate)?.group(name).begin(Whence::Oldest).retry(twice).open().await?)
}

impl Sample {
    /// Publishes; some of it is for later.
    pub(super) async fn publish(&mut self) -> anyhow::Result<()> {
        let topic = topic(&self.gate)?;
        for number in 0..MESSAGES {
            let (text, key) = (format!("text-{number}"), format!("k{}", number % 2));
            topic.publish(&text).key(&key).idempotency(format!("once-{number}")).await?;
            self.questions.add(&format!("publish {text} {key} once-{number}"));
        }
        topic.publish(&"soon".to_owned()).delay_ms(50).await?;
        topic.publish(&"in a month".to_owned()).delay_ms(30 * 24 * HOUR_MS).await?;
        let hourly = NewSchedule::every_ms(HOUR_MS);
        topic.schedule("hourly", &"tick".to_owned(), hourly.clone()).await?;
        topic.schedule("never", &"tock".to_owned(), hourly).await?;
        topic.unschedule("never").await?;
        self.questions.add("schedules");
        Ok(())
    }

    /// Has it consumed, well and badly, by groups that end at the topic's end, so that they keep
    /// nothing in the journal.
    pub(super) async fn consume(&mut self) -> anyhow::Result<()> {
        for name in ["removed", "paused"] {
            let group = group(&self.gate, name).await?;
            group.pause().await?;
            if name == "removed" {
                group.resume().await?;
                group.remove().await?;
            } else {
                group.seek(Whence::Now).await?;
            }
        }
        let mail = group(&self.gate, "mail").await?;
        // Each is given up after two attempts: one stays so, one is forgotten, one is tried again.
        for number in 0..3 {
            let first = next(&mail).await?;
            first.fail(&format!("first attempt of {number}")).await?;
            let second = next(&mail).await?;
            ensure!(second.id() == first.id(), "another message came before it");
            second.fail(&format!("second attempt of {number}")).await?;
            match number {
                1 => mail.discard(first.id()).await?,
                2 => {
                    mail.replay(first.id()).await?;
                    next(&mail).await?.ack().await?;
                }
                _ => {}
            }
        }
        let new = NewOrder::new("u3").line("tee", 1);
        let order = self.gate.orders().place(new, "by-mail").await?.id;
        self.questions.add(&format!("order {order}"));
        let sent = self.gate.topic("sent")?;
        let effects = Effects::new().publish(&sent, &"text".to_owned(), Some("u3")).cancel(order);
        next(&mail).await?.ack_with(effects).await?;
        self.until(order, OrderState::Cancelled).await?;
        let fifth = next(&mail).await?;
        fifth.ack().await?;
        next(&mail).await?.ack().await?;
        mail.seek(Whence::After(fifth.id())).await?;
        // The rest, one of them for the second time, and those that have come by themselves.
        for _ in 5..MESSAGES + 2 {
            next(&mail).await?.ack().await?;
        }
        for name in ["mail", "paused"] {
            self.questions.add(&format!("group {name}"));
            self.questions.add(&format!("dead {name}"));
        }
        Ok(())
    }
}

async fn next(group: &ConsumerGroup<String>) -> anyhow::Result<Leased<String>> {
    let mut leased = group.lease(1, WAIT, LEASE_FOR).await?;
    leased.pop().context("no message came")
}
