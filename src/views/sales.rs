//! The built-in view `sales`: what of each SKU was sold, what came back, and how much stock there
//! was, hour by hour. It is written as any view of a host's own; it knows nothing of the store.

use serde::{Deserialize, Serialize};

use super::{Fact, Rows, View, ViewFault};
use crate::{
    Event, EventData, HeldLine, Hold, HoldId, HoldOutcome, Level, Location, Order, OrderId,
    OrderState, Sku, StockLine, Timestamp,
};

/// What an hour is.
pub(super) const HOUR_MS: u64 = 60 * 60 * 1_000;

/// The built-in view of sales and stock over time. Add it with
/// [`Builder::view`](crate::Builder::view), read it with
/// [`ViewReader::periods`](crate::ViewReader::periods).
///
/// An order counts in the hour in which it was placed, from when it is confirmed; one that is
/// cancelled later is taken out again. What came back counts in the hour in which it did. So these
/// figures follow from the orders alone, and are the same after a rebuild. Levels are those at the
/// end of each hour, over all locations; of hours before a rebuild that had to begin without the
/// whole journal there are none.
pub struct Sales;

/// A row of [`Sales`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SalesRow {
    /// An hour of a SKU.
    Hour(SalesHour),
    /// The level of a SKU.
    Level(Level),
    /// An order, as long as it may be sold or come back.
    Order(SoldOrder),
    /// What an order holds at a stock shard.
    Held(Vec<(Sku, u64)>),
    /// What a standalone hold is of, until it is over or shipped.
    Hold(Sku, u64),
}

/// An hour of a SKU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SalesHour {
    /// Units of orders placed in it that are confirmed.
    pub sold_units: u64,
    /// Their amount, in minor units.
    pub sold_minor: u64,
    /// Units that came back in it.
    pub returned_units: u64,
    /// Their value, in minor units.
    pub returned_minor: u64,
    /// The level at its end, or now, over all locations; `None` if it did not change in it, or is
    /// not known.
    pub level: Option<Level>,
}

/// What of an order is needed to count it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoldOrder {
    placed_at: Timestamp,
    sold: bool,
    lines: Vec<SoldLine>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SoldLine {
    sku: Sku,
    location: Location,
    quantity: u64,
    amount_minor: Option<u64>,
    returned: u64,
}

impl SoldLine {
    /// As [`OrderLine::returned_minor`](crate::OrderLine::returned_minor).
    fn returned_minor(&self) -> u64 {
        let amount = u128::from(self.amount_minor.unwrap_or(0));
        let share = amount * u128::from(self.returned) / u128::from(self.quantity.max(1));
        u64::try_from(share).unwrap_or(u64::MAX)
    }
}

type Kept<'a> = Rows<'a, SalesRow>;
type Taken = Result<(), ViewFault>;

impl View for Sales {
    const NAME: &'static str = "sales";
    const VERSION: u32 = 1;
    type Row = SalesRow;

    fn apply(&self, event: &Event, rows: &mut Kept<'_>) -> Taken {
        match &event.data {
            EventData::OrderPlaced { order, lines, .. } => {
                let line = |line: &crate::PlacedLine| SoldLine {
                    sku: line.sku.clone(),
                    location: line.location.clone(),
                    quantity: line.quantity,
                    amount_minor: line.amount_minor,
                    returned: 0,
                };
                let lines = lines.iter().map(line).collect();
                let placed = SoldOrder { placed_at: event.at, sold: false, lines };
                rows.put(order_key(*order), &SalesRow::Order(placed))
            }
            EventData::OrderConfirmed { order } => {
                let mut found = known(order_row(*order, rows)?, "order", order)?;
                sell(&found, rows, u64::checked_add)?;
                found.sold = true;
                rows.put(order_key(*order), &SalesRow::Order(found))
            }
            EventData::OrderCancelled { order } => {
                if let Some(sold) = order_row(*order, rows)?.filter(|order| order.sold) {
                    sell(&sold, rows, u64::checked_sub)?;
                }
                rows.remove(order_key(*order))
            }
            EventData::OrderRejected { order, .. } => rows.remove(order_key(*order)),
            EventData::OrderReturned { order, lines, .. } => {
                let mut found = known(order_row(*order, rows)?, "order", order)?;
                take_back(&mut found, lines, event.at, rows)?;
                rows.put(order_key(*order), &SalesRow::Order(found))
            }
            _ => apply_stock(event, rows),
        }
    }

    fn load(&self, fact: &Fact, at: Timestamp, rows: &mut Kept<'_>) -> Taken {
        match fact {
            Fact::Sku(item) => {
                rows.put(level_key(&item.sku), &SalesRow::Level(item.total))?;
                in_hour(&item.sku, at, rows, |hour| {
                    hour.level = Some(item.total);
                    Some(())
                })
            }
            Fact::Hold(hold) => {
                let over =
                    matches!(hold.settled, Some((HoldOutcome::Released | HoldOutcome::Expired, _)));
                if over || hold.shipped_at.is_some() { Ok(()) } else { keep_hold(hold, rows) }
            }
            Fact::Order(order) => load_order(order, rows),
            Fact::Held { order, stock_shard, lines, .. } => {
                hold_lines(*order, *stock_shard, lines, rows)
            }
        }
    }
}

/// What happens to stock.
fn apply_stock(event: &Event, rows: &mut Kept<'_>) -> Taken {
    let at = event.at;
    match &event.data {
        EventData::StockDefined { sku, .. } => shift(sku, at, rows, Some),
        EventData::StockAdjusted { sku, delta, .. } => shift(sku, at, rows, |level| {
            Some(Level { on_hand: level.on_hand.checked_add_signed(*delta)?, ..level })
        }),
        EventData::StockHeld { order, stock_shard, lines, .. } => {
            hold_lines(*order, *stock_shard, lines, rows)?;
            let held = lines.iter().map(|held| (&held.line.sku, held.line.quantity));
            shift_all(held, at, rows, held_more)
        }
        EventData::StockReleased { order, stock_shard } => {
            let held = let_go(*order, *stock_shard, rows)?;
            shift_all(pairs(&held), at, rows, held_less)
        }
        EventData::StockAllocated { order, stock_shard } => {
            let held = let_go(*order, *stock_shard, rows)?;
            shift_all(pairs(&held), at, rows, sold)
        }
        EventData::StockDeallocated { lines, .. } => {
            shift_all(units(lines), at, rows, |level, units| {
                Some(Level { allocated: level.allocated.checked_sub(units)?, ..level })
            })
        }
        EventData::StockShipped { lines, .. } => shift_all(units(lines), at, rows, shipped),
        EventData::StockReturned { lines, restock: true, .. } => {
            shift_all(units(lines), at, rows, |level, units| {
                Some(Level { on_hand: level.on_hand.checked_add(units)?, ..level })
            })
        }
        EventData::HoldPlaced { hold, line, .. } => {
            let row = SalesRow::Hold(line.sku.clone(), line.quantity);
            rows.put(hold_key(*hold), &row)?;
            shift_all([(&line.sku, line.quantity)], at, rows, held_more)
        }
        EventData::HoldConfirmed { hold } => {
            let (sku, units) = hold_row(*hold, rows)?;
            shift_all([(&sku, units)], at, rows, sold)
        }
        EventData::HoldReleased { hold } | EventData::HoldExpired { hold } => {
            let (sku, units) = hold_row(*hold, rows)?;
            rows.remove(hold_key(*hold))?;
            shift_all([(&sku, units)], at, rows, held_less)
        }
        EventData::HoldShipped { hold } => {
            let (sku, units) = hold_row(*hold, rows)?;
            rows.remove(hold_key(*hold))?;
            shift_all([(&sku, units)], at, rows, shipped)
        }
        _ => Ok(()),
    }
}

fn held_more(level: Level, units: u64) -> Option<Level> {
    Some(Level { held: level.held.checked_add(units)?, ..level })
}

fn held_less(level: Level, units: u64) -> Option<Level> {
    Some(Level { held: level.held.checked_sub(units)?, ..level })
}

fn sold(level: Level, units: u64) -> Option<Level> {
    let level = held_less(level, units)?;
    Some(Level { allocated: level.allocated.checked_add(units)?, ..level })
}

fn shipped(level: Level, units: u64) -> Option<Level> {
    let (on_hand, allocated) = (level.on_hand, level.allocated);
    let on_hand = on_hand.checked_sub(units)?;
    Some(Level { on_hand, allocated: allocated.checked_sub(units)?, ..level })
}

fn units(lines: &[StockLine]) -> impl Iterator<Item = (&Sku, u64)> {
    lines.iter().map(|line| (&line.sku, line.quantity))
}

fn pairs(lines: &[(Sku, u64)]) -> impl Iterator<Item = (&Sku, u64)> {
    lines.iter().map(|(sku, units)| (sku, *units))
}

fn shift_all<'a>(
    lines: impl IntoIterator<Item = (&'a Sku, u64)>,
    at: Timestamp,
    rows: &mut Kept<'_>,
    change: impl Fn(Level, u64) -> Option<Level>,
) -> Taken {
    let mut lines = lines.into_iter();
    lines.try_for_each(|(sku, units)| shift(sku, at, rows, |level| change(level, units)))
}

/// Changes the level of a SKU, also in the hour of `at`.
fn shift(
    sku: &Sku,
    at: Timestamp,
    rows: &mut Kept<'_>,
    change: impl FnOnce(Level) -> Option<Level>,
) -> Taken {
    let level = match rows.get(level_key(sku))? {
        Some(SalesRow::Level(level)) => level,
        _ => Level::default(),
    };
    let level = change(level).ok_or_else(|| damaged("the level of", sku))?;
    rows.put(level_key(sku), &SalesRow::Level(level))?;
    in_hour(sku, at, rows, |hour| {
        hour.level = Some(level);
        Some(())
    })
}

fn in_hour(
    sku: &Sku,
    at: Timestamp,
    rows: &mut Kept<'_>,
    change: impl FnOnce(&mut SalesHour) -> Option<()>,
) -> Taken {
    let key = hour_key(sku, at.0 / HOUR_MS);
    let mut hour = match rows.get(&key)? {
        Some(SalesRow::Hour(hour)) => hour,
        _ => SalesHour::default(),
    };
    change(&mut hour).ok_or_else(|| damaged("an hour of", sku))?;
    rows.put(key, &SalesRow::Hour(hour))
}

/// Counts an order, or takes it out again.
fn sell(order: &SoldOrder, rows: &mut Kept<'_>, by: fn(u64, u64) -> Option<u64>) -> Taken {
    order.lines.iter().try_for_each(|line| {
        in_hour(&line.sku, order.placed_at, rows, |hour| {
            hour.sold_units = by(hour.sold_units, line.quantity)?;
            hour.sold_minor = by(hour.sold_minor, line.amount_minor.unwrap_or(0))?;
            Some(())
        })
    })
}

fn take_back(
    order: &mut SoldOrder,
    lines: &[StockLine],
    at: Timestamp,
    rows: &mut Kept<'_>,
) -> Taken {
    lines.iter().try_for_each(|back| {
        let line = line_of(order, back).ok_or_else(|| damaged("a line of", &back.sku))?;
        let before = line.returned_minor();
        line.returned += back.quantity;
        let value = line.returned_minor() - before;
        in_hour(&back.sku, at, rows, |hour| {
            hour.returned_units = hour.returned_units.checked_add(back.quantity)?;
            hour.returned_minor = hour.returned_minor.checked_add(value)?;
            Some(())
        })
    })
}

fn line_of<'a>(order: &'a mut SoldOrder, named: &StockLine) -> Option<&'a mut SoldLine> {
    let same = |line: &&mut SoldLine| line.sku == named.sku && line.location == named.location;
    order.lines.iter_mut().find(same)
}

fn load_order(order: &Order, rows: &mut Kept<'_>) -> Taken {
    if matches!(order.state, OrderState::Rejected | OrderState::Cancelled) {
        return Ok(());
    }
    let line = |line: &crate::OrderLine| SoldLine {
        sku: line.sku.clone(),
        location: line.location.clone(),
        quantity: line.quantity.into(),
        amount_minor: line.amount_minor,
        returned: 0,
    };
    let lines = order.lines.iter().map(line).collect();
    let sold = matches!(order.state, OrderState::Confirmed | OrderState::Completed);
    let mut row = SoldOrder { placed_at: order.placed_at, sold, lines };
    if sold {
        sell(&row, rows, u64::checked_add)?;
    }
    for back in &order.history.returns {
        take_back(&mut row, &back.lines, back.at, rows)?;
    }
    rows.put(order_key(order.id), &SalesRow::Order(row))
}

fn keep_hold(hold: &Hold, rows: &mut Kept<'_>) -> Taken {
    rows.put(hold_key(hold.id), &SalesRow::Hold(hold.line.sku.clone(), hold.line.quantity))
}

/// An order holds `lines`, which is also when it learns the prices that it did not name.
fn hold_lines(order: OrderId, shard: u16, lines: &[HeldLine], rows: &mut Kept<'_>) -> Taken {
    let held = lines.iter().map(|held| (held.line.sku.clone(), held.line.quantity));
    rows.put(held_key(order, shard), &SalesRow::Held(held.collect()))?;
    let Some(mut row) = order_row(order, rows)? else { return Ok(()) };
    let mut priced = false;
    for HeldLine { line, unit_price_minor } in lines {
        // A SKU without a price costs nothing.
        let price = unit_price_minor.unwrap_or(0);
        if let Some(open) = line_of(&mut row, line).filter(|line| line.amount_minor.is_none()) {
            open.amount_minor = price.checked_mul(line.quantity);
            priced = true;
        }
    }
    if priced { rows.put(order_key(order), &SalesRow::Order(row)) } else { Ok(()) }
}

fn let_go(order: OrderId, shard: u16, rows: &mut Kept<'_>) -> Result<Vec<(Sku, u64)>, ViewFault> {
    let key = held_key(order, shard);
    let Some(SalesRow::Held(lines)) = rows.get(&key)? else {
        return Err(damaged("what is held by", order));
    };
    rows.remove(key)?;
    Ok(lines)
}

fn order_row(order: OrderId, rows: &mut Kept<'_>) -> Result<Option<SoldOrder>, ViewFault> {
    Ok(match rows.get(order_key(order))? {
        Some(SalesRow::Order(row)) => Some(row),
        _ => None,
    })
}

fn hold_row(hold: HoldId, rows: &mut Kept<'_>) -> Result<(Sku, u64), ViewFault> {
    match rows.get(hold_key(hold))? {
        Some(SalesRow::Hold(sku, units)) => Ok((sku, units)),
        _ => Err(damaged("hold", hold)),
    }
}

fn known<T>(row: Option<T>, what: &str, id: impl ToString) -> Result<T, ViewFault> {
    row.ok_or_else(|| damaged(what, id))
}

fn damaged(what: &str, id: impl ToString) -> ViewFault {
    let id = id.to_string();
    ViewFault::new(format_args!("{what} {id} is not as the event has it; rebuild the view"))
}

fn order_key(order: OrderId) -> Vec<u8> {
    [b"o".as_slice(), &order.0.to_be_bytes()].concat()
}

fn held_key(order: OrderId, shard: u16) -> Vec<u8> {
    [b"h".as_slice(), &order.0.to_be_bytes(), &shard.to_be_bytes()].concat()
}

fn hold_key(hold: HoldId) -> Vec<u8> {
    [b"q".as_slice(), &hold.0.to_be_bytes()].concat()
}

fn level_key(sku: &Sku) -> Vec<u8> {
    [b"l".as_slice(), sku.as_str().as_bytes()].concat()
}

/// A SKU contains no NUL.
pub(super) fn hours_key(sku: &Sku) -> Vec<u8> {
    [b"s".as_slice(), sku.as_str().as_bytes(), b"\0"].concat()
}

pub(super) fn hour_key(sku: &Sku, hour: u64) -> Vec<u8> {
    [hours_key(sku), hour.to_be_bytes().to_vec()].concat()
}
