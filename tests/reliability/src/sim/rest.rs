//! The end of a day: nothing more goes wrong, everything comes to an end, every unknown outcome is
//! asked for, and the auditor closes the books. It asks only what any caller could.

use std::sync::Arc;

use tidegate_actors::{Durable, Phase, archive, codec, rebuild};
use tidegate_machines::{
    Order, OrderId, OrderRejection, OrderState, Orders, OrdersConfig, Refusal, Rereserve, Stock,
    StockCommand, StockConfig,
    invariants::{check_conservation, check_orders, check_stock},
};
use tidegate_storage::{Journal, State};

use super::{
    auditor::{Books, Verdict},
    callers::{LIMIT, LIMITED},
    journal::HandDriven,
    ops::{Answer, Command},
    world::World,
};

/// Steps after which a store that is left alone never comes to rest.
const SETTLE_MAX: usize = 100_000;

impl World {
    /// Lets the store come to rest, and audits it.
    pub(super) fn rest(&mut self) -> Verdict {
        self.note(|_| "rest".to_owned());
        if self.armed || self.store.is_broken() || self.random.per_mille(300) {
            self.crash();
        }
        self.settle()?;
        self.hear_all(0)?;
        self.learn_all()?;
        if let Some(intake) = self.profile.intake {
            // Nobody waits in the queue at the end of a day. The store's clock stands still until
            // jumps back are caught up.
            self.catch_up()?;
            let until = self.store.clock.now().plus_ms(intake.deadline_ms);
            while self.store.clock.now() < until {
                self.pass(intake.deadline_ms);
            }
        }
        if self.random.per_mille(600) {
            let ms = self.random.between(4_000, 1_000_000);
            self.pass(ms);
        }
        self.catch_up()?;
        self.audit()
    }

    /// Goes on until nothing is left to be done, but for what time brings.
    fn settle(&mut self) -> Verdict {
        let failed = |error: tidegate_actors::RestoreError| format!("can't be rebuilt: {error}");
        for _ in 0..SETTLE_MAX {
            if self.store.is_quiet() {
                return Ok(());
            }
            let (store, random) = (&mut self.store, &mut self.random);
            for index in 0..self.profile.stock_shards {
                store.rebuild_stock(index).map_err(failed)?;
                while store.stock.deliver(index, random) {}
                store.stock.end_turn(index);
            }
            for index in 0..self.profile.order_shards {
                store.rebuild_orders(index).map_err(failed)?;
                while store.orders.deliver(index, random) {}
                store.orders.end_turn(index);
            }
            store.journal.commit();
            for index in 0..self.profile.stock_shards {
                while store.stock.word(index) {}
            }
            for index in 0..self.profile.order_shards {
                while store.orders.word(index) {}
            }
        }
        Err("it never comes to rest".to_owned())
    }

    /// Asks again wherever the outcome is unknown.
    fn learn_all(&mut self) -> Verdict {
        let mut before = usize::MAX;
        loop {
            let open = (self.today..self.ops.len()).filter(|number| self.ops[*number].is_open());
            let open: Vec<_> = open.collect();
            match open.len() {
                0 => return Ok(()),
                left if left >= before => return Err("outcomes stay unknown".to_owned()),
                left => before = left,
            }
            for number in open.into_iter().take(self.profile.in_flight_max) {
                self.send(number)?;
            }
            self.settle()?;
            self.hear_all(0)?;
            if let Some(sending) = self.sendings.first() {
                let command = &self.ops[sending.op].command;
                return Err(format!("it is at rest, and never answers {command:?}"));
            }
        }
    }

    /// Time has its say, and the projector.
    fn catch_up(&mut self) -> Verdict {
        loop {
            let before = self.store.journal.appended();
            (0..self.profile.stock_shards).for_each(|index| self.store.stock.tick(index));
            (0..self.profile.order_shards).for_each(|index| self.store.orders.tick(index));
            self.settle()?;
            while self.store.project() {}
            self.store.flush();
            self.settle()?;
            if self.store.journal.appended() == before {
                return Ok(());
            }
        }
    }

    /// A day passes: whatever was open is over, and keys are forgotten.
    pub(super) fn next_day(&mut self) -> Verdict {
        self.figures.count("day: another");
        self.note(|_| "another day".to_owned());
        // More than jumps back may have taken off.
        self.pass(self.profile.retention_ms * 3);
        self.catch_up()?;
        self.auditor.next_day();
        (self.day, self.jumped_ms, self.today) = (self.day + 1, 0, self.ops.len());
        Ok(())
    }

    /// Asks, and waits for the answer. Only at rest.
    pub(super) fn ask_now(&mut self, command: Command) -> Result<Answer, String> {
        let number = self.new_op(command);
        self.step += 1;
        self.send(number)?;
        self.settle()?;
        let Some(mut sending) = self.sendings.pop() else {
            return Err("nothing is in flight, and it is overloaded".to_owned());
        };
        let Some(answer) = sending.ear.listen(&self.store.state) else {
            return Err(format!("no answer to {:?}", self.ops[number].command));
        };
        self.hear(number, sending.sent_at, &answer)?;
        Ok(answer)
    }

    fn audit(&mut self) -> Verdict {
        let mut books = Books::default();
        let ids: Vec<_> = self.auditor.order_ids().collect();
        for id in &ids {
            let order = self.read_order(*id)?;
            self.count_order(&order);
            self.auditor.close_order(&self.ops, &order, &mut books)?;
        }
        let holds: Vec<_> = self.auditor.hold_ids().collect();
        for hold in holds {
            let read = Command::Stock(hold.shard(), StockCommand::GetHold { hold });
            let answer = self.ask_now(read)?;
            let Answer::Hold(hold) = answer else {
                return Err(format!("hold {hold}: {answer:?}"));
            };
            self.figures.count(match (hold.settled, hold.shipped_at) {
                (None, _) => "hold: open",
                (Some(_), Some(_)) => "hold: shipped",
                (Some((tidegate_machines::HoldOutcome::Confirmed, _)), _) => "hold: confirmed",
                (Some((tidegate_machines::HoldOutcome::Released, _)), _) => "hold: released",
                (Some((tidegate_machines::HoldOutcome::Expired, _)), _) => "hold: expired",
            });
        }
        self.auditor.enter_stock(&self.ops, &mut books);
        for sku in self.callers.skus().to_vec() {
            let answer = self.ask_now(self.callers.look(&sku))?;
            let Answer::Item(item) = answer else { return Err(format!("{sku}: {answer:?}")) };
            books.check_item(&item)?;
        }
        books.check_limit(&self.callers.skus()[LIMITED], LIMIT)?;
        self.figures.add("units sold or held", books.units);
        self.check_lists(&ids)?;
        self.check_machines()?;
        self.probe()
    }

    fn read_order(&mut self, id: OrderId) -> Result<Order, String> {
        let read = tidegate_machines::OrderCommand::Get { order: id };
        match self.ask_now(Command::Orders(id.shard(), read))? {
            Answer::Order(order) => Ok(*order),
            other => Err(format!("order {id} was accepted and is now {other:?}")),
        }
    }

    fn count_order(&mut self, order: &Order) {
        let late = order.rereserve == Rereserve::Done;
        let timed_out = order.rejection.as_deref() == Some(&Refusal::QueueTimeout);
        let seen = [
            (order.expires_at.is_some(), "order: accepted"),
            (order.state == OrderState::Cancelled, "order: cancelled"),
            (order.state == OrderState::Completed, "order: completed"),
            (order.state == OrderState::Confirmed, "order: confirmed"),
            (order.state == OrderState::Expired, "order: expired"),
            (order.state == OrderState::Rejected, "order: rejected after it was queued"),
            (late && order.state == OrderState::Expired, "order: paid late and in vain"),
            (late && order.state != OrderState::Expired, "order: paid late and reserved again"),
            (timed_out, "order: timed out in the queue"),
            (order.refund_due_minor() > 0, "order: refund due"),
            (!order.history.returns.is_empty(), "order: returned"),
            (
                order.state == OrderState::Confirmed && !order.history.fulfilments.is_empty(),
                "order: partly shipped",
            ),
        ];
        for (_, name) in seen.iter().filter(|(seen, _)| *seen) {
            self.figures.count(name);
        }
    }

    /// The lists of all users have each order once, and no other.
    fn check_lists(&mut self, ids: &[OrderId]) -> Verdict {
        let mut listed = std::collections::BTreeSet::new();
        for user in self.callers.users().to_vec() {
            for shard in 0..self.profile.order_shards {
                let answer = self.ask_now(self.callers.list(shard, &user))?;
                let Answer::Orders(orders) = answer else { return Err(format!("{answer:?}")) };
                listed.extend(orders.into_iter().map(|order| order.id));
            }
            let archived = archive::by_user(&*self.store.state, &user, None, usize::MAX);
            let archived = archived.map_err(|error| error.to_string())?;
            listed.extend(archived.into_iter().map(|order| order.id));
        }
        let known: std::collections::BTreeSet<_> = ids.iter().copied().collect();
        let odd: Vec<_> = listed.symmetric_difference(&known).collect();
        if odd.is_empty() { Ok(()) } else { Err(format!("told or listed, not both: {odd:?}")) }
    }

    /// The machines' own invariants hold, and a rebuild gives the same bytes.
    fn check_machines(&mut self) -> Verdict {
        for shard in 0..self.profile.order_shards {
            let counts = self.store.orders.look(shard, |orders, _| orders.queue_counts());
            let counts = counts.unwrap_or_default();
            self.figures.add("queue: released", counts.released);
            self.figures.add("queue: cancelled", counts.cancelled);
            if counts.waiting() > 0 {
                return Err(format!("order shard {shard} is at rest with {counts:?}"));
            }
        }
        let (retention, keys_max) = (self.profile.retention_ms, self.profile.keys_max);
        let stock_shards = self.profile.stock_shards;
        let stocks = (0..stock_shards).map(|shard| {
            let live = self.store.stock.look(shard, |stock, _| stock.clone());
            let live = live.filter(|_| self.store.stock.phase(shard) == Phase::Running);
            let live = live.ok_or_else(|| format!("stock shard {shard} is down"))?;
            let config = StockConfig {
                shard,
                idempotency_retention_ms: retention,
                idempotency_keys_max: keys_max,
            };
            self.check_same(shard, Stock::new(config), &live)?;
            check_stock(&live).map_err(|found| found.to_string())?;
            Ok(live)
        });
        let stocks: Vec<_> = stocks.collect::<Result<_, String>>()?;
        let orders = (0..self.profile.order_shards).map(|shard| {
            let live = self.store.orders.look(shard, |orders, _| orders.clone());
            let live = live.ok_or_else(|| format!("order shard {shard} is down"))?;
            let config = OrdersConfig {
                shard,
                stock_shards,
                idempotency_retention_ms: retention,
                idempotency_keys_max: keys_max,
                intake: self.profile.intake,
            };
            self.check_same(shard, Orders::new(config), &live)?;
            check_orders(&live).map_err(|found| found.to_string())?;
            Ok(live)
        });
        let orders: Vec<_> = orders.collect::<Result<_, String>>()?;
        let archived = archive::scan(&*self.store.state, None, usize::MAX);
        let archived = archived.map_err(|error| error.to_string())?;
        let (stocks, orders): (Vec<_>, Vec<_>) = (stocks.iter().collect(), orders.iter().collect());
        check_conservation(&stocks, &orders, &archived).map_err(|found| found.to_string())
    }

    fn check_same<M: Durable>(&self, shard: u16, fresh: M, live: &M) -> Verdict {
        let journal = HandDriven(Arc::clone(&self.store.journal));
        let state = Arc::clone(&self.store.state) as Arc<dyn State>;
        let rebuilt = rebuild(shard, fresh, &journal, &state).map_err(|error| error.to_string())?;
        let bytes = |machine: &M| {
            let mut bytes = Vec::new();
            codec::encode(machine, &mut bytes).map(|()| bytes).map_err(|error| error.to_string())
        };
        if bytes(&rebuilt.machine)? == bytes(live)? {
            return Ok(());
        }
        Err(format!("{} shard {shard} is not what its journal makes of it", M::NAME))
    }

    /// What is left can be had, all of it and no more.
    fn probe(&mut self) -> Verdict {
        if self.profile.keys_max < 1_000 {
            return Ok(());
        }
        // Neither limited nor priced beyond all bounds.
        let number = [0, 1, 4, 5, 7][self.random.index(5)];
        let sku = self.callers.skus()[number].clone();
        let answer = self.ask_now(self.callers.look(&sku))?;
        let Answer::Item(item) = answer else { return Err(format!("{sku}: {answer:?}")) };
        let Some((location, level)) = self.random.pick(&item.locations).cloned() else {
            return Ok(());
        };
        let left = level.sellable(item.options.backorder_limit);
        let more = self.callers.probe(&sku, &location, left + 1);
        let answer = self.ask_now(more)?;
        let refused = |answer: &Answer| {
            let sold_out = OrderRejection::Refused(Refusal::SoldOut {
                sku: sku.clone(),
                location: location.clone(),
                requested: 0,
                available: 0,
            });
            let same = |found: &OrderRejection| {
                std::mem::discriminant(found) == std::mem::discriminant(&sold_out)
            };
            matches!(answer, Answer::OrderRefused(found) if same(found))
        };
        if !refused(&answer) {
            return Err(format!("{left} left of {sku}, one more was asked for: {answer:?}"));
        }
        self.figures.count("probe: more than was left");
        if left == 0 {
            return Ok(());
        }
        for _ in 0..2 {
            let all = self.callers.probe(&sku, &location, left);
            let answer = self.ask_now(all)?;
            let Answer::Receipt(receipt) = answer else {
                return Err(format!("{left} left of {sku}, all were asked for: {answer:?}"));
            };
            self.figures.count("probe: all that was left");
            let one = self.callers.probe(&sku, &location, 1);
            let answer = self.ask_now(one)?;
            if !refused(&answer) {
                return Err(format!("nothing left of {sku}, one was asked for: {answer:?}"));
            }
            let cancel = self.callers.cancel(receipt.id);
            let answer = self.ask_now(cancel)?;
            if !matches!(&answer, Answer::Order(order) if order.state == OrderState::Cancelled) {
                return Err(format!("{receipt:?} was to be cancelled: {answer:?}"));
            }
        }
        Ok(())
    }
}
