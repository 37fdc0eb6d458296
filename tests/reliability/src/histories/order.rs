//! An order of one line as one thing that is asked one thing after the other. A change is up to
//! three steps: the order changes, its stock shard has done its part, and the answer shows the
//! order as it is by then. Nothing here knows of expiry: these orders are paid or cancelled long
//! before.

use std::collections::{BTreeMap, BTreeSet};

use tidegate::OrderState;

use super::{checker::Model, sku::Key};

/// Units of the line.
pub(crate) const UNITS: u64 = 3;

/// Its price, which is the order's total.
pub(crate) const TOTAL_MINOR: u64 = 300;

/// The model of one order that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Order {
    view: View,
    /// Changes that the stock shard has not done its part of yet.
    open: BTreeSet<usize>,
    /// Keys that are bound, by operation.
    keys: BTreeSet<(u8, Key)>,
    /// Payment events that are known.
    payments: BTreeMap<Key, (Money, u64)>,
}

/// What a reader sees of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct View {
    pub(crate) state: State,
    pub(crate) shipped: u64,
    pub(crate) returned: u64,
    pub(crate) captured_minor: u64,
    pub(crate) refunded_minor: u64,
    pub(crate) payments: usize,
}

/// The states that these orders can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    AwaitingPayment,
    Confirmed,
    Completed,
    Cancelled,
    /// None of those.
    Other,
}

impl From<OrderState> for State {
    fn from(state: OrderState) -> Self {
        match state {
            OrderState::AwaitingPayment => Self::AwaitingPayment,
            OrderState::Confirmed => Self::Confirmed,
            OrderState::Completed => Self::Completed,
            OrderState::Cancelled => Self::Cancelled,
            _ => Self::Other,
        }
    }
}

/// Which way money went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Money {
    In,
    Back,
}

/// A change that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Pay { event: Key, money: Money, amount_minor: u64 },
    Cancel { key: Key },
    Fulfil { key: Key, units: u64 },
    TakeBack { key: Key, units: u64 },
}

/// Why an order refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum No {
    Conflict,
    WrongState(State),
    AlreadyShipped,
    TooMany {
        at_most: u64,
    },
    ChangeUnderWay,
    /// Anything that these orders have no reason to say.
    Other,
}

/// A step in the history of an order.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// The order changes, or refuses to. Not known: no result.
    Changes { call: usize, change: Change, result: Option<Result<(), No>> },
    /// Stock has done its part of that.
    Settles { call: usize },
    /// Somebody is shown the order; only when no part of stock is open, if `settled`.
    Shows { view: View, settled: bool },
}

impl Order {
    /// An order that was just accepted.
    pub(crate) fn accepted() -> Self {
        let view = View {
            state: State::AwaitingPayment,
            shipped: 0,
            returned: 0,
            captured_minor: 0,
            refunded_minor: 0,
            payments: 0,
        };
        let (open, keys, payments) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        Self { view, open, keys, payments }
    }

    fn change(&mut self, call: usize, change: Change) -> Result<(), No> {
        match change {
            Change::Pay { event, money, amount_minor } => {
                self.pay(call, event, (money, amount_minor))
            }
            Change::Cancel { key } => self.cancel(call, key),
            Change::Fulfil { key, units } => self.fulfil(call, key, units),
            Change::TakeBack { key, units } => self.take_back(call, key, units),
        }
    }

    fn pay(&mut self, call: usize, event: Key, told: (Money, u64)) -> Result<(), No> {
        if let Some(known) = self.payments.get(&event) {
            return if *known == told { Ok(()) } else { Err(No::Conflict) };
        }
        self.payments.insert(event, told);
        let view = &mut self.view;
        view.payments += 1;
        match told {
            (Money::In, amount) => view.captured_minor += amount,
            (Money::Back, amount) => view.refunded_minor += amount,
        }
        let covered = view.captured_minor.saturating_sub(view.refunded_minor) >= TOTAL_MINOR;
        if covered && view.state == State::AwaitingPayment {
            view.state = State::Confirmed;
            self.open.insert(call);
        }
        Ok(())
    }

    fn cancel(&mut self, call: usize, key: Key) -> Result<(), No> {
        if self.keys.contains(&(0, key)) || self.view.state == State::Cancelled {
            return Ok(());
        }
        if self.view.shipped > 0 {
            return Err(No::AlreadyShipped);
        }
        self.keys.insert((0, key));
        self.view.state = State::Cancelled;
        self.open.insert(call);
        Ok(())
    }

    fn fulfil(&mut self, call: usize, key: Key, units: u64) -> Result<(), No> {
        if self.keys.contains(&(1, key)) {
            return Ok(());
        }
        if self.view.state != State::Confirmed {
            return Err(No::WrongState(self.view.state));
        }
        let at_most = UNITS - self.view.shipped;
        if units > at_most {
            return Err(No::TooMany { at_most });
        }
        self.keys.insert((1, key));
        self.view.shipped += units;
        self.open.insert(call);
        Ok(())
    }

    fn take_back(&mut self, call: usize, key: Key, units: u64) -> Result<(), No> {
        if self.keys.contains(&(2, key)) {
            return Ok(());
        }
        if !matches!(self.view.state, State::Confirmed | State::Completed) {
            return Err(No::WrongState(self.view.state));
        }
        if !self.open.is_empty() {
            return Err(No::ChangeUnderWay);
        }
        let at_most = self.view.shipped - self.view.returned;
        if units > at_most {
            return Err(No::TooMany { at_most });
        }
        self.keys.insert((2, key));
        self.view.returned += units;
        self.open.insert(call);
        Ok(())
    }

    fn settle(&mut self, call: usize) {
        let closed = self.open.remove(&call);
        let shipped = self.view.state == State::Confirmed && self.view.shipped == UNITS;
        if closed && self.open.is_empty() && shipped {
            self.view.state = State::Completed;
        }
    }
}

impl Model for Order {
    type Step = Step;

    fn after(&self, step: &Step) -> Option<Self> {
        let mut after = self.clone();
        match *step {
            Step::Changes { call, change, result } => {
                let results = after.change(call, change);
                let same = result.is_none_or(|result| result == results);
                // A change that was not answered is of interest only if it changed something.
                (same && (result.is_some() || after != *self)).then_some(after)
            }
            Step::Settles { call } => {
                after.settle(call);
                Some(after)
            }
            Step::Shows { view, settled } => {
                (view == self.view && (!settled || self.open.is_empty())).then_some(after)
            }
        }
    }
}
