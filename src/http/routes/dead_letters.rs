//! Dead letters: what a group has given up, to be looked at, tried again or forgotten.

use actix_web::{HttpResponse, web::Data};
use serde::Deserialize;
use tidegate::{ConsumeError, ConsumersRejection, MessageId, OutOfBounds};
use utoipa::IntoParams;

use super::{Answer, groups::OfGroup};
use crate::http::{
    body::MaybeBody,
    caller::{Admin, Caller, Read},
    headers::{Query, Segments},
    problem::{Problem, ProblemType},
    service::{Gate, Service},
    wire::{
        dead_letters::{DeadLetter, DeadLetters},
        groups::read_id,
        orders::Nothing,
    },
};

/// A topic, a group and a message.
type OfLetter = Segments<(String, String, String)>;

/// Which part of a group's dead letters.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// How many dead letters at most. Default: 20.
    #[serde(default)]
    #[param(minimum = 1, maximum = 100, nullable = false)]
    limit: Option<u64>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    #[param(pattern = r"^[0-9]{1,19}(\.[0-9]{1,9})?$", nullable = false)]
    cursor: Option<String>,
}

/// A group's dead letters, in the order of the topic.
#[utoipa::path(
    get, path = "/v1/topics/{topic}/groups/{group}/dead-letters", tag = "topics",
    operation_id = "list_dead_letters",
    params(
        ("topic" = String, Path, pattern = "^[!-~]{1,64}$"),
        ("group" = String, Path, pattern = "^[!-~]{1,64}$"),
        Page,
    ),
    responses((status = 200, description = "A page of dead letters", body = DeadLetters)),
)]
pub(crate) async fn list(
    _: Caller<Read>,
    gate: Gate,
    service: Data<Service>,
    Segments((topic, group)): OfGroup,
    Query(page): Query<Page>,
) -> Answer {
    const LIMIT_MAX: u64 = 100;
    let limit = page.limit.unwrap_or(20);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let bound = format_args!("1 to {LIMIT_MAX}");
        return Err(OutOfBounds::new("limit", bound, limit).into());
    }
    let invalid = |error: OutOfBounds| {
        Problem::new(ProblemType::InvalidCursor, error.to_string()).field("cursor")
    };
    let after = page.cursor.as_deref().map(|cursor| read_id("cursor", cursor));
    let after = after.transpose().map_err(invalid)?;
    let group = service.groups.find(gate.store(), (&topic, &group)).await?;
    let dead = group.dead_letters(after, limit as usize).await?;
    let full = dead.len() as u64 == limit;
    let next_cursor = dead.last().filter(|_| full).map(|dead| dead.letter.id.to_string());
    let dead_letters = dead.into_iter().map(DeadLetter::of).collect::<Result<_, _>>();
    let dead_letters = dead_letters.map_err(no_json)?;
    Ok(HttpResponse::Ok().json(DeadLetters { dead_letters, next_cursor }))
}

/// A dead letter.
#[utoipa::path(
    get, path = "/v1/topics/{topic}/groups/{group}/dead-letters/{id}", tag = "topics",
    operation_id = "get_dead_letter",
    params(
        ("topic" = String, Path, pattern = "^[!-~]{1,64}$"),
        ("group" = String, Path, pattern = "^[!-~]{1,64}$"),
        ("id" = String, Path),
    ),
    responses((status = 200, description = "The dead letter", body = DeadLetter)),
)]
pub(crate) async fn get(
    _: Caller<Read>,
    gate: Gate,
    service: Data<Service>,
    Segments((topic, group, id)): OfLetter,
) -> Answer {
    let group = service.groups.find(gate.store(), (&topic, &group)).await?;
    let id = read(&id)?;
    let unknown = || ConsumeError::from(ConsumersRejection::UnknownDeadLetter { id });
    let dead = group.dead_letter(id).await?.ok_or_else(unknown)?;
    Ok(HttpResponse::Ok().json(DeadLetter::of(dead).map_err(no_json)?))
}

/// Tries a dead letter again, from the first attempt on and before what is still to come of its
/// key. Again changes nothing while it is tried.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/groups/{group}/dead-letters/{id}/replay", tag = "topics",
    operation_id = "replay_dead_letter",
    params(
        ("topic" = String, Path, pattern = "^[!-~]{1,64}$"),
        ("group" = String, Path, pattern = "^[!-~]{1,64}$"),
        ("id" = String, Path),
    ),
    responses((status = 204, description = "It is tried again")),
)]
pub(crate) async fn replay(
    _: Caller<Admin>,
    gate: Gate,
    service: Data<Service>,
    Segments((topic, group, id)): OfLetter,
    _: MaybeBody<Nothing>,
) -> Answer {
    let group = service.groups.find(gate.store(), (&topic, &group)).await?;
    group.replay(read(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Forgets a dead letter.
#[utoipa::path(
    delete, path = "/v1/topics/{topic}/groups/{group}/dead-letters/{id}", tag = "topics",
    operation_id = "discard_dead_letter",
    params(
        ("topic" = String, Path, pattern = "^[!-~]{1,64}$"),
        ("group" = String, Path, pattern = "^[!-~]{1,64}$"),
        ("id" = String, Path),
    ),
    responses((status = 204, description = "It is forgotten")),
)]
pub(crate) async fn discard(
    _: Caller<Admin>,
    gate: Gate,
    service: Data<Service>,
    Segments((topic, group, id)): OfLetter,
) -> Answer {
    let group = service.groups.find(gate.store(), (&topic, &group)).await?;
    group.discard(read(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// What is no id can't be the id of a dead letter.
fn read(id: &str) -> Result<MessageId, Problem> {
    let unknown =
        |error: OutOfBounds| Problem::new(ProblemType::UnknownDeadLetter, error.to_string());
    read_id("id", id).map_err(unknown)
}

fn no_json(error: serde_json::Error) -> Problem {
    tracing::error!(%error, "a dead letter's payload is no JSON");
    Problem::new(ProblemType::Internal, "a dead letter's payload is no JSON; see the log")
}
