//! An order at the end of a day, against everything that was asked about it. Payments, money and
//! units are counted anew here, from the requests.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_machines::{
    Location, NewLine, Order, OrderCommand, OrderLine, OrderState, PaymentKind, Rereserve, Sku,
    StockLine,
};

use super::{Auditor, Books, Op, OrderFile, Verdict, ensure};
use crate::sim::ops::Command;

impl Auditor {
    /// Holds `order` against what was asked, and enters it in `books`.
    pub(in crate::sim) fn close_order(
        &self,
        ops: &[Op],
        order: &Order,
        books: &mut Books,
    ) -> Verdict {
        let file = self.orders.get(&order.id);
        let file = file.ok_or_else(|| format!("nobody was told of order {}", order.id))?;
        let Command::Orders(_, OrderCommand::Place(place)) = &ops[file.placed_by].command else {
            return Err(format!("order {} was not placed", order.id));
        };
        let same = order.user == place.user && order.key == place.key;
        ensure(same, || format!("{order:?} is not what was placed"))?;
        self.check_lines(&place.lines, order)?;
        let paid = check_payments(ops, file, order)?;
        check_state(ops, file, order, &paid)?;
        check_shipments(ops, file, order)?;
        check_returns(ops, file, order)?;
        for line in &order.lines {
            books.enter_line(order, line);
        }
        Ok(())
    }

    fn check_lines(&self, asked: &[NewLine], order: &Order) -> Verdict {
        let mut summed: Vec<NewLine> = Vec::new();
        for line in asked {
            let same = |one: &&mut NewLine| one.sku == line.sku && one.location == line.location;
            match summed.iter_mut().find(same) {
                Some(sum) => {
                    sum.quantity += line.quantity;
                    sum.amount_minor = sum.amount_minor.zip(line.amount_minor).map(|(a, b)| a + b);
                }
                None => summed.push(line.clone()),
            }
        }
        let right = |(asked, line): (&NewLine, &OrderLine)| {
            let amount = match (asked.amount_minor, line.amount_minor) {
                (Some(asked), found) => found == Some(asked),
                (None, None) => order.expires_at.is_none(),
                (None, Some(found)) => self.prices.get(&line.sku).is_some_and(|prices| {
                    prices
                        .iter()
                        .any(|price| price.checked_mul(line.quantity.into()) == Some(found))
                }),
            };
            let (same_sku, same_place) = (asked.sku == line.sku, asked.location == line.location);
            same_sku && same_place && asked.quantity == u64::from(line.quantity) && amount
        };
        let all = summed.len() == order.lines.len() && summed.iter().zip(&order.lines).all(right);
        ensure(all, || format!("asked for {asked:?}, got {:?}", order.lines))?;
        if order.expires_at.is_some() {
            let total: u64 = order.lines.iter().filter_map(|line| line.amount_minor).sum();
            ensure(order.total_minor == total, || format!("the total of {order:?}"))?;
        }
        Ok(())
    }
}

/// What came of the payments that were told.
struct Paid {
    captured_minor: u64,
    refunded_minor: u64,
    any: bool,
}

impl Paid {
    fn covers(&self, total_minor: u64) -> bool {
        self.any && self.captured_minor.saturating_sub(self.refunded_minor) >= total_minor
    }
}

/// The good ones of what was asked about an order.
fn good<'a>(ops: &'a [Op], file: &'a OrderFile) -> impl Iterator<Item = &'a OrderCommand> {
    let good = file.asked.iter().map(|number| &ops[*number]).filter(|op| op.is_good());
    good.filter_map(|op| match &op.command {
        Command::Orders(_, command) => Some(command),
        Command::Stock(..) => None,
    })
}

fn check_payments(ops: &[Op], file: &OrderFile, order: &Order) -> Result<Paid, String> {
    let mut told = BTreeMap::new();
    for command in good(ops, file) {
        if let OrderCommand::Pay { event_id, kind, amount_minor, .. } = command {
            let before = told.insert(event_id.clone(), (*kind, *amount_minor));
            ensure(before.is_none_or(|before| before == (*kind, *amount_minor)), || {
                format!("payment {event_id} of order {} was taken twice", order.id)
            })?;
        }
    }
    let mut paid = Paid { captured_minor: 0, refunded_minor: 0, any: false };
    for (kind, amount_minor) in told.values() {
        match kind {
            PaymentKind::Captured => {
                paid.captured_minor += amount_minor;
                paid.any = true;
            }
            PaymentKind::Refunded => paid.refunded_minor += amount_minor,
            PaymentKind::Authorized | PaymentKind::Failed => {}
        }
    }
    let found: BTreeMap<_, _> = order
        .history
        .payments
        .iter()
        .map(|payment| (payment.event_id.clone(), (payment.kind, payment.amount_minor)))
        .collect();
    let right = found == told && order.history.payments.len() == told.len();
    ensure(right, || format!("payments told: {told:?}; payments of {order:?}"))?;
    let sums = order.history.captured_minor == paid.captured_minor
        && order.history.refunded_minor == paid.refunded_minor;
    ensure(sums, || format!("the sums of the payments of {order:?}"))?;
    Ok(paid)
}

/// What must be paid back, counted from the order's own lines.
fn due_minor(order: &Order, paid: &Paid) -> u64 {
    let net = paid.captured_minor.saturating_sub(paid.refunded_minor);
    let back = |line: &OrderLine| {
        let amount = u128::from(line.amount_minor.unwrap_or(0));
        (amount * u128::from(line.returned) / u128::from(line.quantity)) as u64
    };
    let keep = match order.state {
        OrderState::Queued | OrderState::AwaitingPayment => return 0,
        OrderState::Confirmed | OrderState::Completed => {
            order.total_minor.saturating_sub(order.lines.iter().map(back).sum())
        }
        OrderState::Rejected | OrderState::Cancelled | OrderState::Expired => 0,
    };
    net.saturating_sub(keep)
}

fn check_state(ops: &[Op], file: &OrderFile, order: &Order, paid: &Paid) -> Verdict {
    let cancelled = good(ops, file).any(|asked| matches!(asked, OrderCommand::Cancel { .. }));
    ensure(cancelled == (order.state == OrderState::Cancelled), || {
        format!("cancelled as told: {cancelled}; {order:?}")
    })?;
    let covered = paid.covers(order.total_minor);
    let right = match order.state {
        OrderState::Queued => false,
        OrderState::AwaitingPayment => !covered,
        // What was refunded later does not undo a sale.
        OrderState::Confirmed | OrderState::Completed => {
            paid.any && paid.captured_minor >= order.total_minor
        }
        OrderState::Expired => !covered || order.rereserve == Rereserve::Done,
        OrderState::Rejected => order.rejection.is_some(),
        OrderState::Cancelled => true,
    };
    ensure(right && order.open_ops.is_empty(), || format!("the state of {order:?}"))?;
    let all = order.lines.iter().all(|line| line.shipped == line.quantity);
    let sold = matches!(order.state, OrderState::Confirmed | OrderState::Completed);
    ensure(!sold || all == (order.state == OrderState::Completed), || {
        format!("shipped and not completed: {order:?}")
    })?;
    let due = due_minor(order, paid);
    ensure(order.refund_due_minor() == due, || format!("{due} must be paid back of {order:?}"))
}

/// Units by place.
fn units<'a>(lines: impl Iterator<Item = &'a StockLine>) -> BTreeMap<(Sku, Location), u64> {
    let mut units = BTreeMap::new();
    for line in lines {
        *units.entry((line.sku.clone(), line.location.clone())).or_default() += line.quantity;
    }
    units
}

fn check_shipments(ops: &[Op], file: &OrderFile, order: &Order) -> Verdict {
    let mut keys = BTreeSet::new();
    for command in good(ops, file) {
        let OrderCommand::Fulfil { key, lines, .. } = command else { continue };
        let mine: Vec<_> = order.history.fulfilments.iter().filter(|one| one.key == *key).collect();
        ensure(mine.len() == 1 && keys.insert(*key), || {
            format!("{command:?} was done {} times: {order:?}", mine.len())
        })?;
        let Some(lines) = lines else { continue };
        let (asked, done) = (units(lines.iter()), units(mine[0].lines.iter()));
        // A stock shard ships all of its part, or none.
        let right = done.iter().all(|(place, units)| asked.get(place) == Some(units));
        ensure(right && !done.is_empty(), || format!("{command:?}: {:?}", mine[0]))?;
    }
    ensure(order.history.fulfilments.len() == keys.len(), || {
        format!("a shipment that nobody was told of: {order:?}")
    })?;
    let shipped = units(order.history.fulfilments.iter().flat_map(|one| &one.lines));
    check_units(order, &shipped, |line| line.shipped, |line| line.quantity)
}

fn check_returns(ops: &[Op], file: &OrderFile, order: &Order) -> Verdict {
    let mut asked: Vec<_> = good(ops, file)
        .filter_map(|command| match command {
            OrderCommand::Return { lines, restock, .. } => Some((units(lines.iter()), *restock)),
            _ => None,
        })
        .collect();
    let mut done: Vec<_> =
        order.history.returns.iter().map(|one| (units(one.lines.iter()), one.restock)).collect();
    asked.sort();
    done.sort();
    ensure(asked == done, || format!("told to be taken back: {asked:?}; {order:?}"))?;
    let returned = units(order.history.returns.iter().flat_map(|one| &one.lines));
    check_units(order, &returned, |line| line.returned, |line| line.shipped)
}

fn check_units(
    order: &Order,
    counted: &BTreeMap<(Sku, Location), u64>,
    found: fn(&OrderLine) -> u32,
    most: fn(&OrderLine) -> u32,
) -> Verdict {
    let right = order.lines.iter().all(|line| {
        let place = (line.sku.clone(), line.location.clone());
        let counted = counted.get(&place).copied().unwrap_or(0);
        u64::from(found(line)) == counted && counted <= u64::from(most(line))
    });
    let known = counted.keys().all(|(sku, location)| {
        order.lines.iter().any(|line| line.sku == *sku && line.location == *location)
    });
    ensure(right && known, || format!("units {counted:?} of {order:?}"))
}
