//! What callers think of asking, given what they have heard so far. They know the rules of a shop
//! and break some of them on purpose. Whether an answer is right is not their business.

use tidegate_actors::Keyring;
use tidegate_machines::{
    EventId, HoldId, Location, NewLine, Order, OrderCommand, OrderId, OrderState, PaymentKind,
    PlaceOrder, Provider, Sku, SkuPatch, StockCommand, StockLine, UserId, shard_of,
};

use super::{ops::Command, profile::Profile};
use crate::random::Random;

/// SKUs that are defined at the beginning; one more never is.
pub(super) const SKUS: usize = 8;
/// The SKU that everybody wants.
pub(super) const HOT: usize = 0;
/// The SKU of which a user may have few, ever.
pub(super) const LIMITED: usize = 2;
/// See `LIMITED`.
pub(super) const LIMIT: u32 = 3;
/// The SKU whose price and limit change.
const CHANGING: usize = 3;
/// The SKU whose price no order of some units can have.
const PRICELESS: usize = 6;

/// See the module.
pub(super) struct Callers {
    keys: Keyring,
    profile: Profile,
    next: u64,
    users: Vec<UserId>,
    skus: Vec<Sku>,
    places: [Location; 2],
    bank: Provider,
}

/// What a caller knows of an order that was accepted.
pub(super) struct Known<'a> {
    pub(super) id: OrderId,
    pub(super) total_minor: u64,
    pub(super) seen: Option<&'a Order>,
}

/// Names here are made of letters and digits, so they are within their bounds.
fn name<T, E: std::fmt::Debug>(made: Result<T, E>) -> T {
    made.unwrap_or_else(|error| panic!("a name that callers made: {error:?}"))
}

impl Callers {
    pub(super) fn new(profile: &Profile) -> Self {
        Self {
            keys: Keyring::new([7; 16]),
            profile: profile.clone(),
            next: 0,
            users: (0..profile.users).map(|user| name(UserId::new(&format!("u{user}")))).collect(),
            skus: (0..=SKUS).map(|sku| name(Sku::new(&format!("s{sku}")))).collect(),
            places: [Location::default(), name(Location::new("depot"))],
            bank: name(Provider::new("bank")),
        }
    }

    pub(super) fn users(&self) -> &[UserId] {
        &self.users
    }

    /// The SKUs that are defined.
    pub(super) fn skus(&self) -> &[Sku] {
        &self.skus[..SKUS]
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn stock(&self, sku: &Sku, command: StockCommand) -> Command {
        Command::Stock(shard_of(sku.as_str().as_bytes(), self.profile.stock_shards), command)
    }

    /// What there is in the beginning: each SKU, and its stock.
    pub(super) fn opening(&mut self, random: &mut Random) -> Vec<Command> {
        let mut commands = Vec::new();
        for number in 0..SKUS {
            let patch = match number {
                HOT => SkuPatch::default().price_minor(500),
                1 => SkuPatch::default().price_minor(250).backorder_limit(5),
                LIMITED => SkuPatch::default().price_minor(99).limit_per_user(LIMIT),
                CHANGING => SkuPatch::default().price_minor(10).limit_per_user(1_000),
                PRICELESS => SkuPatch::default().price_minor(9_007_199_254_740_991),
                _ => SkuPatch::default(),
            };
            let sku = self.skus[number].clone();
            commands.push(self.stock(&sku, StockCommand::Define { sku: sku.clone(), patch }));
        }
        for number in 0..SKUS {
            for place in 0..self.places.len() {
                let most = if number == HOT { 40 } else { 120 };
                let delta = random.between(1, most) as i64;
                let (sku, place) = (self.skus[number].clone(), self.places[place].clone());
                commands.push(self.adjust(sku, place, delta));
            }
        }
        commands
    }

    fn adjust(&mut self, sku: Sku, location: Location, delta: i64) -> Command {
        let key = format!("k{}", self.number());
        let key = name(self.keys.key("", &format!("adjust {sku}"), &key));
        let fingerprint = self.keys.fingerprint(&(&location, delta));
        let reason = "count".to_owned();
        let shard_sku = sku.clone();
        let command = StockCommand::Adjust { key, fingerprint, sku, location, delta, reason };
        self.stock(&shard_sku, command)
    }

    fn sku(&self, random: &mut Random) -> Sku {
        let number = match random.index(100) {
            0..40 => HOT,
            40..42 => SKUS,
            42..44 => PRICELESS,
            _ => random.index(SKUS),
        };
        self.skus[number].clone()
    }

    fn place(&self, random: &mut Random) -> Location {
        self.places[usize::from(random.per_mille(200))].clone()
    }

    fn user(&self, random: &mut Random) -> UserId {
        self.users[random.index(self.users.len())].clone()
    }

    /// A new order.
    pub(super) fn order(&mut self, random: &mut Random) -> Command {
        let lines = (0..random.weighted(&[0, 60, 20, 15, 5])).map(|_| {
            let amount_minor = random.per_mille(100).then(|| random.between(0, 2_000));
            NewLine {
                sku: self.sku(random),
                location: self.place(random),
                quantity: random.weighted(&[1, 60, 25, 10, 5]) as u64,
                amount_minor,
            }
        });
        let lines: Vec<_> = lines.collect();
        let hold_ms = if random.per_mille(500) { random.between(20, 4_000) } else { 900_000 };
        let (user, respond_async) = (self.user(random), random.per_mille(150));
        let key = format!("k{}", self.number());
        self.placing(&key, user, lines, hold_ms, respond_async)
    }

    /// An order of `quantity` units of one SKU, for the auditor.
    pub(super) fn probe(&mut self, sku: &Sku, location: &Location, quantity: u64) -> Command {
        let (sku, location) = (sku.clone(), location.clone());
        let line = NewLine { sku, location, quantity, amount_minor: Some(1) };
        let (key, user) = (format!("k{}", self.number()), self.users[0].clone());
        self.placing(&key, user, vec![line], 900_000, false)
    }

    fn placing(
        &self,
        key: &str,
        user: UserId,
        lines: Vec<NewLine>,
        hold_ms: u64,
        respond_async: bool,
    ) -> Command {
        let key = name(self.keys.key("", "place", key));
        let fingerprint = self.keys.fingerprint(&(&user, &lines, hold_ms, respond_async));
        // As the client in `src/orders.rs` does.
        let shard = (((key.0 >> 64) * u128::from(self.profile.order_shards)) >> 64) as u16;
        let hint = None;
        let place = PlaceOrder { key, fingerprint, user, lines, hold_ms, respond_async, hint };
        Command::Orders(shard, OrderCommand::Place(place))
    }

    /// Something about an order that was accepted.
    pub(super) fn about(&mut self, order: &Known, random: &mut Random) -> Command {
        let id = order.id;
        let state = order.seen.map_or(OrderState::AwaitingPayment, |seen| seen.state);
        let weights = match state {
            OrderState::Queued | OrderState::AwaitingPayment => [60, 12, 2, 1, 10],
            OrderState::Confirmed => [12, 8, 60, 12, 8],
            OrderState::Completed => [10, 3, 5, 60, 10],
            OrderState::Cancelled | OrderState::Expired | OrderState::Rejected => [60, 8, 5, 5, 10],
        };
        let command = match random.weighted(&weights) {
            0 => return self.payment(order, random),
            1 => {
                let (key, fingerprint) = self.keyed(id, "cancel", &());
                OrderCommand::Cancel { order: id, key, fingerprint }
            }
            2 => {
                let lines = random.per_mille(500).then(|| units(order, random, false));
                let (key, fingerprint) = self.keyed(id, "fulfil", &lines);
                OrderCommand::Fulfil { order: id, key, fingerprint, lines }
            }
            3 => {
                let (lines, restock) = (units(order, random, true), random.per_mille(600));
                let (key, fingerprint) = self.keyed(id, "return", &(&lines, restock));
                OrderCommand::Return { order: id, key, fingerprint, lines, restock }
            }
            _ => OrderCommand::Get { order: id },
        };
        Command::Orders(id.shard(), command)
    }

    fn keyed<T: serde::Serialize>(
        &mut self,
        order: OrderId,
        operation: &str,
        request: &T,
    ) -> (tidegate_machines::KeyHash, tidegate_machines::Fingerprint) {
        let key = format!("k{}", self.number());
        let key = name(self.keys.key("", &format!("{operation} {order}"), &key));
        (key, self.keys.fingerprint(request))
    }

    /// A cancellation, for the auditor.
    pub(super) fn cancel(&mut self, order: OrderId) -> Command {
        let (key, fingerprint) = self.keyed(order, "cancel", &());
        Command::Orders(order.shard(), OrderCommand::Cancel { order, key, fingerprint })
    }

    fn payment(&mut self, order: &Known, random: &mut Random) -> Command {
        let known = order.seen.map(|seen| &seen.history.payments[..]).unwrap_or_default();
        let mut number = self.number();
        let total = order.total_minor;
        let (mut kind, mut amount) = match random.index(100) {
            0..62 => (PaymentKind::Captured, total),
            62..72 => (PaymentKind::Captured, total.div_ceil(2)),
            72..80 => (PaymentKind::Authorized, total),
            80..86 => (PaymentKind::Failed, total),
            86..94 => {
                (PaymentKind::Refunded, order.seen.map_or(1, |s| s.refund_due_minor().max(1)))
            }
            _ => (PaymentKind::Captured, total.saturating_add(random.between(1, 50))),
        };
        let again = random.per_mille(150).then(|| random.pick(known)).flatten();
        let event_id = match again {
            Some(payment) => {
                (kind, amount) = (payment.kind, payment.amount_minor);
                // The same event with another amount is a mistake of the provider's.
                amount = amount.saturating_add(u64::from(random.per_mille(300)));
                payment.event_id.clone()
            }
            None => {
                number = number.max(1);
                name(EventId::new(&format!("e{number}")))
            }
        };
        let (id, provider) = (order.id, self.bank.clone());
        let amount_minor = amount.min(9_007_199_254_740_991);
        let pay = OrderCommand::Pay { order: id, provider, event_id, kind, amount_minor };
        Command::Orders(id.shard(), pay)
    }

    /// A new hold.
    pub(super) fn hold(&mut self, random: &mut Random) -> Command {
        let key = format!("k{}", self.number());
        let (sku, location, user) = (self.sku(random), self.place(random), self.user(random));
        let ttl_ms = if random.per_mille(600) { random.between(20, 4_000) } else { 900_000 };
        let quantity = random.between(1, 4);
        let key = name(self.keys.key("", &format!("hold {sku}"), &key));
        let fingerprint = self.keys.fingerprint(&(&user, &location, quantity, ttl_ms));
        let shard_sku = sku.clone();
        let command =
            StockCommand::Hold { key, fingerprint, user, sku, location, quantity, ttl_ms };
        self.stock(&shard_sku, command)
    }

    /// Something about a hold.
    pub(super) fn about_hold(&mut self, hold: HoldId, random: &mut Random) -> Command {
        let command = match random.weighted(&[35, 20, 15, 25, 10]) {
            0 => StockCommand::ConfirmHold { hold },
            1 => StockCommand::ReleaseHold { hold },
            2 => StockCommand::ExtendHold { hold, ttl_ms: random.between(20, 4_000) },
            3 => StockCommand::ShipHold { hold },
            _ => StockCommand::GetHold { hold },
        };
        Command::Stock(hold.shard(), command)
    }

    /// Stock that comes or goes, a SKU that changes, or a look at one.
    pub(super) fn about_stock(&mut self, random: &mut Random) -> Command {
        let sku = self.skus[random.index(SKUS)].clone();
        match random.weighted(&[50, 15, 35]) {
            0 => {
                let location = self.place(random);
                let delta = random.between(0, 40) as i64 - 12;
                self.adjust(sku, location, delta)
            }
            1 => {
                let patch = match random.index(3) {
                    0 => SkuPatch::default().price_minor(random.between(1, 50)),
                    1 => SkuPatch {
                        limit_per_user: Some(random.per_mille(600).then_some(4)),
                        ..SkuPatch::default()
                    },
                    _ => SkuPatch::default().backorder_limit(random.between(0, 9) as u32),
                };
                let number = if patch.backorder_limit.is_some() { 1 } else { CHANGING };
                let sku = self.skus[number].clone();
                self.stock(&sku, StockCommand::Define { sku: sku.clone(), patch })
            }
            _ => self.stock(&sku, StockCommand::Get { sku: sku.clone() }),
        }
    }

    /// A read of all that `user` has in the memory of order shard `shard`.
    pub(super) fn list(&self, shard: u16, user: &UserId) -> Command {
        let user = user.clone();
        Command::Orders(shard, OrderCommand::ListByUser { user, after: None, limit: usize::MAX })
    }

    /// A read of `sku`.
    pub(super) fn look(&self, sku: &Sku) -> Command {
        self.stock(sku, StockCommand::Get { sku: sku.clone() })
    }

    /// The key of `command`, used for something else.
    pub(super) fn reused(&mut self, command: &Command) -> Option<Command> {
        // No two of them are the same request.
        let number = self.number();
        let mut other = command.clone();
        match &mut other {
            Command::Orders(_, OrderCommand::Place(place)) => {
                place.hold_ms += number;
                place.fingerprint.0 = place.fingerprint.0.wrapping_add(number);
            }
            Command::Stock(_, StockCommand::Adjust { fingerprint, delta, .. }) => {
                *delta += 1;
                fingerprint.0 = fingerprint.0.wrapping_add(number);
            }
            Command::Stock(_, StockCommand::Hold { fingerprint, quantity, .. }) => {
                *quantity += 1;
                fingerprint.0 = fingerprint.0.wrapping_add(number);
            }
            _ => return None,
        }
        Some(other)
    }
}

/// Units of an order to ship, or to take back.
fn units(order: &Known, random: &mut Random, back: bool) -> Vec<StockLine> {
    let lines = order.seen.map(|seen| &seen.lines[..]).unwrap_or_default();
    let mut chosen = Vec::new();
    for line in lines {
        let left = if back { line.shipped - line.returned } else { line.quantity - line.shipped };
        if random.per_mille(700) {
            // Now and then more than there is.
            let quantity =
                random.between(1, u64::from(left.max(1)) + 1) + u64::from(random.per_mille(60));
            let (sku, location) = (line.sku.clone(), line.location.clone());
            chosen.push(StockLine { sku, location, quantity });
        }
    }
    if random.per_mille(20) {
        let (sku, location) = (name(Sku::new("elsewhere")), Location::default());
        chosen.push(StockLine { sku, location, quantity: 1 });
    }
    chosen
}
