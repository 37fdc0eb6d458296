//! Order and stock shards joined by queues in memory, with a journal and an archive: a shell small
//! enough to see through. It deliberately delivers only when told to.

use std::collections::{BTreeMap, VecDeque};

use tidegate_machines::invariants::{check_conservation, check_orders, check_stock};
use tidegate_machines::*;

pub(crate) const STOCK_SHARDS: u16 = 3;
pub(crate) const ORDER_SHARDS: u16 = 2;
pub(crate) const RETENTION_MS: u64 = bounds::IDEMPOTENCY_RETENTION_MS_MIN;

pub(crate) type Placed = Result<OrderReply, OrderRejection>;

/// A message on its way, in the order of its queue.
#[derive(Clone, Debug)]
enum Message {
    Op(OrderOp),
    Outcome(OpId, OrderId, OpOutcome),
}

/// A machine and its journal.
pub(crate) struct Node<M: Machine> {
    pub(crate) machine: M,
    pub(crate) journal: Vec<M::Event>,
}

/// The whole.
pub(crate) struct Network {
    pub(crate) now: Timestamp,
    pub(crate) stocks: Vec<Node<Stock>>,
    pub(crate) orders: Vec<Node<Orders>>,
    // By direction (true: to stock), order shard and stock shard.
    queues: BTreeMap<(bool, u16, u16), VecDeque<Message>>,
    /// The stock shard that takes no message now.
    pub(crate) down: Option<u16>,
    pub(crate) archive: BTreeMap<OrderId, Order>,
    pub(crate) waiting: Vec<Ticket>,
    pub(crate) settled: BTreeMap<Ticket, Placed>,
}

pub(crate) fn bytes<T: serde::Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).unwrap()
}

pub(crate) fn stock_config(shard: u16) -> StockConfig {
    StockConfig { shard, idempotency_retention_ms: RETENTION_MS, idempotency_keys_max: 10_000 }
}

/// As slow and as short as fits a scenario: each shard releases an order every 100 ms.
pub(crate) const INTAKE: IntakeConfig =
    IntakeConfig { orders_per_second: 20, shards: ORDER_SHARDS, queued_max: 20, deadline_ms: 700 };

pub(crate) fn orders_config(shard: u16) -> OrdersConfig {
    OrdersConfig {
        shard,
        stock_shards: STOCK_SHARDS,
        idempotency_retention_ms: RETENTION_MS,
        idempotency_keys_max: 10_000,
        intake: None,
    }
}

impl Network {
    pub(crate) fn new() -> Self {
        let stock = |shard| Node { machine: Stock::new(stock_config(shard)), journal: vec![] };
        let orders = |shard| Node { machine: Orders::new(orders_config(shard)), journal: vec![] };
        Self {
            now: Timestamp(1_700_000_000_000),
            stocks: (0..STOCK_SHARDS).map(stock).collect(),
            orders: (0..ORDER_SHARDS).map(orders).collect(),
            queues: BTreeMap::new(),
            down: None,
            archive: BTreeMap::new(),
            waiting: Vec::new(),
            settled: BTreeMap::new(),
        }
    }

    pub(crate) fn stock_of(sku: &Sku) -> u16 {
        shard_of(sku.as_str().as_bytes(), STOCK_SHARDS)
    }

    pub(crate) fn ask_stock(
        &mut self,
        shard: u16,
        command: &StockCommand,
    ) -> Result<Answer<StockReply>, StockRejection> {
        let node = &mut self.stocks[usize::from(shard)];
        let mut effects = Vec::new();
        while let Some(tick) = node.machine.due(self.now) {
            effects.extend(node.run(&tick, self.now)?.effects);
        }
        let decision = node.run(command, self.now)?;
        effects.extend(decision.effects);
        self.send_outcomes(shard, effects);
        Ok(decision.answer)
    }

    fn send_outcomes(&mut self, shard: u16, effects: Vec<StockEffect>) {
        for StockEffect::Outcome { to, op, order, outcome } in effects {
            let queue = self.queues.entry((false, to, shard)).or_default();
            queue.push_back(Message::Outcome(op, order, outcome));
        }
    }

    pub(crate) fn ask_orders(
        &mut self,
        shard: u16,
        command: &OrderCommand,
    ) -> Result<Answer<OrderReply>, OrderRejection> {
        while let Some(tick) = self.orders[usize::from(shard)].machine.due(self.now) {
            self.run_orders(shard, &tick)?;
        }
        if let Some(missing) = self.orders[usize::from(shard)].machine.missing(command)
            && let Some(order) = self.archive.get(&missing).cloned()
        {
            self.run_orders(shard, &OrderCommand::Revive { order: Box::new(order) })?;
        }
        let answer = self.run_orders(shard, command)?;
        if let Answer::Later(ticket) = answer {
            self.waiting.push(ticket);
        }
        Ok(answer)
    }

    fn run_orders(
        &mut self,
        shard: u16,
        command: &OrderCommand,
    ) -> Result<Answer<OrderReply>, OrderRejection> {
        let decision = self.orders[usize::from(shard)].run(command, self.now)?;
        self.send(shard, decision.effects);
        for (ticket, result) in decision.settles {
            self.waiting.retain(|waiting| *waiting != ticket);
            self.settled.insert(ticket, result);
        }
        Ok(decision.answer)
    }

    fn send(&mut self, shard: u16, effects: Vec<OrderEffect>) {
        for effect in effects {
            match effect {
                OrderEffect::Op { to, op } => {
                    self.queues.entry((true, shard, to)).or_default().push_back(Message::Op(op));
                }
                OrderEffect::Archive { order, version } => {
                    let order = self.orders[usize::from(shard)].machine.order(order).unwrap();
                    assert_eq!(order.version, version);
                    self.archive.insert(order.id, order.clone());
                }
            }
        }
    }

    /// Delivers the first message of the `pick`th queue that has one; keeps it there to come again
    /// if `repeat`.
    pub(crate) fn deliver(&mut self, pick: usize, repeat: bool) -> bool {
        self.queues.retain(|_, queue| !queue.is_empty());
        let down = self.down;
        let takes = |link: &(bool, u16, u16)| !(link.0 && Some(link.2) == down);
        let waiting = self.queues.keys().filter(|link| takes(link)).count();
        if waiting == 0 {
            return false;
        }
        let mut queues = self.queues.iter_mut().filter(|(link, _)| takes(link));
        let (&link, queue) = queues.nth(pick % waiting).unwrap();
        let message = queue.front().cloned().unwrap();
        if !repeat {
            queue.pop_front();
        }
        let (_, order_shard, stock_shard) = link;
        match message {
            Message::Op(op) => {
                self.ask_stock(stock_shard, &StockCommand::Op(op)).unwrap();
            }
            Message::Outcome(op, order, outcome) => {
                let command = OrderCommand::Outcome { op, order, outcome };
                self.ask_orders(order_shard, &command).unwrap();
            }
        }
        true
    }

    pub(crate) fn deliver_all(&mut self) {
        while self.deliver(0, false) {}
    }

    /// Expires what is due and delivers what follows.
    pub(crate) fn tick(&mut self) {
        for shard in 0..STOCK_SHARDS {
            self.ask_stock(shard, &StockCommand::Tick).unwrap();
        }
        for shard in 0..ORDER_SHARDS {
            self.ask_orders(shard, &OrderCommand::Tick).unwrap();
        }
    }

    /// Sends again whatever a shard has open.
    pub(crate) fn redrive(&mut self, pick: usize) {
        let shard = pick % self.orders.len();
        let effects = self.orders[shard].machine.outstanding();
        self.send(shard as u16, effects);
        let shard = pick % self.stocks.len();
        let effects = self.stocks[shard].machine.outstanding();
        self.send_outcomes(shard as u16, effects);
    }

    /// Takes orders that do not wait for their answer in through a queue from now on, or no longer.
    pub(crate) fn set_intake(&mut self, intake: Option<IntakeConfig>) {
        for node in &mut self.orders {
            node.machine.configure(OrdersConfig { intake, ..node.machine.config().clone() });
        }
    }

    /// Rebuilds a shard from its journal, and once more from its written state.
    pub(crate) fn restart(&mut self, pick: usize) {
        let shard = pick % self.orders.len();
        let config = self.orders[shard].machine.config().clone();
        let orders = &self.orders[shard].machine;
        assert_eq!(bytes(&orders.image()), bytes(orders), "an image is written like the machine");
        self.orders[shard].rebuild(Orders::new(config));
        let shard = pick % self.stocks.len();
        let stock = &self.stocks[shard].machine;
        assert_eq!(bytes(&stock.image()), bytes(stock), "and so is one of stock");
        self.stocks[shard].rebuild(Stock::new(stock_config(shard as u16)));
    }

    /// Forgets every order at rest that the archive has.
    pub(crate) fn forget(&mut self) {
        let orders: Vec<_> = self.archive.values().map(|o| (o.id, o.version)).collect();
        for shard in 0..ORDER_SHARDS {
            let command = OrderCommand::Forget { orders: orders.clone() };
            self.ask_orders(shard, &command).unwrap();
        }
    }

    pub(crate) fn order(&self, id: OrderId) -> Option<&Order> {
        let live = self.orders[usize::from(id.shard())].machine.order(id);
        live.or_else(|| self.archive.get(&id))
    }

    pub(crate) fn level(&self, sku: &Sku) -> Level {
        let stock = &self.stocks[usize::from(Self::stock_of(sku))].machine;
        stock.level(sku, &Location::default()).unwrap_or_default()
    }

    pub(crate) fn check(&self) {
        let stocks: Vec<_> = self.stocks.iter().map(|node| &node.machine).collect();
        let orders: Vec<_> = self.orders.iter().map(|node| &node.machine).collect();
        for stock in &stocks {
            check_stock(stock).unwrap();
        }
        for orders in &orders {
            check_orders(orders).unwrap();
        }
        check_conservation(&stocks, &orders, self.archive.values()).unwrap();
    }
}

impl<M: Machine> Node<M> {
    fn run(&mut self, command: &M::Command, now: Timestamp) -> Result<Decision<M>, M::Rejection> {
        let mut decision = self.machine.decide(command, now)?;
        if let Some(event) = decision.event.take() {
            self.machine.apply(&event);
            self.journal.push(event);
        }
        Ok(decision)
    }

    fn rebuild(&mut self, mut fresh: M)
    where
        M: serde::Serialize + serde::de::DeserializeOwned,
        M::Event: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        for event in &self.journal {
            let written = bytes(event);
            let (read, _): (M::Event, _) =
                bincode::serde::decode_from_slice(&written, bincode::config::standard()).unwrap();
            assert_eq!(read, *event);
            fresh.apply(&read);
        }
        let state = bytes(&fresh);
        assert_eq!(state, bytes(&self.machine), "a replay gives the same bytes");
        let (read, _): (M, _) =
            bincode::serde::decode_from_slice(&state, bincode::config::standard()).unwrap();
        assert_eq!(bytes(&read), state, "a snapshot reads back as it was");
        self.machine = read;
    }
}
