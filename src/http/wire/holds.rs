//! Standalone holds, as they are written.

use serde::{Deserialize, Serialize};
use tidegate::{Hold as HoldOf, HoldOutcome, Location, NewHold, OutOfBounds, Sku, UserId};
use utoipa::ToSchema;

use super::{
    held_ms,
    time::Time,
    whole::{maybe, whole},
};

/// Units to be held without an order.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewHold)]
pub(crate) struct PlaceHold {
    /// For whom.
    #[schema(pattern = "^[!-~]{1,64}$")]
    user: String,
    /// Of what.
    #[schema(pattern = "^[!-~]{1,64}$")]
    sku: String,
    /// How many.
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 1000000)]
    quantity: u64,
    /// Where. Default: `main`.
    #[serde(default)]
    #[schema(pattern = "^[!-~]{1,64}$")]
    location: Option<String>,
    /// How long, in seconds, unless confirmed or released before. Default: 900.
    #[serde(default, deserialize_with = "maybe")]
    #[schema(minimum = 1, maximum = 2592000)]
    ttl_seconds: Option<u64>,
}

impl PlaceHold {
    pub(crate) fn check(self) -> Result<NewHold, OutOfBounds> {
        let ttl_ms = held_ms("ttl_seconds", self.ttl_seconds)?;
        let hold = NewHold::new(self.user, self.sku, self.quantity, ttl_ms);
        Ok(self.location.into_iter().fold(hold, NewHold::at))
    }
}

/// How long a hold is to live from now.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExtendHold {
    /// In seconds.
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 2592000)]
    ttl_seconds: u64,
}

impl ExtendHold {
    pub(crate) fn ttl_ms(&self) -> Result<u64, OutOfBounds> {
        held_ms("ttl_seconds", Some(self.ttl_seconds))
    }
}

/// A standalone hold.
#[derive(Serialize, ToSchema)]
pub(crate) struct Hold {
    id: String,
    #[schema(value_type = String)]
    user: UserId,
    #[schema(value_type = String)]
    sku: Sku,
    #[schema(value_type = String)]
    location: Location,
    quantity: u64,
    /// What has become of it.
    state: HoldState,
    placed_at: Time,
    /// When it expires, or would have expired.
    expires_at: Time,
    /// When it got its one outcome.
    settled_at: Option<Time>,
    /// When its units left the stock.
    shipped_at: Option<Time>,
}

/// What has become of a hold.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HoldState {
    /// Its units are set aside.
    Held,
    /// Its units are sold.
    Confirmed,
    /// Its units were freed by whoever held them.
    Released,
    /// Its units were freed by time.
    Expired,
}

impl From<HoldOf> for Hold {
    fn from(hold: HoldOf) -> Self {
        let state = match hold.settled {
            None => HoldState::Held,
            Some((HoldOutcome::Confirmed, _)) => HoldState::Confirmed,
            Some((HoldOutcome::Released, _)) => HoldState::Released,
            Some((HoldOutcome::Expired, _)) => HoldState::Expired,
        };
        Self {
            id: hold.id.to_string(),
            user: hold.user,
            sku: hold.line.sku,
            location: hold.line.location,
            quantity: hold.line.quantity,
            state,
            placed_at: Time(hold.placed_at),
            expires_at: Time(hold.expires_at),
            settled_at: hold.settled.map(|(_, at)| Time(at)),
            shipped_at: hold.shipped_at.map(Time),
        }
    }
}
