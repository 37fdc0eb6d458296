//! The stock at the end of a day, counted anew from movements, orders and holds. It asks nobody how
//! much there is before it has counted.

use std::collections::BTreeMap;

use tidegate_machines::{
    Hold, HoldOutcome, ItemView, Level, Location, Order, OrderLine, OrderState, Sku, StockCommand,
    UserId,
};

use super::{Auditor, Op, Verdict, ensure};
use crate::sim::ops::Command;

/// What there must be at a place.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    on_hand: i64,
    held: u64,
    allocated: u64,
}

/// What the auditor has counted.
#[derive(Default)]
pub(in crate::sim) struct Books {
    places: BTreeMap<(Sku, Location), Count>,
    users: BTreeMap<(Sku, UserId), u64>,
    /// Units sold or held by then, of all SKUs.
    pub(in crate::sim) units: u64,
}

impl Books {
    pub(super) fn enter_line(&mut self, order: &Order, line: &OrderLine) {
        let place = (line.sku.clone(), line.location.clone());
        let count = self.places.entry(place).or_default();
        let restocked =
            order.history.returns.iter().filter(|one| one.restock).flat_map(|one| &one.lines);
        let restocked = restocked
            .filter(|one| one.sku == line.sku && one.location == line.location)
            .map(|one| one.quantity)
            .sum::<u64>();
        count.on_hand += restocked as i64 - line.shipped as i64;
        let has = match order.state {
            OrderState::AwaitingPayment => {
                count.held += u64::from(line.quantity);
                line.quantity.into()
            }
            OrderState::Confirmed | OrderState::Completed => {
                count.allocated += u64::from(line.quantity - line.shipped);
                (line.quantity - line.returned).into()
            }
            _ => 0,
        };
        self.units += has;
        *self.users.entry((line.sku.clone(), order.user.clone())).or_default() += has;
    }

    fn enter_hold(&mut self, hold: &Hold, outcome: Option<HoldOutcome>, shipped: bool) {
        let (sku, quantity) = (hold.line.sku.clone(), hold.line.quantity);
        let count = self.places.entry((sku.clone(), hold.line.location.clone())).or_default();
        let has = match outcome {
            None => {
                count.held += quantity;
                quantity
            }
            Some(HoldOutcome::Confirmed) if shipped => {
                count.on_hand -= quantity as i64;
                quantity
            }
            Some(HoldOutcome::Confirmed) => {
                count.allocated += quantity;
                quantity
            }
            Some(HoldOutcome::Released | HoldOutcome::Expired) => 0,
        };
        self.units += has;
        *self.users.entry((sku, hold.user.clone())).or_default() += has;
    }

    /// Holds `item` against the books.
    pub(in crate::sim) fn check_item(&self, item: &ItemView) -> Verdict {
        check_item(item)?;
        let mut found: BTreeMap<_, _> =
            item.locations.iter().map(|(location, level)| (location, *level)).collect();
        let mine = self.places.iter().filter(|((sku, _), _)| *sku == item.sku);
        for ((sku, location), count) in mine {
            let level = found.remove(location).unwrap_or_default();
            let right = i64::try_from(level.on_hand) == Ok(count.on_hand)
                && level.held == count.held
                && level.allocated == count.allocated;
            ensure(right, || {
                format!("sku {sku} at {location}: counted {count:?}, found {level:?}")
            })?;
        }
        let rest = found.values().all(|level| *level == Level::default());
        ensure(rest, || format!("units that nobody was told of: {item:?}"))
    }

    /// Nobody has more than `limit` of `sku`.
    pub(in crate::sim) fn check_limit(&self, sku: &Sku, limit: u32) -> Verdict {
        let over = self.users.iter().find(|((of, _), has)| of == sku && **has > u64::from(limit));
        ensure(over.is_none(), || format!("more than {limit} of {sku}: {over:?}"))
    }
}

/// No more is promised than there is, at any moment.
pub(super) fn check_item(item: &ItemView) -> Verdict {
    let ahead = u64::from(item.options.backorder_limit);
    for (location, level) in &item.locations {
        ensure(level.held + level.allocated <= level.on_hand + ahead, || {
            format!("sku {} at {location} is oversold: {item:?}", item.sku)
        })?;
    }
    let sum = |part: fn(&Level) -> u64| item.locations.iter().map(|(_, level)| part(level)).sum();
    let (on_hand, held): (u64, u64) = (sum(|level| level.on_hand), sum(|level| level.held));
    let allocated: u64 = sum(|level| level.allocated);
    let right = item.total.on_hand == on_hand
        && item.total.held == held
        && item.total.allocated == allocated
        && item.available == on_hand as i64 - held as i64 - allocated as i64;
    ensure(right, || format!("the sums of {item:?}"))
}

impl Auditor {
    /// Enters movements and holds: all that is not an order's.
    pub(in crate::sim) fn enter_stock(&self, ops: &[Op], books: &mut Books) {
        for op in ops.iter().filter(|op| op.is_good()) {
            if let Command::Stock(_, StockCommand::Adjust { sku, location, delta, .. }) =
                &op.command
            {
                let place = (sku.clone(), location.clone());
                books.places.entry(place).or_default().on_hand += delta;
            }
        }
        for file in self.holds.values() {
            let outcome = file.outcome.map(|(outcome, _)| outcome);
            books.enter_hold(&file.first, outcome, file.shipped.is_some());
        }
    }
}
