//! What goes over the wire: the JSON of requests and answers, and nothing that decides. Requests
//! refuse fields that they don't know.

pub(crate) mod acks;
pub(crate) mod dead_letters;
pub(crate) mod groups;
pub(crate) mod holds;
pub(crate) mod leases;
pub(crate) mod object;
pub(crate) mod orders;
pub(crate) mod place;
pub(crate) mod skus;
pub(crate) mod time;
pub(crate) mod topics;
pub(crate) mod views;
pub(crate) mod webhooks;
mod whole;

use serde::{Deserialize, Deserializer};
use tidegate::{HOLD_MS_DEFAULT, OutOfBounds, bounds};

/// An enum as it is written: in snake_case, with exactly the variants of the library's.
macro_rules! spoken {
    ($(#[$doc:meta])* $name:ident of $of:ident as $schema:ident { $($variant:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        #[serde(rename_all = "snake_case")]
        #[schema(as = $schema)]
        pub(crate) enum $name { $($variant),* }

        impl From<$of> for $name {
            fn from(it: $of) -> Self {
                match it { $($of::$variant => Self::$variant),* }
            }
        }

        impl From<$name> for $of {
            fn from(it: $name) -> Self {
                match it { $($name::$variant => Self::$variant),* }
            }
        }
    };
}
pub(crate) use spoken;

/// A field that is there, be it null: told from one that is absent, which `default` gives.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// How long something is held, checked: 15 minutes if nothing is said.
fn held_ms(field: &'static str, seconds: Option<u64>) -> Result<u64, OutOfBounds> {
    const SECONDS_MAX: u64 = bounds::HOLD_MS_MAX / 1_000;
    match seconds {
        None => Ok(HOLD_MS_DEFAULT),
        Some(seconds @ 1..=SECONDS_MAX) => Ok(seconds * 1_000),
        Some(given) => Err(OutOfBounds::new(field, format_args!("1 to {SECONDS_MAX}"), given)),
    }
}

/// A number that must lie in `min..=max`.
fn within(field: &'static str, given: u64, min: u64, max: u64) -> Result<u64, OutOfBounds> {
    if (min..=max).contains(&given) {
        return Ok(given);
    }
    Err(OutOfBounds::new(field, format_args!("{min} to {max}"), given))
}
