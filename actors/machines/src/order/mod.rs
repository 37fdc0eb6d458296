//! One shard of orders: a machine. It deliberately keeps only orders that live; those at rest are
//! in the archive, and memory follows live work.

mod advance;
mod apply;
mod asks;
mod by_user;
mod command;
mod decide;
mod event;
mod history;
mod image;
mod intake;
mod payment;
mod place;
mod queue;
mod record;
mod written;

pub(crate) use advance::Ask;
pub use command::{
    NewLine, OrderCommand, OrderEffect, OrderRejection, OrderReply, PlaceOrder, Receipt,
};
pub use event::{Accepted, OrderEvent, Placed, Upshot};
pub use history::{History, OrderEntries};
pub use payment::{Payment, PaymentKind, PaymentStatus, PaymentSums};
pub use place::check_order;
pub(crate) use queue::Queue;
pub use queue::{IntakeConfig, QueueCounts, QueuePlace};
pub(crate) use record::Shipment;
pub use record::{
    Fulfilment, FulfilmentStatus, Leg, LegState, Order, OrderLine, OrderState, Rereserve, Return,
};

use asks::Asks;
use by_user::ByUser;
use triomphe::Arc;

use crate::shared::{Calendar, Paged};
use crate::{Decision, Idempotency, KeyHash, Machine, OpId, OrderId, OrderOp, Timestamp};

/// [`Ticket::purpose`](crate::Ticket::purpose) of those who wait until an order is placed.
pub const PLACE: u8 = 1;
/// [`Ticket::purpose`](crate::Ticket::purpose) of those who wait until a change of an order is
/// done.
pub const CHANGE: u8 = 2;
/// [`Ticket::purpose`](crate::Ticket::purpose) of those who wait until a shipment is done. Its
/// subject is the shipment's key, so that nobody else is told of its refusal.
pub const SHIP: u8 = 3;

/// What an order shard is told about itself. Used to decide only, so all but the shards may change
/// between runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrdersConfig {
    /// Which order shard it is.
    pub shard: u16,
    /// How many stock shards there are; at least 1.
    pub stock_shards: u16,
    /// How long idempotency keys are remembered, in milliseconds.
    pub idempotency_retention_ms: u64,
    /// Most idempotency keys remembered.
    pub idempotency_keys_max: usize,
    /// How orders that do not wait for their answer are taken in; `None`: at once, like others.
    pub intake: Option<IntakeConfig>,
}

/// One shard of orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orders {
    pub(crate) config: OrdersConfig,
    next_order: u64,
    orders: Paged<OrderId, Arc<Order>>,
    pub(crate) asks: Asks,
    pub(crate) memory: Idempotency<OrderId>,
    pub(crate) queue: Queue,
    // Both follow from the orders and are not written.
    by_user: ByUser,
    deadlines: Calendar<OrderId>,
}

impl Orders {
    /// An empty shard.
    #[must_use]
    pub fn new(config: OrdersConfig) -> Self {
        Self {
            config,
            next_order: 1,
            orders: Paged::default(),
            asks: Asks::default(),
            memory: Idempotency::default(),
            queue: Queue::default(),
            by_user: ByUser::default(),
            deadlines: Calendar::default(),
        }
    }

    /// What it was told about itself.
    #[must_use]
    pub fn config(&self) -> &OrdersConfig {
        &self.config
    }

    /// Puts another configuration on a shard that was read from a snapshot.
    pub fn configure(&mut self, config: OrdersConfig) {
        self.config = config;
    }

    /// Which order shard it is.
    #[must_use]
    pub fn shard(&self) -> u16 {
        self.config.shard
    }

    /// An order that is in memory.
    #[must_use]
    pub fn order(&self, order: OrderId) -> Option<&Order> {
        self.orders.get(order).map(|order| &**order)
    }

    /// The orders that are in memory, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Order> {
        self.orders.iter().map(|(_, order)| &**order)
    }

    /// How many orders are in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.orders.len()
    }

    /// Whether no order is in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }

    /// The idempotency keys that are bound, of placed orders and of changes alike, and when each
    /// was, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = (KeyHash, Timestamp)> {
        self.memory.keys()
    }

    /// How many operations no stock shard has answered yet.
    #[must_use]
    pub fn open_ops(&self) -> usize {
        self.asks.len()
    }

    /// The order that `command` needs in memory and that is not there, though its number was given
    /// out: the shell loads it from the archive, sends `Revive`, and then the command again.
    #[must_use]
    pub fn missing(&self, command: &OrderCommand) -> Option<OrderId> {
        match command {
            OrderCommand::Pay { order, .. }
            | OrderCommand::Cancel { order, .. }
            | OrderCommand::Fulfil { order, .. }
            | OrderCommand::Return { order, .. } => self.is_away(*order).then_some(*order),
            _ => None,
        }
    }

    /// Whether the number of `order` was given out here, and it is not in memory: it is in the
    /// archive then, or came to nothing.
    #[must_use]
    pub fn is_away(&self, order: OrderId) -> bool {
        let sequence = order.sequence();
        let given_out = order.shard() == self.config.shard && sequence < self.next_order;
        given_out && sequence > 0 && !self.orders.contains(order)
    }

    fn op_effect(&self, op: OpId, ask: Ask) -> OrderEffect {
        let op = OrderOp {
            op,
            from: self.config.shard,
            acked_below: self.asks.acked_below(ask.to),
            order: ask.order,
            action: ask.action,
        };
        OrderEffect::Op { to: ask.to, op }
    }

    // The time before which keys may be forgotten, if that is worth an event.
    fn forget_before(&self, now: Timestamp) -> Option<Timestamp> {
        let OrdersConfig { idempotency_retention_ms, idempotency_keys_max, .. } = self.config;
        self.memory.cutoff(
            self.memory.oldest()?,
            now,
            idempotency_retention_ms,
            idempotency_keys_max,
        )
    }
}

impl Machine for Orders {
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Reply = OrderReply;
    type Rejection = OrderRejection;
    type Effect = OrderEffect;

    fn decide(
        &self,
        command: &OrderCommand,
        now: Timestamp,
    ) -> Result<Decision<Self>, OrderRejection> {
        match command {
            OrderCommand::Place(place) => self.decide_place(place, now),
            OrderCommand::Outcome { op, order, outcome } => {
                Ok(self.decide_outcome(*op, *order, outcome, now))
            }
            OrderCommand::Pay { order, provider, event_id, kind, amount_minor } => {
                let payment = Payment {
                    provider: provider.clone(),
                    event_id: event_id.clone(),
                    kind: *kind,
                    amount_minor: *amount_minor,
                    at: now,
                };
                self.decide_pay(*order, payment)
            }
            OrderCommand::Cancel { order, key, fingerprint } => {
                self.decide_cancel(*order, *key, *fingerprint, now)
            }
            OrderCommand::Fulfil { order, key, fingerprint, lines } => {
                self.decide_fulfil(*order, *key, *fingerprint, lines.as_deref(), now)
            }
            OrderCommand::Return { .. } => self.decide_return(command, now),
            OrderCommand::Get { order } => self.decide_get(*order, now),
            OrderCommand::ListByUser { user, after, limit } => {
                let orders = self.by_user.of(user, &self.orders).filter_map(|id| self.order(id));
                // Numbers rise with time, so this is their order too.
                let listed = orders
                    .skip_while(|order| after.is_some_and(|at| (order.placed_at, order.id) >= at))
                    .take(*limit);
                Ok(Decision::reply(OrderReply::Orders(listed.cloned().collect())))
            }
            OrderCommand::Tick => Ok(self.decide_tick(now)),
            OrderCommand::Forget { orders } => Ok(self.decide_forget(orders)),
            OrderCommand::Revive { order } => Ok(self.decide_revive(order)),
        }
    }

    fn apply(&mut self, event: &OrderEvent) {
        self.apply_event(event);
    }

    /// Open operations in the order of their numbers, then the orders at rest that the projector
    /// may not have.
    fn outstanding(&self) -> Vec<OrderEffect> {
        let ops = self.asks.iter().map(|(op, ask)| self.op_effect(op, ask.clone()));
        let at_rest = self.iter().filter(|order| order.at_rest());
        let archive =
            at_rest.map(|order| OrderEffect::Archive { order: order.id, version: order.version });
        ops.chain(archive).collect()
    }

    fn due(&self, now: Timestamp) -> Option<OrderCommand> {
        let expiry = self.deadlines.first().is_some_and(|(at, _)| at <= now);
        let due = expiry || self.queue_is_due(now) || self.forget_before(now).is_some();
        due.then_some(OrderCommand::Tick)
    }
}
