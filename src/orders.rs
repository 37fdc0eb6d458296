//! Orders, for callers: checks and names what is asked, finds the shard, and asks it. What is
//! possible is decided by the order machine.

use std::{collections::HashMap, sync::Arc};

use serde::Serialize;
use tidegate_actors::{
    AskError, Board, Group, Keyring, ProjectorHandle,
    archive::{self, ArchiveError, UserCursor},
};
use tidegate_machines::{
    EventId, KeyHash, NewLine, Order, OrderCommand, OrderId, OrderRejection, OrderReply, Orders,
    OutOfBounds, PaymentKind, PlaceOrder, Provider, QueuePlace, Receipt, Refusal, Sku, StockLine,
    UserId,
};
use tidegate_storage::State;

use crate::stock::location_or_main;

/// Why an order command got no good reply.
pub type OrderError = AskError<OrderRejection>;

/// How long stock is held for payment unless the order says otherwise: 15 minutes.
pub const HOLD_MS_DEFAULT: u64 = 15 * 60 * 1_000;

/// Asks order shards. Get it from [`crate::Tidegate::orders`]; cheap to clone.
#[derive(Clone)]
pub struct OrdersClient {
    shards: Group<Orders>,
    state: Arc<dyn State>,
    keys: Keyring,
    board: Arc<Board>,
    projector: ProjectorHandle,
    at_rest_max: u64,
    caller: Arc<str>,
}

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

/// What a payment provider says has happened. Providers repeat themselves and are out of order:
/// both are harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentEvent {
    /// The provider's name.
    pub provider: String,
    /// The provider's own id of this event.
    pub event_id: String,
    /// What has happened.
    pub kind: PaymentKind,
    /// How much, in minor units.
    pub amount_minor: u64,
}

impl PaymentEvent {
    /// The money has come in.
    pub fn captured(
        provider: impl Into<String>,
        event_id: impl Into<String>,
        amount_minor: u64,
    ) -> Self {
        let (provider, event_id) = (provider.into(), event_id.into());
        Self { provider, event_id, kind: PaymentKind::Captured, amount_minor }
    }

    /// The money is set aside; it still has to be captured.
    pub fn authorized(
        provider: impl Into<String>,
        event_id: impl Into<String>,
        amount_minor: u64,
    ) -> Self {
        Self { kind: PaymentKind::Authorized, ..Self::captured(provider, event_id, amount_minor) }
    }

    /// An attempt has failed.
    pub fn failed(
        provider: impl Into<String>,
        event_id: impl Into<String>,
        amount_minor: u64,
    ) -> Self {
        Self { kind: PaymentKind::Failed, ..Self::captured(provider, event_id, amount_minor) }
    }

    /// The money went back.
    pub fn refunded(
        provider: impl Into<String>,
        event_id: impl Into<String>,
        amount_minor: u64,
    ) -> Self {
        Self { kind: PaymentKind::Refunded, ..Self::captured(provider, event_id, amount_minor) }
    }
}

/// Units of a line to ship or to take back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Units {
    sku: String,
    location: Option<String>,
    quantity: u64,
}

impl Units {
    /// `quantity` units of `sku` from location `main`.
    pub fn new(sku: impl Into<String>, quantity: u64) -> Self {
        Self { sku: sku.into(), location: None, quantity }
    }

    /// From another location.
    #[must_use]
    pub fn at(mut self, location: impl Into<String>) -> Self {
        self.location = Some(location.into());
        self
    }

    fn check(self) -> Result<StockLine, OutOfBounds> {
        let (sku, location) = (Sku::new(&self.sku)?, location_or_main(self.location)?);
        Ok(StockLine { sku, location, quantity: self.quantity })
    }
}

/// Some of a user's orders, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserOrders {
    /// The orders.
    pub orders: Vec<Order>,
    /// Where to go on; `None` at the end.
    pub next: Option<UserCursor>,
}

impl OrdersClient {
    pub(crate) fn new(
        shards: Group<Orders>,
        state: Arc<dyn State>,
        keys: Keyring,
        board: Arc<Board>,
        (projector, at_rest_max): (ProjectorHandle, u64),
    ) -> Self {
        Self { shards, state, keys, board, projector, at_rest_max, caller: Arc::from("") }
    }

    /// The same, for another caller: idempotency keys of different callers never meet.
    #[must_use]
    pub fn for_caller(&self, caller: &str) -> Self {
        Self { caller: Arc::from(caller), ..self.clone() }
    }

    /// Places an order: all of its lines are held, or none. Answered when that is on disk. The same
    /// `key` with the same order gives the same receipt and orders nothing again. A refusal leaves
    /// nothing behind, and its key is free.
    ///
    /// # Errors
    /// [`OrderError`]: sold out, over a limit, an unknown SKU, a value out of bounds, a key used
    /// for another order, a full queue.
    pub async fn place(&self, order: NewOrder, key: &str) -> Result<Receipt, OrderError> {
        let (shard, place) = self.to_place(order, key)?;
        self.placed(self.shards.ask(shard, place).await?).await
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
        let mut commands = Vec::new();
        let asked: Vec<_> = orders
            .into_iter()
            .map(|(order, key)| {
                self.to_place(order, key.as_ref()).map(|asked| commands.push(asked))
            })
            .collect();
        let mut outcomes = self.shards.ask_many(commands).await.into_iter();
        let mut placed = Vec::with_capacity(asked.len());
        for asked in asked {
            // There are as many as were asked.
            let outcome = asked.and_then(|()| outcomes.next().unwrap_or(Err(AskError::Closing)));
            placed.push(match outcome {
                Ok(reply) => self.placed(reply).await,
                Err(error) => Err(error),
            });
        }
        placed
    }

    /// The command that places an order, and its shard.
    fn to_place(&self, order: NewOrder, key: &str) -> Result<(u16, OrderCommand), OrderError> {
        let key = self.keys.key(&self.caller, "place", key).map_err(invalid)?;
        let NewOrder { user, lines, hold_ms, respond_async } = order;
        let user = UserId::new(&user).map_err(invalid)?;
        let lines = lines.into_iter().map(|line| {
            let (sku, location) = (Sku::new(&line.sku)?, location_or_main(line.location)?);
            let Line { quantity, amount_minor, .. } = line;
            Ok(NewLine { sku, location, quantity, amount_minor })
        });
        let lines: Vec<NewLine> = lines.collect::<Result<_, _>>().map_err(invalid)?;
        let fingerprint = self.keys.fingerprint(&(&user, &lines, hold_ms, respond_async));
        let hint = self.sold_out(&lines);
        let order = PlaceOrder { key, fingerprint, user, lines, hold_ms, respond_async, hint };
        self.projector.admit(self.at_rest_max)?;
        Ok((self.home(key), OrderCommand::Place(order)))
    }

    /// What the answer to it says.
    async fn placed(&self, reply: OrderReply) -> Result<Receipt, OrderError> {
        match reply {
            OrderReply::Placed(receipt) => Ok(receipt),
            OrderReply::AtRest { order } => {
                let order = self.archived_order(order).await?;
                order.placed().map_err(AskError::Rejected)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Tells of a payment event. The same event again changes nothing. Waits for the disk, and
    /// until stock knows.
    ///
    /// # Errors
    /// [`OrderError`]: an unknown order, or an event known with another kind or amount.
    pub async fn pay(&self, order: OrderId, event: PaymentEvent) -> Result<Order, OrderError> {
        let PaymentEvent { provider, event_id, kind, amount_minor } = event;
        let provider = Provider::new(&provider).map_err(invalid)?;
        let event_id = EventId::new(&event_id).map_err(invalid)?;
        self.about(order, OrderCommand::Pay { order, provider, event_id, kind, amount_minor }).await
    }

    /// Cancels an order of which nothing was shipped; what was paid becomes due as a refund. Waits
    /// for the disk, and until its stock is free.
    ///
    /// # Errors
    /// [`OrderError`]: unknown, shipped, or over already.
    pub async fn cancel(&self, order: OrderId, key: &str) -> Result<Order, OrderError> {
        let (key, fingerprint) = self.keyed(order, "cancel", key, &())?;
        self.about(order, OrderCommand::Cancel { order, key, fingerprint }).await
    }

    /// Ships `lines` of a confirmed order, or all that remains of it. Waits for the disk, and until
    /// stock knows.
    ///
    /// # Errors
    /// [`OrderError`]: unknown, not confirmed, more than is left to ship.
    pub async fn fulfil(
        &self,
        order: OrderId,
        lines: Option<Vec<Units>>,
        key: &str,
    ) -> Result<Order, OrderError> {
        let lines = lines.map(|lines| lines.into_iter().map(Units::check).collect());
        let lines: Option<Vec<_>> = lines.transpose().map_err(invalid)?;
        let (key, fingerprint) = self.keyed(order, "fulfil", key, &lines)?;
        self.about(order, OrderCommand::Fulfil { order, key, fingerprint, lines }).await
    }

    /// Takes shipped units back, onto the shelf if `restock`; their value becomes due as a refund.
    /// Waits for the disk, and until stock knows.
    ///
    /// # Errors
    /// [`OrderError`]: unknown, or more than was shipped.
    pub async fn take_back(
        &self,
        order: OrderId,
        lines: Vec<Units>,
        restock: bool,
        key: &str,
    ) -> Result<Order, OrderError> {
        let lines = lines.into_iter().map(Units::check).collect::<Result<Vec<_>, _>>();
        let lines = lines.map_err(invalid)?;
        let (key, fingerprint) = self.keyed(order, "return", key, &(&lines, restock))?;
        self.about(order, OrderCommand::Return { order, key, fingerprint, lines, restock }).await
    }

    /// An order as it is now, live or finished. Waits until what it shows is on disk.
    ///
    /// # Errors
    /// [`OrderError`]: unknown.
    pub async fn get(&self, order: OrderId) -> Result<Order, OrderError> {
        self.about(order, OrderCommand::Get { order }).await
    }

    /// The same, and where it waits, if it waits in the queue of an
    /// [intake](crate::Builder::intake).
    ///
    /// # Errors
    /// [`OrderError`]: unknown.
    pub async fn get_with_place(
        &self,
        order: OrderId,
    ) -> Result<(Order, Option<QueuePlace>), OrderError> {
        self.about_with_place(order, OrderCommand::Get { order }).await
    }

    /// Up to `limit` orders (at least 1) of `user`, newest first, after `after` if given. Asks
    /// every order shard; waits until what it shows is on disk.
    ///
    /// # Errors
    /// [`OrderError`]; a rejection only for a user out of bounds.
    pub async fn by_user(
        &self,
        user: &str,
        after: Option<UserCursor>,
        limit: usize,
    ) -> Result<UserOrders, OrderError> {
        let (user, limit) = (UserId::new(user).map_err(invalid)?, limit.max(1));
        let mut found: HashMap<OrderId, Order> = HashMap::new();
        let asks: Vec<_> = (0..self.shards.len())
            .map(|shard| self.shards.ask(shard, OrderCommand::ListByUser { user: user.clone() }))
            .collect();
        // Memory first: an order that leaves it meanwhile is in the archive by then.
        for ask in asks {
            match ask.await? {
                OrderReply::Orders(orders) => found.extend(orders.into_iter().map(|o| (o.id, o))),
                other => return Err(unexpected(&other)),
            }
        }
        let archived = self
            .archive(move |state| archive::by_user(state, &user, after, limit.saturating_add(1)))
            .await?;
        for order in archived {
            // Where both have it, memory is newer.
            found.entry(order.id).or_insert(order);
        }
        let mut orders: Vec<_> = found
            .into_values()
            .filter(|order| after.is_none_or(|after| UserCursor::of(order) < after))
            .collect();
        orders.sort_unstable_by_key(|order| std::cmp::Reverse(UserCursor::of(order)));
        let more = orders.len() > limit;
        orders.truncate(limit);
        let next = orders.last().filter(|_| more).map(UserCursor::of);
        Ok(UserOrders { orders, next })
    }

    async fn about(&self, order: OrderId, command: OrderCommand) -> Result<Order, OrderError> {
        self.about_with_place(order, command).await.map(|(order, _)| order)
    }

    async fn about_with_place(
        &self,
        order: OrderId,
        command: OrderCommand,
    ) -> Result<(Order, Option<QueuePlace>), OrderError> {
        if order.shard() >= self.shards.len() {
            return Err(AskError::Rejected(OrderRejection::UnknownOrder { order }));
        }
        match self.shards.ask(order.shard(), command).await? {
            OrderReply::Order(order) => Ok((*order, None)),
            OrderReply::Waiting(order, place) => Ok((*order, Some(*place))),
            OrderReply::AtRest { order } => Ok((self.archived_order(order).await?, None)),
            other => Err(unexpected(&other)),
        }
    }

    async fn archived_order(&self, order: OrderId) -> Result<Order, OrderError> {
        let found = self.archive(move |state| archive::read(state, order)).await?;
        found.ok_or(AskError::Rejected(OrderRejection::UnknownOrder { order }))
    }

    async fn archive<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn State) -> Result<T, ArchiveError> + Send + 'static,
    ) -> Result<T, OrderError> {
        let state = Arc::clone(&self.state);
        let unavailable = |why: String| AskError::Unavailable { why };
        tokio::task::spawn_blocking(move || read(&*state))
            .await
            .map_err(|error| unavailable(error.to_string()))?
            .map_err(|error| unavailable(error.to_string()))
    }

    /// Keys of changes lead to the shard of their order, so they are scoped to it.
    fn keyed<T: Serialize>(
        &self,
        order: OrderId,
        operation: &str,
        key: &str,
        request: &T,
    ) -> Result<(KeyHash, tidegate_machines::Fingerprint), OrderError> {
        let fingerprint = self.keys.fingerprint(request);
        let operation = format!("{operation} {order}");
        let key = self.keys.key(&self.caller, &operation, key).map_err(invalid)?;
        Ok((key, fingerprint))
    }

    /// What is known to be refused. The order shard still looks at the key first: an order that was
    /// accepted stays so.
    fn sold_out(&self, lines: &[NewLine]) -> Option<Refusal> {
        let gone = lines.iter().find(|line| self.board.is_sold_out(&line.sku, &line.location))?;
        let NewLine { sku, location, quantity, .. } = gone.clone();
        Some(Refusal::SoldOut { sku, location, requested: quantity, available: 0 })
    }

    /// Orders live where their key leads, so that a reused key meets its first use.
    fn home(&self, key: KeyHash) -> u16 {
        (((key.0 >> 64) * u128::from(self.shards.len())) >> 64) as u16
    }
}

fn invalid(error: OutOfBounds) -> OrderError {
    AskError::Rejected(OrderRejection::Invalid(error))
}

/// The machine has answered another question: a bug, and never a lost command.
fn unexpected(reply: &OrderReply) -> OrderError {
    AskError::Unavailable { why: format!("an answer of another kind: {reply:?}") }
}
