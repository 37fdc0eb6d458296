//! Rows to the tables, whole batches at a time, and all that is prepared for it. It knows columns
//! and types, and nothing of events; rows that are there already are read by `read`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::try_join;
use tokio_postgres::{GenericClient, Statement, types::ToSql};

use super::{
    Error,
    fold::Rows,
    orders::{LineRow, OrderRow, PaymentRow, payment_kind},
    stock::{MovementRow, signed},
    tables::{HOLDS, LINES, MOVEMENTS, ORDERS, PAYMENTS, SKUS, STOCK},
};
use crate::{Currency, Position, Timestamp};

/// The last moment of the year 9999, in milliseconds: clocks may be wrong, columns have an end.
const LAST_MS: u64 = 253_402_300_799_999;

/// What is asked and written, prepared for one connection.
pub(super) struct Statements {
    pub(super) read_orders: Statement,
    pub(super) read_lines: Statement,
    pub(super) read_skus: Statement,
    pub(super) read_stock: Statement,
    pub(super) read_holds: Statement,
    orders: Statement,
    lines: Statement,
    payments: Statement,
    skus: Statement,
    stock: Statement,
    holds: Statement,
    movements: Statement,
    move_on: Statement,
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
        let move_on = "update tidegate.sync set position = $2, event_at = coalesce($3, event_at), \
                       written_at = case when position is distinct from $2 then now() \
                       else written_at end, store_position = $4, seen_at = now(), \
                       caught_up_at = case when $2 >= $4 then now() else caught_up_at end \
                       where position is not distinct from $1";
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
            move_on: client.prepare(move_on).await?,
        })
    }

    /// Writes every row that has changed. All statements are sent at once and answered in turn:
    /// over a network they wait for one way there and back together.
    pub(super) async fn write(
        &self,
        client: &impl GenericClient,
        rows: &Rows,
    ) -> Result<(), Error> {
        let orders: Vec<_> = rows.orders.values().filter(|row| row.mark.changed).collect();
        // In this order: the first error is the cause, the others only follow from it.
        try_join!(
            biased;
            self.write_orders(client, &orders),
            self.write_lines(client, &orders),
            self.write_payments(client, &rows.payments),
            self.write_skus(client, rows),
            self.write_stock(client, rows),
            self.write_holds(client, rows),
            self.write_movements(client, &rows.movements),
        )?;
        Ok(())
    }

    /// Moves the database from one position to another, if it is where its worker believes it is.
    pub(super) async fn move_on(
        &self,
        client: &impl GenericClient,
        from: Option<Position>,
        to: Position,
        event_at: Option<SystemTime>,
        store: Position,
    ) -> Result<(), Error> {
        let from = from.map(|from| signed(from.0));
        let (to, store) = (signed(to.0), signed(store.0));
        match client.execute(&self.move_on, &[&from, &to, &event_at, &store]).await? {
            1 => Ok(()),
            _ => Err(Error::Overtaken),
        }
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
        Ok(())
    }

    async fn write_lines(
        &self,
        client: &impl GenericClient,
        orders: &[&OrderRow],
    ) -> Result<(), Error> {
        let numbered = |row: &'_ &OrderRow| {
            let id = row.id.to_string();
            (1..).zip(row.lines.clone()).map(move |(number, line)| (id.clone(), number, line))
        };
        let changed = orders.iter().filter(|row| row.lines_changed);
        let lines: Vec<(String, i32, LineRow)> = changed.flat_map(numbered).collect();
        if lines.is_empty() {
            return Ok(());
        }
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

    async fn write_payments(
        &self,
        client: &impl GenericClient,
        payments: &[PaymentRow],
    ) -> Result<(), Error> {
        if payments.is_empty() {
            return Ok(());
        }
        let columns = columns![payments;
            |row| row.order.to_string(),
            |row| row.payment.provider.as_str(),
            |row| row.payment.event_id.as_str(),
            |row| payment_kind(row.payment.kind),
            |row| signed(row.payment.amount_minor),
            |row| time(row.payment.at),
            |row| signed(row.position.0),
        ];
        client.execute(&self.payments, columns).await?;
        Ok(())
    }

    async fn write_skus(&self, client: &impl GenericClient, rows: &Rows) -> Result<(), Error> {
        let skus: Vec<_> = rows.skus.iter().filter(|(_, row)| row.mark.changed).collect();
        if skus.is_empty() {
            return Ok(());
        }
        let columns = columns![skus;
            |(sku, _)| sku.as_str(),
            |(_, row)| row.options.price_minor.map(signed),
            |(_, row)| row.options.currency.as_ref().map(Currency::as_str),
            |(_, row)| row.options.limit_per_user.map(i64::from),
            |(_, row)| i64::from(row.options.backorder_limit),
            |(_, row)| signed(row.mark.position.0),
        ];
        client.execute(&self.skus, columns).await?;
        Ok(())
    }

    async fn write_stock(&self, client: &impl GenericClient, rows: &Rows) -> Result<(), Error> {
        let stock: Vec<_> = rows.stock.iter().filter(|(_, row)| row.mark.changed).collect();
        if stock.is_empty() {
            return Ok(());
        }
        let columns = columns![stock;
            |((sku, _), _)| sku.as_str(),
            |((_, location), _)| location.as_str(),
            |(_, row)| signed(row.level.on_hand),
            |(_, row)| signed(row.level.held),
            |(_, row)| signed(row.level.allocated),
            |(_, row)| signed(row.mark.position.0),
        ];
        client.execute(&self.stock, columns).await?;
        Ok(())
    }

    async fn write_holds(&self, client: &impl GenericClient, rows: &Rows) -> Result<(), Error> {
        let holds: Vec<_> = rows.holds.values().filter(|row| row.mark.changed).collect();
        if holds.is_empty() {
            return Ok(());
        }
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
        Ok(())
    }

    async fn write_movements(
        &self,
        client: &impl GenericClient,
        movements: &[MovementRow],
    ) -> Result<(), Error> {
        if movements.is_empty() {
            return Ok(());
        }
        let columns = columns![movements;
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

/// A time as the driver takes it.
pub(super) fn time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(at.0.min(LAST_MS))
}

/// A time as the store has it.
pub(super) fn stamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
