//! Everything at once: random commands on several shards, with operations repeated, delayed and
//! sent again, shards restarted and orders forgotten. It deliberately keeps no model of its own:
//! the invariants say what is right.

use proptest::prelude::*;
use tidegate_machines::*;

use crate::network::{INTAKE, Network};

#[derive(Clone, Debug)]
enum Step {
    Place { user: u8, lines: Vec<(u8, u8)>, respond_async: bool, repeat_last: bool },
    Pay { order: usize, amount: u8, kind: u8, event: u8 },
    Cancel { order: usize },
    Fulfil { order: usize, part: Option<(u8, u8)> },
    Return { order: usize, sku: u8, units: u8, restock: bool },
    Adjust { sku: u8, delta: i8 },
    Define { sku: u8, limit: Option<u8>, backorder: u8 },
    Hold { user: u8, sku: u8, units: u8 },
    Settle { hold: usize, what: u8 },
    Deliver { queue: usize, count: u8, repeat: bool },
    Redrive { shard: usize },
    Restart { shard: usize },
    Sleep { ms: u16 },
    Forget,
    Intake { per_second: Option<u8> },
}

const SKUS: u8 = 5;

fn steps() -> impl Strategy<Value = Step> {
    let sku = 0..SKUS;
    let lines = proptest::collection::vec((0..SKUS, 1..4u8), 1..4);
    let index = any::<usize>;
    prop_oneof![
        6 => (0..3u8, lines, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
            |(user, lines, respond_async, repeat_last)| {
                Step::Place { user, lines, respond_async, repeat_last }
            }
        ),
        5 => (index(), 0..12u8, 0..8u8, 0..40u8)
            .prop_map(|(order, amount, kind, event)| Step::Pay { order, amount, kind, event }),
        2 => index().prop_map(|order| Step::Cancel { order }),
        3 => (index(), prop::option::of((sku.clone(), 1..3u8)))
            .prop_map(|(order, part)| Step::Fulfil { order, part }),
        2 => (index(), sku.clone(), 1..3u8, any::<bool>())
            .prop_map(|(order, sku, units, restock)| Step::Return { order, sku, units, restock }),
        2 => (sku.clone(), -4..9i8).prop_map(|(sku, delta)| Step::Adjust { sku, delta }),
        1 => (sku.clone(), prop::option::of(0..6u8), 0..4u8)
            .prop_map(|(sku, limit, backorder)| Step::Define { sku, limit, backorder }),
        2 => (0..3u8, sku, 1..3u8).prop_map(|(user, sku, units)| Step::Hold { user, sku, units }),
        2 => (index(), 0..4u8).prop_map(|(hold, what)| Step::Settle { hold, what }),
        9 => (index(), 1..9u8, prop::bool::weighted(0.2))
            .prop_map(|(queue, count, repeat)| Step::Deliver { queue, count, repeat }),
        1 => index().prop_map(|shard| Step::Redrive { shard }),
        1 => index().prop_map(|shard| Step::Restart { shard }),
        1 => (0..900u16).prop_map(|ms| Step::Sleep { ms }),
        1 => Just(Step::Forget),
        1 => prop::option::weighted(0.8, 1..60u8)
            .prop_map(|per_second| Step::Intake { per_second }),
    ]
}

struct World {
    network: Network,
    orders: Vec<OrderId>,
    holds: Vec<HoldId>,
    last: Option<PlaceOrder>,
    keys: u128,
}

fn sku(number: u8) -> Sku {
    Sku::new(&format!("sku-{number}")).unwrap()
}

fn user(number: u8) -> UserId {
    UserId::new(&format!("user-{number}")).unwrap()
}

fn line(number: u8, units: u8) -> StockLine {
    StockLine { sku: sku(number), location: Location::default(), quantity: units.into() }
}

impl World {
    fn new() -> Self {
        let network = Network::new();
        let mut world = Self { network, orders: vec![], holds: vec![], last: None, keys: 0 };
        for number in 0..SKUS {
            // Two of the SKUs are sold ahead of stock, so that shipments are refused as well.
            let ahead = number < 2;
            let patch = SkuPatch {
                price_minor: Some(Some(2)),
                backorder_limit: ahead.then_some(6),
                ..Default::default()
            };
            world.stock(&sku(number), &StockCommand::Define { sku: sku(number), patch });
            world.step(&Step::Adjust { sku: number, delta: if ahead { 1 } else { 6 } });
        }
        world
    }

    fn key(&mut self) -> KeyHash {
        self.keys += 1;
        KeyHash(self.keys)
    }

    fn stock(&mut self, sku: &Sku, command: &StockCommand) {
        if let Ok(Answer::Now(StockReply::Hold(hold))) =
            self.network.ask_stock(Network::stock_of(sku), command)
            && !self.holds.contains(&hold.id)
        {
            self.holds.push(hold.id);
        }
    }

    fn place(&mut self, place: PlaceOrder) {
        let shard = (place.key.0 % 2) as u16;
        let result = self.network.ask_orders(shard, &OrderCommand::Place(place.clone()));
        let id = match result {
            Ok(Answer::Later(ticket)) => OrderId(ticket.subject),
            Ok(Answer::Now(OrderReply::Placed(receipt))) => receipt.id,
            _ => return,
        };
        self.last = Some(place);
        if !self.orders.contains(&id) {
            self.orders.push(id);
        }
    }

    fn order(&self, pick: usize) -> Option<OrderId> {
        (!self.orders.is_empty()).then(|| self.orders[pick % self.orders.len()])
    }

    fn ask(&mut self, pick: usize, command: impl FnOnce(OrderId, KeyHash) -> OrderCommand) {
        let key = self.key();
        if let Some(order) = self.order(pick) {
            // Most random commands are refused; what matters is that nothing breaks.
            let _ = self.network.ask_orders(order.shard(), &command(order, key));
        }
    }

    fn step(&mut self, step: &Step) {
        let fingerprint = Fingerprint(1);
        match step {
            Step::Place { repeat_last: true, .. } => {
                if let Some(last) = self.last.clone() {
                    self.place(last);
                }
            }
            Step::Place { user: buyer, lines, respond_async, .. } => {
                let new_line = |(number, units): &(u8, u8)| NewLine {
                    sku: sku(*number),
                    location: Location::default(),
                    quantity: (*units).into(),
                    amount_minor: None,
                };
                let place = PlaceOrder {
                    key: self.key(),
                    fingerprint,
                    user: user(*buyer),
                    lines: lines.iter().map(new_line).collect(),
                    hold_ms: 1_000,
                    respond_async: *respond_async,
                    hint: None,
                };
                self.place(place);
            }
            Step::Pay { order, amount, kind, event } => {
                self.ask(*order, |order, _| OrderCommand::Pay {
                    order,
                    provider: Provider::new("bank").unwrap(),
                    event_id: EventId::new(&event.to_string()).unwrap(),
                    kind: match kind {
                        0 => PaymentKind::Authorized,
                        1 => PaymentKind::Failed,
                        2 => PaymentKind::Refunded,
                        _ => PaymentKind::Captured,
                    },
                    amount_minor: (*amount).into(),
                })
            }
            _ => self.step_order(step),
        }
    }

    fn step_order(&mut self, step: &Step) {
        let fingerprint = Fingerprint(1);
        match step {
            Step::Cancel { order } => {
                self.ask(*order, |order, key| OrderCommand::Cancel { order, key, fingerprint })
            }
            Step::Fulfil { order, part } => self.ask(*order, |order, key| OrderCommand::Fulfil {
                order,
                key,
                fingerprint,
                lines: part.map(|(number, units)| vec![line(number, units)]),
            }),
            Step::Return { order, sku, units, restock } => self.ask(*order, |order, key| {
                let lines = vec![line(*sku, *units)];
                OrderCommand::Return { order, key, fingerprint, lines, restock: *restock }
            }),
            _ => self.step_stock(step),
        }
    }

    fn step_stock(&mut self, step: &Step) {
        let fingerprint = Fingerprint(1);
        match step {
            Step::Adjust { sku: number, delta } => {
                let (key, sku) = (self.key(), sku(*number));
                let command = StockCommand::Adjust {
                    key,
                    fingerprint,
                    sku: sku.clone(),
                    location: Location::default(),
                    delta: (*delta).into(),
                    reason: "count".into(),
                };
                self.stock(&sku, &command);
            }
            Step::Define { sku: number, limit, backorder } => {
                let patch = SkuPatch {
                    limit_per_user: Some(limit.map(u32::from)),
                    backorder_limit: Some((*backorder).into()),
                    ..Default::default()
                };
                self.stock(&sku(*number), &StockCommand::Define { sku: sku(*number), patch });
            }
            Step::Hold { user: buyer, sku: number, units } => {
                let command = StockCommand::Hold {
                    key: self.key(),
                    fingerprint,
                    user: user(*buyer),
                    sku: sku(*number),
                    location: Location::default(),
                    quantity: (*units).into(),
                    ttl_ms: 500,
                };
                self.stock(&sku(*number), &command);
            }
            Step::Settle { hold, what } if !self.holds.is_empty() => {
                let hold = self.holds[hold % self.holds.len()];
                let command = match what {
                    0 => StockCommand::ConfirmHold { hold },
                    1 => StockCommand::ReleaseHold { hold },
                    2 => StockCommand::ShipHold { hold },
                    _ => StockCommand::ExtendHold { hold, ttl_ms: 700 },
                };
                let _ = self.network.ask_stock(hold.shard(), &command);
            }
            _ => self.step_network(step),
        }
    }

    fn step_network(&mut self, step: &Step) {
        match step {
            Step::Deliver { queue, count, repeat } => {
                for _ in 0..*count {
                    self.network.deliver(*queue, *repeat);
                }
            }
            Step::Redrive { shard } => self.network.redrive(*shard),
            Step::Restart { shard } => self.network.restart(*shard),
            Step::Sleep { ms } => self.network.now = self.network.now.plus_ms((*ms).into()),
            Step::Forget => self.network.forget(),
            Step::Intake { per_second } => {
                let intake = per_second.map(|per_second| IntakeConfig {
                    orders_per_second: per_second.into(),
                    ..INTAKE
                });
                self.network.set_intake(intake);
            }
            _ => {}
        }
    }

    // Lets everything come to an end, and checks that it has.
    fn finish(&mut self) {
        self.network.deliver_all();
        // What waits in the queue has been released by then, or is rejected.
        self.network.now = self.network.now.plus_ms(INTAKE.deadline_ms);
        self.network.tick();
        self.network.deliver_all();
        self.network.now = self.network.now.plus_ms(2_000);
        self.network.tick();
        self.network.deliver_all();
        self.network.check();
        assert!(self.network.waiting.is_empty(), "waiting: {:?}", self.network.waiting);
        for node in &self.network.orders {
            assert_eq!(node.machine.open_ops(), 0);
            assert!(node.machine.iter().all(Order::at_rest));
        }
        for pick in 0..3 {
            self.network.restart(pick);
        }
        self.network.forget();
        assert!(self.network.orders.iter().all(|node| node.machine.is_empty()));
        self.network.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_doubled_or_forgotten(
        steps in proptest::collection::vec(steps(), 1..120),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.network.check();
        }
        world.finish();
    }
}
