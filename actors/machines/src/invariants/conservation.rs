//! That orders and stock agree to the unit, at any moment and not only when nothing is under way.
//! It deliberately works from states alone, so that an audit can run it on what it finds on disk.

use std::collections::{BTreeMap, BTreeSet};

use super::{Invariant, Violation, orders::check_order, require};
use crate::{
    HoldOutcome, Known, LegState, Location, OpAction, OpOutcome, Order, Orders, Sku, Stock,
    StockLine,
};

type Places = BTreeMap<(Sku, Location), (i128, i128)>;

/// Checks that per SKU and location, what orders and standalone holds have is what the levels say.
///
/// `archived` are orders at rest; one that is also in memory is counted once, as in memory. An
/// operation under way counts as done if and only if its stock shard has it in its inbox.
///
/// # Errors
/// The first violation found.
pub fn check_conservation<'a>(
    stocks: &[&Stock],
    orders: &[&Orders],
    archived: impl IntoIterator<Item = &'a Order>,
) -> Result<(), Violation> {
    let mut expected = Places::new();
    for stock in stocks {
        for hold in stock.holds.values() {
            match hold.settled {
                None => add(&mut expected, &hold.line, 1, 0),
                Some((HoldOutcome::Confirmed, _)) if hold.shipped_at.is_none() => {
                    add(&mut expected, &hold.line, 0, 1);
                }
                Some(_) => {}
            }
        }
    }
    let mut seen = BTreeSet::new();
    for shard in orders {
        for order in shard.iter() {
            seen.insert(order.id);
            count(&mut expected, order, Some(shard), stocks);
        }
    }
    for order in archived {
        if seen.insert(order.id) {
            check_order(order)?;
            count(&mut expected, order, None, stocks);
        }
    }
    for (sku, item) in stocks.iter().flat_map(|stock| stock.items.iter()) {
        for (location, level) in &item.levels {
            let place = (sku.clone(), location.clone());
            let (held, allocated) = expected.remove(&place).unwrap_or_default();
            let same = held == level.held.into() && allocated == level.allocated.into();
            require(Invariant::Conservation, same, || {
                format!("sku {sku} at {location}: {level:?}, by orders {held} and {allocated}")
            })?;
        }
    }
    expected.retain(|_, units| *units != (0, 0));
    require(Invariant::Conservation, expected.is_empty(), || {
        format!("orders have what stock does not know: {expected:?}")
    })
}

fn add(places: &mut Places, line: &StockLine, held: i128, allocated: i128) {
    let place = places.entry((line.sku.clone(), line.location.clone())).or_default();
    place.0 += held * i128::from(line.quantity);
    place.1 += allocated * i128::from(line.quantity);
}

// Starts from what each leg had before its operations under way, and adds those that were done.
fn count(places: &mut Places, order: &Order, shard: Option<&Orders>, stocks: &[&Stock]) {
    for leg in &order.legs {
        let open: Vec<_> = order
            .open_ops
            .iter()
            .filter_map(|op| Some((*op, shard?.asks.get(*op)?)))
            .filter(|(_, ask)| ask.to == leg.shard)
            .collect();
        let before = open.iter().find_map(|(_, ask)| match ask.action {
            OpAction::Reserve { .. } => Some(LegState::Free),
            OpAction::Release | OpAction::Allocate => Some(LegState::Held),
            OpAction::Deallocate { .. } | OpAction::Ship { .. } => Some(LegState::Allocated),
            OpAction::Return { .. } => None,
        });
        let lines = order.lines_at(leg.shard);
        match before.unwrap_or(leg.state) {
            LegState::Held => lines.iter().for_each(|line| add(places, line, 1, 0)),
            LegState::Allocated => {
                lines.iter().for_each(|line| add(places, line, 0, 1));
                let here = order.history.fulfilments.iter().flat_map(|entry| &entry.lines);
                for line in here.filter(|l| is_at(order, l, leg.shard)) {
                    add(places, line, 0, -1);
                }
                unship_open(places, &open);
            }
            _ => {}
        }
        let stock = stocks.iter().find(|stock| stock.shard() == leg.shard);
        for (op, ask) in open {
            let Some(Known::Applied(answered)) =
                stock.map(|stock| stock.inbox.look_up(order.id.shard(), op))
            else {
                continue;
            };
            if matches!(answered.outcome, OpOutcome::Refused(_)) {
                continue;
            }
            done(places, &ask.action, &lines);
        }
    }
}

fn is_at(order: &Order, line: &StockLine, shard: u16) -> bool {
    order.line(&line.sku, &line.location).is_some_and(|line| line.shard == shard)
}

// A fulfilment is in the record from the start; one under way has not been counted off yet.
fn unship_open(places: &mut Places, open: &[(crate::OpId, &crate::order::Ask)]) {
    for (_, ask) in open {
        if let OpAction::Ship { lines } = &ask.action {
            lines.iter().for_each(|line| add(places, line, 0, 1));
        }
    }
}

fn done(places: &mut Places, action: &OpAction, all: &[StockLine]) {
    match action {
        OpAction::Reserve { lines, .. } => lines.iter().for_each(|l| add(places, l, 1, 0)),
        OpAction::Release => all.iter().for_each(|l| add(places, l, -1, 0)),
        OpAction::Allocate => all.iter().for_each(|l| add(places, l, -1, 1)),
        OpAction::Deallocate { lines, .. } | OpAction::Ship { lines } => {
            lines.iter().for_each(|l| add(places, l, 0, -1));
        }
        OpAction::Return { .. } => {}
    }
}
