//! What happened to an order once its stock was held: money, shipments, returns. It deliberately
//! takes no room until something has: very many orders wait to be paid, and most of them in vain.

use std::fmt;
use std::ops::{Deref, DerefMut};

use triomphe::Arc;

use super::{Fulfilment, Payment, Return};

/// What happened to an order since. It reads like its [`OrderEntries`], which are all empty at
/// first; clones share them until one of the clones changes.
#[derive(Clone, Default)]
pub struct History(Option<Arc<OrderEntries>>);

/// What a [`History`] has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderEntries {
    /// Payment events in the order they were told.
    pub payments: Vec<Payment>,
    /// What has come in, in minor units.
    pub captured_minor: u64,
    /// What has gone back, in minor units.
    pub refunded_minor: u64,
    /// What was shipped.
    pub fulfilments: Vec<Fulfilment>,
    /// What came back.
    pub returns: Vec<Return>,
}

static NOTHING: OrderEntries = OrderEntries {
    payments: Vec::new(),
    captured_minor: 0,
    refunded_minor: 0,
    fulfilments: Vec::new(),
    returns: Vec::new(),
};

impl History {
    /// What it has, to take apart.
    #[must_use]
    pub fn into_entries(self) -> OrderEntries {
        let Some(entries) = self.0 else { return OrderEntries::default() };
        Arc::try_unwrap(entries).unwrap_or_else(|shared| OrderEntries::clone(&shared))
    }
}

impl Deref for History {
    type Target = OrderEntries;

    #[inline]
    fn deref(&self) -> &OrderEntries {
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for History {
    fn deref_mut(&mut self) -> &mut OrderEntries {
        Arc::make_mut(self.0.get_or_insert_default())
    }
}

impl PartialEq for History {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for History {}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl From<OrderEntries> for History {
    fn from(entries: OrderEntries) -> Self {
        Self((entries != NOTHING).then(|| Arc::new(entries)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_of_nothing_takes_no_room_and_equals_any_other() {
        let (mut touched, fresh) = (History::default(), History::from(OrderEntries::default()));
        touched.payments.clear();
        assert_eq!(touched, fresh, "room for nothing is nothing");
        assert!(fresh.0.is_none());
        let before = touched.clone();
        touched.captured_minor = 700;
        assert_eq!((before.captured_minor, touched.captured_minor), (0, 700));
        assert_eq!(History::from(touched.clone().into_entries()), touched);
    }
}
