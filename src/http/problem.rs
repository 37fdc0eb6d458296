//! Every problem that the HTTP interface answers with: its type, title, status and meaning, and how
//! it is put on the wire (RFC 9457). It doesn't know which error is which problem; `refusals` does.

use std::fmt;

use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
};
use serde::Serialize;
use utoipa::ToSchema;

/// Where a problem's type begins; the server has a page at each.
pub(crate) const TYPE_PREFIX: &str = "/problems/";

macro_rules! problem_types {
    ($($name:ident $slug:literal $status:ident $title:literal $meaning:literal)*) => {
        /// A kind of problem. Types are stable: clients decide by them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum ProblemType {
            $(#[doc = $title] $name,)*
        }

        impl ProblemType {
            /// All of them, as documented.
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            /// What its type ends with.
            pub(crate) fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }

            /// Its status.
            pub(crate) fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// A line for people, always the same.
            pub(crate) fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// What it means and what to do.
            pub(crate) fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }
        }
    };
}

problem_types! {
    MalformedJson "malformed-json" BAD_REQUEST "The body is no JSON"
        "Bad syntax, bad UTF-8, or nested too deeply. Nothing has changed."
    InvalidParameter "invalid-parameter" BAD_REQUEST "A parameter or header is wrong"
        "A path, query or header parameter can't be read. Nothing has changed."
    InvalidCursor "invalid-cursor" BAD_REQUEST "The cursor is not one that was given out"
        "Take `next_cursor`, or an event's `id`, as it is, or begin without a cursor."
    UnknownKind "unknown-event-kind" BAD_REQUEST "There is no such kind of event"
        "`/openapi.json` lists every kind."
    KeyMissing "idempotency-key-missing" BAD_REQUEST "An Idempotency-Key header is required"
        "Send a key of your own for each thing to be done, and the same key when you try it again."
    KeyInvalid "idempotency-key-invalid" BAD_REQUEST "The idempotency key is out of bounds"
        "A key is 1 to 255 visible ASCII characters."
    Unauthorized "unauthorized" UNAUTHORIZED "An API key is required"
        "Send `Authorization: Bearer KEY` with a key that the server knows."
    KeyExpired "api-key-expired" UNAUTHORIZED "The API key has expired"
        "Ask the operator for another one."
    RoleTooLow "role-too-low" FORBIDDEN "The API key may not do this"
        "`read` may read, `sell` also sells, publishes and consumes, `admin` also changes SKUs and \
         stock, moves groups, and deals with dead letters and schedules."
    KeyDenied "api-key-denied" FORBIDDEN "The API key is denied"
        "It is on the deny list, or may not be used from this address."
    AddressDenied "address-denied" FORBIDDEN "The address is denied"
        "It is on the deny list, or there is an allow list and it is not on it."
    RouteNotFound "route-not-found" NOT_FOUND "There is nothing at this path"
        "`/openapi.json` lists every path."
    UnknownSku "unknown-sku" NOT_FOUND "The SKU is unknown"
        "Define it with `PUT /v1/skus/{sku}` first. Nothing has changed."
    UnknownHold "unknown-hold" NOT_FOUND "The hold is unknown"
        "There was no such hold, or it was settled longer ago than holds are remembered."
    UnknownOrder "unknown-order" NOT_FOUND "The order is unknown"
        "No such order was accepted."
    UnknownSchedule "unknown-schedule" NOT_FOUND "The topic has no such schedule"
        "It was never made, or it is ended."
    UnknownGroup "unknown-group" NOT_FOUND "The topic has no such consumer group"
        "Make it with `PUT /v1/topics/{topic}/groups/{group}` first. Nothing has changed."
    UnknownDeadLetter "unknown-dead-letter" NOT_FOUND "The message is no dead letter of the group"
        "It was never given up, or it was discarded, or replayed and is done."
    UnknownWebhook "unknown-webhook" NOT_FOUND "There is no such webhook"
        "The server's configuration names them, under `webhooks.endpoints`."
    UnknownView "unknown-view" NOT_FOUND "There is no such view"
        "It is switched on in the server's configuration, under `views`."
    MethodNotAllowed "method-not-allowed" METHOD_NOT_ALLOWED "The path has no such method"
        "`Allow` lists those it has."
    BodyTimeout "body-timeout" REQUEST_TIMEOUT "The body came too slowly"
        "Nothing has changed."
    IdempotencyConflict "idempotency-conflict" CONFLICT "The key was used for another request"
        "Nothing has changed. The same key must come with the same request."
    SoldOut "sold-out" CONFLICT "Not enough is left"
        "Nothing is held; the idempotency key is free."
    LimitExceeded "limit-exceeded" CONFLICT "The user would have more than one may"
        "Unpaid orders and holds count too. Nothing is held; the idempotency key is free."
    NotInStock "not-in-stock" CONFLICT "The units to ship are not on hand"
        "They were sold ahead of stock; book them in first."
    BelowCommitted "below-committed" CONFLICT "The movement would take away promised units"
        "Nothing has changed."
    BackorderInUse "backorder-in-use" CONFLICT "The backorder limit is in use"
        "More is sold ahead of stock than the new limit allows. Nothing has changed."
    HoldSettled "hold-settled" CONFLICT "The hold has another outcome"
        "A hold has exactly one outcome: confirmed, released or expired."
    HoldNotConfirmed "hold-not-confirmed" CONFLICT "The hold is not confirmed"
        "Only a confirmed hold can be shipped."
    PaymentConflict "payment-conflict" CONFLICT "The payment event is known otherwise"
        "The provider's event was told before, with another kind or amount."
    WrongState "wrong-state" CONFLICT "The order's state does not allow this"
        "Nothing has changed."
    AlreadyShipped "already-shipped" CONFLICT "Something was shipped already"
        "The order can't be cancelled any more; return the units instead."
    TooManyUnits "too-many-units" CONFLICT "Too many units"
        "More units than can be ordered at once, or still be shipped or returned."
    ChangeUnderWay "change-under-way" CONFLICT "The order is being changed"
        "Another change is not finished yet; try again in a moment."
    BuiltInTopic "built-in-topic" CONFLICT "The topic is built in"
        "`events` tells what has happened; nothing else can be published there."
    DelayedFull "delayed-full" CONFLICT "Too many messages wait for their time"
        "Nothing has changed; the key is free. Try again when some were published."
    SchedulesFull "schedules-full" CONFLICT "There are too many schedules"
        "Nothing has changed. End one first."
    GroupsFull "groups-full" CONFLICT "There are too many consumer groups"
        "Nothing has changed. Remove one first."
    LeaseOver "lease-over" CONFLICT "The lease is over"
        "Somebody else has the message, or will have it, or has done it. Nothing has changed."
    StillToCome "still-to-come" CONFLICT "The message comes by itself"
        "The group was moved back to before it. Nothing has changed."
    DeadLettersFull "dead-letters-full" CONFLICT "The group has too many dead letters"
        "Nothing more is given up, and nothing is lost. Replay or discard some."
    GroupMoving "group-moving" CONFLICT "The group is being moved"
        "Try again in a moment."
    PositionAhead "position-ahead" CONFLICT "The place was never reached"
        "The id is of another store, or this one was restored to an earlier state."
    PositionTrimmed "position-trimmed" GONE "Events after this place are no longer kept"
        "Read anew what you need to know, then go on with `after=oldest`."
    MessagesTrimmed "messages-trimmed" GONE "Messages that the group has not consumed are gone"
        "Nothing is handed out until the group is told where to go on, with `seek`."
    BodyTooLarge "body-too-large" PAYLOAD_TOO_LARGE "The body is too large"
        "Nothing has changed."
    UnsupportedMediaType "unsupported-media-type" UNSUPPORTED_MEDIA_TYPE "The body must be JSON"
        "Send `Content-Type: application/json`."
    InvalidBody "invalid-body" UNPROCESSABLE_ENTITY "The body has another shape than it must have"
        "A field is unknown, missing, or of the wrong type. Nothing has changed."
    InvalidValue "invalid-value" UNPROCESSABLE_ENTITY "A value is out of bounds"
        "`field` names it, `detail` says what is allowed. Nothing has changed."
    MixedAmounts "mixed-amounts" CONFLICT "Lines of one SKU with and without a price"
        "Give `price_minor` on all lines of a SKU and location, or on none."
    AmountTooLarge "amount-too-large" CONFLICT "An amount is beyond what can be kept"
        "Amounts go up to 9,007,199,254,740,991 minor units. Nothing has changed."
    UnknownLine "unknown-line" CONFLICT "The order has no such line"
        "Nothing has changed."
    QueueTimeout "queue-timeout" CONFLICT "Its turn did not come in time"
        "The order waited in the queue until its deadline. Nothing was held."
    QueueFull "queue-full" TOO_MANY_REQUESTS "Too many orders wait in the queue"
        "Nothing has changed; the key is free. `expected_wait_ms` is how long the queue is."
    Overloaded "overloaded" TOO_MANY_REQUESTS "Too much is in flight"
        "Nothing has changed. Try again after `Retry-After` seconds."
    RateLimited "rate-limited" TOO_MANY_REQUESTS "Too many requests"
        "Nothing has changed. Try again after `Retry-After` seconds."
    TooManyStreams "too-many-streams" TOO_MANY_REQUESTS "Too many readers of events"
        "Try again after `Retry-After` seconds."
    TooManyGroups "too-many-groups" TOO_MANY_REQUESTS "Too many consumer groups are in use"
        "Nothing has changed. Try again after `Retry-After` seconds."
    HeadersTooLarge "headers-too-large" REQUEST_HEADER_FIELDS_TOO_LARGE "The headers are too large"
        "Nothing has changed."
    Internal "internal" INTERNAL_SERVER_ERROR "The server failed on this request"
        "A bug, which changed nothing; the log has the details."
    Unavailable "unavailable" SERVICE_UNAVAILABLE "The outcome is unknown"
        "Ask again with the same idempotency key; it is never done twice."
    ShuttingDown "shutting-down" SERVICE_UNAVAILABLE "The server is shutting down"
        "Nothing has changed. Try again, here or at another server."
    Recovering "recovering" SERVICE_UNAVAILABLE "The server is still opening its store"
        "Nothing has changed. Try again after `Retry-After` seconds."
    ViewBehind "view-behind" SERVICE_UNAVAILABLE "The view is not there yet"
        "It is being built, is behind, or has stopped: `/v1/views` says which. Try again later."
    EventsEnded "events-ended" SERVICE_UNAVAILABLE "The store is closed or has failed"
        "Everything in it was given. Go on after the last `id` once the server has restarted."
    ShardDown "shard-down" SERVICE_UNAVAILABLE "A part of the store is down"
        "Nothing has changed. The log says why; it needs a restart of the server."
    KeyMemoryFull "idempotency-memory-full" SERVICE_UNAVAILABLE "No further key can be remembered"
        "Nothing has changed. Keys are kept for at least 24 hours; try again later."
}

/// A problem on its way to a client.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    kind: ProblemType,
    detail: String,
    field: Option<&'static str>,
    retry_after_s: Option<u64>,
    allow: Option<String>,
    oldest_position: Option<u64>,
    expected_wait_ms: Option<u64>,
}

/// A problem as it is written (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// What kind of problem it is: `/problems/` and a word. Decide by this.
    #[serde(rename = "type")]
    kind: String,
    /// The same for every problem of this type.
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// What is wrong this time.
    detail: String,
    /// The field or parameter that is wrong, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    field: Option<&'static str>,
    /// Of events and messages that are no longer kept: the oldest position that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    oldest_position: Option<u64>,
    /// Of a full queue: how long one more order would have waited, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expected_wait_ms: Option<u64>,
}

impl Problem {
    pub(crate) fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let (field, retry_after_s, allow) = (None, None, None);
        let (oldest_position, expected_wait_ms) = (None, None);
        Self { kind, detail, field, retry_after_s, allow, oldest_position, expected_wait_ms }
    }

    /// Names the field that is wrong.
    pub(crate) fn field(mut self, field: &'static str) -> Self {
        self.field = Some(field);
        self
    }

    /// Says when to try again.
    pub(crate) fn retry_after_s(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Says which methods there are.
    pub(crate) fn allow(mut self, methods: &str) -> Self {
        self.allow = Some(methods.to_owned());
        self
    }

    /// Says from where on events are kept.
    pub(crate) fn oldest_position(mut self, position: u64) -> Self {
        self.oldest_position = Some(position);
        self
    }

    /// Says how long the queue is, and to try again when all who wait now have gone.
    pub(crate) fn expected_wait_ms(mut self, ms: u64) -> Self {
        self.expected_wait_ms = Some(ms);
        self.retry_after_s(ms.div_ceil(1_000).max(1))
    }

    /// The same, of one part of the request.
    pub(crate) fn within(mut self, part: &str) -> Self {
        self.detail = format!("{part}: {}", self.detail);
        self
    }

    /// What kind it is.
    pub(crate) fn kind(&self) -> ProblemType {
        self.kind
    }

    /// The body.
    pub(crate) fn into_body(self) -> ProblemBody {
        ProblemBody {
            kind: format!("{TYPE_PREFIX}{}", self.kind.slug()),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: self.detail,
            field: self.field,
            oldest_position: self.oldest_position,
            expected_wait_ms: self.expected_wait_ms,
        }
    }

    /// The body as JSON.
    pub(crate) fn into_json(self) -> String {
        // Strings and numbers: this can't fail.
        serde_json::to_string(&self.into_body()).unwrap_or_default()
    }

    /// The answer.
    pub(crate) fn into_response(self) -> HttpResponse {
        let kind = self.kind;
        let mut builder = HttpResponse::build(kind.status());
        builder.insert_header((header::CONTENT_TYPE, "application/problem+json"));
        builder.insert_header((header::CACHE_CONTROL, "no-store"));
        if let Some(seconds) = self.retry_after_s {
            builder.insert_header((header::RETRY_AFTER, seconds));
        }
        if let Some(value) = self.allow.as_deref().and_then(|it| HeaderValue::from_str(it).ok()) {
            builder.insert_header((header::ALLOW, value));
        }
        if kind.status() == StatusCode::UNAUTHORIZED {
            builder.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        if matches!(kind, ProblemType::BodyTimeout | ProblemType::BodyTooLarge) {
            // What is left of the body is not worth reading.
            builder.force_close();
        }
        // For whoever counts problems.
        builder.extensions_mut().insert(kind);
        builder.body(self.into_json())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.slug(), self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.kind.status()
    }

    fn error_response(&self) -> HttpResponse {
        self.clone().into_response()
    }
}

/// The page at a problem's type.
pub(crate) fn page(slug: &str) -> Option<String> {
    let kind = ProblemType::ALL.iter().find(|kind| kind.slug() == slug)?;
    let (title, status) = (kind.title(), kind.status());
    Some(format!("{slug}\n\n{title} ({status}).\n{}\n", kind.meaning()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_documentation_lists_every_problem() {
        let mut rows = String::new();
        for kind in ProblemType::ALL {
            let (slug, status) = (kind.slug(), kind.status().as_u16());
            rows += &format!("| `{slug}` | {status} | {}. | {} |\n", kind.title(), kind.meaning());
        }
        let page = include_str!("../../docs/problems.md");
        let listed: String =
            page.lines().filter(|line| line.starts_with("| `")).map(|l| format!("{l}\n")).collect();
        assert_eq!(listed, rows, "docs/problems.md must list exactly:\n{rows}");
    }

    #[test]
    fn every_type_is_named_once() {
        let slugs: BTreeSet<_> = ProblemType::ALL.iter().map(|kind| kind.slug()).collect();
        assert_eq!(slugs.len(), ProblemType::ALL.len());
    }
}
