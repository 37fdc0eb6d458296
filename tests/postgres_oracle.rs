//! What the tables must hold, from what any host is told: orders, stock and holds as the clients
//! show them now, movements by a plain model of the events. It knows nothing of the worker.

use std::collections::{BTreeMap, BTreeSet};

use tidegate::{
    Event, EventData, EventKind, FeedError, HoldId, HoldOutcome, Location, Order, OrderState,
    PaymentKind, Sku, Tidegate,
};
use tokio_postgres::Client;

use crate::shop::orders_of;

/// A line of text for each row, by table.
pub(crate) type Picture = BTreeMap<&'static str, BTreeSet<String>>;

/// Who and what there is.
pub(crate) struct World {
    pub(crate) users: Vec<String>,
    pub(crate) skus: Vec<String>,
    pub(crate) holds: Vec<HoldId>,
}

impl World {
    /// What the store says; `client` only names holds that nobody else knows.
    pub(crate) async fn expected(&self, gate: &Tidegate, client: &Client) -> Picture {
        let mut picture = Picture::new();
        let mut add = |table: &'static str, row: String| {
            picture.entry(table).or_default().insert(row);
        };
        for user in &self.users {
            for order in orders_of(gate, user, 200).await {
                order_rows(&order, &mut add);
            }
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

fn order_rows(order: &Order, add: &mut impl FnMut(&'static str, String)) {
    let id = order.id;
    let accepted = order.expires_at.is_some();
    let total = accepted.then_some(order.total_minor);
    let rejected = order.state == OrderState::Rejected;
    let why = order.rejection.as_ref().filter(|_| rejected).map(ToString::to_string);
    let authorized = order.payments.iter().any(|it| it.kind == PaymentKind::Authorized);
    let money = format!(
        "{total:?} {} {} {} {} {authorized}",
        order.captured_minor,
        order.refunded_minor,
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
    for payment in &order.payments {
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
pub(crate) async fn found(client: &Client, known: &Picture) -> Picture {
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

/// A movement: position, what, where, and what it added.
type Movement = (i64, String, String, String, i64, i64, i64);

/// Every movement that the journal tells of, by a plain model.
pub(crate) async fn movements_told(gate: &Tidegate) -> Vec<Movement> {
    let end = gate.events().durable();
    let mut feed = gate.events().from_oldest();
    let mut model = Model::default();
    while feed.cursor().position < end {
        let wait = std::time::Duration::from_millis(100);
        match tokio::time::timeout(wait, feed.next()).await {
            Ok(Ok(event)) => model.tell(&event),
            Ok(Err(FeedError::Closed)) => break,
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => {}
        }
    }
    let told = EventKind::ALL.iter().filter(|kind| model.kinds.contains(kind)).count();
    println!(
        "{told} of {} kinds of events, {} movements",
        EventKind::ALL.len(),
        model.movements.len()
    );
    model.movements.sort();
    model.movements
}

type Units = Vec<(Sku, Location, i64)>;

#[derive(Default)]
struct Model {
    /// What each order holds at each stock shard, what each hold is of.
    orders: BTreeMap<(String, u16), Units>,
    holds: BTreeMap<HoldId, Units>,
    movements: Vec<Movement>,
    kinds: BTreeSet<EventKind>,
}

impl Model {
    fn tell(&mut self, event: &Event) {
        self.kinds.insert(event.kind());
        let units = |lines: &[tidegate::StockLine]| -> Units {
            let one = |it: &tidegate::StockLine| {
                (it.sku.clone(), it.location.clone(), it.quantity as i64)
            };
            lines.iter().map(one).collect()
        };
        let (what, each): (Units, [i64; 3]) = match &event.data {
            EventData::StockAdjusted { sku, location, delta, .. } => {
                (vec![(sku.clone(), location.clone(), *delta)], [1, 0, 0])
            }
            EventData::StockHeld { order, stock_shard, lines, .. } => {
                let lines: Vec<_> = lines.iter().map(|held| held.line.clone()).collect();
                self.orders.insert((order.to_string(), *stock_shard), units(&lines));
                (units(&lines), [0, 1, 0])
            }
            EventData::StockReleased { order, stock_shard } => {
                (self.orders.remove(&(order.to_string(), *stock_shard)).unwrap(), [0, -1, 0])
            }
            EventData::StockAllocated { order, stock_shard } => {
                (self.orders.remove(&(order.to_string(), *stock_shard)).unwrap(), [0, -1, 1])
            }
            EventData::StockDeallocated { lines, .. } => (units(lines), [0, 0, -1]),
            EventData::StockShipped { lines, .. } => (units(lines), [-1, 0, -1]),
            EventData::StockReturned { lines, restock, .. } => {
                (units(lines), [i64::from(*restock), 0, 0])
            }
            EventData::HoldPlaced { hold, line, .. } => {
                let line = units(std::slice::from_ref(line));
                self.holds.insert(*hold, line.clone());
                (line, [0, 1, 0])
            }
            EventData::HoldConfirmed { hold } => (self.holds[hold].clone(), [0, -1, 1]),
            EventData::HoldReleased { hold } | EventData::HoldExpired { hold } => {
                (self.holds[hold].clone(), [0, -1, 0])
            }
            EventData::HoldShipped { hold } => (self.holds[hold].clone(), [-1, 0, -1]),
            _ => return,
        };
        for (sku, at, units) in what {
            let [on_hand, held, allocated] = each.map(|sign| sign * units);
            let (kind, sku, at) = (event.kind().to_string(), sku.to_string(), at.to_string());
            let position = event.position.0 as i64;
            self.movements.push((position, kind, sku, at, on_hand, held, allocated));
        }
    }
}

/// Every movement in the table.
pub(crate) async fn movements_found(client: &Client) -> Vec<Movement> {
    let query = "select position, kind, sku, location, on_hand, held, allocated \
                 from tidegate.movements";
    let rows = client.query(query, &[]).await.unwrap();
    let movement = |row: &tokio_postgres::Row| {
        let numbers = (row.get(4), row.get(5), row.get(6));
        (row.get(0), row.get(1), row.get(2), row.get(3), numbers.0, numbers.1, numbers.2)
    };
    let mut found: Vec<Movement> = rows.iter().map(movement).collect();
    found.sort();
    found
}

/// What must hold in what any reader sees at any moment; the first thing that doesn't.
pub(crate) async fn contradiction(
    client: &Client,
) -> Result<Option<String>, tokio_postgres::Error> {
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
