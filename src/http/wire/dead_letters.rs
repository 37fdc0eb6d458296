//! Dead letters, as they are written.

use serde::Serialize;
use tidegate::{DeadLetter as DeadLetterOf, MessageKey};
use utoipa::ToSchema;

use super::{time::Time, topics::Json};

/// A message that was given up.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeadLetter {
    /// Its id in the topic.
    id: String,
    /// Its number, as its publisher was told; null in the topic `events`.
    number: Option<u64>,
    #[schema(value_type = Option<String>)]
    key: Option<MessageKey>,
    published_at: Time,
    /// How often it was tried.
    attempts: u32,
    /// Why the last attempt failed.
    cause: String,
    /// When it was given up.
    died_at: Time,
    #[schema(value_type = Value)]
    payload: Json,
}

/// A page of dead letters, oldest message first.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeadLetters {
    pub(crate) dead_letters: Vec<DeadLetter>,
    /// Where the next page begins; null if this is the last.
    pub(crate) next_cursor: Option<String>,
}

impl DeadLetter {
    /// An error if its payload is no JSON.
    pub(crate) fn of(dead: DeadLetterOf) -> Result<Self, serde_json::Error> {
        let DeadLetterOf { letter, attempts, cause, died_at } = dead;
        Ok(Self {
            id: letter.id.to_string(),
            number: letter.number,
            key: letter.key,
            published_at: Time(letter.at),
            attempts,
            cause,
            died_at: Time(died_at),
            payload: serde_json::from_slice(letter.payload.bytes())?,
        })
    }
}
