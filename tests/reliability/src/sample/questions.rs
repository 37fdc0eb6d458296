//! Questions to a store, as text, with the answers that they had once: a store that was damaged
//! must give the same, or refuse. What counts as an answer is what a caller sees; it reads no file.

use std::fmt::Write;

use anyhow::{Context, bail};
use tidegate::{Adjustment, NewOrder, Tidegate};

use super::topics;

const PAGE: usize = 50;

/// Questions in the order in which they are asked.
#[derive(Default)]
pub(crate) struct Questions {
    asked: Vec<String>,
}

/// Why a store is not as it was.
pub(crate) enum Wrong {
    /// It says itself that it can't answer.
    Refused(String),
    /// It answers otherwise.
    Different(String),
}

impl Questions {
    pub(crate) fn add(&mut self, question: &str) {
        self.asked.push(question.to_owned());
    }

    /// One line per question: the question, a tab, the answer.
    pub(crate) async fn text(&self, gate: &Tidegate) -> anyhow::Result<String> {
        let mut text = String::new();
        for question in &self.asked {
            let answer = ask(gate, question).await.with_context(|| question.clone())?;
            writeln!(text, "{question}\t{answer}")?;
        }
        Ok(text)
    }

    /// Asks everything in `text` again.
    pub(crate) async fn check(text: &str, gate: &Tidegate) -> Result<(), Wrong> {
        for line in text.lines() {
            let Some((question, expected)) = line.split_once('\t') else {
                return Err(Wrong::Different(format!("no question: {line}")));
            };
            match ask(gate, question).await {
                Ok(answer) if answer == expected => {}
                Ok(answer) => {
                    let what = format!("{question}: {answer} instead of {expected}");
                    return Err(Wrong::Different(what));
                }
                // What a caller may take for the truth is an answer, even if it is an error.
                Err(error) if is_answer(&error) => {
                    return Err(Wrong::Different(format!("{question}: {error:#}")));
                }
                Err(error) => return Err(Wrong::Refused(format!("{question}: {error:#}"))),
            }
        }
        Ok(())
    }
}

/// Whether the store says that it knows better: unknown, sold out, a conflict.
fn is_answer(error: &anyhow::Error) -> bool {
    let order = error.downcast_ref::<tidegate::OrderError>();
    let stock = error.downcast_ref::<tidegate::StockError>();
    let topic = error.downcast_ref::<tidegate::TopicError>();
    matches!(order, Some(tidegate::AskError::Rejected(_)))
        || matches!(stock, Some(tidegate::AskError::Rejected(_)))
        || matches!(topic, Some(tidegate::AskError::Rejected(_)))
}

async fn ask(gate: &Tidegate, question: &str) -> anyhow::Result<String> {
    let words: Vec<&str> = question.split(' ').collect();
    Ok(match words[..] {
        ["order", id] => json(&gate.orders().get(id.parse()?).await?)?,
        ["place-in-queue", id] => json(&gate.orders().get_with_place(id.parse()?).await?.1)?,
        ["sku", sku] => json(&gate.stock().get(sku).await?)?,
        ["hold", id] => json(&gate.stock().get_hold(id.parse()?).await?)?,
        ["mark", ..] => {
            let name = question.strip_prefix("mark ").unwrap_or_default();
            format!("{:?}", gate.marks().get(name).await?)
        }
        ["user", user] => orders_of(gate, user).await?,
        ["place", user, key, lines] => {
            let mut new = NewOrder::new(user).hold_ms(24 * 3_600_000);
            for line in lines.split(',') {
                let (sku, units) = line.split_once(':').context("a line")?;
                new = new.line(sku, units.parse()?);
            }
            json(&gate.orders().place(new, key).await?)?
        }
        ["adjust", sku, units, reason, key] => {
            let again = Adjustment::new(sku, units.parse()?, reason);
            format!("{:?}", gate.stock().adjust(again, key).await?)
        }
        ["publish", text, key, once] => {
            let text = text.to_owned();
            let again = topics::topic(gate)?.publish(&text).key(key).idempotency(once);
            format!("{:?}", again.await?)
        }
        ["schedules"] => format!("{:?}", topics::topic(gate)?.schedules().await?),
        ["group", name] => {
            let view = topics::group(gate, name).await?.view().await?;
            format!("{} done, {} dead, paused: {}", view.done, view.dead, view.paused)
        }
        ["dead", name] => {
            let group = topics::group(gate, name).await?;
            format!("{:?}", group.dead_letters(None, PAGE).await?)
        }
        _ => bail!("no question: {question}"),
    })
}

async fn orders_of(gate: &Tidegate, user: &str) -> anyhow::Result<String> {
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = gate.orders().by_user(user, after, PAGE).await?;
        ids.extend(page.orders.iter().map(|order| order.id.to_string()));
        after = page.next;
        if after.is_none() {
            return Ok(ids.join(" "));
        }
    }
}

fn json(value: &impl serde::Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string(value)?)
}
