//! The stream of events: where it begins, and which kinds it has; and what it shares with that of a
//! topic. How it goes on is in `subscription`.

use std::convert::Infallible;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, header},
    web::{Bytes, Data},
};
use futures_util::stream;
use serde::Deserialize;
use tidegate::{Cursor, EventKind, Feed, Pick, Whence};
use utoipa::{IntoParams, ToSchema};

use super::{Answer, parameters};
use crate::http::{
    caller::{Caller, Read},
    headers::Query,
    problem::{Problem, ProblemType},
    service::{Gate, Service},
    subscription::{Subscription, Told},
};

/// Where a browser says which event it saw last when it connects again.
const LAST_EVENT_ID: &str = "last-event-id";

/// Begins with what is kept, whatever that is.
const OLDEST: &str = "oldest";

/// Which events.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// The `id` of the event seen last, or `oldest` for all that are kept. Default: only events
    /// from now on. `Last-Event-ID` goes before it.
    #[serde(default)]
    #[param(pattern = r"^(oldest|[0-9]{1,19}(\.[0-9]{1,9})?)$", nullable = false)]
    after: Option<String>,
    /// Only these kinds, with commas. Default: all.
    #[serde(default)]
    #[param(value_type = Vec<String>, required = false, style = Form, explode = false)]
    kinds: Option<String>,
}

/// One event of the stream.
#[derive(ToSchema)]
#[schema(as = EventFrame)]
#[expect(dead_code, reason = "it is only documented; `subscription` writes it")]
pub(crate) struct Frame {
    /// Where to go on after it.
    id: String,
    /// Its kind, or `error`.
    event: String,
    /// JSON: `{id, position, at_ms, kind, data}`, or a problem.
    data: String,
}

/// Durable events as they happen, each once, from any place that is still kept.
///
/// Server-sent events: `id` is where to go on (`after`, or `Last-Event-ID`), `event` is the kind,
/// `data` is JSON: `{id, position, at_ms, kind, data}`. A frame with an `id` alone is no event; it
/// moves on where to go on. A stream that can't go on ends with an `event: error`, whose data is a
/// problem.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", operation_id = "stream_events",
    params(Wanted, parameters::Seen),
    responses(
        (status = 200, description = "Events, until the reader leaves or the server ends",
            content_type = "text/event-stream", body = Frame),
    ),
)]
pub(crate) async fn stream(
    caller: Caller<Read>,
    gate: Gate,
    service: Data<Service>,
    request: HttpRequest,
    Query(wanted): Query<Wanted>,
) -> Answer {
    let events = match &wanted.kinds {
        Some(kinds) => gate.events().clone().only(read_kinds(kinds)?),
        None => gate.events().clone(),
    };
    let feed = match begin(&request, wanted.after.as_deref())? {
        Whence::Oldest => events.from_oldest(),
        Whence::Now => events.from_now(),
        Whence::After(id) => events.after(id),
    };
    tell(feed, caller, &service, &request).await
}

/// The answer that never ends, with what `feed` tells.
pub(super) async fn tell<P: Pick<Item: Told>>(
    mut feed: Feed<P>,
    reader: Caller<Read>,
    service: &Service,
    request: &HttpRequest,
) -> Answer {
    let seat = service.take_seat()?;
    feed.open().await?;
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // Proxies would keep events back until a buffer is full.
        .insert_header(("x-accel-buffering", "no"));
    if request.method() == Method::HEAD {
        return Ok(response.streaming(stream::empty::<Result<Bytes, Infallible>>()));
    }
    let (heartbeat, draining) = (service.heartbeat, service.draining());
    let reader = reader.into_identity();
    let subscription = Subscription { feed, heartbeat, draining, reader, _seat: seat };
    Ok(response.streaming(subscription.into_frames()))
}

/// Where a stream begins that is to begin after `after`.
pub(super) fn begin(request: &HttpRequest, after: Option<&str>) -> Result<Whence, Problem> {
    let begin = match after {
        None => Whence::Now,
        Some(OLDEST) => Whence::Oldest,
        Some(after) => Whence::After(read_cursor(after, "after")?.into()),
    };
    // A browser that connects again repeats the whole URL, and knows better by now.
    let Some(last) = request.headers().get(LAST_EVENT_ID) else { return Ok(begin) };
    let last = last.to_str().unwrap_or("?");
    Ok(Whence::After(read_cursor(last, "Last-Event-ID")?.into()))
}

fn read_cursor(text: &str, field: &'static str) -> Result<Cursor, Problem> {
    let invalid = |error: tidegate::OutOfBounds| {
        Problem::new(ProblemType::InvalidCursor, error.to_string()).field(field)
    };
    text.parse().map_err(invalid)
}

fn read_kinds(text: &str) -> Result<Vec<EventKind>, Problem> {
    let read = |name: &str| {
        name.parse::<EventKind>().map_err(|_| {
            let near = EventKind::ALL.iter().map(|kind| kind.as_str());
            let near = near.min_by_key(|known| strsim::damerau_levenshtein(name, known));
            let near = near.unwrap_or_default();
            let detail = format!("there is no kind {name:?}; did you mean {near:?}?");
            Problem::new(ProblemType::UnknownKind, detail).field("kinds")
        })
    };
    text.split(',').map(read).collect()
}
