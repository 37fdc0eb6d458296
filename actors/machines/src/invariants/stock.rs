//! What must hold of one stock shard. It deliberately knows no order shard.

use std::collections::{BTreeMap, HashMap};

use super::{Invariant, Violation, require};
use crate::{HoldOutcome, Stock};

/// Checks a stock shard by itself.
///
/// # Errors
/// The first violation found.
pub fn check_stock(stock: &Stock) -> Result<(), Violation> {
    require(Invariant::NothingImpossible, stock.impossible == 0, || {
        format!("stock shard {}: {} times", stock.shard(), stock.impossible)
    })?;
    check_holds(stock)?;
    let (mut held, mut counted) = (BTreeMap::new(), HashMap::new());
    let orders = stock.order_holds.values();
    let orders = orders.flat_map(|hold| hold.lines.iter().map(move |line| (&hold.user, line)));
    let holds = stock.holds.values().filter(|hold| hold.settled.is_none());
    for (user, line) in orders.chain(holds.map(|hold| (&hold.user, &hold.line))) {
        *held.entry((&line.sku, &line.location)).or_default() += line.quantity;
        *counted.entry((&line.sku, user)).or_default() += line.quantity;
    }
    for (sku, item) in stock.items.iter() {
        for (location, level) in &item.levels {
            let most = level.on_hand.saturating_add(item.options.backorder_limit.into());
            require(Invariant::NoOversell, level.committed() <= most, || {
                format!("sku {sku} at {location}: {level:?}, at most {most}")
            })?;
            let holds: u64 = held.remove(&(sku, location)).unwrap_or(0);
            require(Invariant::HeldIsHolds, level.held == holds, || {
                format!("sku {sku} at {location}: {} held, {holds} in holds", level.held)
            })?;
        }
    }
    require(Invariant::HeldIsHolds, held.is_empty(), || format!("holds without stock: {held:?}"))?;
    for ((sku, user), units) in counted {
        let Some(item) = stock.items.get(sku) else {
            continue;
        };
        let limited = item.options.limit_per_user.is_some();
        let has = item.users.units_of(user).held;
        require(Invariant::LimitKept, !limited || has == units, || {
            format!("sku {sku}, user {user}: {units} held, {has} counted")
        })?;
    }
    Ok(())
}

fn check_holds(stock: &Stock) -> Result<(), Violation> {
    for hold in stock.holds.values() {
        let waits = stock.deadlines.contains(hold.expires_at, hold.id);
        let shipped_right =
            hold.shipped_at.is_none() || matches!(hold.settled, Some((HoldOutcome::Confirmed, _)));
        let right = waits == hold.settled.is_none() && shipped_right;
        require(Invariant::OneOutcome, right, || format!("hold {}", hold.id))?;
    }
    let open = stock.holds.values().filter(|hold| hold.settled.is_none()).count();
    require(Invariant::OneOutcome, open == stock.deadlines.len(), || {
        format!("{open} holds wait, {} deadlines", stock.deadlines.len())
    })?;
    let bounded = stock.memory.len() <= stock.config.idempotency_keys_max;
    require(Invariant::MemoryBounded, bounded, || format!("{} keys", stock.memory.len()))
}
