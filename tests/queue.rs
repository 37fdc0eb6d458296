//! A machine made to be mistreated, written with the public API only: it counts, panics on demand,
//! holds its thread up, and sends sums to its other shards exactly once.

use std::sync::{
    Arc, Barrier,
    atomic::{AtomicBool, Ordering},
};

use serde::{Deserialize, Serialize};
use tidegate::machine::{
    Answer, Decision, Deliver, Durable, Group, Inbox, Kind, Known, Machine, OpId, Outbox, Ticket,
    Timestamp,
};

/// One shard of counters.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Queue {
    shard: u16,
    total: u64,
    outbox: Outbox<(u16, u64)>,
    inbox: Inbox<()>,
}

pub(crate) enum Command {
    /// Answered with the total after it.
    Add(u64),
    Get,
    /// Panics while deciding.
    PanicDeciding,
    /// Panics while applying, half-way through.
    PanicApplying,
    /// Meets the test at the barrier: what is sent meanwhile queues up.
    Block(Arc<Barrier>),
    /// Adds to another shard; answered with the total here.
    Send {
        to: u16,
        units: u64,
    },
    /// Answered when nothing that was sent is still open.
    Settled,
    Arrived {
        from: u16,
        op: OpId,
        acked_below: OpId,
        units: u64,
    },
    Acked {
        op: OpId,
    },
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Event {
    Added(u64),
    Broken,
    Sent { to: u16, units: u64 },
    Received { from: u16, op: OpId, acked_below: OpId, units: u64 },
    Closed { op: OpId },
}

pub(crate) enum Effect {
    Carry { from: u16, to: u16, op: OpId, acked_below: OpId, units: u64 },
    Ack { to: u16, op: OpId },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Never;

const SETTLED: Ticket = Ticket { subject: 0, purpose: 1 };

impl Queue {
    pub(crate) fn fresh(shard: u16) -> Self {
        Self { shard, ..Self::default() }
    }

    fn carry(&self, op: OpId, to: u16, units: u64) -> Effect {
        Effect::Carry { from: self.shard, to, op, acked_below: self.outbox.acked_below(), units }
    }

    fn arrived(&self, from: u16, op: OpId, acked_below: OpId, units: u64) -> Decision<Self> {
        let ack = Effect::Ack { to: from, op };
        match self.inbox.look_up(from, op) {
            Known::New => {
                let event = Event::Received { from, op, acked_below, units };
                Decision::event(event).with_effect(ack)
            }
            Known::Applied(()) => Decision::nothing().with_effect(ack),
            Known::Closed => Decision::nothing(),
        }
    }
}

impl Machine for Queue {
    type Command = Command;
    type Event = Event;
    type Reply = u64;
    type Rejection = Never;
    type Effect = Effect;

    fn decide(&self, command: &Command, _: Timestamp) -> Result<Decision<Self>, Never> {
        Ok(match command {
            Command::Add(units) => {
                let total = self.total + units;
                Decision::event(Event::Added(*units)).answered(Answer::Now(total))
            }
            Command::Get => Decision::reply(self.total),
            Command::PanicDeciding => panic!("asked to panic while deciding"),
            Command::PanicApplying => {
                Decision::event(Event::Broken).answered(Answer::Now(self.total))
            }
            Command::Block(barrier) => {
                barrier.wait();
                Decision::reply(self.total)
            }
            Command::Send { to, units } => {
                let effect = self.carry(self.outbox.next_id(), *to, *units);
                let event = Event::Sent { to: *to, units: *units };
                Decision::event(event).answered(Answer::Now(self.total)).with_effect(effect)
            }
            Command::Settled if self.outbox.is_empty() => Decision::reply(self.total),
            Command::Settled => Decision::later(SETTLED),
            Command::Arrived { from, op, acked_below, units } => {
                self.arrived(*from, *op, *acked_below, *units)
            }
            Command::Acked { op } if self.outbox.get(*op).is_none() => Decision::nothing(),
            Command::Acked { op } => {
                let closed = Decision::event(Event::Closed { op: *op });
                let last = self.outbox.len() == 1;
                if last { closed.settling(SETTLED, Ok(self.total)) } else { closed }
            }
        })
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Added(units) => self.total += units,
            Event::Broken => {
                self.total += 1_000_000;
                panic!("asked to panic while applying");
            }
            Event::Sent { to, units } => drop(self.outbox.open((*to, *units))),
            Event::Received { from, op, acked_below, units } => {
                self.total += units;
                self.inbox.record(*from, *op, *acked_below, ());
            }
            Event::Closed { op } => drop(self.outbox.close(*op)),
        }
    }

    fn outstanding(&self) -> Vec<Effect> {
        self.outbox.iter().map(|(op, (to, units))| self.carry(op, *to, *units)).collect()
    }
}

impl Durable for Queue {
    const KIND: Kind = Kind(Kind::FIRST_FREE.0 + 7);
    const NAME: &'static str = "queue";
}

/// Carries between the shards of a group: nothing while cut, and everything twice otherwise, since
/// at least once is all that is promised.
pub(crate) struct Post {
    pub(crate) group: Group<Queue>,
    pub(crate) cut: Arc<AtomicBool>,
}

impl Deliver<Queue> for Post {
    fn deliver(&mut self, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            if self.cut.load(Ordering::SeqCst) {
                continue;
            }
            for _ in 0..2 {
                match effect {
                    Effect::Carry { from, to, op, acked_below, units } => {
                        let arrived = Command::Arrived { from, op, acked_below, units };
                        self.group.tell(to, vec![arrived]);
                    }
                    Effect::Ack { to, op } => self.group.tell(to, vec![Command::Acked { op }]),
                }
            }
        }
    }
}
