//! Consumer groups: making, looking, moving. What they hand out is in `leases`.

use actix_web::{HttpResponse, web::Data};
use tidegate::{ConsumeError, ConsumersRejection, GroupId};

use super::Answer;
use crate::http::{
    body::{Body, MaybeBody},
    caller::{Admin, Caller, Read, Sell},
    headers::{Segment, Segments},
    problem::Problem,
    service::{Gate, Service},
    wire::{
        groups::{Group, GroupList, PutGroup, Seek},
        orders::Nothing,
    },
};

/// A topic and a group.
pub(super) type OfGroup = Segments<(String, String)>;

/// Every consumer group of every topic.
#[utoipa::path(
    get, path = "/v1/groups", tag = "topics", operation_id = "list_all_groups",
    responses((status = 200, description = "The groups", body = GroupList)),
)]
pub(crate) async fn list_all(_: Caller<Read>, gate: Gate, service: Data<Service>) -> Answer {
    answer(&gate, &service, |_| true).await
}

/// Every consumer group of a topic.
#[utoipa::path(
    get, path = "/v1/topics/{topic}/groups", tag = "topics", operation_id = "list_groups",
    params(("topic" = String, Path, pattern = "^[!-~]{1,64}$")),
    responses((status = 200, description = "The groups", body = GroupList)),
)]
pub(crate) async fn list(
    caller: Caller<Read>,
    gate: Gate,
    service: Data<Service>,
    topic: Segment,
) -> Answer {
    let topic = gate.topic(&caller, &topic.0)?.name().clone();
    answer(&gate, &service, |of| of.topic == topic).await
}

async fn answer(gate: &Gate, service: &Service, of: impl Fn(&GroupId) -> bool) -> Answer {
    let (all, mut figures) = (gate.store().consumer_groups().await?, service.groups.figures());
    let all = all.into_iter().filter(|(id, _)| of(id));
    let groups = all.map(|(id, summary)| {
        let figures = figures.remove(&id);
        Group::new(id, summary, figures)
    });
    Ok(HttpResponse::Ok().json(GroupList { groups: groups.collect() }))
}

/// Makes a group, or changes how it tries again. One that is there goes on where it is.
#[utoipa::path(
    put, path = "/v1/topics/{topic}/groups/{group}", tag = "topics", operation_id = "put_group",
    params(
        ("topic" = String, Path, pattern = "^[!-~]{1,64}$"),
        ("group" = String, Path, pattern = "^[!-~]{1,64}$"),
    ),
    request_body = PutGroup,
    responses((status = 200, description = "The group as it is now", body = Group)),
)]
pub(crate) async fn put(
    caller: Caller<Sell>,
    gate: Gate,
    service: Data<Service>,
    Segments((topic, group)): OfGroup,
    MaybeBody(body): MaybeBody<PutGroup>,
) -> Answer {
    caller.may_have(&group)?;
    service.groups.make(gate.store(), (&topic, &group), body.check()?).await?;
    show(&gate, &service, (&topic, &group)).await
}

/// A group: how far it is, what it lacks, what is in hands, how many dead letters it has.
#[utoipa::path(
    get, path = "/v1/topics/{topic}/groups/{group}", tag = "topics", operation_id = "get_group",
    params(
        ("topic" = String, Path, pattern = "^[!-~]{1,64}$"),
        ("group" = String, Path, pattern = "^[!-~]{1,64}$"),
    ),
    responses((status = 200, description = "The group", body = Group)),
)]
pub(crate) async fn get(
    _: Caller<Read>,
    gate: Gate,
    service: Data<Service>,
    Segments((topic, group)): OfGroup,
) -> Answer {
    show(&gate, &service, (&topic, &group)).await
}

async fn show(gate: &Gate, service: &Service, names: (&str, &str)) -> Answer {
    let group = service.groups.find(gate.store(), names).await?;
    let body = look(gate, group.id(), group.figures()).await?;
    Ok(HttpResponse::Ok().json(body))
}

/// The group with its figures, which were taken before.
async fn look(
    gate: &Gate,
    of: &GroupId,
    figures: tidegate::GroupFigures,
) -> Result<Group, Problem> {
    let all = gate.store().consumer_groups().await?;
    let found = all.into_iter().find(|(id, _)| id == of);
    let unknown = || ConsumeError::from(ConsumersRejection::UnknownGroup { of: of.clone() });
    let (id, summary) = found.ok_or_else(unknown)?;
    Ok(Group::new(id, summary, Some(figures)))
}

/// Removes a group with its dead letters. Whoever has a message of it acknowledges it too late.
#[utoipa::path(
    delete, path = "/v1/topics/{topic}/groups/{group}", tag = "topics",
    operation_id = "remove_group",
    params(
        ("topic" = String, Path, pattern = "^[!-~]{1,64}$"),
        ("group" = String, Path, pattern = "^[!-~]{1,64}$"),
    ),
    responses((status = 204, description = "It is removed")),
)]
pub(crate) async fn remove(
    _: Caller<Admin>,
    gate: Gate,
    service: Data<Service>,
    Segments((topic, group)): OfGroup,
) -> Answer {
    service.groups.remove(gate.store(), (&topic, &group)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Hands nothing out until the group is resumed, over a restart as well.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/groups/{group}/pause", tag = "topics",
    operation_id = "pause_group",
    params(
        ("topic" = String, Path, pattern = "^[!-~]{1,64}$"),
        ("group" = String, Path, pattern = "^[!-~]{1,64}$"),
    ),
    responses((status = 200, description = "The group", body = Group)),
)]
pub(crate) async fn pause(
    _: Caller<Admin>,
    gate: Gate,
    service: Data<Service>,
    Segments((topic, group)): OfGroup,
    _: MaybeBody<Nothing>,
) -> Answer {
    service.groups.find(gate.store(), (&topic, &group)).await?.pause().await?;
    show(&gate, &service, (&topic, &group)).await
}

/// Ends a pause.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/groups/{group}/resume", tag = "topics",
    operation_id = "resume_group",
    params(
        ("topic" = String, Path, pattern = "^[!-~]{1,64}$"),
        ("group" = String, Path, pattern = "^[!-~]{1,64}$"),
    ),
    responses((status = 200, description = "The group", body = Group)),
)]
pub(crate) async fn resume(
    _: Caller<Admin>,
    gate: Gate,
    service: Data<Service>,
    Segments((topic, group)): OfGroup,
    _: MaybeBody<Nothing>,
) -> Answer {
    service.groups.find(gate.store(), (&topic, &group)).await?.resume().await?;
    show(&gate, &service, (&topic, &group)).await
}

/// Goes on elsewhere, forward or back. Whoever has a message then acknowledges it too late.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/groups/{group}/seek", tag = "topics",
    operation_id = "seek_group",
    params(
        ("topic" = String, Path, pattern = "^[!-~]{1,64}$"),
        ("group" = String, Path, pattern = "^[!-~]{1,64}$"),
    ),
    request_body = Seek,
    responses((status = 200, description = "The group", body = Group)),
)]
pub(crate) async fn seek(
    _: Caller<Admin>,
    gate: Gate,
    service: Data<Service>,
    Segments((topic, group)): OfGroup,
    Body(seek): Body<Seek>,
) -> Answer {
    let to = seek.to()?;
    service.groups.find(gate.store(), (&topic, &group)).await?.seek(to).await?;
    show(&gate, &service, (&topic, &group)).await
}
