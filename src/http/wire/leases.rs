//! Messages in the hands of consumers, as they are written, and what became of them.

use std::time::Duration;

use actix_web::http::StatusCode;
use serde::{Deserialize, Serialize};
use tidegate::{
    LEASE_MESSAGES_MAX, LEASE_MS_MAX, LeaseToken, Leased, Letter, MessageId, MessageKey,
    OutOfBounds, machine::Timestamp,
};
use utoipa::ToSchema;

use super::{
    groups::read_id,
    object::Object,
    time::Time,
    topics::Json,
    whole::{maybe, whole},
    within,
};
use crate::http::problem::{Problem, ProblemBody};

/// How long a request may wait for a message, in milliseconds.
const WAIT_MS_MAX: u64 = 30_000;

/// How long a message is leased if nothing is said, in milliseconds.
const LEASE_MS: u64 = 30_000;

/// Messages to have for a time.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeaseMessages {
    /// How many at most. Default: 1.
    #[serde(default, deserialize_with = "maybe")]
    #[schema(minimum = 1, maximum = 256)]
    max: Option<u64>,
    /// How long to wait for the first one, in milliseconds. Default: 0.
    #[serde(default, deserialize_with = "maybe")]
    #[schema(minimum = 0, maximum = 30000)]
    wait_ms: Option<u64>,
    /// How long nobody else gets them, in milliseconds. Default: 30000.
    #[serde(default, deserialize_with = "maybe")]
    #[schema(minimum = 1, maximum = 43200000)]
    lease_ms: Option<u64>,
}

/// The same, checked.
pub(crate) struct Wanted {
    pub(crate) max: usize,
    pub(crate) wait: Duration,
    pub(crate) lease_for: Duration,
}

impl LeaseMessages {
    pub(crate) fn check(&self) -> Result<Wanted, OutOfBounds> {
        let max = within("max", self.max.unwrap_or(1), 1, LEASE_MESSAGES_MAX as u64)?;
        let wait = within("wait_ms", self.wait_ms.unwrap_or(0), 0, WAIT_MS_MAX)?;
        let lease_ms = self.lease_ms.unwrap_or(LEASE_MS);
        Ok(Wanted {
            max: usize::try_from(max).unwrap_or(LEASE_MESSAGES_MAX),
            wait: Duration::from_millis(wait),
            lease_for: lease_for(lease_ms)?,
        })
    }
}

fn lease_for(ms: u64) -> Result<Duration, OutOfBounds> {
    within("lease_ms", ms, 1, LEASE_MS_MAX).map(Duration::from_millis)
}

/// Messages that the consumer has now.
#[derive(Serialize, ToSchema)]
pub(crate) struct Leases {
    pub(crate) messages: Vec<LeasedMessage>,
}

/// A message that the consumer has now.
#[derive(Serialize, ToSchema)]
pub(crate) struct LeasedMessage {
    /// Its id, which never changes: a good idempotency key for whatever the message leads to.
    id: String,
    /// Names the lease, with the id: send both to acknowledge it, to fail it or to keep it longer.
    lease: String,
    /// Which attempt this is, from 1.
    attempt: u32,
    /// Its number, as its publisher was told; null in the topic `events`.
    number: Option<u64>,
    #[schema(value_type = Option<String>)]
    key: Option<MessageKey>,
    published_at: Time,
    /// When the lease ends, unless it is extended.
    leased_until: Time,
    #[schema(value_type = Value)]
    payload: Json,
}

/// A message as a stream has it: as it is leased, but nobody has it.
#[derive(Serialize, ToSchema)]
pub(crate) struct StreamedMessage {
    /// Its id, which never changes, and where to go on after it.
    id: String,
    /// Its number, as its publisher was told; null in the topic `events`.
    number: Option<u64>,
    #[schema(value_type = Option<String>)]
    key: Option<MessageKey>,
    published_at: Time,
    #[schema(value_type = Value)]
    payload: Json,
}

impl StreamedMessage {
    /// An error if its payload is no JSON.
    pub(crate) fn of(letter: &Letter) -> Result<Self, serde_json::Error> {
        Ok(Self {
            id: letter.id.to_string(),
            number: letter.number,
            key: letter.key.clone(),
            published_at: Time(letter.at),
            payload: serde_json::from_slice(letter.payload.bytes())?,
        })
    }
}

impl LeasedMessage {
    /// An error if its payload is no JSON.
    pub(crate) fn of(
        leased: &Leased<Json>,
        leased_until: Timestamp,
    ) -> Result<Self, serde_json::Error> {
        let letter = leased.letter();
        Ok(Self {
            id: letter.id.to_string(),
            lease: leased.token().to_string(),
            attempt: leased.attempt(),
            number: letter.number,
            key: letter.key.clone(),
            published_at: Time(letter.at),
            leased_until: Time(leased_until),
            payload: leased.value()?,
        })
    }
}

/// What names a lease, perhaps with more.
pub(super) trait LeaseName {
    /// What comes with it.
    type With;

    /// The message's id, the lease, and what comes with it.
    fn split(self) -> Result<(String, String, Self::With), OutOfBounds>;
}

/// A lease.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lease {
    /// The message.
    #[schema(pattern = r"^[0-9]{1,19}(\.[0-9]{1,9})?$")]
    id: String,
    /// As it was given with the message.
    lease: String,
}

impl LeaseName for Lease {
    type With = ();

    fn split(self) -> Result<(String, String, ()), OutOfBounds> {
        Ok((self.id, self.lease, ()))
    }
}

/// Messages that could not be handled.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FailMessages {
    #[schema(value_type = Vec<Lease>, min_items = 1, max_items = 256)]
    messages: Vec<Object<Lease>>,
    /// Why, of which 1,024 bytes are kept. Default: that the consumer did not say.
    #[serde(default)]
    cause: Option<String>,
}

/// Messages that take longer.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExtendLeases {
    #[schema(value_type = Vec<Lease>, min_items = 1, max_items = 256)]
    messages: Vec<Object<Lease>>,
    /// How long nobody else gets them from now, in milliseconds.
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 43200000)]
    lease_ms: u64,
}

/// A lease as the library has it. What is no token names no lease.
pub(crate) struct Named<W = ()> {
    pub(crate) id: MessageId,
    pub(crate) token: Option<LeaseToken>,
    /// What came with it.
    pub(crate) with: W,
}

impl FailMessages {
    /// With the cause.
    pub(crate) fn check(self) -> Result<(Vec<Named>, String), OutOfBounds> {
        let cause = self.cause.unwrap_or_else(|| "the consumer did not say why".to_owned());
        Ok((named(self.messages)?, cause))
    }
}

impl ExtendLeases {
    /// With the time.
    pub(crate) fn check(self) -> Result<(Vec<Named>, Duration), OutOfBounds> {
        let lease_for = lease_for(self.lease_ms)?;
        Ok((named(self.messages)?, lease_for))
    }
}

pub(super) fn named<L: LeaseName>(
    messages: Vec<Object<L>>,
) -> Result<Vec<Named<L::With>>, OutOfBounds> {
    let count = messages.len();
    if !(1..=LEASE_MESSAGES_MAX).contains(&count) {
        let bound = format_args!("1 to {LEASE_MESSAGES_MAX} messages");
        return Err(OutOfBounds::new("messages", bound, count));
    }
    let named = |Object(message): Object<L>| {
        let (id, lease, with) = message.split()?;
        Ok(Named { id: read_id("id", &id)?, token: lease.parse().ok().map(LeaseToken), with })
    };
    messages.into_iter().map(named).collect()
}

/// What became of each message, in the order of the request.
#[derive(Serialize, ToSchema)]
pub(crate) struct LeaseOutcomes {
    pub(crate) outcomes: Vec<LeaseOutcome>,
}

/// What became of one.
#[derive(Serialize, ToSchema)]
pub(crate) struct LeaseOutcome {
    id: String,
    /// 200, or the status of the problem.
    status: u16,
    /// Why not, if it was not.
    problem: Option<ProblemBody>,
}

impl LeaseOutcome {
    pub(crate) fn new(id: MessageId, outcome: Result<(), Problem>) -> Self {
        let problem = outcome.err();
        let status = problem.as_ref().map_or(StatusCode::OK, |problem| problem.kind().status());
        Self {
            id: id.to_string(),
            status: status.as_u16(),
            problem: problem.map(Problem::into_body),
        }
    }
}
