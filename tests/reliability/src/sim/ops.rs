//! What callers ask, and what they hear: the language between callers and auditor. It judges
//! nothing.

use std::sync::Arc;

use tidegate_actors::{AskError, Outcome, archive};
use tidegate_machines::{
    Hold, IdempotencyError, ItemView, KeyHash, Order, OrderCommand, OrderId, OrderRejection,
    OrderReply, Orders, Receipt, Refusal, Stock, StockCommand, StockReceipt, StockRejection,
    StockReply,
};
use tidegate_storage::MemoryState;
use tokio::sync::oneshot::{Receiver, error::TryRecvError};

/// A command with the shard that it is for.
#[derive(Clone, Debug)]
pub(super) enum Command {
    Stock(u16, StockCommand),
    Orders(u16, OrderCommand),
}

impl Command {
    /// Whether it changes something, so that its outcome must be known in the end.
    pub(super) fn changes(&self) -> bool {
        let reads = matches!(
            self,
            Self::Stock(_, StockCommand::Get { .. } | StockCommand::GetHold { .. })
                | Self::Orders(_, OrderCommand::Get { .. } | OrderCommand::ListByUser { .. })
        );
        !reads
    }

    /// Its idempotency key.
    pub(super) fn key(&self) -> Option<KeyHash> {
        match self {
            Self::Stock(_, StockCommand::Adjust { key, .. } | StockCommand::Hold { key, .. }) => {
                Some(*key)
            }
            Self::Orders(_, OrderCommand::Place(place)) => Some(place.key),
            Self::Orders(
                _,
                OrderCommand::Cancel { key, .. }
                | OrderCommand::Fulfil { key, .. }
                | OrderCommand::Return { key, .. },
            ) => Some(*key),
            _ => None,
        }
    }

    /// The order that it is about.
    pub(super) fn order(&self) -> Option<OrderId> {
        match self {
            Self::Orders(
                _,
                OrderCommand::Pay { order, .. }
                | OrderCommand::Cancel { order, .. }
                | OrderCommand::Fulfil { order, .. }
                | OrderCommand::Return { order, .. }
                | OrderCommand::Get { order },
            ) => Some(*order),
            _ => None,
        }
    }

    /// Whether what was answered once must be answered ever after: all but what sets something
    /// anew.
    pub(super) fn binds(&self) -> bool {
        self.changes()
            && !matches!(
                self,
                Self::Stock(_, StockCommand::Define { .. } | StockCommand::ExtendHold { .. })
            )
    }
}

/// A command of a caller, however often it is sent.
pub(super) struct Op {
    pub(super) command: Command,
    /// How many times it is on its way.
    pub(super) in_flight: u32,
    /// The first good answer, and the step in which it was heard.
    pub(super) good: Option<(Good, u64)>,
    /// Whether it was the only sending when the one on its way was sent, and still is.
    pub(super) alone: bool,
    /// Refused by the rules.
    pub(super) refused: bool,
    /// Sent, and nobody has heard what became of that.
    pub(super) unknown: bool,
}

impl Op {
    pub(super) fn is_good(&self) -> bool {
        self.good.is_some()
    }

    /// Whether nobody can say what has become of it.
    pub(super) fn is_open(&self) -> bool {
        self.command.changes() && !self.is_good() && (self.unknown || !self.refused)
    }
}

/// What is kept of a good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Good {
    Receipt(Receipt),
    Movement(StockReceipt),
    Hold(tidegate_machines::HoldId),
    Other,
}

/// What a caller hears.
#[derive(Debug)]
pub(super) enum Answer {
    Receipt(Receipt),
    Order(Box<Order>),
    Orders(Vec<Order>),
    Item(Box<ItemView>),
    Movement(StockReceipt),
    Hold(Hold),
    OrderRefused(OrderRejection),
    StockRefused(StockRejection),
    /// It was not taken.
    NotTaken(&'static str),
    /// The outcome is unknown.
    Unknown(&'static str),
}

/// Where the answer of one sending will be.
pub(super) enum Ear {
    Stock(Receiver<Outcome<Stock>>),
    Orders(Receiver<Outcome<Orders>>),
}

/// One sending of a command.
pub(super) struct Sending {
    pub(super) op: usize,
    pub(super) sent_at: u64,
    pub(super) ear: Ear,
}

impl Ear {
    /// What has been answered, if anything has.
    pub(super) fn listen(&mut self, state: &Arc<MemoryState>) -> Option<Answer> {
        match self {
            Self::Stock(receiver) => Some(match receiver.try_recv() {
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Closed) => Answer::Unknown("unknown: gone"),
                Ok(Ok(StockReply::Item(item))) => Answer::Item(item),
                Ok(Ok(StockReply::Receipt(receipt))) => Answer::Movement(receipt),
                Ok(Ok(StockReply::Hold(hold))) => Answer::Hold(hold),
                Ok(Err(AskError::Rejected(rejection))) => Answer::StockRefused(rejection),
                Ok(Err(error)) => failed(&error),
            }),
            Self::Orders(receiver) => Some(match receiver.try_recv() {
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Closed) => Answer::Unknown("unknown: gone"),
                Ok(Ok(OrderReply::Placed(receipt))) => Answer::Receipt(receipt),
                Ok(Ok(OrderReply::Order(order) | OrderReply::Waiting(order, _))) => {
                    Answer::Order(order)
                }
                Ok(Ok(OrderReply::Orders(orders))) => Answer::Orders(orders),
                Ok(Ok(OrderReply::AtRest { order })) => at_rest(state, order),
                Ok(Err(AskError::Rejected(rejection))) => Answer::OrderRefused(rejection),
                Ok(Err(error)) => failed(&error),
            }),
        }
    }
}

/// As the client in `src/orders.rs` does: an order that has left memory is in the archive.
fn at_rest(state: &Arc<MemoryState>, order: OrderId) -> Answer {
    match archive::read(&**state, order) {
        Ok(Some(order)) => Answer::Order(Box::new(order)),
        Ok(None) => Answer::OrderRefused(OrderRejection::UnknownOrder { order }),
        Err(_) => Answer::Unknown("unknown: unreadable"),
    }
}

fn failed<R>(error: &AskError<R>) -> Answer {
    match error {
        AskError::Rejected(_) | AskError::Closing => Answer::NotTaken("not taken: closing"),
        AskError::Overloaded { .. } => Answer::NotTaken("not taken: overloaded"),
        AskError::Backlogged { .. } => Answer::NotTaken("not taken: backlogged"),
        AskError::Fault { .. } => Answer::NotTaken("not taken: fault"),
        AskError::Dead { .. } => Answer::NotTaken("not taken: dead"),
        AskError::Unavailable { why } if why.contains("in time") => {
            Answer::Unknown("unknown: waited too long")
        }
        AskError::Unavailable { .. } => Answer::Unknown("unknown: unavailable"),
    }
}

impl Answer {
    /// What it is called in figures.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Receipt(_) => "answer: receipt",
            Self::Order(_) => "answer: order",
            Self::Orders(_) => "answer: orders",
            Self::Item(_) => "answer: item",
            Self::Movement(_) => "answer: movement",
            Self::Hold(_) => "answer: hold",
            Self::OrderRefused(rejection) => order_refusal(rejection),
            Self::StockRefused(rejection) => stock_refusal(rejection),
            Self::NotTaken(name) | Self::Unknown(name) => name,
        }
    }

    /// Whether it says that the key stands for another request.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(
            self,
            Self::OrderRefused(OrderRejection::Idempotency(IdempotencyError::Conflict))
                | Self::StockRefused(StockRejection::Idempotency(IdempotencyError::Conflict))
        )
    }

    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::OrderRefused(_) | Self::StockRefused(_))
    }
}

fn refusal(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::UnknownSku { .. } => "refused: unknown sku",
        Refusal::LimitExceeded { .. } => "refused: limit exceeded",
        Refusal::SoldOut { .. } => "refused: sold out",
        Refusal::AmountOverflow { .. } => "refused: amount overflow",
        Refusal::NotInStock { .. } => "refused: not in stock",
        Refusal::ShardDown => "refused: shard down",
        Refusal::QueueTimeout => "refused: queue timeout",
    }
}

fn idempotency(error: &IdempotencyError) -> &'static str {
    match error {
        IdempotencyError::Conflict => "refused: key conflict",
        IdempotencyError::MemoryFull { .. } => "refused: memory full",
    }
}

fn order_refusal(rejection: &OrderRejection) -> &'static str {
    match rejection {
        OrderRejection::Invalid(_) => "refused: out of bounds",
        OrderRejection::Idempotency(error) => idempotency(error),
        OrderRejection::Refused(reason) => refusal(reason),
        OrderRejection::MixedAmounts { .. } => "refused: mixed amounts",
        OrderRejection::UnknownOrder { .. } => "refused: unknown order",
        OrderRejection::PaymentConflict { .. } => "refused: payment conflict",
        OrderRejection::WrongState { .. } => "refused: wrong state",
        OrderRejection::AlreadyShipped { .. } => "refused: already shipped",
        OrderRejection::UnknownLine { .. } => "refused: unknown line",
        OrderRejection::TooMany { .. } => "refused: too many",
        OrderRejection::QueueFull { .. } => "refused: queue full",
        OrderRejection::ChangeUnderWay { .. } => "refused: change under way",
    }
}

fn stock_refusal(rejection: &StockRejection) -> &'static str {
    match rejection {
        StockRejection::Invalid(_) => "refused: out of bounds",
        StockRejection::Idempotency(error) => idempotency(error),
        StockRejection::Refused(reason) => refusal(reason),
        StockRejection::BelowCommitted { .. } => "refused: below committed",
        StockRejection::BackorderInUse { .. } => "refused: backorder in use",
        StockRejection::UnknownHold { .. } => "refused: unknown hold",
        StockRejection::HoldSettled { .. } => "refused: hold settled",
        StockRejection::HoldNotConfirmed { .. } => "refused: hold not confirmed",
    }
}
