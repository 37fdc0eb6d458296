//! The auditor: keeps books of its own, in plain maps, of what callers have asked and heard, and
//! says what can't be right. It uses no rule of the machines, and sees nothing that a caller could
//! not see.

mod orders;
mod stock;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hasher,
};

use siphasher::sip::SipHasher13;
use tidegate_actors::codec;
use tidegate_machines::{
    Hold, HoldId, HoldOutcome, KeyHash, Order, OrderCommand, OrderId, OrderState, Receipt, Sku,
    StockCommand, StockRejection,
};

pub(super) use stock::Books;

use super::ops::{Answer, Command, Good, Op};

/// What is wrong, in words.
pub(super) type Verdict = Result<(), String>;

/// See the module.
#[derive(Default)]
pub(super) struct Auditor {
    orders: BTreeMap<OrderId, OrderFile>,
    holds: BTreeMap<HoldId, HoldFile>,
    /// What each key was first answered for, and the step in which that was heard.
    bound: BTreeMap<KeyHash, (usize, u64)>,
    /// Every price that a SKU may have had.
    prices: BTreeMap<Sku, BTreeSet<u64>>,
}

/// An order that somebody was told of.
pub(super) struct OrderFile {
    /// The command that placed it.
    placed_by: usize,
    receipt: Receipt,
    /// The newest view of it.
    pub(super) seen: Option<Order>,
    /// Versions that were heard of, with the step in which that was, both rising.
    heard: Vec<(u64, u32)>,
    /// What each version that was heard of looks like, hashed.
    contents: BTreeMap<u32, u64>,
    /// Everything that was asked about it and may change it.
    asked: Vec<usize>,
}

/// A hold that somebody was told of.
pub(super) struct HoldFile {
    first: Hold,
    /// Its outcome, and the step in which that was first heard.
    outcome: Option<(HoldOutcome, u64)>,
    /// The step in which it was first heard to be shipped.
    shipped: Option<u64>,
    /// Nothing can happen to it any more, and it may be forgotten.
    over: bool,
}

fn ensure(right: bool, wrong: impl FnOnce() -> String) -> Verdict {
    if right { Ok(()) } else { Err(wrong()) }
}

fn hash_of(order: &Order) -> u64 {
    let mut bytes = Vec::with_capacity(256);
    // What can't be encoded could not have been stored either.
    let _ = codec::encode(order, &mut bytes);
    let mut hasher = SipHasher13::new();
    hasher.write(&bytes);
    hasher.finish()
}

impl Auditor {
    pub(super) fn order_ids(&self) -> impl Iterator<Item = OrderId> {
        self.orders.keys().copied()
    }

    pub(super) fn order(&self, id: OrderId) -> Option<(&OrderFile, u64)> {
        self.orders.get(&id).map(|file| {
            (file, file.seen.as_ref().map_or(file.receipt.total_minor, |seen| seen.total_minor))
        })
    }

    /// Holds that can still be asked for.
    pub(super) fn hold_ids(&self) -> impl Iterator<Item = HoldId> {
        self.holds.iter().filter(|(_, file)| !file.over).map(|(id, _)| *id)
    }

    /// A command is about to be sent for the first time.
    pub(super) fn asks(&mut self, op: usize, command: &Command) {
        if let Some(file) = command.order().and_then(|order| self.orders.get_mut(&order))
            && command.changes()
        {
            file.asked.push(op);
        }
        if let Command::Stock(_, StockCommand::Define { sku, patch }) = command {
            let prices = self.prices.entry(sku.clone()).or_default();
            if let Some(price) = patch.price_minor {
                prices.insert(price.unwrap_or(0));
            } else if prices.is_empty() {
                prices.insert(0);
            }
        }
    }

    /// All keys are forgotten from here on, and finished holds may be.
    pub(super) fn next_day(&mut self) {
        self.bound.clear();
        for file in self.holds.values_mut() {
            let confirmed = matches!(file.outcome, Some((HoldOutcome::Confirmed, _)));
            file.over = file.outcome.is_some() && (!confirmed || file.shipped.is_some());
        }
    }

    /// A caller hears `answer` in `step` to what was sent in `sent_at`.
    pub(super) fn hear(
        &mut self,
        ops: &[Op],
        number: usize,
        (sent_at, step): (u64, u64),
        answer: &Answer,
    ) -> Verdict {
        let op = &ops[number];
        self.check_key(op, number, (sent_at, step), answer)?;
        if let Some((_, heard)) = &op.good
            && *heard < sent_at
            && op.command.binds()
        {
            ensure(!answer.is_refusal(), || {
                format!("{:?} was answered and is now refused: {answer:?}", op.command)
            })?;
        }
        match answer {
            Answer::Receipt(receipt) => self.hear_receipt(op, number, receipt),
            Answer::Order(order) => {
                self.hear_order(order, (sent_at, step))?;
                self.hear_change(&op.command, order)
            }
            Answer::Orders(orders) => {
                orders.iter().try_for_each(|order| self.hear_order(order, (sent_at, step)))
            }
            Answer::Hold(hold) => {
                if let Some((Good::Hold(first), _)) = &op.good {
                    ensure(*first == hold.id, || format!("{:?}: another hold", op.command))?;
                }
                self.hear_hold(&op.command, hold, (sent_at, step))
            }
            Answer::Movement(receipt) => match &op.good {
                Some((Good::Movement(first), _)) => ensure(first == receipt, || {
                    format!("{:?}: first {first:?}, then {receipt:?}", op.command)
                }),
                _ => Ok(()),
            },
            Answer::Item(item) => stock::check_item(item),
            Answer::StockRefused(StockRejection::HoldSettled { hold, outcome }) => {
                let file = self.holds.get_mut(hold);
                let file = file.ok_or_else(|| format!("hold {hold} was never told of"))?;
                file.settle(*outcome, step)
            }
            Answer::StockRefused(StockRejection::UnknownHold { hold }) => {
                let over = self.holds.get(hold).is_none_or(|file| file.over);
                ensure(over, || format!("hold {hold} is forgotten too early"))
            }
            Answer::OrderRefused(tidegate_machines::OrderRejection::UnknownOrder { order }) => {
                ensure(!self.orders.contains_key(order), || format!("order {order} is lost"))
            }
            _ => Ok(()),
        }
    }

    /// One key stands for one request.
    fn check_key(
        &mut self,
        op: &Op,
        number: usize,
        (sent_at, step): (u64, u64),
        answer: &Answer,
    ) -> Verdict {
        let Some(key) = op.command.key() else { return Ok(()) };
        // Cancelling what is cancelled is answered without binding anything.
        let binds = !matches!(op.command, Command::Orders(_, OrderCommand::Cancel { .. }));
        let good = matches!(
            answer,
            Answer::Receipt(_) | Answer::Order(_) | Answer::Movement(_) | Answer::Hold(_)
        );
        let first = self.bound.get(&key).copied();
        if good && binds {
            self.bound.entry(key).or_insert((number, step));
            let mine = first.is_none_or(|(first, _)| first == number);
            ensure(mine, || format!("{:?} was answered for another's key", op.command))?;
        }
        match first {
            Some((first, _)) if first == number => ensure(!answer.is_conflict(), || {
                format!("{:?} is said to conflict with itself", op.command)
            }),
            // Whoever asks after an answer that was heard must be told.
            Some((_, heard)) if heard < sent_at && answer.is_refusal() => {
                ensure(answer.is_conflict(), || {
                    format!("{:?} has another's key, and {answer:?}", op.command)
                })
            }
            _ => Ok(()),
        }
    }

    fn hear_receipt(&mut self, op: &Op, number: usize, receipt: &Receipt) -> Verdict {
        let Command::Orders(shard, OrderCommand::Place(place)) = &op.command else {
            return Err(format!("{:?} was answered with a receipt", op.command));
        };
        ensure(receipt.id.shard() == *shard, || format!("{receipt:?} is of another shard"))?;
        if !place.respond_async {
            let due = receipt
                .expires_at
                .is_some_and(|at| at.0 >= receipt.placed_at.0.saturating_add(place.hold_ms));
            let right = receipt.state == OrderState::AwaitingPayment && due;
            ensure(right, || format!("{receipt:?} is none of an accepted order"))?;
        }
        let file = self.orders.entry(receipt.id).or_insert_with(|| OrderFile {
            placed_by: number,
            receipt: receipt.clone(),
            seen: None,
            heard: Vec::new(),
            contents: BTreeMap::new(),
            asked: Vec::new(),
        });
        ensure(file.placed_by == number, || {
            format!("order {} was placed by two requests", receipt.id)
        })?;
        let known = &file.receipt;
        let same = if place.respond_async {
            let both = known.expires_at.zip(receipt.expires_at);
            known.placed_at == receipt.placed_at && both.is_none_or(|(one, other)| one == other)
        } else {
            known == receipt
        };
        ensure(same, || format!("first {known:?}, then {receipt:?}"))?;
        file.receipt = receipt.clone();
        if let Some((Good::Receipt(first), _)) = &op.good {
            ensure(first.id == receipt.id, || format!("first {first:?}, then {receipt:?}"))?;
        }
        Ok(())
    }

    fn hear_order(&mut self, order: &Order, (sent_at, step): (u64, u64)) -> Verdict {
        // One that nobody was told of yet, in a user's list.
        let Some(file) = self.orders.get_mut(&order.id) else { return Ok(()) };
        let before = file.heard.iter().rev().find(|(heard, _)| *heard < sent_at);
        let least = before.map_or(0, |(_, version)| *version);
        let version = order.version;
        ensure(version >= least, || {
            format!("order {} went back from version {least} to {version}", order.id)
        })?;
        let content = hash_of(order);
        let known = *file.contents.entry(version).or_insert(content);
        ensure(known == content, || {
            format!("order {} has two different versions {version}: {order:?}", order.id)
        })?;
        if file.heard.last().is_none_or(|(_, last)| *last < version) {
            file.heard.push((step, version));
            file.seen = Some(order.clone());
        }
        if order.state == OrderState::Expired {
            let due = order.expires_at.is_some_and(|at| order.changed_at >= at);
            ensure(due, || format!("order {} has expired too early", order.id))?;
        }
        Ok(())
    }

    /// What was asked is in the answer.
    fn hear_change(&self, command: &Command, order: &Order) -> Verdict {
        let Command::Orders(_, command) = command else { return Ok(()) };
        let right = match command {
            OrderCommand::Pay { event_id, kind, amount_minor, .. } => {
                order.history.payments.iter().any(|payment| {
                    payment.event_id == *event_id
                        && payment.kind == *kind
                        && payment.amount_minor == *amount_minor
                })
            }
            OrderCommand::Cancel { .. } => order.state == OrderState::Cancelled,
            OrderCommand::Fulfil { key, .. } => {
                order.history.fulfilments.iter().any(|fulfilment| fulfilment.key == *key)
            }
            OrderCommand::Return { .. } => !order.history.returns.is_empty(),
            _ => true,
        };
        let about = |id| command_order(command).is_none_or(|order| order == id);
        ensure(right && about(order.id), || format!("{command:?} was answered with {order:?}"))
    }

    fn hear_hold(
        &mut self,
        command: &Command,
        hold: &Hold,
        (sent_at, step): (u64, u64),
    ) -> Verdict {
        let file = self.holds.entry(hold.id).or_insert_with(|| HoldFile {
            first: hold.clone(),
            outcome: None,
            shipped: None,
            over: false,
        });
        let first = &file.first;
        let same =
            first.user == hold.user && first.line == hold.line && first.placed_at == hold.placed_at;
        ensure(same, || format!("first {first:?}, then {hold:?}"))?;
        if let Command::Stock(_, StockCommand::Hold { user, sku, location, quantity, .. }) = command
        {
            let line = &hold.line;
            let right = hold.user == *user
                && line.sku == *sku
                && line.location == *location
                && line.quantity == *quantity;
            ensure(right, || format!("{command:?} was answered with {hold:?}"))?;
        }
        match hold.settled {
            Some((outcome, at)) => {
                let early = outcome == HoldOutcome::Expired && at < hold.expires_at;
                ensure(!early, || format!("{hold:?} has expired too early"))?;
                file.settle(outcome, step)?;
            }
            None => {
                let known = file.outcome.filter(|(_, heard)| *heard < sent_at);
                ensure(known.is_none(), || format!("{hold:?} had an outcome: {known:?}"))?;
            }
        }
        if hold.shipped_at.is_some() {
            file.shipped.get_or_insert(step);
        } else {
            let known = file.shipped.filter(|heard| *heard < sent_at);
            ensure(known.is_none(), || format!("{hold:?} was shipped before"))?;
        }
        Ok(())
    }
}

fn command_order(command: &OrderCommand) -> Option<OrderId> {
    match command {
        OrderCommand::Pay { order, .. }
        | OrderCommand::Cancel { order, .. }
        | OrderCommand::Fulfil { order, .. }
        | OrderCommand::Return { order, .. }
        | OrderCommand::Get { order } => Some(*order),
        _ => None,
    }
}

impl HoldFile {
    /// A hold has one outcome.
    fn settle(&mut self, outcome: HoldOutcome, step: u64) -> Verdict {
        let (known, _) = *self.outcome.get_or_insert((outcome, step));
        ensure(known == outcome, || format!("hold {}: {known} and {outcome}", self.first.id))
    }
}
