//! The sender's half of exactly-once between shards: operations that are not answered yet. It
//! deliberately does not send; the shell does, as often as it likes.

use serde::{Deserialize, Serialize};

use crate::OpId;
use crate::ops::Ops;

/// Operations given a number and not yet answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox<T> {
    next: OpId,
    open: Ops<T>,
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Self { next: OpId(1), open: Ops::default() }
    }
}

impl<T> Outbox<T> {
    /// The number that the next operation gets.
    #[must_use]
    pub fn next_id(&self) -> OpId {
        self.next
    }

    /// Opens an operation.
    pub fn open(&mut self, operation: T) -> OpId {
        let id = self.next;
        self.next = OpId(id.0 + 1);
        self.open.insert(id, operation);
        id
    }

    /// Closes an operation that was answered. `None` if it is not open: a repeated answer.
    pub fn close(&mut self, id: OpId) -> Option<T> {
        self.open.remove(id)
    }

    /// An open operation.
    #[must_use]
    pub fn get(&self, id: OpId) -> Option<&T> {
        self.open.get(id)
    }

    /// Every operation below this number has been answered.
    #[must_use]
    pub fn acked_below(&self) -> OpId {
        self.open.first().unwrap_or(self.next)
    }

    /// The open operations in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (OpId, &T)> {
        self.open.iter()
    }

    /// How many are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_acknowledged_is_below_the_lowest_open() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.acked_below(), outbox.next_id());
        let ids: Vec<_> = ["a", "b", "c"].map(|operation| outbox.open(operation)).into();
        assert_eq!(outbox.close(ids[1]), Some("b"));
        assert_eq!(outbox.close(ids[1]), None, "a repeated answer");
        assert_eq!(outbox.acked_below(), ids[0]);
        outbox.close(ids[0]);
        assert_eq!(outbox.acked_below(), ids[2]);
        outbox.close(ids[2]);
        assert_eq!(outbox.acked_below(), outbox.next_id());
        assert!(outbox.is_empty());
    }
}
