//! What must hold of one order shard. It deliberately knows no stock shard.

use std::collections::BTreeSet;

use super::{Invariant, Violation, require};
use crate::{LegState, Order, OrderState, Orders, PaymentKind, Rereserve, StockLine};

/// Checks an order shard by itself.
///
/// # Errors
/// The first violation found.
pub fn check_orders(orders: &Orders) -> Result<(), Violation> {
    let mut listed = BTreeSet::new();
    for order in orders.iter() {
        check_order(order)?;
        for op in &order.open_ops {
            let mine = orders.asks.get(*op).is_some_and(|ask| ask.order == order.id);
            require(Invariant::OpsHaveOrders, mine && listed.insert(*op), || {
                format!("order {}: operation {}", order.id, op.0)
            })?;
        }
    }
    require(Invariant::OpsHaveOrders, listed.len() == orders.asks.len(), || {
        format!("{} operations of orders, {} open", listed.len(), orders.asks.len())
    })?;
    check_queue(orders)?;
    let bounded = orders.memory.len() <= orders.config.idempotency_keys_max;
    require(Invariant::MemoryBounded, bounded, || format!("{} keys", orders.memory.len()))
}

fn check_queue(orders: &Orders) -> Result<(), Violation> {
    let queue = &orders.queue;
    let mut before = None;
    for (id, deadline) in queue.iter() {
        let waits = orders.order(id).is_some_and(Order::waits_in_queue);
        let after_all_before_it = before < Some(id);
        require(Invariant::QueueHoldsNothing, waits && after_all_before_it, || {
            format!("order {id}, until {}", deadline.0)
        })?;
        before = Some(id);
    }
    let waiting = orders.iter().filter(|order| order.waits_in_queue()).count();
    let listed = waiting == queue.len() && waiting == queue.deadlines();
    require(Invariant::QueueHoldsNothing, listed, || {
        format!("{waiting} orders wait, {} places, {} deadlines", queue.len(), queue.deadlines())
    })?;
    let counts = queue.counts();
    let left = counts.released + counts.timed_out + counts.cancelled;
    require(Invariant::QueueLeftOnce, left + queue.len() as u64 == counts.queued, || {
        format!("{counts:?}, and {} wait", queue.len())
    })
}

/// Checks an order by itself, in memory or archived.
///
/// # Errors
/// The first violation found.
pub(super) fn check_order(order: &Order) -> Result<(), Violation> {
    let fail = |what: &'static str| move || format!("order {}: {what}", order.id);
    let amounts: Option<u64> = order.lines.iter().map(|line| line.amount_minor).sum();
    let unpriced =
        matches!(order.state, OrderState::Queued | OrderState::Rejected | OrderState::Cancelled);
    let total = amounts == Some(order.total_minor) || unpriced;
    require(Invariant::TotalIsLines, total, fail("total"))?;
    let paid = |kind: PaymentKind| {
        let mine = order.history.payments.iter().filter(move |payment| payment.kind == kind);
        mine.map(|payment| payment.amount_minor).sum::<u64>()
    };
    let captured = paid(PaymentKind::Captured) == order.history.captured_minor;
    let refunded = paid(PaymentKind::Refunded) == order.history.refunded_minor;
    require(Invariant::MoneyIsPayments, captured && refunded, fail("sums"))?;
    let seen = match order.state {
        OrderState::Confirmed | OrderState::Completed => {
            order.history.payments.iter().any(|payment| payment.kind == PaymentKind::Captured)
        }
        // What covers an order must have confirmed it, or have brought its one late try.
        OrderState::AwaitingPayment => !order.covered(),
        OrderState::Expired => !order.covered() || order.rereserve != Rereserve::No,
        OrderState::Queued | OrderState::Rejected | OrderState::Cancelled => true,
    };
    require(Invariant::NoLostMoney, seen, fail("its payments have not done what they must"))?;
    check_units(order)?;
    check_legs(order)
}

fn check_units(order: &Order) -> Result<(), Violation> {
    for line in &order.lines {
        let here = |l: &&StockLine| l.sku == line.sku && l.location == line.location;
        let shipped = order.history.fulfilments.iter().flat_map(|entry| &entry.lines);
        let shipped: u64 = shipped.filter(here).map(|l| l.quantity).sum();
        let returned = order.history.returns.iter().flat_map(|entry| &entry.lines);
        let returned: u64 = returned.filter(here).map(|l| l.quantity).sum();
        let right = u64::from(line.shipped) == shipped
            && u64::from(line.returned) == returned
            && returned <= shipped
            && shipped <= u64::from(line.quantity);
        require(Invariant::UnitsAreEntries, right, || {
            format!("order {}: sku {} at {}", order.id, line.sku, line.location)
        })?;
    }
    Ok(())
}

fn check_legs(order: &Order) -> Result<(), Violation> {
    use LegState::{Allocated, Allocating, Asked, Deallocating, Free, Held, Releasing};
    let trying = order.rereserve == Rereserve::Trying;
    let allowed: &[LegState] = match order.state {
        OrderState::Queued if order.waits_in_queue() => &[Free],
        OrderState::Queued => &[Asked, Held],
        OrderState::AwaitingPayment => &[Held],
        OrderState::Confirmed | OrderState::Completed => &[Allocating, Allocated],
        OrderState::Expired if trying => &[Asked, Held],
        OrderState::Rejected | OrderState::Expired => &[Asked, Releasing, Free],
        OrderState::Cancelled => &[Asked, Releasing, Deallocating, Free],
    };
    let settled = |leg: &LegState| matches!(leg, Held | Allocated | Free);
    let fits = order.legs.iter().all(|leg| {
        allowed.contains(&leg.state) && (!order.open_ops.is_empty() || settled(&leg.state))
    });
    require(Invariant::LegsFitState, fits, || {
        format!("order {} is {}: {:?}", order.id, order.state, order.legs)
    })
}
