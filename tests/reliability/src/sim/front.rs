//! What clients do with a command on their own threads, before a shard is asked or instead of that,
//! and whether what they read there is on disk. It follows `src/placing.rs` and `src/orders.rs`.

use std::sync::Arc;

use tidegate_actors::{AskError, Door, Durable, Envelope, Outcome, archive, rebuild};
use tidegate_machines::{
    Machine, NewLine, Order, OrderCommand, OrderId, OrderRejection, OrderReply, Orders, PlaceOrder,
    Refusal, Stock, StockCommand, StockReply, check_order,
};
use tidegate_storage::State;
use tokio::sync::oneshot::{Receiver, channel};

use super::{
    auditor::Verdict,
    mail::{CALLERS, Letter, Mail},
    ops::{Command, Ear},
    store::{Store, fresh_orders, fresh_stock},
    world::World,
};
/// Steps of which one holds its readings against what is on disk, which takes a rebuild.
const CHECK_EVERY: u64 = 8;

impl World {
    /// What a client does with a command; `None` if it is not taken.
    pub(super) fn enter(&mut self, command: Command) -> Result<Option<Ear>, String> {
        match command {
            Command::Stock(shard, command) => {
                let side = &self.store.stock;
                let door = &side.doors[usize::from(shard)];
                if let Some(read) = door.read(&command) {
                    if self.step.is_multiple_of(CHECK_EVERY) {
                        self.store.check_stock_reading(shard, &command, &read)?;
                    }
                    self.figures.count("read: beside the shard, stock");
                    return Ok(Some(Ear::Stock(answered::<Stock>(read))));
                }
                Ok(enter(door, &side.mail, shard, command).map(Ear::Stock))
            }
            Command::Orders(shard, mut command) => {
                if let OrderCommand::Place(place) = &mut command {
                    if let Err(refused) = self.store.front(shard, place) {
                        self.figures.count("refused: at the front");
                        let refused = Err(AskError::Rejected(refused));
                        return Ok(Some(Ear::Orders(answered::<Orders>(refused))));
                    }
                    if place.hint.is_some() {
                        self.figures.count("asked: a key that may be known, for what is sold out");
                    }
                }
                let side = &self.store.orders;
                let door = &side.doors[usize::from(shard)];
                if let Some(read) = door.read(&command) {
                    if self.step.is_multiple_of(CHECK_EVERY) {
                        self.store.check_reading(shard, &read)?;
                    }
                    if self.store.is_whole(&read) {
                        self.figures.count("read: beside the shard");
                        return Ok(Some(Ear::Orders(answered::<Orders>(read))));
                    }
                    self.figures.count("read: of what may not be there");
                }
                Ok(enter(door, &side.mail, shard, command).map(Ear::Orders))
            }
        }
    }
}

impl Store {
    /// What `src/placing.rs` does before order shard `shard` is asked.
    ///
    /// # Errors
    /// Then it is not asked.
    fn front(&self, shard: u16, place: &mut PlaceOrder) -> Result<(), OrderRejection> {
        let sold_out = |line: &&NewLine| self.board.is_sold_out(&line.sku, &line.location);
        place.hint = place.lines.iter().find(sold_out).map(|line| Refusal::SoldOut {
            sku: line.sku.clone(),
            location: line.location.clone(),
            requested: line.quantity,
            available: 0,
        });
        let (known, door) =
            (&self.known[usize::from(shard)], &self.orders.doors[usize::from(shard)]);
        if let Some(refusal) = &place.hint
            && !known.may_know(place.key)
            && door.refuse_beside()
        {
            check_order(&place.lines, place.hold_ms)?;
            return Err(refusal.clone().into());
        }
        known.note(place.key);
        Ok(())
    }

    /// Whether what was read can be told: not what is neither in memory nor in the archive.
    fn is_whole(&self, read: &Outcome<Orders>) -> bool {
        let Ok(OrderReply::AtRest { order }) = read else { return true };
        self.archived(*order).is_some()
    }

    fn archived(&self, order: OrderId) -> Option<Order> {
        archive::read(&*self.state, order).ok().flatten()
    }

    /// Holds what was read of order shard `shard` against what is on disk.
    fn check_reading(&self, shard: u16, read: &Outcome<Orders>) -> Verdict {
        let stored =
            rebuild(shard, fresh_orders(&self.profile, shard), &*self.journal, &self.state())
                .map_err(|error| format!("order shard {shard} can't be rebuilt: {error}"))?
                .machine;
        let same = |order: &Order| match stored.order(order.id) {
            Some(stored) => stored == order,
            None => self.archived(order.id).as_ref() == Some(order),
        };
        match read {
            Ok(OrderReply::Order(order)) => ensure(same(order), read),
            Ok(OrderReply::Orders(orders)) => ensure(orders.iter().all(same), read),
            Ok(OrderReply::AtRest { order }) => {
                let (row, stored) = (self.archived(*order), stored.order(*order));
                let newer =
                    row.zip(stored).is_some_and(|(row, stored)| stored.version > row.version);
                ensure(!newer, read)
            }
            Err(AskError::Rejected(OrderRejection::UnknownOrder { order })) => {
                ensure(stored.order(*order).is_none() && !stored.is_away(*order), read)
            }
            other => Err(format!("no reading: {other:?}")),
        }
    }

    /// The same of stock shard `shard`.
    fn check_stock_reading(
        &self,
        shard: u16,
        command: &StockCommand,
        read: &Outcome<Stock>,
    ) -> Verdict {
        let stored =
            rebuild(shard, fresh_stock(&self.profile, shard), &*self.journal, &self.state())
                .map_err(|error| format!("stock shard {shard} can't be rebuilt: {error}"))?
                .machine;
        let same = match (command, read) {
            (StockCommand::Get { sku }, Ok(StockReply::Item(item))) => {
                stored.item(sku).as_ref() == Some(&**item)
            }
            (StockCommand::GetHold { hold }, Ok(StockReply::Hold(shown))) => {
                stored.hold(*hold) == Some(shown)
            }
            (StockCommand::Get { sku }, Err(AskError::Rejected(_))) => stored.item(sku).is_none(),
            (StockCommand::GetHold { hold }, Err(AskError::Rejected(_))) => {
                stored.hold(*hold).is_none()
            }
            _ => false,
        };
        ensure(same, read)
    }

    fn state(&self) -> Arc<dyn State> {
        Arc::clone(&self.state) as Arc<dyn State>
    }
}

fn ensure(right: bool, read: &impl std::fmt::Debug) -> Verdict {
    if right { Ok(()) } else { Err(format!("a reading of what is not on disk: {read:?}")) }
}

/// An answer that is there at once.
fn answered<M: Durable>(outcome: Outcome<M>) -> Receiver<Outcome<M>> {
    let (sender, receiver) = channel();
    // The receiver is here.
    let _ = sender.send(outcome);
    receiver
}

/// Lets `command` in through `door`, and on its way to shard `index`.
fn enter<M: Durable>(
    door: &Door<M>,
    mail: &Mail<M>,
    index: u16,
    command: <M as Machine>::Command,
) -> Option<Receiver<Outcome<M>>> {
    let (envelope, receiver): (Envelope<M>, _) = door.enter(command).ok()?;
    mail.send(index, CALLERS, Letter::Asked(envelope));
    Some(receiver)
}
