//! What a store holds at one position, for views that can't begin with the journal. Every order and
//! stock shard is copied, as for a snapshot, and the journal brings the copies to one position. It
//! stops nobody, and changes nothing.
//!
//! The archive is no copy: an order that has left memory may have come back and changed since. Then
//! the journal tells how it was: what brings an order back from the archive holds all of it. So
//! each page of the archive is read first, and the journal after it, up to where the page may be.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tidegate_actors::{Clock, Durable, Group, archive, codec};
use tidegate_machines::{
    Machine, OpOutcome, OrderEvent, OrderHold, Orders, Stock, StockEffect, Timestamp, UnitPrices,
};
use tidegate_storage::{Entry, Journal, Reader, State, StreamId};

use super::{Fact, error::Halt};
use crate::{HeldLine, Hold, Order, OrderId, Position};

/// How often a shard that is down is asked again: it may be rebuilt by then.
const COPY_TRIES: usize = 100;

/// How long until it is.
const COPY_PAUSE: Duration = Duration::from_millis(100);

/// Archived orders read together.
const PAGE_ORDERS: usize = 1_024;

/// Where everything in a store comes from.
#[derive(Clone)]
pub(super) struct Everything {
    pub(super) orders: Group<Orders>,
    pub(super) stock: Group<Stock>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) state: Arc<dyn State>,
    pub(super) clock: Arc<Clock>,
}

/// A machine, and the position up to which it holds everything of its stream.
struct Copy<M> {
    machine: M,
    position: Position,
}

/// All orders and all stock at one position.
pub(super) struct Cut {
    pub(super) position: Position,
    /// When.
    pub(super) at: Timestamp,
    orders: Vec<Orders>,
    stock: Vec<Stock>,
    state: Arc<dyn State>,
    journal: Arc<dyn Journal>,
    /// Keeps the journal from being trimmed from where it is on.
    reader: Box<dyn Reader>,
    read: Position,
    /// Orders that came back from the archive after the cut, as they were at it.
    revived: HashMap<OrderId, Box<Order>>,
}

impl Cut {
    /// Copies every shard, and brings the copies to one position. Blocks, too.
    pub(super) async fn take(of: &Everything) -> Result<Self, Halt> {
        let Everything { orders, stock, journal, state, clock } = of;
        // Whatever is before this is in every copy: a copy has all that was appended before it.
        let begin = journal.durable();
        let mut reader = journal.read(begin)?;
        let mut stock = copies(stock, begin).await?;
        let mut orders = copies(orders, begin).await?;
        let at = clock.now();
        let positions = orders.iter().map(|copy| copy.position);
        let positions = positions.chain(stock.iter().map(|copy| copy.position));
        let position = positions.max().unwrap_or(begin);
        journal.wait_durable(position)?;
        let mut read = begin;
        while read < position {
            let Some(entry) = reader.next()? else { return Err(Halt::Closed) };
            read = entry.position;
            bring_on(&mut orders, &entry)?;
            bring_on(&mut stock, &entry)?;
        }
        Ok(Self {
            position,
            at,
            orders: orders.into_iter().map(|copy| copy.machine).collect(),
            stock: stock.into_iter().map(|copy| copy.machine).collect(),
            state: Arc::clone(state),
            journal: Arc::clone(journal),
            reader,
            read,
            revived: HashMap::new(),
        })
    }

    /// Gives everything to `take`. Blocks; reads the disk.
    pub(super) fn tell(
        mut self,
        mut take: impl FnMut(Fact) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        for stock in &self.stock {
            let mut items: Vec<_> = stock.skus().filter_map(|sku| stock.item(sku)).collect();
            items.sort_unstable_by(|one, other| one.sku.cmp(&other.sku));
            items.into_iter().try_for_each(|item| take(Fact::Sku(item)))?;
        }
        for stock in &self.stock {
            let mut holds: Vec<&Hold> = stock.holds().collect();
            holds.sort_unstable_by_key(|hold| hold.id);
            holds.into_iter().try_for_each(|hold| take(Fact::Hold(hold.clone())))?;
        }
        let live = self.orders.iter().flat_map(Orders::iter);
        live.cloned().try_for_each(|order| take(Fact::Order(Box::new(order))))?;
        self.archived(&mut take)?;
        self.stock.iter().try_for_each(|stock| held(stock, &mut take))
    }

    fn archived(&mut self, take: &mut impl FnMut(Fact) -> Result<(), Halt>) -> Result<(), Halt> {
        let mut after = None;
        loop {
            let page = archive::scan(&*self.state, after, PAGE_ORDERS);
            let page = page.map_err(|error| match error {
                archive::ArchiveError::Storage(error) => Halt::from(error),
                error => Halt::Fault(error.to_string()),
            })?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id);
            self.read_on()?;
            for order in page {
                let shard = self.orders.get(usize::from(order.id.shard()));
                // Not there at the cut, or told as it is in memory.
                if !shard.is_some_and(|shard| shard.is_away(order.id)) {
                    continue;
                }
                let before = self.revived.get(&order.id).map(|before| (**before).clone());
                take(Fact::Order(Box::new(before.unwrap_or(order))))?;
            }
        }
    }

    /// Reads the journal as far as it is durable. A row is written when what it shows is durable,
    /// so this is not before any row that was read.
    fn read_on(&mut self) -> Result<(), Halt> {
        let end = self.journal.durable();
        while self.read < end {
            let Some(entry) = self.reader.next()? else { return Err(Halt::Closed) };
            self.read = entry.position;
            let ours = (0..self.orders.len()).any(|shard| {
                u16::try_from(shard).is_ok_and(|shard| Orders::KIND.stream(shard) == entry.stream)
            });
            if !ours {
                continue;
            }
            let event: OrderEvent = codec::decode(entry.bytes)?;
            if let OrderEvent::Revived { order } = event {
                self.revived.entry(order.id).or_insert(order);
            }
        }
        Ok(())
    }
}

async fn copies<M: Durable>(group: &Group<M>, begin: Position) -> Result<Vec<Copy<M>>, Halt> {
    let mut copies = Vec::with_capacity(usize::from(group.len()));
    for shard in 0..group.len() {
        copies.push(copy(group, shard, begin).await?);
    }
    Ok(copies)
}

async fn copy<M: Durable>(group: &Group<M>, shard: u16, begin: Position) -> Result<Copy<M>, Halt> {
    for _ in 0..COPY_TRIES {
        let copy = group.inspect(shard, move |machine: &M, position| Copy {
            machine: machine.clone(),
            position: position.max(begin),
        });
        if let Some(copy) = copy.await {
            return Ok(copy);
        }
        tokio::time::sleep(COPY_PAUSE).await;
    }
    Err(Halt::Fault(format!("{} shard {shard} is down", M::NAME)))
}

/// Applies a record to the copy that it belongs to, if that does not have it yet.
fn bring_on<M: Durable>(copies: &mut [Copy<M>], entry: &Entry<'_>) -> Result<(), Halt> {
    let stream = |shard: usize| u16::try_from(shard).map(|shard| M::KIND.stream(shard));
    let mine = |shard: usize| stream(shard).is_ok_and(|mine: StreamId| mine == entry.stream);
    let Some(shard) = (0..copies.len()).find(|shard| mine(*shard)) else { return Ok(()) };
    let copy = &mut copies[shard];
    if entry.position > copy.position {
        let event: <M as Machine>::Event = codec::decode(entry.bytes)?;
        copy.machine.apply(&event);
        copy.position = entry.position;
    }
    Ok(())
}

/// What orders hold in a stock shard, with the prices that are still on their way to them.
fn held(stock: &Stock, take: &mut impl FnMut(Fact) -> Result<(), Halt>) -> Result<(), Halt> {
    let mut prices: HashMap<OrderId, UnitPrices> = HashMap::new();
    for effect in stock.outstanding() {
        if let StockEffect::Outcome { order, outcome: OpOutcome::Held { unit_prices }, .. } = effect
        {
            prices.insert(order, unit_prices);
        }
    }
    let held: BTreeMap<OrderId, &OrderHold> = stock.order_holds().collect();
    for (order, OrderHold { user, lines }) in held {
        let prices = prices.remove(&order).unwrap_or_default();
        let prices = prices.iter().copied().chain(std::iter::repeat(None));
        let lines = lines.iter().cloned().zip(prices);
        let lines = lines.map(|(line, unit_price_minor)| HeldLine { line, unit_price_minor });
        let (lines, user) = (lines.collect(), user.clone());
        take(Fact::Held { order, stock_shard: stock.shard(), user, lines })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Adjustment, NewOrder, PaymentEvent, SkuPatch, Tidegate};

    async fn order(gate: &Tidegate, key: &str) -> OrderId {
        gate.orders().place(NewOrder::new("u").line("a", 1), key).await.unwrap().id
    }

    async fn pay(gate: &Tidegate, order: OrderId) {
        gate.orders().pay(order, PaymentEvent::captured("bank", "1", 10)).await.unwrap();
    }

    /// Waits until this order, as it is now, is in the archive only.
    async fn archived(gate: &Tidegate, id: OrderId) -> Order {
        let now = gate.orders().get(id).await.unwrap();
        let shards = gate.shards_of::<Orders>().unwrap();
        for _ in 0..6_000 {
            let away = shards.inspect(id.shard(), move |machine: &Orders, _| machine.is_away(id));
            let row = archive::read(&*gate.state(), id).unwrap();
            if away.await.unwrap() && row.as_ref() == Some(&now) {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("order {id} is not archived");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn everything_is_told_as_it_was_at_the_cut_whatever_has_changed_since() {
        let folder = tempfile::tempdir().unwrap();
        let builder = Tidegate::builder(folder.path()).arbiters(1);
        let gate = builder.order_shards(2).stock_shards(2).open().await.unwrap();
        gate.stock().define("a", SkuPatch::default().price_minor(10)).await.unwrap();
        gate.stock().adjust(Adjustment::new("a", 9, "arrival"), "k").await.unwrap();
        let (old, idle) = (order(&gate, "old").await, order(&gate, "idle").await);
        pay(&gate, old).await;
        pay(&gate, idle).await;
        let (before, idle) = (archived(&gate, old).await, archived(&gate, idle).await);
        let open = order(&gate, "open").await;
        let waiting = gate.orders().get(open).await.unwrap();

        let everything = Everything {
            orders: gate.shards_of().unwrap(),
            stock: gate.shards_of().unwrap(),
            journal: gate.journal(),
            state: gate.state(),
            clock: Arc::new(Clock::new(tidegate_actors::SystemTimeSource)),
        };
        let cut = Cut::take(&everything).await.unwrap();
        assert_eq!(cut.position, gate.position());
        // It comes back from the archive twice, and is in it again; the others go there, too.
        gate.orders().fulfil(old, None, "f").await.unwrap();
        archived(&gate, old).await;
        let paid = PaymentEvent::refunded("bank", "2", 1);
        gate.orders().pay(old, paid).await.unwrap();
        let new = order(&gate, "new").await;
        for id in [open, new] {
            pay(&gate, id).await;
        }
        for id in [old, open, new] {
            archived(&gate, id).await;
        }

        let mut facts = Vec::new();
        cut.tell(|fact| {
            facts.push(fact);
            Ok(())
        })
        .unwrap();
        let mut orders = Vec::new();
        for fact in facts {
            match fact {
                Fact::Sku(item) => {
                    let level = crate::Level { on_hand: 9, held: 1, allocated: 2 };
                    assert_eq!((item.sku.as_str(), item.total), ("a", level));
                }
                Fact::Order(order) => orders.push(*order),
                Fact::Held { order, lines, .. } => {
                    assert_eq!((order, lines[0].line.quantity), (open, 1));
                }
                Fact::Hold(hold) => panic!("{hold:?}"),
            }
        }
        let mut expected = vec![before, idle, waiting];
        expected.sort_unstable_by_key(|order| order.id);
        orders.sort_unstable_by_key(|order| order.id);
        assert_eq!(orders, expected);
        gate.close().await.unwrap();
    }
}
