//! A mixed load for tests of what follows a store: every kind of change, from many callers, some of
//! it refused. It checks nothing; what must come of it is in `oracle`.

use std::sync::{Arc, Mutex};

use fastrand::Rng;
use tidegate::{
    Adjustment, Currency, HoldId, NewHold, NewOrder, OrderId, PaymentEvent, SkuPatch, Tidegate,
    Units,
};
use tokio::task::JoinSet;

use crate::oracle::World;

const SKUS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// A SKU that some tests move to make the journal longer.
pub const FILLER: &str = "filler";
const PLACES: [&str; 2] = ["main", "north"];
const USERS: u64 = 5;
const CALLERS: u64 = 4;

/// Orders that callers still change are among so many of the newest.
const RECENT: usize = 30;

/// What the callers have made so far; also over a store that is opened again.
#[derive(Default)]
pub struct Made {
    orders: Mutex<Vec<OrderId>>,
    holds: Mutex<Vec<HoldId>>,
    /// Called with each order and each hold that a caller was told of.
    tell: Option<fn(String)>,
}

impl Made {
    /// Nothing yet. `tell` is called with `order ID` and `hold ID`, for whoever outlives this
    /// process.
    #[must_use]
    pub fn telling(tell: fn(String)) -> Self {
        Self { tell: Some(tell), ..Self::default() }
    }

    /// Takes up the newest orders of a store that others have worked on, so that they are paid,
    /// shipped and cancelled as well.
    pub async fn take_up(&self, gate: &Tidegate) {
        for user in users() {
            let newest = gate.orders().by_user(&user, None, RECENT).await.unwrap();
            let ids = newest.orders.iter().map(|order| order.id);
            self.orders.lock().unwrap().extend(ids);
        }
    }

    /// Who and what there is after all of it.
    #[must_use]
    pub fn world(&self) -> World {
        World {
            users: users().collect(),
            skus: SKUS.iter().chain(&[FILLER]).map(|sku| (*sku).to_owned()).collect(),
            orders: Vec::new(),
            holds: self.holds.lock().unwrap().clone(),
        }
    }

    fn order(&self, random: &mut Rng) -> Option<OrderId> {
        let orders = self.orders.lock().unwrap();
        let recent = orders.len().saturating_sub(RECENT);
        (!orders.is_empty()).then(|| orders[random.usize(recent..orders.len())])
    }

    fn tell(&self, what: &str, id: impl ToString) {
        if let Some(tell) = self.tell {
            tell(format!("{what} {}", id.to_string()));
        }
    }
}

fn users() -> impl Iterator<Item = String> {
    (0..USERS).map(|user| format!("user-{user}"))
}

/// Defines what is sold, and lets some of it arrive, once for each `arrival`.
pub async fn stock_up(gate: &Tidegate, arrival: &str) {
    for (number, sku) in SKUS.iter().enumerate() {
        // The last has no price.
        let patch =
            SkuPatch { price_minor: (number < 5).then_some(Some(100)), ..SkuPatch::default() };
        gate.stock().define(sku, patch).await.unwrap();
        for place in PLACES {
            let more = Adjustment::new(*sku, 60, "arrival").at(place);
            gate.stock().adjust(more, &format!("{arrival}-{place}")).await.unwrap();
        }
    }
}

/// `steps` of each caller, all at once. What is refused, or cut off, is let be.
pub async fn run(gate: &Tidegate, made: &Arc<Made>, seed: u64, steps: u64) {
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (gate, made) = (gate.clone(), Arc::clone(made));
        let mut random = Rng::with_seed(seed.wrapping_mul(31).wrapping_add(caller));
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

async fn step(gate: &Tidegate, made: &Made, random: &mut Rng) {
    let key = format!("k{}", random.u64(..));
    let sku = SKUS[random.usize(0..6)];
    let place = PLACES[random.usize(0..2)];
    let units = random.u64(1..4);
    let orders = gate.orders();
    match random.u64(0..20) {
        0..6 => place_order(gate, made, random, &key).await,
        6..10 => {
            let Some(order) = made.order(random) else { return };
            let amount = random.u64(0..3) * 150;
            let event = match random.u64(0..8) {
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
            let some = (random.u64(0..2) == 0).then(|| vec![Units::new(sku, 1).at(place)]);
            let _ = orders.fulfil(order, some, &key).await;
        }
        14 => {
            let Some(order) = made.order(random) else { return };
            let Ok(found) = orders.get(order).await else { return };
            let Some(line) = found.lines.iter().find(|line| line.shipped > line.returned) else {
                return;
            };
            let back = Units::new(line.sku.as_str(), 1).at(line.location.as_str());
            let (back, restock) = (vec![back], random.u64(0..2) == 0);
            let _ = orders.take_back(order, back, restock, &key).await;
        }
        15..17 => {
            let delta = random.u64(0..12) as i64 - 3;
            let _ = gate.stock().adjust(Adjustment::new(sku, delta, "count").at(place), &key).await;
        }
        17 => {
            let patch = match random.u64(0..3) {
                0 => SkuPatch::default().price_minor(50 * units),
                1 => SkuPatch::default().currency(Currency::new("EUR").unwrap()),
                _ => SkuPatch::default().backorder_limit(units as u32),
            };
            let _ = gate.stock().define(sku, patch).await;
        }
        _ => hold(gate, made, random, (sku, place, units), &key).await,
    }
}

async fn place_order(gate: &Tidegate, made: &Made, random: &mut Rng, key: &str) {
    let mut order = NewOrder::new(format!("user-{}", random.u64(0..USERS)));
    for _ in 0..random.u64(1..5) {
        let sku = SKUS[random.usize(0..6)];
        let quantity = random.u64(1..4);
        order = match random.u64(0..5) {
            0 => order.line_for(sku, quantity, 77 * quantity),
            _ => order.line(sku, quantity),
        };
        order = order.at(PLACES[random.usize(0..2)]);
    }
    // Some expire at once.
    let hold_ms = if random.u64(0..4) == 0 { 1 } else { 3_600_000 };
    order = order.hold_ms(hold_ms);
    // What is answered early may be refused later, and then be forgotten.
    let early = random.u64(0..5) == 0;
    if early {
        order = order.respond_async();
    }
    if let Ok(receipt) = gate.orders().place(order, key).await {
        made.orders.lock().unwrap().push(receipt.id);
        if !early {
            made.tell("order", receipt.id);
        }
    }
}

async fn hold(
    gate: &Tidegate,
    made: &Made,
    random: &mut Rng,
    (sku, place, units): (&str, &str, u64),
    key: &str,
) {
    let ttl_ms = if random.u64(0..3) == 0 { 1 } else { 3_600_000 };
    let user = format!("user-{}", random.u64(0..USERS));
    let new = NewHold::new(user, sku, units, ttl_ms).at(place);
    let Ok(hold) = gate.stock().hold(new, key).await else { return };
    made.holds.lock().unwrap().push(hold.id);
    made.tell("hold", hold.id);
    match random.u64(0..5) {
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
