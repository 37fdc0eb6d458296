//! What the tables must hold, from what any host is told: orders, stock and holds as the clients
//! show them now, movements by a plain model of the events. It knows nothing of the worker.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    time::{Duration, Instant},
};

use tidegate::{
    HoldId, HoldOutcome, Order, OrderId, OrderState, PaymentKind, Tidegate, UserOrders,
};
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::{
    model::{movements_found, movements_told},
    server::Database,
};

/// How long the tables may take until they are what the store says: a guard against hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// Orders of a user that are asked for at once.
const PAGE: usize = 200;

/// A line of text for each row, by table.
type Picture = BTreeMap<&'static str, BTreeSet<String>>;

/// Who and what there is.
pub struct World {
    /// Everybody who has ordered.
    pub users: Vec<String>,
    /// Everything that was ever defined.
    pub skus: Vec<String>,
    /// Orders that must be there. Those that their users have are looked at anyway.
    pub orders: Vec<OrderId>,
    /// Holds that must be there.
    pub holds: Vec<HoldId>,
}

impl World {
    /// What the store says; `client` only names holds that nobody else knows.
    async fn expected(&self, gate: &Tidegate, client: &Client) -> Picture {
        let mut picture = Picture::new();
        let mut add = |table: &'static str, row: String| {
            picture.entry(table).or_default().insert(row);
        };
        for user in &self.users {
            for order in orders_of(gate, user).await {
                order_rows(&order, &mut add);
            }
        }
        for id in &self.orders {
            order_rows(&gate.orders().get(*id).await.unwrap(), &mut add);
        }
        for sku in &self.skus {
            let Ok(item) = gate.stock().get(sku).await else { continue };
            let o = &item.options;
            let currency = o.currency.as_ref().map(ToString::to_string);
            let (price, limit) = (o.price_minor, o.limit_per_user);
            add("skus", format!("{sku} {price:?} {currency:?} {limit:?} {}", o.backorder_limit));
            for (at, level) in &item.locations {
                let (on_hand, held, allocated) = (level.on_hand, level.held, level.allocated);
                let available = level.available();
                add("stock", format!("{sku} {at} {on_hand} {held} {allocated} {available}"));
            }
        }
        // Those too that were placed and whose callers were cut off before they were told.
        let there = client.query("select id from tidegate.holds", &[]).await.unwrap();
        let there = there.iter().map(|row| row.get::<_, &str>(0).parse().unwrap());
        let holds: BTreeSet<HoldId> = self.holds.iter().copied().chain(there).collect();
        for id in holds {
            let hold = gate.stock().get_hold(id).await.unwrap();
            let state = hold.settled.map_or("held", |(outcome, _)| match outcome {
                HoldOutcome::Confirmed => "confirmed",
                HoldOutcome::Released => "released",
                HoldOutcome::Expired => "expired",
            });
            let (line, at) = (&hold.line, hold.settled.map(|(_, at)| at.0));
            let (placed, expires) = (hold.placed_at.0, hold.expires_at.0);
            let shipped = hold.shipped_at.map(|at| at.0);
            let of = format!("{} {} {} {}", hold.user, line.sku, line.location, line.quantity);
            add("holds", format!("{id} {of} {state} {placed} {expires} {at:?} {shipped:?}"));
        }
        picture
    }
}

async fn orders_of(gate: &Tidegate, user: &str) -> Vec<Order> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = gate.orders().by_user(user, after, PAGE).await.unwrap();
        let UserOrders { orders, next } = page;
        all.extend(orders);
        after = next;
        if after.is_none() {
            return all;
        }
    }
}

fn order_rows(order: &Order, add: &mut impl FnMut(&'static str, String)) {
    let id = order.id;
    let accepted = order.expires_at.is_some();
    let total = accepted.then_some(order.total_minor);
    let rejected = order.state == OrderState::Rejected;
    let why = order.rejection.as_ref().filter(|_| rejected).map(ToString::to_string);
    let authorized = order.history.payments.iter().any(|it| it.kind == PaymentKind::Authorized);
    let money = format!(
        "{total:?} {} {} {} {} {authorized}",
        order.history.captured_minor,
        order.history.refunded_minor,
        order.refund_due_minor(),
        order.payment_status(),
    );
    let times = format!("{} {:?}", order.placed_at.0, order.expires_at.map(|at| at.0));
    let (user, state, shipped) = (&order.user, order.state, order.fulfilment_status());
    add("orders", format!("{id} {user} {state} {money} {shipped} {times} {why:?}"));
    for (number, line) in (1..).zip(&order.lines) {
        let amount = line.amount_minor.filter(|_| accepted);
        let (shard, units) = (line.shard, line.quantity);
        let gone = format!("{} {}", line.shipped, line.returned);
        let (sku, at) = (&line.sku, &line.location);
        add("order_lines", format!("{id} {number} {sku} {at} {shard} {units} {amount:?} {gone}"));
    }
    for payment in &order.history.payments {
        let kind = format!("{:?}", payment.kind).to_lowercase();
        let (provider, event) = (&payment.provider, &payment.event_id);
        let (amount, at) = (payment.amount_minor, payment.at.0);
        add("payments", format!("{id} {provider} {event} {kind} {amount} {at}"));
    }
}

/// For each table a query that gives its rows as lines of text.
fn queries() -> [(&'static str, String); 6] {
    let ms = |column: &str| format!("(extract(epoch from {column}) * 1000)::bigint");
    let (placed, expires, settled) = (ms("placed_at"), ms("expires_at"), ms("settled_at"));
    let (shipped, at) = (ms("shipped_at"), ms("at"));
    let some = |value: &str| format!("coalesce('Some(' || {value} || ')', 'None')");
    let text = |value: &str| format!("coalesce('Some(\"' || {value} || '\")', 'None')");
    [
        (
            "orders",
            format!(
                "select concat_ws(' ', id, user_id, state, {}, captured_minor, refunded_minor, \
                 refund_due_minor, payment_status, authorized::text, fulfilment_status, {placed}, \
                 {}, {}) from tidegate.orders",
                some("total_minor"),
                some(&expires),
                text("rejection_message"),
            ),
        ),
        (
            "order_lines",
            format!(
                "select concat_ws(' ', order_id, line, sku, location, stock_shard, quantity, {}, \
                 shipped, returned) from tidegate.order_lines",
                some("amount_minor")
            ),
        ),
        (
            "payments",
            format!(
                "select concat_ws(' ', order_id, provider, event_id, kind, amount_minor, {at}) \
                 from tidegate.payments"
            ),
        ),
        (
            "skus",
            format!(
                "select concat_ws(' ', sku, {}, {}, {}, backorder_limit) from tidegate.skus",
                some("price_minor"),
                text("currency"),
                some("limit_per_user"),
            ),
        ),
        (
            "stock",
            "select concat_ws(' ', sku, location, on_hand, held, allocated, available) \
             from tidegate.stock"
                .to_owned(),
        ),
        (
            "holds",
            format!(
                "select concat_ws(' ', id, user_id, sku, location, quantity, state, {placed}, \
                 {expires}, {}, {}) from tidegate.holds",
                some(&settled),
                some(&shipped),
            ),
        ),
    ]
}

/// What the tables hold, but for movements and for orders that the store has forgotten: those must
/// have been refused.
async fn found(client: &Client, known: &Picture) -> Picture {
    let forgotten = "select id from tidegate.orders where state = 'rejected'";
    let refused = client.query(forgotten, &[]).await.unwrap();
    let refused: BTreeSet<String> = refused.iter().map(|row| row.get(0)).collect();
    let priced = "select count(*) from tidegate.order_lines join tidegate.orders on id = order_id \
                  where state = 'rejected' and amount_minor is not null";
    let priced: i64 = client.query_one(priced, &[]).await.unwrap().get(0);
    assert_eq!(priced, 0, "a rejected order never had a price");
    let id = |row: &str| row.split(' ').next().unwrap().to_owned();
    let kept: BTreeSet<_> = known.get("orders").into_iter().flatten().map(|row| id(row)).collect();
    let mut picture = Picture::new();
    for (table, query) in queries() {
        let rows = client.query(&query, &[]).await.unwrap();
        for row in rows.iter().map(|row| row.get::<_, String>(0)) {
            if table.starts_with("order")
                && refused.contains(&id(&row))
                && !kept.contains(&id(&row))
            {
                continue;
            }
            picture.entry(table).or_default().insert(row);
        }
    }
    picture
}

/// Waits until the tables of `database` are what `gate` says, row for row, and says how they differ
/// if that takes too long. Nothing may change meanwhile. `all_movements`: those too, which only
/// holds if nothing was ever loaded.
///
/// # Errors
/// Some of the rows that are missing, and some of those that should not be there.
pub async fn settled(
    database: &Database,
    gate: &Tidegate,
    world: &World,
    all_movements: bool,
) -> Result<(), String> {
    let client = database.client().await;
    let begun = Instant::now();
    let mut last = "nothing was loaded".to_owned();
    loop {
        if begun.elapsed() > PATIENCE {
            return Err(format!("the tables are not what the store says: {last}"));
        }
        sleep(Duration::from_millis(100)).await;
        let (position, end) = (database.position().await, gate.events().durable().0);
        if position.is_none() {
            // It is not loaded yet; perhaps there are no tables.
            continue;
        }
        let expected = world.expected(gate, &client).await;
        let found = found(&client, &expected).await;
        let still = gate.events().durable().0 == end && position == Some(end);
        if still && expected == found {
            break;
        }
        last = format!("position {position:?} of {end}\n{}", difference(&expected, &found));
    }
    if let Some(found) = contradiction(&client).await.map_err(|error| error.to_string())? {
        return Err(found);
    }
    if all_movements {
        let (found, told) = (movements_found(&client).await, movements_told(gate).await);
        let different = found.iter().zip(&told).find(|(found, told)| found != told);
        if found.len() != told.len() || different.is_some() {
            let counts = format!("{} of {} movements", found.len(), told.len());
            return Err(format!("{counts}; the first that differ are {different:?}"));
        }
    }
    Ok(())
}

fn difference(expected: &Picture, found: &Picture) -> String {
    let mut text = String::new();
    for (table, rows) in expected {
        let there = found.get(table).cloned().unwrap_or_default();
        let missing: Vec<_> = rows.difference(&there).take(3).collect();
        let extra: Vec<_> = there.difference(rows).take(3).collect();
        let _ = writeln!(text, "{table}: missing {missing:#?}, instead {extra:#?}");
    }
    text
}

/// What must hold in what any reader sees at any moment; the first thing that doesn't.
///
/// # Errors
/// The database's, which may have been killed.
pub async fn contradiction(client: &Client) -> Result<Option<String>, tokio_postgres::Error> {
    for (what, query) in [
        (
            "stock is not the sum of its movements",
            "select coalesce(s.sku, m.sku) from tidegate.stock s full join (select sku, location, \
             sum(on_hand) as on_hand, sum(held) as held, sum(allocated) as allocated \
             from tidegate.movements group by sku, location) m using (sku, location) \
             where s.on_hand is distinct from m.on_hand or s.held is distinct from m.held \
             or s.allocated is distinct from m.allocated limit 1",
        ),
        (
            "an accepted order is not the sum of its lines",
            "select id from tidegate.orders o where total_minor is not null and total_minor <> \
             (select sum(amount_minor) from tidegate.order_lines where order_id = o.id) limit 1",
        ),
        (
            "an order's money is not that of its payments",
            "select id from tidegate.orders o where captured_minor <> (select \
             coalesce(sum(amount_minor), 0) from tidegate.payments where order_id = o.id and \
             kind = 'captured') limit 1",
        ),
        (
            "a row is ahead of the position",
            "select id from tidegate.orders, tidegate.sync s where orders.position > s.position \
             limit 1",
        ),
    ] {
        if let Some(row) = client.query_opt(query, &[]).await? {
            return Ok(Some(format!("{what}: {}", row.get::<_, String>(0))));
        }
    }
    Ok(None)
}
