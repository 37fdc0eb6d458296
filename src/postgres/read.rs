//! Rows as the tables have them, whole batches at a time. It writes nothing; `rows` has what is
//! prepared.

use std::{collections::HashMap, time::SystemTime};

use tokio::try_join;
use tokio_postgres::{GenericClient, Row, types::ToSql};

use super::{
    Error,
    fold::Mark,
    orders::{LineRow, OrderRow},
    rows::{Statements, stamp},
    stock::{HoldRow, HoldState, SkuRow, StockRow},
};
use crate::{
    Currency, HoldId, Level, Location, OrderId, OrderState, Position, Sku, SkuOptions, StockLine,
    UserId,
};

impl Statements {
    /// Reads the orders with these ids, and their lines.
    pub(super) async fn read_orders(
        &self,
        client: &impl GenericClient,
        ids: &[OrderId],
    ) -> Result<HashMap<OrderId, OrderRow>, Error> {
        let mut orders = HashMap::new();
        if ids.is_empty() {
            return Ok(orders);
        }
        let ids: Vec<_> = ids.iter().map(OrderId::to_string).collect();
        let ids: &[&(dyn ToSql + Sync)] = &[&ids];
        let (heads, lines) = try_join!(
            biased;
            client.query(&self.read_orders, ids),
            client.query(&self.read_lines, ids),
        )?;
        for row in heads {
            let order = order(&row)?;
            orders.insert(order.id, order);
        }
        for row in lines {
            if let Some(order) = orders.get_mut(&parsed(row.get("order_id"))?) {
                order.lines.push(line(&row)?);
            }
        }
        Ok(orders)
    }

    /// Reads the holds with these ids.
    pub(super) async fn read_holds(
        &self,
        client: &impl GenericClient,
        ids: &[HoldId],
    ) -> Result<HashMap<HoldId, HoldRow>, Error> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let ids: Vec<_> = ids.iter().map(HoldId::to_string).collect();
        let rows = client.query(&self.read_holds, &[&ids]).await?;
        rows.iter().map(|row| hold(row).map(|hold| (hold.id, hold))).collect()
    }

    /// Reads the options of these SKUs.
    pub(super) async fn read_skus(
        &self,
        client: &impl GenericClient,
        skus: &[Sku],
    ) -> Result<HashMap<Sku, SkuRow>, Error> {
        if skus.is_empty() {
            return Ok(HashMap::new());
        }
        let skus: Vec<_> = skus.iter().map(Sku::as_str).collect();
        let rows = client.query(&self.read_skus, &[&skus]).await?;
        rows.iter().map(|row| Ok((parsed(row.get("sku"))?, sku(row)?))).collect()
    }

    /// Reads these places of stock.
    pub(super) async fn read_stock(
        &self,
        client: &impl GenericClient,
        places: &[(Sku, Location)],
    ) -> Result<HashMap<(Sku, Location), StockRow>, Error> {
        if places.is_empty() {
            return Ok(HashMap::new());
        }
        let skus: Vec<_> = places.iter().map(|(sku, _)| sku.as_str()).collect();
        let locations: Vec<_> = places.iter().map(|(_, at)| at.as_str()).collect();
        let rows = client.query(&self.read_stock, &[&skus, &locations]).await?;
        rows.iter().map(place_and_level).collect()
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
        lines_changed: false,
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

fn place_and_level(row: &Row) -> Result<((Sku, Location), StockRow), Error> {
    let place = (parsed(row.get("sku"))?, parsed(row.get("location"))?);
    let [on_hand, held, allocated] =
        ["on_hand", "held", "allocated"].map(|column| number(row, column));
    Ok((place, StockRow { mark: mark(row), level: Level { on_hand, held, allocated } }))
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
