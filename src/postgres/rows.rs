//! Rows to and from the tables, whole batches at a time. It knows columns and types, and nothing
//! of events.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_postgres::{GenericClient, Row, Statement, types::ToSql};

use super::{
    Error,
    fold::{Mark, Rows},
    orders::{LineRow, OrderRow, payment_kind},
    stock::{HoldRow, HoldState, SkuRow, StockRow, signed},
    tables::{HOLDS, LINES, MOVEMENTS, ORDERS, PAYMENTS, SKUS, STOCK},
};
use crate::{
    Currency, HoldId, Level, Location, OrderId, OrderState, Position, Sku, SkuOptions, StockLine,
    Timestamp, UserId,
};

/// The last moment of the year 9999, in milliseconds: clocks may be wrong, columns have an end.
const LAST_MS: u64 = 253_402_300_799_999;

/// What is asked and written, prepared for one connection.
pub(super) struct Statements {
    read_orders: Statement,
    read_lines: Statement,
    read_skus: Statement,
    read_stock: Statement,
    read_holds: Statement,
    orders: Statement,
    lines: Statement,
    payments: Statement,
    skus: Statement,
    stock: Statement,
    holds: Statement,
    movements: Statement,
}

/// Each column of `rows` as an array.
macro_rules! columns {
    ($rows:expr; $($column:expr,)*) => {
        &[$(&$rows.iter().map($column).collect::<Vec<_>>() as &(dyn ToSql + Sync)),*]
    };
}

impl Statements {
    pub(super) async fn prepare(client: &impl GenericClient) -> Result<Self, Error> {
        let lines = "select order_id, sku, location, stock_shard, quantity, amount_minor, shipped, \
                     returned from tidegate.order_lines where order_id = any($1::text[]) \
                     order by order_id, line";
        Ok(Self {
            read_orders: client.prepare(&ORDERS.by_keys()).await?,
            read_lines: client.prepare(lines).await?,
            read_skus: client.prepare(&SKUS.by_keys()).await?,
            read_stock: client.prepare(&STOCK.by_keys()).await?,
            read_holds: client.prepare(&HOLDS.by_keys()).await?,
            orders: client.prepare(&ORDERS.upsert()).await?,
            lines: client.prepare(&LINES.upsert()).await?,
            payments: client.prepare(&PAYMENTS.upsert()).await?,
            skus: client.prepare(&SKUS.upsert()).await?,
            stock: client.prepare(&STOCK.upsert()).await?,
            holds: client.prepare(&HOLDS.upsert()).await?,
            movements: client.prepare(&MOVEMENTS.upsert()).await?,
        })
    }

    /// Reads the orders with these ids, and their lines.
    pub(super) async fn read_orders(
        &self,
        client: &impl GenericClient,
        ids: &[OrderId],
        rows: &mut Rows,
    ) -> Result<(), Error> {
        let ids: Vec<_> = ids.iter().map(OrderId::to_string).collect();
        if ids.is_empty() {
            return Ok(());
        }
        for row in client.query(&self.read_orders, &[&ids]).await? {
            let order = order(&row)?;
            rows.orders.insert(order.id, order);
        }
        for row in client.query(&self.read_lines, &[&ids]).await? {
            if let Some(order) = rows.orders.get_mut(&parsed(row.get("order_id"))?) {
                order.lines.push(line(&row)?);
            }
        }
        Ok(())
    }

    /// Reads these SKUs, places of stock and holds.
    pub(super) async fn read_stock(
        &self,
        client: &impl GenericClient,
        skus: &[Sku],
        places: &[(Sku, Location)],
        holds: &[HoldId],
        rows: &mut Rows,
    ) -> Result<(), Error> {
        if !skus.is_empty() {
            let skus: Vec<_> = skus.iter().map(Sku::as_str).collect();
            for row in client.query(&self.read_skus, &[&skus]).await? {
                rows.skus.insert(parsed(row.get("sku"))?, sku(&row)?);
            }
        }
        if !holds.is_empty() {
            let holds: Vec<_> = holds.iter().map(HoldId::to_string).collect();
            for row in client.query(&self.read_holds, &[&holds]).await? {
                let hold = hold(&row)?;
                rows.holds.insert(hold.id, hold);
            }
        }
        if !places.is_empty() {
            let skus: Vec<_> = places.iter().map(|(sku, _)| sku.as_str()).collect();
            let locations: Vec<_> = places.iter().map(|(_, at)| at.as_str()).collect();
            for row in client.query(&self.read_stock, &[&skus, &locations]).await? {
                let place = (parsed(row.get("sku"))?, parsed(row.get("location"))?);
                rows.stock.insert(place, level(&row));
            }
        }
        Ok(())
    }

    /// Writes every row that has changed.
    pub(super) async fn write(
        &self,
        client: &impl GenericClient,
        rows: &Rows,
    ) -> Result<(), Error> {
        let orders: Vec<_> = rows.orders.values().filter(|row| row.mark.changed).collect();
        self.write_orders(client, &orders).await?;
        if !rows.payments.is_empty() {
            let columns = columns![rows.payments;
                |row| row.order.to_string(),
                |row| row.payment.provider.as_str(),
                |row| row.payment.event_id.as_str(),
                |row| payment_kind(row.payment.kind),
                |row| signed(row.payment.amount_minor),
                |row| time(row.payment.at),
                |row| signed(row.position.0),
            ];
            client.execute(&self.payments, columns).await?;
        }
        self.write_stock(client, rows).await
    }

    async fn write_orders(
        &self,
        client: &impl GenericClient,
        orders: &[&OrderRow],
    ) -> Result<(), Error> {
        if orders.is_empty() {
            return Ok(());
        }
        let rejection = |row: &&OrderRow| row.rejection.clone().unzip();
        let columns = columns![orders;
            |row| row.id.to_string(),
            |row| row.user.as_str(),
            |row| row.state.to_string(),
            |row| row.total_minor.map(signed),
            |row| signed(row.captured_minor),
            |row| signed(row.refunded_minor),
            |row| signed(row.refund_due_minor),
            |row| row.payment_status().to_string(),
            |row| row.fulfilment_status().to_string(),
            |row| row.authorized,
            |row| time(row.placed_at),
            |row| time(row.changed_at),
            |row| row.expires_at.map(time),
            |row| rejection(row).0,
            |row| rejection(row).1,
            |row| signed(row.mark.position.0),
        ];
        client.execute(&self.orders, columns).await?;
        let numbered = |row: &'_ &OrderRow| {
            let id = row.id.to_string();
            (1..).zip(row.lines.clone()).map(move |(number, line)| (id.clone(), number, line))
        };
        let lines: Vec<(String, i32, LineRow)> = orders.iter().flat_map(numbered).collect();
        let columns = columns![lines;
            |(id, ..)| id.as_str(),
            |(_, number, _)| *number,
            |(.., line)| line.sku.as_str(),
            |(.., line)| line.location.as_str(),
            |(.., line)| i32::from(line.stock_shard),
            |(.., line)| signed(line.quantity),
            |(.., line)| line.amount_minor.map(signed),
            |(.., line)| signed(line.shipped),
            |(.., line)| signed(line.returned),
        ];
        client.execute(&self.lines, columns).await?;
        Ok(())
    }

    async fn write_stock(&self, client: &impl GenericClient, rows: &Rows) -> Result<(), Error> {
        let skus: Vec<_> = rows.skus.iter().filter(|(_, row)| row.mark.changed).collect();
        if !skus.is_empty() {
            let columns = columns![skus;
                |(sku, _)| sku.as_str(),
                |(_, row)| row.options.price_minor.map(signed),
                |(_, row)| row.options.currency.as_ref().map(Currency::as_str),
                |(_, row)| row.options.limit_per_user.map(i64::from),
                |(_, row)| i64::from(row.options.backorder_limit),
                |(_, row)| signed(row.mark.position.0),
            ];
            client.execute(&self.skus, columns).await?;
        }
        let stock: Vec<_> = rows.stock.iter().filter(|(_, row)| row.mark.changed).collect();
        if !stock.is_empty() {
            let columns = columns![stock;
                |((sku, _), _)| sku.as_str(),
                |((_, location), _)| location.as_str(),
                |(_, row)| signed(row.level.on_hand),
                |(_, row)| signed(row.level.held),
                |(_, row)| signed(row.level.allocated),
                |(_, row)| signed(row.mark.position.0),
            ];
            client.execute(&self.stock, columns).await?;
        }
        let holds: Vec<_> = rows.holds.values().filter(|row| row.mark.changed).collect();
        if !holds.is_empty() {
            let columns = columns![holds;
                |row| row.id.to_string(),
                |row| row.user.as_str(),
                |row| row.line.sku.as_str(),
                |row| row.line.location.as_str(),
                |row| signed(row.line.quantity),
                |row| row.state.to_string(),
                |row| time(row.placed_at),
                |row| time(row.expires_at),
                |row| row.settled_at.map(time),
                |row| row.shipped_at.map(time),
                |row| signed(row.mark.position.0),
            ];
            client.execute(&self.holds, columns).await?;
        }
        if rows.movements.is_empty() {
            return Ok(());
        }
        let columns = columns![rows.movements;
            |row| signed(row.position.0),
            |row| row.number,
            |row| time(row.at),
            |row| row.kind,
            |row| row.sku.as_str(),
            |row| row.location.as_str(),
            |row| row.change.on_hand,
            |row| row.change.held,
            |row| row.change.allocated,
            |row| row.order.map(|id| id.to_string()),
            |row| row.hold.map(|id| id.to_string()),
            // PostgreSQL keeps no NUL in a text; reasons of old may have one.
            |row| row.reason.as_ref().map(|reason| reason.replace('\0', "\u{fffd}")),
        ];
        client.execute(&self.movements, columns).await?;
        Ok(())
    }
}

fn order(row: &Row) -> Result<OrderRow, Error> {
    let code: Option<String> = row.get("rejection_code");
    let message: Option<String> = row.get("rejection_message");
    Ok(OrderRow {
        mark: mark(row),
        id: parsed(row.get("id"))?,
        user: parsed::<UserId>(row.get("user_id"))?,
        state: order_state(row.get("state"))?,
        total_minor: row.get::<_, Option<i64>>("total_minor").map(i64::unsigned_abs),
        captured_minor: number(row, "captured_minor"),
        refunded_minor: number(row, "refunded_minor"),
        refund_due_minor: number(row, "refund_due_minor"),
        authorized: row.get("authorized"),
        placed_at: stamp(row.get("placed_at")),
        changed_at: stamp(row.get("changed_at")),
        expires_at: row.get::<_, Option<SystemTime>>("expires_at").map(stamp),
        rejection: code.zip(message),
        lines: Vec::new(),
    })
}

fn line(row: &Row) -> Result<LineRow, Error> {
    Ok(LineRow {
        sku: parsed(row.get("sku"))?,
        location: parsed(row.get("location"))?,
        stock_shard: row.get::<_, i32>("stock_shard") as u16,
        quantity: number(row, "quantity"),
        amount_minor: row.get::<_, Option<i64>>("amount_minor").map(i64::unsigned_abs),
        shipped: number(row, "shipped"),
        returned: number(row, "returned"),
    })
}

fn sku(row: &Row) -> Result<SkuRow, Error> {
    let currency: Option<String> = row.get("currency");
    let currency = currency.map(|text| Currency::new(&text)).transpose();
    let limit: Option<i64> = row.get("limit_per_user");
    let options = SkuOptions {
        price_minor: row.get::<_, Option<i64>>("price_minor").map(i64::unsigned_abs),
        currency: currency.map_err(|error| Error::Damaged(error.to_string()))?,
        limit_per_user: limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)),
        backorder_limit: u32::try_from(number(row, "backorder_limit")).unwrap_or(u32::MAX),
    };
    Ok(SkuRow { mark: mark(row), options })
}

fn level(row: &Row) -> StockRow {
    let [on_hand, held, allocated] =
        ["on_hand", "held", "allocated"].map(|column| number(row, column));
    StockRow { mark: mark(row), level: Level { on_hand, held, allocated } }
}

fn hold(row: &Row) -> Result<HoldRow, Error> {
    let state: &str = row.get("state");
    let state = HoldState::ALL.into_iter().find(|known| known.to_string() == state);
    Ok(HoldRow {
        mark: mark(row),
        id: parsed(row.get("id"))?,
        user: parsed(row.get("user_id"))?,
        line: StockLine {
            sku: parsed(row.get("sku"))?,
            location: parsed(row.get("location"))?,
            quantity: number(row, "quantity"),
        },
        state: state.ok_or_else(|| Error::Damaged("the state of a hold".to_owned()))?,
        placed_at: stamp(row.get("placed_at")),
        expires_at: stamp(row.get("expires_at")),
        settled_at: row.get::<_, Option<SystemTime>>("settled_at").map(stamp),
        shipped_at: row.get::<_, Option<SystemTime>>("shipped_at").map(stamp),
    })
}

fn mark(row: &Row) -> Mark {
    Mark::read(Position(number(row, "position")))
}

fn number(row: &Row, column: &str) -> u64 {
    row.get::<_, i64>(column).max(0).unsigned_abs()
}

fn order_state(text: &str) -> Result<OrderState, Error> {
    use OrderState::{AwaitingPayment, Cancelled, Completed, Confirmed, Expired, Queued, Rejected};
    [Queued, AwaitingPayment, Confirmed, Completed, Rejected, Cancelled, Expired]
        .into_iter()
        .find(|state| state.to_string() == text)
        .ok_or_else(|| Error::Damaged(format!("order state {text:?}")))
}

fn parsed<T: std::str::FromStr<Err: ToString>>(text: &str) -> Result<T, Error> {
    text.parse().map_err(|error: T::Err| Error::Damaged(error.to_string()))
}

/// A time as the driver takes it.
pub(super) fn time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(at.0.min(LAST_MS))
}

/// A time as the store has it.
pub(super) fn stamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
