//! A mixed load for tests of what follows a store: every kind of change, from many callers, some of
//! it refused. It checks nothing; what must come of it is in `postgres_oracle`.

use std::sync::Mutex;

use tidegate::{
    Adjustment, Currency, HoldId, NewHold, NewOrder, OrderId, PaymentEvent, SkuPatch, Tidegate,
    Units,
};
use tokio::task::JoinSet;

use crate::{postgres_oracle::World, seed::Random};

const SKUS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// A SKU that some tests move to make the journal longer.
pub(crate) const FILLER: &str = "filler";
const PLACES: [&str; 2] = ["main", "north"];
const USERS: u64 = 5;
const CALLERS: u64 = 4;

/// What the callers have made so far; also over a store that is opened again.
#[derive(Default)]
pub(crate) struct Made {
    orders: Mutex<Vec<OrderId>>,
    holds: Mutex<Vec<HoldId>>,
}

impl Made {
    pub(crate) fn world(&self) -> World {
        World {
            users: (0..USERS).map(|user| format!("user-{user}")).collect(),
            skus: SKUS.iter().chain(&[FILLER]).map(|sku| (*sku).to_owned()).collect(),
            holds: self.holds.lock().unwrap().clone(),
        }
    }

    fn order(&self, random: &mut Random) -> Option<OrderId> {
        let orders = self.orders.lock().unwrap();
        let recent = orders.len().saturating_sub(30);
        let at = recent as u64 + random.number() % (orders.len() - recent).max(1) as u64;
        orders.get(at as usize).copied()
    }
}

/// Defines what is sold.
pub(crate) async fn stock_up(gate: &Tidegate) {
    for (number, sku) in SKUS.iter().enumerate() {
        // The last has no price.
        let patch =
            SkuPatch { price_minor: (number < 5).then_some(Some(100)), ..SkuPatch::default() };
        gate.stock().define(sku, patch).await.unwrap();
        for place in PLACES {
            let arrival = Adjustment::new(*sku, 60, "arrival").at(place);
            gate.stock().adjust(arrival, &format!("arrival-{place}")).await.unwrap();
        }
    }
}

/// `steps` of each caller, all at once. What is refused, or cut off, is let be.
pub(crate) async fn run(gate: &Tidegate, made: &std::sync::Arc<Made>, seed: u64, steps: u64) {
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (gate, made) = (gate.clone(), std::sync::Arc::clone(made));
        let mut random = Random::from_seed(seed.wrapping_mul(31).wrapping_add(caller));
        callers.spawn(async move {
            for _ in 0..steps {
                step(&gate, &made, &mut random).await;
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
}

async fn step(gate: &Tidegate, made: &Made, random: &mut Random) {
    let key = format!("k{}", random.number());
    let sku = SKUS[(random.number() % 6) as usize];
    let place = PLACES[(random.number() % 2) as usize];
    let units = random.between(1, 4);
    let orders = gate.orders();
    match random.number() % 20 {
        0..6 => place_order(gate, made, random, &key).await,
        6..10 => {
            let Some(order) = made.order(random) else { return };
            let amount = random.between(0, 3) * 150;
            let event = match random.number() % 8 {
                0 => PaymentEvent::authorized("bank", &key, amount),
                1 => PaymentEvent::failed("bank", &key, amount),
                2 => PaymentEvent::refunded("bank", &key, amount),
                _ => PaymentEvent::captured("bank", &key, amount * 4),
            };
            let _ = orders.pay(order, event).await;
        }
        10 => {
            let Some(order) = made.order(random) else { return };
            let _ = orders.cancel(order, &key).await;
        }
        11..14 => {
            let Some(order) = made.order(random) else { return };
            let some =
                (random.number().is_multiple_of(2)).then(|| vec![Units::new(sku, 1).at(place)]);
            let _ = orders.fulfil(order, some, &key).await;
        }
        14 => {
            let Some(order) = made.order(random) else { return };
            let Ok(found) = orders.get(order).await else { return };
            let Some(line) = found.lines.iter().find(|line| line.shipped > line.returned) else {
                return;
            };
            let back = Units::new(line.sku.as_str(), 1).at(line.location.as_str());
            let (back, restock) = (vec![back], random.number().is_multiple_of(2));
            let _ = orders.take_back(order, back, restock, &key).await;
        }
        15..17 => {
            let delta = random.between(0, 12) as i64 - 3;
            let _ = gate.stock().adjust(Adjustment::new(sku, delta, "count").at(place), &key).await;
        }
        17 => {
            let patch = match random.number() % 3 {
                0 => SkuPatch::default().price_minor(50 * units),
                1 => SkuPatch::default().currency(Currency::new("EUR").unwrap()),
                _ => SkuPatch::default().backorder_limit(units as u32),
            };
            let _ = gate.stock().define(sku, patch).await;
        }
        _ => hold(gate, made, random, (sku, place, units), &key).await,
    }
}

async fn place_order(gate: &Tidegate, made: &Made, random: &mut Random, key: &str) {
    let mut order = NewOrder::new(format!("user-{}", random.number() % USERS));
    for _ in 0..random.between(1, 5) {
        let sku = SKUS[(random.number() % 6) as usize];
        let quantity = random.between(1, 4);
        order = match random.number() % 5 {
            0 => order.line_for(sku, quantity, 77 * quantity),
            _ => order.line(sku, quantity),
        };
        order = order.at(PLACES[(random.number() % 2) as usize]);
    }
    // Some expire at once.
    let hold_ms = if random.number().is_multiple_of(4) { 1 } else { 3_600_000 };
    order = order.hold_ms(hold_ms);
    if random.number().is_multiple_of(5) {
        order = order.respond_async();
    }
    if let Ok(receipt) = gate.orders().place(order, key).await {
        made.orders.lock().unwrap().push(receipt.id);
    }
}

async fn hold(
    gate: &Tidegate,
    made: &Made,
    random: &mut Random,
    (sku, place, units): (&str, &str, u64),
    key: &str,
) {
    let ttl_ms = if random.number().is_multiple_of(3) { 1 } else { 3_600_000 };
    let user = format!("user-{}", random.number() % USERS);
    let new = NewHold::new(user, sku, units, ttl_ms).at(place);
    let Ok(hold) = gate.stock().hold(new, key).await else { return };
    made.holds.lock().unwrap().push(hold.id);
    match random.number() % 5 {
        0 => drop(gate.stock().release_hold(hold.id).await),
        1 => drop(gate.stock().extend_hold(hold.id, 7_200_000).await),
        2 => drop(gate.stock().confirm_hold(hold.id).await),
        3 => {
            drop(gate.stock().confirm_hold(hold.id).await);
            drop(gate.stock().ship_hold(hold.id).await);
        }
        _ => {}
    }
}
