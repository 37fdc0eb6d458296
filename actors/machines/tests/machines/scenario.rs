//! A tiny language for one-line scenarios: steps parted by `|`, each with what it should give after
//! `=>`. It deliberately has no variables: orders are `#1`, `#2`, … and holds `h1`, `h2`, ….

use tidegate_machines::*;

use crate::network::{INTAKE, Network, Placed};

/// Runs a scenario and checks every expectation and every invariant after every step.
pub(crate) fn check(scenario: &str) {
    let mut stage = Stage { network: Network::new(), orders: vec![], holds: vec![], keys: 0 };
    for step in scenario.split('|') {
        let (command, expected) = step.split_once("=>").unwrap_or((step, "ok"));
        let given = stage.step(command.trim());
        assert_eq!(given, expected.trim(), "in step `{}` of `{scenario}`", step.trim());
        stage.network.check();
    }
    stage.network.restart(0);
    stage.network.restart(1);
}

struct Stage {
    network: Network,
    orders: Vec<OrderId>,
    holds: Vec<HoldId>,
    keys: u128,
}

fn sku(name: &str) -> Sku {
    Sku::new(name).unwrap()
}

fn stock_lines(words: &[&str]) -> Vec<StockLine> {
    let line = |pair: &[&str]| StockLine {
        sku: sku(pair[0]),
        location: Location::default(),
        quantity: pair[1].parse().unwrap(),
    };
    words.chunks(2).map(line).collect()
}

impl Stage {
    fn step(&mut self, command: &str) -> String {
        let words: Vec<_> = command.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        match words[0] {
            "stock" => {
                self.define(words[1], SkuPatch::default());
                self.adjust(words[1], words[2].parse().unwrap())
            }
            "adjust" => self.adjust(words[1], words[2].parse().unwrap()),
            "price" => {
                let price_minor = Some(Some(number(2)));
                self.define(words[1], SkuPatch { price_minor, ..Default::default() })
            }
            "limit" => {
                let limit_per_user = Some(words[2].parse().ok());
                self.define(words[1], SkuPatch { limit_per_user, ..Default::default() })
            }
            "backorder" => {
                let backorder_limit = Some(number(2) as u32);
                self.define(words[1], SkuPatch { backorder_limit, ..Default::default() })
            }
            "place" => self.place(words[1], &words[2..], false),
            "queue" => self.place(words[1], &words[2..], true),
            "intake" => {
                // `off`, or how many a second over both shards.
                let orders_per_second = words[1].parse();
                let intake =
                    orders_per_second.map(|it| IntakeConfig { orders_per_second: it, ..INTAKE });
                self.network.set_intake(intake.ok());
                "ok".into()
            }
            "queues" => {
                let counts = self.network.orders[0].machine.queue_counts();
                let QueueCounts { queued, released, timed_out, cancelled } = counts;
                format!("{queued} {released} {timed_out} {cancelled}")
            }
            "sleep" => {
                self.network.now = self.network.now.plus_ms(number(1));
                self.network.tick();
                self.network.deliver_all();
                "ok".into()
            }
            "deliver" => {
                self.network.deliver_all();
                "ok".into()
            }
            "down" => {
                self.network.down = Some(Network::stock_of(&sku(words[1])));
                "ok".into()
            }
            "up" => {
                self.network.down = None;
                self.network.deliver_all();
                "ok".into()
            }
            "remembered" => {
                let shard = usize::from(Network::stock_of(&sku(words[1])));
                self.network.stocks[shard].machine.outstanding().len().to_string()
            }
            "forget" => {
                self.network.forget();
                "ok".into()
            }
            "level" => {
                let level = self.network.level(&sku(words[1]));
                format!("{} {} {}", level.on_hand, level.held, level.allocated)
            }
            "hold" | "confirm" | "release" | "extend" | "leave" | "holds" => self.hold(&words),
            _ => self.about_order(&words),
        }
    }

    fn key(&mut self) -> KeyHash {
        self.keys += 1;
        KeyHash(self.keys)
    }

    fn stock(&mut self, shard: u16, command: &StockCommand) -> String {
        match self.network.ask_stock(shard, command) {
            Ok(Answer::Now(StockReply::Hold(hold))) => {
                if !self.holds.contains(&hold.id) {
                    self.holds.push(hold.id);
                }
                "ok".into()
            }
            Ok(_) => "ok".into(),
            Err(StockRejection::Refused(refusal)) => word(&refusal),
            Err(rejection) => word(&rejection),
        }
    }

    fn define(&mut self, name: &str, patch: SkuPatch) -> String {
        let sku = sku(name);
        self.stock(Network::stock_of(&sku), &StockCommand::Define { sku, patch })
    }

    fn adjust(&mut self, name: &str, delta: i64) -> String {
        let (key, sku) = (self.key(), sku(name));
        let command = StockCommand::Adjust {
            key,
            fingerprint: Fingerprint(1),
            location: Location::default(),
            delta,
            reason: "test".into(),
            sku: sku.clone(),
        };
        self.stock(Network::stock_of(&sku), &command)
    }

    fn hold(&mut self, words: &[&str]) -> String {
        let nth = |word: &str| word.trim_start_matches('h').parse::<usize>().unwrap() - 1;
        if words[0] == "hold" {
            let (key, sku) = (self.key(), sku(words[2]));
            let command = StockCommand::Hold {
                key,
                fingerprint: Fingerprint(1),
                user: UserId::new(words[1]).unwrap(),
                location: Location::default(),
                quantity: words[3].parse().unwrap(),
                ttl_ms: 1_000,
                sku: sku.clone(),
            };
            return self.stock(Network::stock_of(&sku), &command);
        }
        let hold = self.holds[nth(words[1])];
        let command = match words[0] {
            "confirm" => StockCommand::ConfirmHold { hold },
            "release" => StockCommand::ReleaseHold { hold },
            "extend" => StockCommand::ExtendHold { hold, ttl_ms: words[2].parse().unwrap() },
            "leave" => StockCommand::ShipHold { hold },
            _ => StockCommand::GetHold { hold },
        };
        self.stock(hold.shard(), &command)
    }

    // `place USER SKU QUANTITY[@AMOUNT] …`
    fn place(&mut self, user: &str, words: &[&str], respond_async: bool) -> String {
        let line = |pair: &[&str]| {
            let (quantity, amount) = pair[1].split_once('@').unwrap_or((pair[1], ""));
            NewLine {
                sku: sku(pair[0]),
                location: Location::default(),
                quantity: quantity.parse().unwrap(),
                amount_minor: amount.parse().ok(),
            }
        };
        let command = OrderCommand::Place(PlaceOrder {
            key: self.key(),
            fingerprint: Fingerprint(1),
            user: UserId::new(user).unwrap(),
            lines: words.chunks(2).map(line).collect(),
            hold_ms: 1_000,
            respond_async,
            hint: None,
        });
        let result = match self.network.ask_orders(0, &command) {
            Ok(Answer::Now(reply)) => Ok(reply),
            Ok(Answer::Later(ticket)) => {
                self.orders.push(OrderId(ticket.subject));
                self.network.deliver_all();
                self.network.settled.remove(&ticket).unwrap()
            }
            Ok(Answer::Nobody) => return "nobody".into(),
            Err(rejection) => Err(rejection),
        };
        if let Ok(OrderReply::Placed(receipt)) = &result
            && !self.orders.contains(&receipt.id)
        {
            self.orders.push(receipt.id);
        }
        said(&result)
    }

    // What can be read of an order without asking the machine.
    fn fact(&self, id: OrderId, what: &str) -> Option<String> {
        if what == "memory" {
            let live = self.network.orders[0].machine.order(id).is_some();
            return Some(if live { "live" } else { "forgotten" }.into());
        }
        let order = self.network.order(id);
        let fact = |tell: fn(&Order) -> String| Some(order.map_or("gone".into(), tell));
        match what {
            "state" => fact(|order| order.state.to_string()),
            "refund_due" => fact(|order| order.refund_due_minor().to_string()),
            "payment" => fact(|order| order.payment_status().to_string()),
            "fulfilment" => fact(|order| order.fulfilment_status().to_string()),
            "waits" => fact(|order| order.waits_in_queue().to_string()),
            "why" => fact(|order| order.rejection.as_ref().map_or("-".into(), |it| word(&**it))),
            "total" => fact(|order| order.total_minor.to_string()),
            _ => None,
        }
    }

    fn about_order(&mut self, words: &[&str]) -> String {
        let nth: usize = words[1].trim_start_matches('#').parse().unwrap();
        let order = self.orders[nth - 1];
        if let Some(fact) = self.fact(order, words[0]) {
            return fact;
        }
        let (key, fingerprint) = (self.key(), Fingerprint(1));
        let command = match words[0] {
            "pay" | "refund" | "authorize" | "fail" => OrderCommand::Pay {
                order,
                provider: Provider::new("bank").unwrap(),
                event_id: EventId::new(words[3]).unwrap(),
                kind: match words[0] {
                    "pay" => PaymentKind::Captured,
                    "refund" => PaymentKind::Refunded,
                    "authorize" => PaymentKind::Authorized,
                    _ => PaymentKind::Failed,
                },
                amount_minor: words[2].parse().unwrap(),
            },
            "cancel" => OrderCommand::Cancel { order, key, fingerprint },
            "ship" => {
                let lines = (words.len() > 2).then(|| stock_lines(&words[2..]));
                OrderCommand::Fulfil { order, key, fingerprint, lines }
            }
            "return" | "scrap" => OrderCommand::Return {
                order,
                key,
                fingerprint,
                lines: stock_lines(&words[2..]),
                restock: words[0] == "return",
            },
            "get" => OrderCommand::Get { order },
            other => panic!("unknown step {other}"),
        };
        match self.network.ask_orders(0, &command) {
            Ok(Answer::Later(ticket)) => {
                self.network.deliver_all();
                said(&self.network.settled.remove(&ticket).unwrap())
            }
            Ok(Answer::Now(reply)) => said(&Ok(reply)),
            Ok(Answer::Nobody) => "nobody".into(),
            Err(rejection) => said(&Err(rejection)),
        }
    }
}

fn said(result: &Placed) -> String {
    match result {
        Ok(OrderReply::AtRest { .. }) => "at_rest".into(),
        Ok(OrderReply::Waiting(_, place)) => {
            format!("{} {}", place.position, place.expected_wait_ms)
        }
        Ok(_) => "ok".into(),
        Err(OrderRejection::Refused(refusal)) => word(refusal),
        Err(rejection) => word(rejection),
    }
}

// The name of an enum variant as a word: `SoldOut { … }` is `sold_out`.
fn word(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    let name = text.split(|c: char| !c.is_alphanumeric()).next().unwrap();
    let mut word = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.push(c.to_ascii_lowercase());
    }
    word
}
