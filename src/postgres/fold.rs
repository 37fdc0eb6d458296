//! From events to rows: the rows that a batch touches, and what each event makes of them. Pure; a
//! row that has seen an event already is left as it is, so an event may come twice. It reads and
//! writes no table.

use std::collections::HashMap;

use super::{
    Error,
    orders::{OrderRow, PaymentRow},
    stock::{Change, HoldRow, HoldState, MovementRow, SkuRow, StockRow, signed},
};
use crate::{
    Event, EventData, HoldId, Level, Location, OrderId, OrderState, Payment, Position, Sku,
    SkuOptions, StockLine,
};

/// How far a row is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// Where the row was when it was read; `None` if it was not there.
    known: Option<Position>,
    /// The record that last changed it.
    pub(super) position: Position,
    /// Whether it is to be written.
    pub(super) changed: bool,
}

impl Mark {
    /// A row that was read from the database.
    pub(super) fn read(position: Position) -> Self {
        Self { known: Some(position), position, changed: false }
    }

    /// A row to be written that holds everything up to `position`.
    pub(super) fn whole(position: Position) -> Self {
        Self { known: Some(position), position, changed: true }
    }

    fn new(position: Position) -> Self {
        Self { known: None, position, changed: true }
    }

    /// Whether an event at `position` is new to the row; then it counts as changed by it.
    fn take(&mut self, position: Position) -> bool {
        if self.known.is_some_and(|known| position <= known) {
            return false;
        }
        (self.position, self.changed) = (position, true);
        true
    }
}

/// The rows that a batch of events touches.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) orders: HashMap<OrderId, OrderRow>,
    pub(super) payments: Vec<PaymentRow>,
    pub(super) skus: HashMap<Sku, SkuRow>,
    pub(super) stock: HashMap<(Sku, Location), StockRow>,
    pub(super) holds: HashMap<HoldId, HoldRow>,
    pub(super) movements: Vec<MovementRow>,
    /// Orders that were accepted at amounts that the events did not tell.
    pub(super) unpriced: Vec<OrderId>,
    /// Up to here a row may be missing: what was loaded may be past its end already.
    pub(super) loaded: Position,
}

/// What a movement belongs to.
#[derive(Clone, Copy)]
enum Of<'a> {
    Order(OrderId),
    Hold(HoldId),
    Reason(&'a str),
}

impl Rows {
    /// Applies one event. All events of a record must come to the same rows.
    pub(super) fn fold(&mut self, event: &Event) -> Result<(), Error> {
        match &event.data {
            EventData::StockDefined { .. }
            | EventData::StockAdjusted { .. }
            | EventData::StockHeld { .. }
            | EventData::StockReleased { .. }
            | EventData::StockAllocated { .. }
            | EventData::StockDeallocated { .. }
            | EventData::StockShipped { .. }
            | EventData::StockReturned { .. } => self.fold_stock(event),
            EventData::HoldPlaced { .. }
            | EventData::HoldExtended { .. }
            | EventData::HoldConfirmed { .. }
            | EventData::HoldReleased { .. }
            | EventData::HoldExpired { .. }
            | EventData::HoldShipped { .. } => self.fold_hold(event),
            _ => self.fold_order(event),
        }
    }

    fn fold_order(&mut self, event: &Event) -> Result<(), Error> {
        if let EventData::OrderPlaced { order, user, lines, .. } = &event.data {
            let mark = Mark::new(event.position);
            let placed = || OrderRow::placed(mark, *order, user, lines, event.at);
            self.orders.entry(*order).or_insert_with(placed);
            return Ok(());
        }
        let Some(id) = order_of(&event.data) else { return Ok(()) };
        let Some(row) = self.order(id, event.position)? else { return Ok(()) };
        if !row.mark.take(event.position) {
            return Ok(());
        }
        row.changed_at = event.at;
        let mut fits = true;
        match &event.data {
            EventData::OrderAccepted { total_minor, expires_at_ms, .. } => {
                let known = row.accept(*total_minor, *expires_at_ms);
                self.unpriced.extend((!known).then_some(id));
            }
            EventData::OrderRejected { reason, .. } => {
                row.end(OrderState::Rejected);
                row.rejection = Some((reason.code.to_owned(), reason.message.clone()));
            }
            EventData::OrderCancelled { .. } => row.end(OrderState::Cancelled),
            EventData::OrderConfirmed { .. } => row.state = OrderState::Confirmed,
            EventData::OrderExpired { .. } => row.state = OrderState::Expired,
            EventData::OrderCompleted { .. } => row.state = OrderState::Completed,
            EventData::OrderFulfilled { lines, .. } => {
                fits = row.shift(lines, |line, units| line.shipped += units);
            }
            EventData::OrderFulfilmentRefused { lines, .. } => {
                fits = row.shift(lines, |line, units| {
                    line.shipped = line.shipped.saturating_sub(units);
                });
            }
            EventData::OrderReturned { lines, .. } => {
                fits = row.shift(lines, |line, units| line.returned += units);
            }
            EventData::OrderRefundDue { refund_due_minor, .. } => {
                row.refund_due_minor = *refund_due_minor;
            }
            EventData::PaymentRecorded { provider, event_id, kind, amount_minor, .. } => {
                row.pay(*kind, *amount_minor);
                let (provider, event_id) = (provider.clone(), event_id.clone());
                let (kind, amount_minor, at) = (*kind, *amount_minor, event.at);
                let payment = Payment { provider, event_id, kind, amount_minor, at };
                self.payments.push(PaymentRow { order: id, payment, position: event.position });
            }
            _ => {}
        }
        if fits { Ok(()) } else { Err(damaged("a line of order", id)) }
    }

    fn fold_stock(&mut self, event: &Event) -> Result<(), Error> {
        match &event.data {
            EventData::StockDefined { sku, options } => {
                let mark = Mark::new(event.position);
                let fresh = || SkuRow { mark, options: SkuOptions::default() };
                let row = self.skus.entry(sku.clone()).or_insert_with(fresh);
                if row.mark.take(event.position) {
                    row.set(options);
                }
                Ok(())
            }
            EventData::StockAdjusted { sku, location, delta, reason } => {
                let line = stock_line(sku, location);
                self.shift(event, &line, Change::on_hand(*delta), Of::Reason(reason))
            }
            EventData::StockHeld { order, lines, .. } => {
                if let Some(row) = self.order(*order, event.position)? {
                    lines.iter().for_each(|held| row.price(&held.line, held.unit_price_minor));
                }
                let lines: Vec<_> = lines.iter().map(|held| held.line.clone()).collect();
                self.shift_all(event, *order, &lines, Change::held)
            }
            EventData::StockReleased { order, stock_shard } => {
                let lines = self.lines_at(*order, *stock_shard, event.position)?;
                self.shift_all(event, *order, &lines, |units| Change::held(-units))
            }
            EventData::StockAllocated { order, stock_shard } => {
                let lines = self.lines_at(*order, *stock_shard, event.position)?;
                self.shift_all(event, *order, &lines, Change::sold)
            }
            EventData::StockDeallocated { order, lines, .. } => {
                self.shift_all(event, *order, lines, |units| Change::allocated(-units))
            }
            EventData::StockShipped { order, lines, .. } => {
                self.shift_all(event, *order, lines, Change::shipped)
            }
            EventData::StockReturned { order, lines, restock, .. } => {
                let back = |units: i64| Change::on_hand(if *restock { units } else { 0 });
                self.shift_all(event, *order, lines, back)
            }
            _ => Ok(()),
        }
    }

    fn fold_hold(&mut self, event: &Event) -> Result<(), Error> {
        if let EventData::HoldPlaced { hold, user, line, expires_at_ms } = &event.data {
            if self.holds.contains_key(hold) {
                return Ok(());
            }
            let row = HoldRow {
                mark: Mark::new(event.position),
                id: *hold,
                user: user.clone(),
                line: line.clone(),
                state: HoldState::Held,
                placed_at: event.at,
                expires_at: *expires_at_ms,
                settled_at: None,
                shipped_at: None,
            };
            self.holds.insert(*hold, row);
            return self.shift(event, line, Change::held(signed(line.quantity)), Of::Hold(*hold));
        }
        let Some(id) = event.data.hold() else { return Ok(()) };
        let Some(row) = self.holds.get_mut(&id) else {
            return self.missing("hold", id, event.position);
        };
        if !row.mark.take(event.position) {
            return Ok(());
        }
        let units = signed(row.line.quantity);
        let mut settle = |state| (row.state, row.settled_at) = (state, Some(event.at));
        let change = match &event.data {
            EventData::HoldConfirmed { .. } => {
                settle(HoldState::Confirmed);
                Change::sold(units)
            }
            EventData::HoldReleased { .. } => {
                settle(HoldState::Released);
                Change::held(-units)
            }
            EventData::HoldExpired { .. } => {
                settle(HoldState::Expired);
                Change::held(-units)
            }
            EventData::HoldShipped { .. } => {
                row.shipped_at = Some(event.at);
                Change::shipped(units)
            }
            EventData::HoldExtended { expires_at_ms, .. } => {
                row.expires_at = *expires_at_ms;
                return Ok(());
            }
            _ => return Ok(()),
        };
        let line = row.line.clone();
        self.shift(event, &line, change, Of::Hold(id))
    }

    fn shift_all(
        &mut self,
        event: &Event,
        order: OrderId,
        lines: &[StockLine],
        change: impl Fn(i64) -> Change,
    ) -> Result<(), Error> {
        lines.iter().try_for_each(|line| {
            self.shift(event, line, change(signed(line.quantity)), Of::Order(order))
        })
    }

    /// Changes a level, and tells so in a movement.
    fn shift(
        &mut self,
        event: &Event,
        line: &StockLine,
        change: Change,
        of: Of<'_>,
    ) -> Result<(), Error> {
        let position = event.position;
        let fresh = || StockRow { mark: Mark::new(position), level: Level::default() };
        let place = (line.sku.clone(), line.location.clone());
        let row = self.stock.entry(place).or_insert_with(fresh);
        if !row.mark.take(position) {
            return Ok(());
        }
        let level = change.apply(row.level);
        row.level = level.ok_or_else(|| damaged("the stock of", &line.sku))?;
        let (mut order, mut hold, mut reason) = (None, None, None);
        match of {
            Of::Order(id) => order = Some(id),
            Of::Hold(id) => hold = Some(id),
            Of::Reason(text) => reason = Some(text.to_owned()),
        }
        let last = self.movements.last().filter(|last| last.position == position);
        self.movements.push(MovementRow {
            position,
            number: last.map_or(1, |last| last.number + 1),
            at: event.at,
            kind: event.kind().as_str(),
            sku: line.sku.clone(),
            location: line.location.clone(),
            change,
            order,
            hold,
            reason,
        });
        Ok(())
    }

    /// The row of an order; `None` if it may be missing.
    fn order(&mut self, id: OrderId, at: Position) -> Result<Option<&mut OrderRow>, Error> {
        if !self.orders.contains_key(&id) {
            return self.missing("order", id, at).map(|()| None);
        }
        Ok(self.orders.get_mut(&id))
    }

    fn lines_at(&mut self, id: OrderId, shard: u16, at: Position) -> Result<Vec<StockLine>, Error> {
        Ok(self.order(id, at)?.map(|row| row.at_shard(shard)).unwrap_or_default())
    }

    fn missing(&self, what: &str, id: impl ToString, at: Position) -> Result<(), Error> {
        if at <= self.loaded { Ok(()) } else { Err(damaged(what, id)) }
    }
}

fn damaged(what: &str, id: impl ToString) -> Error {
    Error::Damaged(format!("{what} {}", id.to_string()))
}

fn stock_line(sku: &Sku, location: &Location) -> StockLine {
    StockLine { sku: sku.clone(), location: location.clone(), quantity: 0 }
}

/// The order whose row an event needs.
pub(super) fn order_of(data: &EventData) -> Option<OrderId> {
    match data {
        // They name their lines.
        EventData::StockDeallocated { .. }
        | EventData::StockShipped { .. }
        | EventData::StockReturned { .. } => None,
        _ => data.order(),
    }
}

/// Every place of stock that an event may need, but for what only the lines of an order tell.
pub(super) fn places_of(data: &EventData) -> Vec<(Sku, Location)> {
    let place = |line: &StockLine| (line.sku.clone(), line.location.clone());
    match data {
        EventData::StockAdjusted { sku, location, .. } => vec![(sku.clone(), location.clone())],
        EventData::StockHeld { lines, .. } => lines.iter().map(|held| place(&held.line)).collect(),
        EventData::StockDeallocated { lines, .. }
        | EventData::StockShipped { lines, .. }
        | EventData::StockReturned { lines, .. } => lines.iter().map(place).collect(),
        EventData::HoldPlaced { line, .. } => vec![place(line)],
        _ => Vec::new(),
    }
}
