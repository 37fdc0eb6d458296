//! Publishing, now, later, or again and again; and reading without a group. Who shares messages is
//! in `groups`.

use actix_web::{HttpRequest, HttpResponse, web::Data};
use serde::Deserialize;
use tidegate::{Publish, TopicError, TopicsRejection};
use utoipa::{IntoParams, ToSchema};

use super::{Answer, events, parameters};
use crate::http::{
    body::Body,
    caller::{Admin, Caller, Read, Sell},
    headers::{MaybeKey, Query, Segment, Segments},
    service::{Gate, Service},
    wire::leases::StreamedMessage,
    wire::topics::{NewMessage, Published, PutSchedule, Schedule, Schedules},
};

/// Publishes a message.
///
/// Answered when it is on disk. With an idempotency key the same message again gives the same
/// answer and is published once.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/messages", tag = "topics", operation_id = "publish_message",
    params(("topic" = String, Path, pattern = "^[!-~]{1,64}$"), parameters::MaybeKey),
    request_body = NewMessage,
    responses((status = 201, description = "It is published, or will be", body = Published)),
)]
pub(crate) async fn publish(
    caller: Caller<Sell>,
    gate: Gate,
    topic: Segment,
    MaybeKey(key): MaybeKey,
    Body(message): Body<NewMessage>,
) -> Answer {
    let publish = gate.topic(&caller, &topic.0)?.publish(message.payload()?);
    let publish = publish.delay_ms(message.delay_ms.unwrap_or(0));
    let publish = message.key.into_iter().fold(publish, Publish::key);
    let receipt = key.into_iter().fold(publish, Publish::idempotency).await?;
    Ok(HttpResponse::Created().json(Published::from(receipt)))
}

/// Where a stream of messages begins.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Begin {
    /// The `id` of the message seen last, or `oldest` for all that are kept. Default: only messages
    /// from now on. `Last-Event-ID` goes before it.
    #[serde(default)]
    #[param(pattern = r"^(oldest|[0-9]{1,19}(\.[0-9]{1,9})?)$", nullable = false)]
    after: Option<String>,
}

/// One message of the stream.
#[derive(ToSchema)]
#[schema(as = MessageFrame)]
#[expect(dead_code, reason = "it is only documented; `subscription` writes it")]
pub(crate) struct Frame {
    /// Where to go on after it.
    id: String,
    /// `message`, or `error`.
    event: String,
    /// As JSON; a problem for `error`.
    data: StreamedMessage,
}

/// Messages as they are published, each once, from any place that is still kept.
///
/// For who reads without a group: all messages, to every reader, and nothing is acknowledged.
/// Server-sent events, as `GET /v1/events` has them: `id` is where to go on (`after`, or
/// `Last-Event-ID`), `event` is `message`, `data` is the message as it is leased. The journal is
/// not kept for a reader. A stream that can't go on ends with an `event: error`, whose data is a
/// problem.
#[utoipa::path(
    get, path = "/v1/topics/{topic}/stream", tag = "topics", operation_id = "stream_messages",
    params(("topic" = String, Path, pattern = "^[!-~]{1,64}$"), Begin, parameters::Seen),
    responses(
        (status = 200, description = "Messages, until the reader leaves or the server ends",
            content_type = "text/event-stream", body = Frame),
    ),
)]
pub(crate) async fn stream(
    caller: Caller<Read>,
    gate: Gate,
    service: Data<Service>,
    request: HttpRequest,
    topic: Segment,
    Query(begin): Query<Begin>,
) -> Answer {
    let topic = gate.topic(&caller, &topic.0)?;
    let feed = topic.feed(events::begin(&request, begin.after.as_deref())?);
    events::tell(feed, caller, &service, &request).await
}

/// Every schedule of a topic.
#[utoipa::path(
    get, path = "/v1/topics/{topic}/schedules", tag = "topics", operation_id = "list_schedules",
    params(("topic" = String, Path, pattern = "^[!-~]{1,64}$")),
    responses((status = 200, description = "The schedules", body = Schedules)),
)]
pub(crate) async fn schedules(caller: Caller<Read>, gate: Gate, topic: Segment) -> Answer {
    let schedules = gate.topic(&caller, &topic.0)?.schedules().await?;
    let schedules = schedules.into_iter().filter_map(Schedule::of).collect();
    Ok(HttpResponse::Ok().json(Schedules { schedules }))
}

/// Publishes a message again and again, until the schedule is ended.
///
/// A schedule of the same name is replaced; the same one again changes nothing. Runs that were
/// missed, because the server was down, are made up for by one.
#[utoipa::path(
    put, path = "/v1/topics/{topic}/schedules/{name}", tag = "topics",
    operation_id = "put_schedule",
    params(
        ("topic" = String, Path, pattern = "^[!-~]{1,64}$"),
        ("name" = String, Path, pattern = "^[!-~]{1,64}$"),
    ),
    request_body = PutSchedule,
    responses((status = 200, description = "The schedule as it is now", body = Schedule)),
)]
pub(crate) async fn put_schedule(
    caller: Caller<Admin>,
    gate: Gate,
    Segments((topic, name)): Segments<(String, String)>,
    Body(schedule): Body<PutSchedule>,
) -> Answer {
    let (payload, schedule) = schedule.check()?;
    gate.topic(&caller, &topic)?.schedule(&name, payload, schedule).await?;
    show(&gate, &caller, &topic, &name).await
}

/// A schedule.
#[utoipa::path(
    get, path = "/v1/topics/{topic}/schedules/{name}", tag = "topics",
    operation_id = "get_schedule",
    params(
        ("topic" = String, Path, pattern = "^[!-~]{1,64}$"),
        ("name" = String, Path, pattern = "^[!-~]{1,64}$"),
    ),
    responses((status = 200, description = "The schedule", body = Schedule)),
)]
pub(crate) async fn get_schedule(
    caller: Caller<Read>,
    gate: Gate,
    Segments((topic, name)): Segments<(String, String)>,
) -> Answer {
    show(&gate, &caller, &topic, &name).await
}

async fn show<R>(gate: &Gate, caller: &Caller<R>, topic: &str, name: &str) -> Answer {
    let topic = gate.topic(caller, topic)?;
    let mut all = topic.schedules().await?.into_iter();
    let found = all.find(|(known, _)| known.as_str() == name).and_then(Schedule::of);
    match found {
        Some(schedule) => Ok(HttpResponse::Ok().json(schedule)),
        None => {
            let (topic, name) = (topic.name().clone(), name.parse()?);
            let unknown = TopicsRejection::UnknownSchedule { topic, name };
            Err(TopicError::Rejected(unknown).into())
        }
    }
}

/// Ends a schedule.
#[utoipa::path(
    delete, path = "/v1/topics/{topic}/schedules/{name}", tag = "topics",
    operation_id = "end_schedule",
    params(
        ("topic" = String, Path, pattern = "^[!-~]{1,64}$"),
        ("name" = String, Path, pattern = "^[!-~]{1,64}$"),
    ),
    responses((status = 204, description = "It is ended")),
)]
pub(crate) async fn end_schedule(
    caller: Caller<Admin>,
    gate: Gate,
    Segments((topic, name)): Segments<(String, String)>,
) -> Answer {
    gate.topic(&caller, &topic)?.unschedule(&name).await?;
    Ok(HttpResponse::NoContent().finish())
}
