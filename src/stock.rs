//! Stock, for callers: checks and names what is asked, finds the shard, and asks it. What is
//! possible is decided by the stock machine.

use std::sync::Arc;

use tidegate_actors::{AskError, Group, Keyring};
use tidegate_machines::{
    Hold, HoldId, ItemView, KeyHash, Location, OutOfBounds, Sku, SkuPatch, Stock, StockCommand,
    StockReceipt, StockRejection, StockReply, UserId, shard_of,
};

/// Why a stock command got no good reply.
pub type StockError = AskError<StockRejection>;

/// Asks stock shards. Get it from [`crate::Tidegate::stock`]; cheap to clone.
#[derive(Clone)]
pub struct StockClient {
    shards: Group<Stock>,
    keys: Keyring,
    caller: Arc<str>,
}

/// A movement of stock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adjustment {
    sku: String,
    location: Option<String>,
    delta: i64,
    reason: String,
}

impl Adjustment {
    /// Moves `delta` units of `sku` in (positive) or out (negative) at location `main`. `reason` is
    /// for whoever reads the journal.
    pub fn new(sku: impl Into<String>, delta: i64, reason: impl Into<String>) -> Self {
        Self { sku: sku.into(), location: None, delta, reason: reason.into() }
    }

    /// At another location.
    #[must_use]
    pub fn at(mut self, location: impl Into<String>) -> Self {
        self.location = Some(location.into());
        self
    }
}

/// A hold to be placed, without an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewHold {
    user: String,
    sku: String,
    location: Option<String>,
    quantity: u64,
    ttl_ms: u64,
}

impl NewHold {
    /// Holds `quantity` units of `sku` at location `main` for `user`, for `ttl_ms` milliseconds.
    pub fn new(
        user: impl Into<String>,
        sku: impl Into<String>,
        quantity: u64,
        ttl_ms: u64,
    ) -> Self {
        Self { user: user.into(), sku: sku.into(), location: None, quantity, ttl_ms }
    }

    /// At another location.
    #[must_use]
    pub fn at(mut self, location: impl Into<String>) -> Self {
        self.location = Some(location.into());
        self
    }
}

impl StockClient {
    pub(crate) fn new(shards: Group<Stock>, keys: Keyring) -> Self {
        Self { shards, keys, caller: Arc::from("") }
    }

    /// The same, for another caller: idempotency keys of different callers never meet.
    #[must_use]
    pub fn for_caller(&self, caller: &str) -> Self {
        Self { caller: Arc::from(caller), ..self.clone() }
    }

    /// Defines a SKU, or changes those of its options that `patch` gives. Asking again is harmless.
    /// Waits for the disk.
    ///
    /// # Errors
    /// [`StockError`].
    pub async fn define(&self, sku: &str, patch: SkuPatch) -> Result<ItemView, StockError> {
        let sku = Sku::new(sku).map_err(invalid)?;
        let shard = self.shard(&sku);
        item(self.shards.ask(shard, StockCommand::Define { sku, patch }).await?)
    }

    /// Moves stock. The same `key` with the same adjustment gives the same receipt and moves
    /// nothing again. Waits for the disk.
    ///
    /// # Errors
    /// [`StockError`]: an unknown SKU, a key used for something else, units that are promised.
    pub async fn adjust(
        &self,
        adjustment: Adjustment,
        key: &str,
    ) -> Result<StockReceipt, StockError> {
        let Adjustment { sku, location, delta, reason } = adjustment;
        let sku = Sku::new(&sku).map_err(invalid)?;
        let location = location_or_main(location).map_err(invalid)?;
        let fingerprint = self.keys.fingerprint(&(&location, delta, &reason));
        let key = self.key("adjust", &sku, key)?;
        let shard = self.shard(&sku);
        let command = StockCommand::Adjust { key, fingerprint, sku, location, delta, reason };
        match self.shards.ask(shard, command).await? {
            StockReply::Receipt(receipt) => Ok(receipt),
            other => Err(unexpected(&other)),
        }
    }

    /// A SKU with its options and its stock. Waits until what it shows is on disk.
    ///
    /// # Errors
    /// [`StockError`]: an unknown SKU.
    pub async fn get(&self, sku: &str) -> Result<ItemView, StockError> {
        let sku = Sku::new(sku).map_err(invalid)?;
        let shard = self.shard(&sku);
        item(self.shards.read(shard, StockCommand::Get { sku }).await?)
    }

    /// Holds units without an order. Unless confirmed or released it expires by itself. The same
    /// `key` with the same hold gives the same hold. Waits for the disk.
    ///
    /// # Errors
    /// [`StockError`]: sold out, over the user's limit, an unknown SKU, a key used for something
    /// else.
    pub async fn hold(&self, new: NewHold, key: &str) -> Result<Hold, StockError> {
        let (shard, command) = self.to_hold(new, key)?;
        self.ask_hold(shard, command).await
    }

    /// Places many holds together, each with its key and by itself, as [`StockClient::hold`] does:
    /// one refused hold stops no other. Gives what became of each, in the order of the holds, once
    /// all are answered: it is as slow as the slowest. Holds of one SKU are taken in their order,
    /// of different ones in any. How many may be asked is bounded only by what may be in flight
    /// ([`Builder::in_flight_max`](crate::Builder::in_flight_max)): those over it are
    /// [`AskError::Overloaded`].
    pub async fn hold_many<K: AsRef<str>>(
        &self,
        holds: impl IntoIterator<Item = (NewHold, K)>,
    ) -> Vec<Result<Hold, StockError>> {
        let asked = holds.into_iter().map(|(new, key)| self.to_hold(new, key.as_ref()));
        self.ask_holds(asked.collect()).await
    }

    /// The command that places a hold, and its shard.
    fn to_hold(&self, new: NewHold, key: &str) -> Result<(u16, StockCommand), StockError> {
        let NewHold { user, sku, location, quantity, ttl_ms } = new;
        let sku = Sku::new(&sku).map_err(invalid)?;
        let user = UserId::new(&user).map_err(invalid)?;
        let location = location_or_main(location).map_err(invalid)?;
        let fingerprint = self.keys.fingerprint(&(&user, &location, quantity, ttl_ms));
        let key = self.key("hold", &sku, key)?;
        let shard = self.shard(&sku);
        let command =
            StockCommand::Hold { key, fingerprint, user, sku, location, quantity, ttl_ms };
        Ok((shard, command))
    }

    /// Lets a hold live for `ttl_ms` milliseconds from now. Waits for the disk.
    ///
    /// # Errors
    /// [`StockError`]: unknown or already settled.
    pub async fn extend_hold(&self, hold: HoldId, ttl_ms: u64) -> Result<Hold, StockError> {
        self.about_hold(hold, StockCommand::ExtendHold { hold, ttl_ms }).await
    }

    /// Settles a hold: its units are sold (allocated). Again gives the same answer. Waits for the
    /// disk.
    ///
    /// # Errors
    /// [`StockError`]: unknown, or settled otherwise.
    pub async fn confirm_hold(&self, hold: HoldId) -> Result<Hold, StockError> {
        self.about_hold(hold, StockCommand::ConfirmHold { hold }).await
    }

    /// Settles many holds together, each by itself, as [`StockClient::confirm_hold`] does. Gives
    /// what became of each, in the order of the holds, once all are answered; bounded as
    /// [`StockClient::hold_many`] is.
    pub async fn confirm_many(
        &self,
        holds: impl IntoIterator<Item = HoldId>,
    ) -> Vec<Result<Hold, StockError>> {
        let asked = holds
            .into_iter()
            .map(|hold| self.home(hold).map(|shard| (shard, StockCommand::ConfirmHold { hold })));
        self.ask_holds(asked.collect()).await
    }

    /// Settles a hold: its units are free. Again gives the same answer. Waits for the disk.
    ///
    /// # Errors
    /// [`StockError`]: unknown, or settled otherwise.
    pub async fn release_hold(&self, hold: HoldId) -> Result<Hold, StockError> {
        self.about_hold(hold, StockCommand::ReleaseHold { hold }).await
    }

    /// The units of a confirmed hold leave the stock. Again gives the same answer. Waits for the
    /// disk.
    ///
    /// # Errors
    /// [`StockError`]: unknown or not confirmed.
    pub async fn ship_hold(&self, hold: HoldId) -> Result<Hold, StockError> {
        self.about_hold(hold, StockCommand::ShipHold { hold }).await
    }

    /// A hold, as long as it is remembered: at least 24 hours after it was settled.
    ///
    /// # Errors
    /// [`StockError`]: unknown.
    pub async fn get_hold(&self, hold: HoldId) -> Result<Hold, StockError> {
        held(self.shards.read(self.home(hold)?, StockCommand::GetHold { hold }).await?)
    }

    async fn about_hold(&self, hold: HoldId, command: StockCommand) -> Result<Hold, StockError> {
        self.ask_hold(self.home(hold)?, command).await
    }

    /// The shard that gave a hold its number.
    fn home(&self, hold: HoldId) -> Result<u16, StockError> {
        let known = hold.shard() < self.shards.len();
        known.then(|| hold.shard()).ok_or(AskError::Rejected(StockRejection::UnknownHold { hold }))
    }

    async fn ask_hold(&self, shard: u16, command: StockCommand) -> Result<Hold, StockError> {
        held(self.shards.ask(shard, command).await?)
    }

    /// Asks all of them together; the answers are in the order of `asked`.
    async fn ask_holds(
        &self,
        asked: Vec<Result<(u16, StockCommand), StockError>>,
    ) -> Vec<Result<Hold, StockError>> {
        let question = |asked: Result<(u16, StockCommand), StockError>| {
            let (shard, command) = asked?;
            Ok((self.shards.admit(shard)?, command))
        };
        let outcomes = self.shards.ask_many(asked.into_iter().map(question).collect()).await;
        outcomes.into_iter().map(|outcome| held(outcome?)).collect()
    }

    /// Stock lives where its SKU leads, so keys are scoped to the SKU: a reused key must meet its
    /// first use.
    fn key(&self, operation: &str, sku: &Sku, key: &str) -> Result<KeyHash, StockError> {
        self.keys.key(&self.caller, &format!("{operation} {sku}"), key).map_err(invalid)
    }

    fn shard(&self, sku: &Sku) -> u16 {
        shard_of(sku.as_str().as_bytes(), self.shards.len())
    }
}

/// The location as a caller names it, or `main`.
pub(crate) fn location_or_main(location: Option<String>) -> Result<Location, OutOfBounds> {
    location.map_or_else(|| Ok(Location::default()), |location| Location::new(&location))
}

fn item(reply: StockReply) -> Result<ItemView, StockError> {
    match reply {
        StockReply::Item(item) => Ok(*item),
        other => Err(unexpected(&other)),
    }
}

fn held(reply: StockReply) -> Result<Hold, StockError> {
    match reply {
        StockReply::Hold(hold) => Ok(hold),
        other => Err(unexpected(&other)),
    }
}

fn invalid(error: OutOfBounds) -> StockError {
    AskError::Rejected(StockRejection::Invalid(error))
}

/// The machine has answered another question: a bug, and never a lost command.
fn unexpected(reply: &StockReply) -> StockError {
    AskError::Unavailable { why: format!("an answer of another kind: {reply:?}") }
}
