//! Placing orders, for callers: what a new order is, what is refused on the caller's own thread,
//! and what its shard is asked. Whether it is accepted is decided by the machines.

use tidegate_actors::{AskError, Question};
use tidegate_machines::{
    KeyHash, NewLine, OrderCommand, OrderReply, Orders, PlaceOrder, Receipt, Refusal, Sku, UserId,
    check_order,
};

use crate::{
    orders::{OrderError, OrdersClient, invalid, unexpected},
    stock::location_or_main,
};

/// How long stock is held for payment unless the order says otherwise: 15 minutes.
pub const HOLD_MS_DEFAULT: u64 = 15 * 60 * 1_000;

/// An order to be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOrder {
    user: String,
    lines: Vec<Line>,
    hold_ms: u64,
    respond_async: bool,
}

/// Units of a SKU at a location, as a caller names them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    sku: String,
    location: Option<String>,
    quantity: u64,
    amount_minor: Option<u64>,
}

impl NewOrder {
    /// An order of `user` with no lines yet.
    pub fn new(user: impl Into<String>) -> Self {
        let (lines, hold_ms) = (Vec::new(), HOLD_MS_DEFAULT);
        Self { user: user.into(), lines, hold_ms, respond_async: false }
    }

    /// Adds `quantity` units of `sku` from location `main`, at the SKU's price.
    #[must_use]
    pub fn line(self, sku: impl Into<String>, quantity: u64) -> Self {
        self.add(sku.into(), None, quantity, None)
    }

    /// Adds `quantity` units of `sku` for `amount_minor` together, in minor units.
    #[must_use]
    pub fn line_for(self, sku: impl Into<String>, quantity: u64, amount_minor: u64) -> Self {
        self.add(sku.into(), None, quantity, Some(amount_minor))
    }

    /// Takes the line added last from another location.
    #[must_use]
    pub fn at(mut self, location: impl Into<String>) -> Self {
        if let Some(line) = self.lines.last_mut() {
            line.location = Some(location.into());
        }
        self
    }

    /// Holds the stock this long for payment, in milliseconds, up to 30 days. Default: 15 minutes.
    #[must_use]
    pub fn hold_ms(mut self, hold_ms: u64) -> Self {
        self.hold_ms = hold_ms;
        self
    }

    /// Be answered as soon as the order is durably queued, instead of when it is accepted or
    /// refused. With an [intake](crate::Builder::intake) it then waits for its turn, and the
    /// receipt says where.
    #[must_use]
    pub fn respond_async(mut self) -> Self {
        self.respond_async = true;
        self
    }

    fn add(
        mut self,
        sku: String,
        location: Option<String>,
        quantity: u64,
        amount_minor: Option<u64>,
    ) -> Self {
        self.lines.push(Line { sku, location, quantity, amount_minor });
        self
    }
}

impl OrdersClient {
    /// Places an order: all of its lines are held, or none. Answered when that is on disk. The same
    /// `key` with the same order gives the same receipt and orders nothing again. A refusal leaves
    /// nothing behind, and its key is free.
    ///
    /// # Errors
    /// [`OrderError`]: sold out, over a limit, an unknown SKU, a value out of bounds, a key used
    /// for another order, a full queue.
    pub async fn place(&self, order: NewOrder, key: &str) -> Result<Receipt, OrderError> {
        let (credit, place) = self.to_place(order, key)?;
        self.placed(self.inner.shards.ask_with(credit, place).await?).await
    }

    /// Places many orders together, each with its key and by itself, as [`OrdersClient::place`]
    /// does: one refused order stops no other. Gives what became of each, in the order of the
    /// orders, once all are answered: it is as slow as the slowest. Orders of one key are taken in
    /// their order, of different ones in any. How many may be asked is bounded only by what may be
    /// in flight ([`Builder::in_flight_max`](crate::Builder::in_flight_max)): those over it are
    /// [`AskError::Overloaded`].
    pub async fn place_many<K: AsRef<str>>(
        &self,
        orders: impl IntoIterator<Item = (NewOrder, K)>,
    ) -> Vec<Result<Receipt, OrderError>> {
        let asked = orders.into_iter().map(|(order, key)| self.to_place(order, key.as_ref()));
        let outcomes = self.inner.shards.ask_many(asked.collect()).await;
        let mut placed = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            placed.push(match outcome {
                Ok(reply) => self.placed(reply).await,
                Err(error) => Err(error),
            });
        }
        placed
    }

    /// The command that places an order, with a credit; or why it is refused at once.
    fn to_place(&self, order: NewOrder, key: &str) -> Question<Orders> {
        let key = self.inner.keys.key(&self.caller, "place", key).map_err(invalid)?;
        let NewOrder { user, lines, hold_ms, respond_async } = order;
        let user = UserId::new(&user).map_err(invalid)?;
        let lines = lines.into_iter().map(|line| {
            let (sku, location) = (Sku::new(&line.sku)?, location_or_main(line.location)?);
            let Line { quantity, amount_minor, .. } = line;
            Ok(NewLine { sku, location, quantity, amount_minor })
        });
        let lines: Vec<NewLine> = lines.collect::<Result<_, _>>().map_err(invalid)?;
        self.inner.projector.admit(self.inner.at_rest_max)?;
        let shard = self.home(key);
        // The board first: who took the last unit has noted his key before the board says so.
        let hint = self.sold_out(&lines);
        let known = &self.inner.known[usize::from(shard)];
        if let Some(refusal) = &hint
            && !known.may_know(key)
            && self.inner.shards.refuse_beside(shard)
        {
            check_order(&lines, hold_ms).map_err(AskError::Rejected)?;
            return Err(AskError::Rejected(refusal.clone().into()));
        }
        // First, so that an order over what may be in flight costs little and leaves no key noted.
        let credit = self.inner.shards.admit(shard)?;
        // Before the command is on its way, so that whoever repeats it comes behind it.
        known.note(key);
        let fingerprint = self.inner.keys.fingerprint(&(&user, &lines, hold_ms, respond_async));
        let order = PlaceOrder { key, fingerprint, user, lines, hold_ms, respond_async, hint };
        Ok((credit, OrderCommand::Place(order)))
    }

    /// What the answer to it says.
    async fn placed(&self, reply: OrderReply) -> Result<Receipt, OrderError> {
        match reply {
            OrderReply::Placed(receipt) => Ok(receipt),
            OrderReply::AtRest { order } => {
                let order = self.archived_order(order)?;
                order.placed().map_err(AskError::Rejected)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// What is known to be refused. A key that is known has its answer first all the same: an order
    /// that was accepted stays so.
    fn sold_out(&self, lines: &[NewLine]) -> Option<Refusal> {
        let board = &self.inner.board;
        let gone = lines.iter().find(|line| board.is_sold_out(&line.sku, &line.location))?;
        let NewLine { sku, location, quantity, .. } = gone.clone();
        Some(Refusal::SoldOut { sku, location, requested: quantity, available: 0 })
    }

    /// Orders live where their key leads, so that a reused key meets its first use.
    fn home(&self, key: KeyHash) -> u16 {
        (((key.0 >> 64) * u128::from(self.inner.shards.len())) >> 64) as u16
    }
}

#[cfg(test)]
mod tests {
    use crate::{AskError, NewOrder, SkuPatch, Tidegate};

    #[tokio::test]
    async fn an_order_over_what_may_be_in_flight_leaves_no_key_noted() {
        let folder = tempfile::tempdir().unwrap();
        let gate = Tidegate::builder(folder.path()).order_shards(1).in_flight_max(8);
        let gate = gate.open().await.unwrap();
        gate.stock().define("cup", SkuPatch::default().backorder_limit(1_000)).await.unwrap();
        let key = |number| format!("k-{number}");
        let orders = (0..100).map(|number| (NewOrder::new("u").line("cup", 1), key(number)));
        let placed = gate.orders().place_many(orders).await;
        let inner = &gate.orders().inner;
        for (number, placed) in placed.iter().enumerate() {
            // Of 8 keys in a filter for very many none is taken for another.
            let noted = inner.known[0].may_know(inner.keys.key("", "place", &key(number)).unwrap());
            match placed {
                Ok(_) => assert!(number < 8 && noted, "{number}"),
                Err(AskError::Overloaded { .. }) => assert!(number >= 8 && !noted, "{number}"),
                Err(error) => panic!("{number}: {error}"),
            }
        }
        gate.close().await.unwrap();
    }
}
