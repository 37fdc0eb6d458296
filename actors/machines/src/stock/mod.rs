//! One shard of stock: a machine. It deliberately knows of orders only what they hold here.

mod apply;
mod command;
mod decide;
mod event;
mod hold;
mod item;
mod touch;
mod users;

use serde::{Deserialize, Serialize};

pub use command::{
    OpAction, OpOutcome, OrderOp, StockCommand, StockEffect, StockLine, StockLines, StockReceipt,
    StockRejection, StockReply, UnitPrices,
};
pub use event::StockEvent;
pub use hold::{Hold, HoldOutcome, OrderHold};
pub use item::{ItemView, Level, SkuOptions, SkuPatch};
pub use touch::{Touch, Touched};

use crate::invariants::Invariant;
use crate::shared::{Calendar, Paged, PartedMap};
use crate::{Decision, HoldId, Idempotency, Inbox, Location, Machine, OrderId, Sku, Timestamp};
use item::Item;

/// What a stock shard is told about itself. Used to decide only, so it may change between runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockConfig {
    /// Which stock shard it is.
    pub shard: u16,
    /// How long idempotency keys and settled holds are remembered, in milliseconds.
    pub idempotency_retention_ms: u64,
    /// Most idempotency keys remembered.
    pub idempotency_keys_max: usize,
}

/// One shard of SKUs: their levels, and what is set aside of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stock {
    pub(crate) config: StockConfig,
    pub(crate) items: PartedMap<Sku, Item>,
    pub(crate) order_holds: Paged<OrderId, OrderHold>,
    pub(crate) holds: Paged<HoldId, Hold>,
    next_hold: u64,
    pub(crate) deadlines: Calendar<HoldId>,
    // Holds that nothing can happen to any more, by the time that was so.
    finished: Calendar<HoldId>,
    pub(crate) inbox: Inbox<Answered>,
    pub(crate) memory: Idempotency<Bound>,
    // How often an operation found what cannot be. Not 0: a broken invariant.
    pub(crate) impossible: u64,
}

/// A shard of stock as it was, to be written as the shard itself would be.
#[derive(Debug, Serialize)]
pub struct StockImage(Stock);

/// An operation that was applied, as the inbox remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answered {
    pub(crate) order: OrderId,
    pub(crate) outcome: OpOutcome,
}

/// What an idempotency key is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Bound {
    Receipt(StockReceipt),
    Hold(HoldId),
}

impl Stock {
    /// An empty shard.
    #[must_use]
    pub fn new(config: StockConfig) -> Self {
        Self {
            config,
            items: PartedMap::default(),
            order_holds: Paged::default(),
            holds: Paged::default(),
            next_hold: 1,
            deadlines: Calendar::default(),
            finished: Calendar::default(),
            inbox: Inbox::default(),
            memory: Idempotency::default(),
            impossible: 0,
        }
    }

    /// The shard as it is now, to be written.
    #[must_use]
    pub fn image(&self) -> StockImage {
        StockImage(Self { memory: self.memory.image(), ..self.clone() })
    }

    /// What it was told about itself.
    #[must_use]
    pub fn config(&self) -> &StockConfig {
        &self.config
    }

    /// Puts another configuration on a shard that was read from a snapshot.
    pub fn configure(&mut self, config: StockConfig) {
        self.config = config;
    }

    /// Which stock shard it is.
    #[must_use]
    pub fn shard(&self) -> u16 {
        self.config.shard
    }

    /// Units of `sku` at `location` that can be reserved now, those ahead of stock included.
    /// `None`: the SKU is unknown.
    #[must_use]
    pub fn available(&self, sku: &Sku, location: &Location) -> Option<u64> {
        self.items.get(sku).map(|item| item.sellable(location))
    }

    /// The level of `sku` at `location`. `None`: the SKU is unknown.
    #[must_use]
    pub fn level(&self, sku: &Sku, location: &Location) -> Option<Level> {
        self.items.get(sku).map(|item| item.level(location))
    }

    /// Whether `sku` ever had stock at `location`.
    #[must_use]
    pub fn is_stocked(&self, sku: &Sku, location: &Location) -> bool {
        self.items.get(sku).is_some_and(|item| item.levels.contains_key(location))
    }

    /// An item as callers see it.
    #[must_use]
    pub fn item(&self, sku: &Sku) -> Option<ItemView> {
        self.items.get(sku).map(|item| item.view(sku))
    }

    /// All SKUs, in no particular order.
    pub fn skus(&self) -> impl Iterator<Item = &Sku> {
        self.items.iter().map(|(sku, _)| sku)
    }

    /// A standalone hold.
    #[must_use]
    pub fn hold(&self, hold: HoldId) -> Option<&Hold> {
        self.holds.get(hold)
    }

    /// All standalone holds that are remembered, in no particular order.
    pub fn holds(&self) -> impl Iterator<Item = &Hold> {
        self.holds.values()
    }

    /// What an order holds here.
    #[must_use]
    pub fn order_hold(&self, order: OrderId) -> Option<&OrderHold> {
        self.order_holds.get(order)
    }

    /// What each order holds here, in the order of their numbers.
    pub fn order_holds(&self) -> impl Iterator<Item = (OrderId, &OrderHold)> {
        self.order_holds.iter()
    }

    // The time before which keys and finished holds may be forgotten, if that is worth an event.
    fn forget_before(&self, now: Timestamp) -> Option<Timestamp> {
        let finished = self.finished.first().map(|(at, _)| at);
        let oldest = [self.memory.oldest(), finished].into_iter().flatten().min()?;
        let StockConfig { idempotency_retention_ms, idempotency_keys_max, .. } = self.config;
        self.memory.cutoff(oldest, now, idempotency_retention_ms, idempotency_keys_max)
    }
}

impl Machine for Stock {
    type Command = StockCommand;
    type Event = StockEvent;
    type Reply = StockReply;
    type Rejection = StockRejection;
    type Effect = StockEffect;

    fn decide(
        &self,
        command: &StockCommand,
        now: Timestamp,
    ) -> Result<Decision<Self>, StockRejection> {
        match command {
            StockCommand::Op(op) => Ok(self.decide_op(op)),
            StockCommand::Define { sku, patch } => self.decide_define(sku, patch),
            StockCommand::Adjust { key, fingerprint, sku, location, delta, reason } => {
                if let Some(known) = self.recall(*key, *fingerprint)? {
                    return Ok(known);
                }
                let receipt = self.check_adjust(sku, location, *delta, reason, now)?;
                let event = StockEvent::Adjusted {
                    at: now,
                    key: *key,
                    fingerprint: *fingerprint,
                    sku: sku.clone(),
                    location: location.clone(),
                    delta: *delta,
                    reason: reason.clone(),
                };
                Ok(Decision::event(event)
                    .answered(crate::Answer::Now(StockReply::Receipt(receipt))))
            }
            StockCommand::Hold { .. } => self.decide_hold(command, now),
            StockCommand::ExtendHold { hold, ttl_ms } => self.decide_extend(*hold, *ttl_ms, now),
            StockCommand::ConfirmHold { hold } => {
                self.decide_settle(*hold, HoldOutcome::Confirmed, now)
            }
            StockCommand::ReleaseHold { hold } => {
                self.decide_settle(*hold, HoldOutcome::Released, now)
            }
            StockCommand::ShipHold { hold } => self.decide_ship(*hold, now),
            StockCommand::Get { sku } => {
                let item = self.known(sku)?;
                Ok(Decision::reply(StockReply::Item(Box::new(item.view(sku)))))
            }
            StockCommand::GetHold { hold } => {
                Ok(Decision::reply(StockReply::Hold(self.known_hold(*hold)?.clone())))
            }
            StockCommand::Tick => Ok(self.decide_tick(now)),
        }
    }

    fn apply(&mut self, event: &StockEvent) {
        self.apply_event(event);
        debug_assert_eq!(self.impossible, 0, "{}: {event:?}", Invariant::NothingImpossible);
    }

    /// The outcomes that an order shard may not have heard yet.
    fn outstanding(&self) -> Vec<StockEffect> {
        let effect = |(to, op, answered): (u16, crate::OpId, &Answered)| StockEffect::Outcome {
            to,
            op,
            order: answered.order,
            outcome: answered.outcome.clone(),
        };
        self.inbox.iter().map(effect).collect()
    }

    fn due(&self, now: Timestamp) -> Option<StockCommand> {
        let expiry = self.deadlines.first().is_some_and(|(at, _)| at <= now);
        (expiry || self.forget_before(now).is_some()).then_some(StockCommand::Tick)
    }
}
