//! A durable actor of the host's own: one value per shard, read and swapped by callers while panics
//! are thrown into it. It has no effects and needs no keys.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use tidegate::{
    AskError,
    machine::{Answer, Decision, Durable, Kind, Machine, Timestamp},
};

use super::{
    Round, Tally,
    checker::{Entry, Model},
    store::{Caller, Handles, sorted},
};

/// How many registers a store has.
pub(crate) const REGISTERS: u16 = 8;

/// One register.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Register(u64);

pub(crate) enum Command {
    /// Answered with the value before.
    Swap(u64),
    Read,
    /// Panics while it is decided, or while its event is applied.
    Panic {
        applying: bool,
    },
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Event {
    Set(u64),
    Broken,
}

/// Registers refuse nothing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("never")]
pub(crate) struct Never;

impl Machine for Register {
    type Command = Command;
    type Event = Event;
    type Reply = u64;
    type Rejection = Never;
    type Effect = ();

    fn decide(&self, command: &Command, _: Timestamp) -> Result<Decision<Self>, Never> {
        Ok(match command {
            Command::Swap(value) => {
                Decision::event(Event::Set(*value)).answered(Answer::Now(self.0))
            }
            Command::Read => Decision::reply(self.0),
            Command::Panic { applying: true } => {
                Decision::event(Event::Broken).answered(Answer::Now(self.0))
            }
            Command::Panic { applying: false } => panic!("asked to panic while deciding"),
        })
    }

    fn outstanding(&self) -> Vec<()> {
        Vec::new()
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Set(value) => self.0 = *value,
            Event::Broken => {
                self.0 = u64::MAX;
                panic!("asked to panic while applying");
            }
        }
    }
}

impl Durable for Register {
    const KIND: Kind = Kind(Kind::FIRST_FREE.0 + 40);
    const NAME: &'static str = "registers";
}

/// The model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Value(pub(crate) u64);

/// A step in the history of a register.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Swap { value: u64, before: Option<u64> },
    Read(u64),
}

impl Model for Value {
    type Step = Step;

    fn after(&self, step: &Step) -> Option<Self> {
        match *step {
            Step::Swap { value, before } => {
                before.is_none_or(|before| before == self.0).then_some(Self(value))
            }
            Step::Read(value) => (value == self.0).then(|| self.clone()),
        }
    }
}

/// The histories of all registers, by number.
pub(crate) type Histories = Vec<Mutex<Vec<Entry<Step>>>>;

/// One client asks `calls` things of the registers.
pub(crate) async fn client(
    caller: Caller,
    round: &Round,
    histories: &Histories,
    mut luck: fastrand::Rng,
    calls: u64,
) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    for number in 0..calls {
        let shard = luck.u16(..REGISTERS);
        let note = |step, began, ended| {
            let entry = Entry { step, client: caller.client, began, ended, follows: None };
            let history = &histories[usize::from(shard)];
            history.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(entry);
        };
        // Unlike any other value, and never 0.
        let value = round.number << 40 | (caller.client as u64 + 1) << 20 | number;
        match luck.u8(..10) {
            0 => {
                let applying = luck.bool();
                let (to, panic) = (caller.handles(), Command::Panic { applying });
                if !to.may_panic(shard) {
                    continue;
                }
                match to.registers.ask(shard, panic).await {
                    Err(AskError::Fault { .. }) => tally.panics += 1,
                    Err(AskError::Closing | AskError::Unavailable { .. }) => {}
                    Err(AskError::Dead { .. }) => anyhow::bail!("a register stays down"),
                    other => anyhow::bail!("a panic was answered with {other:?}"),
                }
            }
            1..6 => {
                let mut lost = Vec::new();
                let mut asking = caller.clone();
                let swap = |to: Handles| async move {
                    sorted(to.registers.ask(shard, Command::Swap(value)).await)
                };
                let answered = asking.call(swap, |began| lost.push(began)).await?;
                tally.unknown += lost.len() as u64;
                for began in lost {
                    note(Step::Swap { value, before: None }, began, None);
                }
                let before = Some(answered.answer?);
                note(Step::Swap { value, before }, answered.began, Some(answered.ended));
            }
            _ => {
                let mut asking = caller.clone();
                let read = |to: Handles| async move {
                    sorted(to.registers.ask(shard, Command::Read).await)
                };
                let answered = asking.call(read, |_| {}).await?;
                note(Step::Read(answered.answer?), answered.began, Some(answered.ended));
            }
        }
    }
    Ok(tally)
}
