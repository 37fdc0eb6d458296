//! Writes everything anew, for a database that can't be brought up to date by events: a new one
//! beside a journal that was trimmed, or one that was away for too long. All in one transaction,
//! so readers see what was there until all of the new is. It takes a copy of every shard, as a
//! snapshot does, and pages of the archive; it stops nobody.
//!
//! Copies are not of one moment: each holds its shard up to a position of its own. So each row
//! notes that position, and the events from the first to the last of them are applied on top; a
//! row takes only what is new to it.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tidegate_actors::{archive, feed::Feed};
use tidegate_machines::{Orders, Stock};
use tokio_postgres::{Client, Transaction};

use super::{
    Error,
    fold::{Mark, Rows, order_of},
    orders::{OrderRow, PaymentRow},
    rows::{Statements, stamp, time},
    stock::{Change, HoldRow, MovementRow, SkuRow, StockRow, signed},
    worker::{priced, rows_of},
};
use crate::{
    Event, Hold, ItemView, Level, Location, Order, OrderId, Position, Sku, Tidegate, Timestamp,
};

/// Orders read and written together.
const PAGE_ORDERS: usize = 1_024;

/// Events applied together.
const PAGE_EVENTS: usize = 4_096;

/// How often a feed that tells nothing is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Loads everything into a database that is at `from`; gives the position that it is at then.
pub(super) async fn load(
    client: &mut Client,
    statements: &Statements,
    gate: &Tidegate,
    from: Option<Position>,
) -> Result<Position, Error> {
    tracing::info!("writing everything to PostgreSQL anew; readers see what was there until then");
    // Orders first: what stock shards do for them after their copies, the events then tell of
    // orders that are there.
    let copies = Copies::take(gate).await?;
    gate.events().reached(copies.last()).await;
    let transaction = client.transaction().await?;
    let load = Load { transaction: &transaction, statements, gate, copies: &copies };
    let last = load.run().await?;
    let event_at = load.apply(last).await?.map(time);
    load.close_what_is_gone().await?;
    let end = gate.events().durable();
    statements.move_on(&transaction, from, last, event_at, end).await?;
    transaction.commit().await?;
    Ok(last)
}

/// What one stock shard had at a position.
struct StockCopy {
    position: Position,
    items: Vec<ItemView>,
    holds: Vec<Hold>,
}

/// Copies of all shards.
struct Copies {
    /// Orders in memory, with the position of each order shard.
    orders: Vec<(Position, HashMap<OrderId, Order>)>,
    stock: Vec<StockCopy>,
}

fn down() -> Error {
    Error::Store("a shard is down or being rebuilt".to_owned())
}

impl Copies {
    async fn take(gate: &Tidegate) -> Result<Self, Error> {
        let mut copies = Self { orders: Vec::new(), stock: Vec::new() };
        let orders = gate.shards_of::<Orders>().ok_or_else(down)?;
        for shard in 0..orders.len() {
            let look = orders.inspect(shard, |machine: &Orders, position| {
                (position, machine.iter().map(|order| (order.id, order.clone())).collect())
            });
            copies.orders.push(look.await.ok_or_else(down)?);
        }
        let stock = gate.shards_of::<Stock>().ok_or_else(down)?;
        for shard in 0..stock.len() {
            let look = stock.inspect(shard, |machine: &Stock, position| StockCopy {
                position,
                items: machine.skus().filter_map(|sku| machine.item(sku)).collect(),
                holds: machine.holds().cloned().collect(),
            });
            copies.stock.push(look.await.ok_or_else(down)?);
        }
        Ok(copies)
    }

    fn positions(&self) -> impl Iterator<Item = Position> {
        let orders = self.orders.iter().map(|(position, _)| *position);
        orders.chain(self.stock.iter().map(|copy| copy.position))
    }

    fn first(&self) -> Position {
        self.positions().min().unwrap_or_default()
    }

    fn last(&self) -> Position {
        self.positions().max().unwrap_or_default()
    }

    fn shard(&self, order: OrderId) -> Result<&(Position, HashMap<OrderId, Order>), Error> {
        let foreign = || Error::Store(format!("order {order} belongs to no shard"));
        self.orders.get(usize::from(order.shard())).ok_or_else(foreign)
    }
}

struct Load<'a> {
    transaction: &'a Transaction<'a>,
    statements: &'a Statements,
    gate: &'a Tidegate,
    copies: &'a Copies,
}

impl Load<'_> {
    /// Writes all rows; gives the last position that one of them is at.
    async fn run(&self) -> Result<Position, Error> {
        for copy in &self.copies.stock {
            self.stock(copy).await?;
        }
        for (position, orders) in &self.copies.orders {
            let orders: Vec<_> = orders.values().map(|order| (*position, order.clone())).collect();
            for page in orders.chunks(PAGE_ORDERS) {
                self.orders(page).await?;
            }
        }
        let archived = self.archive().await?;
        self.archive_again(&archived).await
    }

    async fn orders(&self, orders: &[(Position, Order)]) -> Result<(), Error> {
        let mut rows = Rows::default();
        for (position, order) in orders {
            let position = *position;
            rows.orders.insert(order.id, OrderRow::whole(Mark::whole(position), order));
            let payments = order.history.payments.iter().cloned();
            let row = |payment| PaymentRow { order: order.id, payment, position };
            rows.payments.extend(payments.map(row));
        }
        self.statements.write(self.transaction, &rows).await
    }

    /// Writes the orders in the archive that are not in memory, each as if it were as old as the
    /// copy of its shard; gives their ids.
    async fn archive(&self) -> Result<HashSet<OrderId>, Error> {
        let (mut after, mut archived) = (None, HashSet::new());
        loop {
            let state = self.gate.state();
            let scan = move || archive::scan(&*state, after, PAGE_ORDERS);
            let page = tokio::task::spawn_blocking(scan).await;
            let page = page.map_err(|error| Error::Store(error.to_string()))?;
            let page = page.map_err(|error| Error::Store(error.to_string()))?;
            let Some(last) = page.last() else { return Ok(archived) };
            after = Some(last.id);
            let mut away = Vec::with_capacity(page.len());
            for order in page {
                let (position, live) = self.copies.shard(order.id)?;
                if !live.contains_key(&order.id) {
                    archived.insert(order.id);
                    away.push((*position, order));
                }
            }
            self.orders(&away).await?;
        }
    }

    /// An archived order that has changed since the copies were taken may be newer than that. Such
    /// orders are read again on their shard's thread, where it is known how old they are.
    async fn archive_again(&self, archived: &HashSet<OrderId>) -> Result<Position, Error> {
        let end = self.gate.events().durable();
        let mut unsure: Vec<HashSet<OrderId>> = vec![HashSet::new(); self.copies.orders.len()];
        let mut feed = self.gate.events().after(self.copies.first());
        while let Some(event) = next_before(&mut feed, end).await? {
            if let Some(id) = order_of(&event.data).filter(|id| archived.contains(id)) {
                unsure[usize::from(id.shard())].insert(id);
            }
        }
        let mut last = self.copies.last();
        let shards = self.gate.shards_of::<Orders>().ok_or_else(down)?;
        for (shard, ids) in (0..).zip(unsure) {
            let ids: Vec<_> = ids.into_iter().collect();
            for page in ids.chunks(PAGE_ORDERS) {
                let (page, state) = (page.to_vec(), self.gate.state());
                let look = shards.inspect(shard, move |machine: &Orders, position| {
                    let mut found = Vec::with_capacity(page.len());
                    for id in page {
                        let order = match machine.order(id) {
                            Some(order) => Some(order.clone()),
                            None => archive::read(&*state, id)?,
                        };
                        found.extend(order.map(|order| (position, order)));
                    }
                    Ok::<_, archive::ArchiveError>((position, found))
                });
                let read = look.await.ok_or_else(down)?;
                let (position, found) = read.map_err(|error| Error::Store(error.to_string()))?;
                self.orders(&found).await?;
                last = last.max(position);
            }
        }
        Ok(last)
    }

    /// SKUs, holds and levels, and for each level the movement that leads to it.
    async fn stock(&self, copy: &StockCopy) -> Result<(), Error> {
        let (position, mark) = (copy.position, Mark::whole(copy.position));
        for page in copy.items.chunks(PAGE_ORDERS) {
            let places: Vec<(Sku, Location)> = page
                .iter()
                .flat_map(|item| {
                    item.locations.iter().map(|(at, _)| (item.sku.clone(), at.clone()))
                })
                .collect();
            let before = self.statements.read_stock(self.transaction, &places).await?;
            let mut rows = Rows::default();
            let (mut number, at) = self.lowest(position).await?;
            for item in page {
                let options = item.options.clone();
                rows.skus.insert(item.sku.clone(), SkuRow { mark, options });
                for (location, level) in &item.locations {
                    let place = (item.sku.clone(), location.clone());
                    let known = before.get(&place).map_or(Level::default(), |row| row.level);
                    rows.stock.insert(place, StockRow { mark, level: *level });
                    let change = Change::between(known, *level);
                    if change != Change::default() {
                        number -= 1;
                        rows.movements.push(MovementRow {
                            position,
                            number,
                            at,
                            kind: "opening",
                            sku: item.sku.clone(),
                            location: location.clone(),
                            change,
                            order: None,
                            hold: None,
                            reason: None,
                        });
                    }
                }
            }
            self.statements.write(self.transaction, &rows).await?;
        }
        for page in copy.holds.chunks(PAGE_ORDERS) {
            let holds = page.iter().map(|hold| (hold.id, HoldRow::whole(mark, hold)));
            let rows = Rows { holds: holds.collect(), ..Rows::default() };
            self.statements.write(self.transaction, &rows).await?;
        }
        Ok(())
    }

    /// The lowest number of a movement at `position`, and the time. Events count from 1 up, what is
    /// loaded from −1 down: a record of one shard may be where the copy of another was taken.
    async fn lowest(&self, position: Position) -> Result<(i32, Timestamp), Error> {
        let sql = "select least(coalesce(min(number), 0), 0), now() \
                   from tidegate.movements where position = $1";
        let row = self.transaction.query_one(sql, &[&signed(position.0)]).await?;
        Ok((row.get(0), stamp(row.get(1))))
    }

    /// Applies the events up to `last`, and tells when the last of them happened.
    async fn apply(&self, last: Position) -> Result<Option<Timestamp>, Error> {
        self.gate.events().reached(last).await;
        let mut feed = self.gate.events().after(self.copies.first());
        let (mut events, mut at) = (Vec::new(), None);
        loop {
            let next = next_before(&mut feed, last).await?;
            let ended = next.is_none();
            // Batches hold whole records: a row is at a position only with all of its events.
            let record_ends = next.as_ref().is_some_and(|it| it.cursor().within.is_none());
            at = next.as_ref().map(|event| event.at).or(at);
            events.extend(next);
            if !events.is_empty() && (ended || (record_ends && events.len() >= PAGE_EVENTS)) {
                let rows = rows_of(self.transaction, self.statements, &events, last).await?;
                let rows = priced(rows, self.gate).await?;
                self.statements.write(self.transaction, &rows).await?;
                events.clear();
            }
            if ended {
                return Ok(at);
            }
        }
    }

    /// What the database has and the store no longer: orders that came to nothing, and holds that
    /// were settled, both so long ago that the store has forgotten them.
    async fn close_what_is_gone(&self) -> Result<(), Error> {
        let first = signed(self.copies.first().0);
        let orders = "with gone as (update tidegate.orders set state = 'rejected' \
                          where state = 'queued' and position < $1 returning id) \
                      update tidegate.order_lines set amount_minor = null \
                          from gone where order_id = gone.id";
        self.transaction.execute(orders, &[&first]).await?;
        let holds = "update tidegate.holds set state = 'unknown' where position < $1 \
                     and (state = 'held' or (state = 'confirmed' and shipped_at is null))";
        self.transaction.execute(holds, &[&first]).await?;
        Ok(())
    }
}

/// The next event up to `end`, which must be durable, and whose record is given whole.
async fn next_before(feed: &mut Feed, end: Position) -> Result<Option<Event>, Error> {
    loop {
        let place = feed.cursor();
        if place.position >= end && place.within.is_none() {
            return Ok(None);
        }
        tokio::select! {
            biased;
            event = feed.next() => {
                let event = event?;
                return Ok((event.position <= end).then_some(event));
            }
            // Records that are no events only move the cursor.
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Adjustment, EventData, NewOrder, PaymentEvent, SkuPatch};

    #[tokio::test]
    async fn the_last_record_is_given_whole() {
        let folder = tempfile::tempdir().unwrap();
        let gate = Tidegate::builder(folder.path()).arbiters(1).open().await.unwrap();
        gate.stock().define("a", SkuPatch::default().price_minor(10)).await.unwrap();
        gate.stock().adjust(Adjustment::new("a", 1, "arrival"), "k").await.unwrap();
        let order = gate.orders().place(NewOrder::new("u").line("a", 1), "k").await.unwrap().id;
        gate.orders().cancel(order, "k").await.unwrap();
        // One record, two events: the payment, and that all of it is to be paid back.
        let paid = PaymentEvent::captured("bank", "1", 10);
        gate.orders().pay(order, paid).await.unwrap();
        let end = gate.events().durable();
        let mut all = gate.events().from_oldest();
        let mut last = Vec::new();
        while let Ok(Some(event)) = next_before(&mut all, end).await {
            if matches!(event.data, EventData::PaymentRecorded { .. }) {
                last.push(event.position);
            }
        }
        let paid_at = *last.last().unwrap();
        let mut feed = gate.events().from_oldest();
        let mut kinds = Vec::new();
        while let Some(event) = next_before(&mut feed, paid_at).await.unwrap() {
            kinds.push(event.kind().as_str());
        }
        assert_eq!(kinds[kinds.len() - 2..], ["payment.recorded", "order.refund_due"]);
    }
}
