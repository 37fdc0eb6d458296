//! What an order shard has asked of the stock shards, and up to where each of them may forget. A
//! stock shard that is down keeps only its own operations open: the others forget as ever. It sends
//! nothing, and does not look into what is asked.

use std::collections::BTreeMap;

use super::Ask;
use crate::{OpId, Outbox, ops::Ops};

/// The open operations of an order shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asks {
    outbox: Outbox<Ask>,
    // Those to each stock shard that ever had any. Follows from the outbox and is not written.
    to_each: BTreeMap<u16, Ops<()>>,
}

impl PartialEq for Asks {
    fn eq(&self, other: &Self) -> bool {
        self.outbox == other.outbox
    }
}

impl Eq for Asks {}

impl Asks {
    /// The number that the next one gets.
    pub(crate) fn next_id(&self) -> OpId {
        self.outbox.next_id()
    }

    pub(crate) fn open(&mut self, ask: Ask) -> OpId {
        let to = ask.to;
        let op = self.outbox.open(ask);
        self.to_each.entry(to).or_default().insert(op, ());
        op
    }

    /// Closes one that was answered. `None` if it is not open: a repeated answer.
    pub(crate) fn close(&mut self, op: OpId) -> Option<Ask> {
        let ask = self.outbox.close(op)?;
        if let Some(open) = self.to_each.get_mut(&ask.to) {
            open.remove(op);
        }
        Some(ask)
    }

    pub(crate) fn get(&self, op: OpId) -> Option<&Ask> {
        self.outbox.get(op)
    }

    /// Every operation to the stock shard `to` below this number has been answered.
    pub(crate) fn acked_below(&self, to: u16) -> OpId {
        self.to_each.get(&to).and_then(Ops::first).unwrap_or(self.next_id())
    }

    /// In the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (OpId, &Ask)> {
        self.outbox.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.outbox.len()
    }

    /// What is written.
    pub(crate) fn outbox(&self) -> &Outbox<Ask> {
        &self.outbox
    }
}

impl From<Outbox<Ask>> for Asks {
    fn from(outbox: Outbox<Ask>) -> Self {
        let mut to_each: BTreeMap<u16, Ops<()>> = BTreeMap::new();
        for (op, ask) in outbox.iter() {
            to_each.entry(ask.to).or_default().insert(op, ());
        }
        Self { outbox, to_each }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{OpAction, OrderId};

    proptest! {
        #[test]
        fn each_shard_may_forget_what_it_has_answered(
            steps in prop::collection::vec((any::<bool>(), 0..4_u16, 1..40_u64), 1..200),
        ) {
            let mut asks = Asks::default();
            for (opens, to, op) in steps {
                if opens {
                    let action = OpAction::Release;
                    asks.open(Ask { order: OrderId(1), to, action, shipment: None });
                } else {
                    asks.close(OpId(op));
                }
                for to in 0..4 {
                    let open = asks.iter().find(|(_, ask)| ask.to == to);
                    let mark = open.map_or(asks.next_id(), |(op, _)| op);
                    prop_assert_eq!(asks.acked_below(to), mark);
                }
                let read = Asks::from(asks.outbox().clone());
                prop_assert!((0..4).all(|to| read.acked_below(to) == asks.acked_below(to)));
            }
        }
    }
}
