//! Orders, for callers: checks and names what is asked, finds the shard, and asks it. What is
//! possible is decided by the order machine.

use std::{collections::HashMap, sync::Arc};

use serde::Serialize;
use tidegate_actors::{
    AskError, Board, Group, Keyring, KnownKeys, ProjectorHandle,
    archive::{self, ArchiveError, UserCursor},
};
use tidegate_machines::{
    EventId, KeyHash, Order, OrderCommand, OrderId, OrderRejection, OrderReply, Orders,
    OutOfBounds, PaymentKind, Provider, QueuePlace, Sku, StockLine, UserId,
};
use tidegate_storage::State;

use crate::stock::location_or_main;

/// Why an order command got no good reply.
pub type OrderError = AskError<OrderRejection>;

/// Asks order shards. Get it from [`crate::Tidegate::orders`]; cheap to clone.
#[derive(Clone)]
pub struct OrdersClient {
    pub(crate) inner: Arc<AskOrders>,
    pub(crate) caller: Arc<str>,
}

/// What clients ask with.
pub(crate) struct AskOrders {
    pub(crate) shards: Group<Orders>,
    pub(crate) state: Arc<dyn State>,
    pub(crate) keys: Keyring,
    pub(crate) board: Arc<Board>,
    /// The keys that each shard may know.
    pub(crate) known: Arc<[Arc<KnownKeys>]>,
    pub(crate) projector: ProjectorHandle,
    pub(crate) at_rest_max: u64,
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
    pub(crate) fn new(inner: AskOrders) -> Self {
        Self { inner: Arc::new(inner), caller: Arc::from("") }
    }

    /// The same, for another caller: idempotency keys of different callers never meet.
    #[must_use]
    pub fn for_caller(&self, caller: &str) -> Self {
        Self { inner: Arc::clone(&self.inner), caller: Arc::from(caller) }
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
        self.get_with_place(order).await.map(|(order, _)| order)
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
        self.check_shard(order)?;
        let read = self.inner.shards.read(order.shard(), OrderCommand::Get { order }).await?;
        if let OrderReply::AtRest { order } = read {
            if let Some(found) = self.archived(order)? {
                return Ok((found, None));
            }
            // It was refused, and that may not be on disk yet. In a box: hardly any read gets here,
            // and all would keep room for it.
            return Box::pin(self.about_with_place(order, OrderCommand::Get { order })).await;
        }
        self.shown(read)
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
        // One more than is shown tells whether there are more.
        let wanted = limit.saturating_add(1);
        let mut found: HashMap<OrderId, Order> = HashMap::new();
        let before = after.map(|cursor| (cursor.placed_at, cursor.order));
        let list = OrderCommand::ListByUser { user: user.clone(), after: before, limit: wanted };
        let asks: Vec<_> = (0..self.inner.shards.len())
            .map(|shard| self.inner.shards.ask(shard, list.clone()))
            .collect();
        // Memory first: an order that leaves it meanwhile is in the archive by then.
        for ask in asks {
            match ask.await? {
                OrderReply::Orders(orders) => found.extend(orders.into_iter().map(|o| (o.id, o))),
                other => return Err(unexpected(&other)),
            }
        }
        let archived =
            self.archive(move |state| archive::by_user(state, &user, after, wanted)).await?;
        for order in archived {
            // Where both have it, memory is newer.
            found.entry(order.id).or_insert(order);
        }
        let mut orders: Vec<_> = found.into_values().collect();
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
        self.check_shard(order)?;
        self.shown(self.inner.shards.ask(order.shard(), command).await?)
    }

    fn check_shard(&self, order: OrderId) -> Result<(), OrderError> {
        if order.shard() < self.inner.shards.len() {
            return Ok(());
        }
        Err(AskError::Rejected(OrderRejection::UnknownOrder { order }))
    }

    /// The order in an answer, and where it waits.
    fn shown(&self, reply: OrderReply) -> Result<(Order, Option<QueuePlace>), OrderError> {
        match reply {
            OrderReply::Order(order) => Ok((*order, None)),
            OrderReply::Waiting(order, place) => Ok((*order, Some(*place))),
            OrderReply::AtRest { order } => Ok((self.archived_order(order)?, None)),
            other => Err(unexpected(&other)),
        }
    }

    /// An order that has left memory and must be in the archive, unless it was refused.
    pub(crate) fn archived_order(&self, order: OrderId) -> Result<Order, OrderError> {
        self.archived(order)?.ok_or(AskError::Rejected(OrderRejection::UnknownOrder { order }))
    }

    /// A row of the archive, read on this thread: nearly always it comes from memory, in less time
    /// than another thread would take to wake up.
    fn archived(&self, order: OrderId) -> Result<Option<Order>, OrderError> {
        let read = archive::read(&*self.inner.state, order);
        read.map_err(|error| AskError::Unavailable { why: error.to_string() })
    }

    async fn archive<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn State) -> Result<T, ArchiveError> + Send + 'static,
    ) -> Result<T, OrderError> {
        let state = Arc::clone(&self.inner.state);
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
        let fingerprint = self.inner.keys.fingerprint(request);
        let operation = format!("{operation} {order}");
        let key = self.inner.keys.key(&self.caller, &operation, key).map_err(invalid)?;
        Ok((key, fingerprint))
    }
}

pub(crate) fn invalid(error: OutOfBounds) -> OrderError {
    AskError::Rejected(OrderRejection::Invalid(error))
}

/// The machine has answered another question: a bug, and never a lost command.
pub(crate) fn unexpected(reply: &OrderReply) -> OrderError {
    AskError::Unavailable { why: format!("an answer of another kind: {reply:?}") }
}
