//! The default machines as durable actors: their numbers in the journal, and how orders and stock
//! reach each other. What they decide is in `machines`.

use std::sync::Arc;

use serde::Serialize;
use tidegate_machines::{
    Answer, Decision, Machine, OpAction, OpOutcome, OrderCommand, OrderEffect, OrderEvent, OrderOp,
    OrderReply, Orders, QueueCounts, Refusal, Stock, StockCommand, StockEffect, StockEvent,
    Timestamp,
};
use tidegate_storage::{Position, State};

use crate::{
    archive,
    board::{Board, BoardWriter},
    durable::{Deliver, Durable, Kind, Reading, RecallError},
    group::Reach,
    known::{KnownKeys, KnownWriter},
    projector::ProjectorHandle,
    shown::OnDisk,
};

impl Durable for Stock {
    const KIND: Kind = Kind(1);
    const NAME: &'static str = "stock";

    fn reconfigure(&mut self, fresh: &Self) {
        self.configure(fresh.config().clone());
    }

    fn image(&self) -> impl Serialize + Send + 'static {
        self.image()
    }

    /// Items don't say when they last changed, so all of the shard must be on disk.
    fn read(&self, command: &StockCommand, on_disk: OnDisk) -> Option<Reading<Self>> {
        let reads = matches!(command, StockCommand::Get { .. } | StockCommand::GetHold { .. });
        if reads && on_disk.is_all() { decided(self, command) } else { None }
    }

    fn place_in_line(command: &StockCommand) -> Option<(u64, u64)> {
        match command {
            StockCommand::Op(op) => Some((op.order.0, op.op.0)),
            _ => None,
        }
    }

    fn fault(command: &StockCommand) -> Option<StockEffect> {
        match command {
            StockCommand::Op(OrderOp {
                op, from, order, action: OpAction::Reserve { .. }, ..
            }) => {
                let outcome = OpOutcome::Refused(Refusal::ShardDown);
                Some(StockEffect::Outcome { to: *from, op: *op, order: *order, outcome })
            }
            // Anything else stays open in its order shard, and is sent again after a recovery.
            _ => None,
        }
    }
}

impl Durable for Orders {
    const KIND: Kind = Kind(2);
    const NAME: &'static str = "orders";

    fn reconfigure(&mut self, fresh: &Self) {
        self.configure(fresh.config().clone());
    }

    fn image(&self) -> impl Serialize + Send + 'static {
        self.image()
    }

    fn recall(
        &self,
        command: &OrderCommand,
        state: &dyn State,
    ) -> Result<Option<OrderCommand>, RecallError> {
        let Some(order) = self.missing(command) else { return Ok(None) };
        let order = archive::read(state, order)?;
        Ok(order.map(|order| OrderCommand::Revive { order: Box::new(order) }))
    }

    /// Every event that changes an order puts its own time on it.
    fn read(&self, command: &OrderCommand, on_disk: OnDisk) -> Option<Reading<Self>> {
        match command {
            OrderCommand::Get { order: id } => match self.order(*id) {
                // Its place in the queue follows from other orders.
                Some(order) if order.waits_in_queue() => None,
                Some(order) => on_disk
                    .covers(order.changed_at)
                    .then(|| Ok(OrderReply::Order(Box::new(order.clone())))),
                // What has left memory is in the archive, which has nothing that is not on disk;
                // and a number that was not given out is not there on disk either.
                None => decided(self, command),
            },
            OrderCommand::ListByUser { .. } if on_disk.is_all() => decided(self, command),
            _ => None,
        }
    }

    fn queue_counts(&self) -> QueueCounts {
        self.queue_counts()
    }

    fn leaves_store(effect: &OrderEffect) -> bool {
        matches!(effect, OrderEffect::Archive { .. })
    }
}

/// What a machine says to a command that only reads, and for which the time doesn't matter.
fn decided<M: Machine>(machine: &M, command: &M::Command) -> Option<Reading<M>> {
    match machine.decide(command, Timestamp(0)) {
        Ok(Decision { event: None, answer: Answer::Now(reply), .. }) => Some(Ok(reply)),
        Ok(_) => None,
        Err(rejection) => Some(Err(rejection)),
    }
}

/// Commands on their way to each shard of a group, sent as one batch each.
pub(crate) struct Batches<M: Durable> {
    shards: Box<dyn Reach<M>>,
    batches: Vec<Vec<M::Command>>,
}

impl<M: Durable> Batches<M> {
    pub(crate) fn new(shards: impl Reach<M> + 'static) -> Self {
        let batches = (0..shards.count()).map(|_| Vec::new()).collect();
        Self { shards: Box::new(shards), batches }
    }

    pub(crate) fn add(&mut self, to: u16, command: M::Command) {
        self.batches[usize::from(to)].push(command);
    }

    pub(crate) fn send(&mut self) {
        for (to, batch) in (0..).zip(&mut self.batches) {
            if !batch.is_empty() {
                self.shards.tell(to, batch);
            }
        }
    }
}

/// Carries what orders want to stock shards and the projector, and the keys that they bind to
/// fronts.
pub struct FromOrders {
    stock: Batches<Stock>,
    projector: ProjectorHandle,
    known: KnownWriter,
}

impl FromOrders {
    /// To the shards of `stock`, to `projector`, and to the `known` keys of its own shard.
    #[must_use]
    pub fn new(
        stock: impl Reach<Stock> + 'static,
        projector: ProjectorHandle,
        known: Arc<KnownKeys>,
    ) -> Self {
        Self { stock: Batches::new(stock), projector, known: KnownWriter::new(known) }
    }
}

impl Deliver<Orders> for FromOrders {
    fn deliver(&mut self, effects: &mut Vec<OrderEffect>) {
        for effect in effects.drain(..) {
            match effect {
                OrderEffect::Op { to, op } => self.stock.add(to, StockCommand::Op(op)),
                OrderEffect::Archive { order, version } => self.projector.archive(order, version),
            }
        }
        self.stock.send();
    }

    fn restored(&mut self, orders: &Orders) {
        self.known.restored(orders);
    }

    fn applying(&mut self, _: &Orders, event: &OrderEvent) {
        self.known.applying(event);
    }

    fn applied(&mut self, _: &Orders, event: &OrderEvent) {
        self.known.applied(event);
    }

    fn journalled(&mut self, position: Position) {
        self.known.journalled(position);
    }

    fn durable(&mut self, durable: Position) {
        self.known.durable(durable);
    }

    fn awaits(&self) -> bool {
        self.known.awaits()
    }
}

/// Carries outcomes back to order shards, and what is sold out to the board.
pub struct FromStock {
    orders: Batches<Orders>,
    board: BoardWriter,
}

impl FromStock {
    /// To the shards of `orders`, and to `board`.
    #[must_use]
    pub fn new(orders: impl Reach<Orders> + 'static, board: Arc<Board>) -> Self {
        Self { orders: Batches::new(orders), board: BoardWriter::new(board) }
    }
}

impl Deliver<Stock> for FromStock {
    fn deliver(&mut self, effects: &mut Vec<StockEffect>) {
        for StockEffect::Outcome { to, op, order, outcome } in effects.drain(..) {
            self.orders.add(to, OrderCommand::Outcome { op, order, outcome });
        }
        self.orders.send();
    }

    fn applying(&mut self, stock: &Stock, event: &StockEvent) {
        self.board.applying(stock, event);
    }

    fn applied(&mut self, stock: &Stock, event: &StockEvent) {
        self.board.applied(stock, event);
    }

    fn journalled(&mut self, position: Position) {
        self.board.journalled(position);
    }

    fn durable(&mut self, durable: Position) {
        self.board.durable(durable);
    }

    fn awaits(&self) -> bool {
        self.board.awaits()
    }
}
