//! Movements of stock by a plain model of the events, and as the table has them. It knows nothing
//! of orders but what they hold.

use std::collections::{BTreeMap, BTreeSet};

use tidegate::{Event, EventData, EventKind, FeedError, HoldId, Location, Sku, Tidegate};
use tokio_postgres::Client;

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
