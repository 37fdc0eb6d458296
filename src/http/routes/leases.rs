//! Messages in the hands of clients: having them for a time, and saying what became of them. Whose
//! turn it is, is the group's business.

use actix_web::{HttpResponse, web::Data};
use futures_util::future::join_all;
use tidegate::{
    ConsumeError, ConsumerGroup, ConsumersRejection, Effects, LeaseToken, Leased, MessageId,
    OutOfBounds,
};
use tokio::time::timeout;

use super::{Answer, groups::OfGroup};
use crate::http::{
    body::{Body, MaybeBody},
    caller::{Caller, Sell},
    headers::Segments,
    problem::Problem,
    service::{Gate, Service},
    wire::{
        acks::{AckMessages, Following, FollowingMessage},
        leases::{
            ExtendLeases, FailMessages, LeaseMessages, LeaseOutcome, LeaseOutcomes, LeasedMessage,
            Leases, Named, Wanted,
        },
        topics::Json,
    },
};

/// Hands out messages for a time: nobody else gets them meanwhile, nor later ones of their keys.
///
/// Waits for the first one, if asked to; there may be none by then. A message that is neither done
/// nor failed when its time is over comes again.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/groups/{group}/lease", tag = "topics",
    operation_id = "lease_messages",
    params(
        ("topic" = String, Path, pattern = "^[!-~]{1,64}$"),
        ("group" = String, Path, pattern = "^[!-~]{1,64}$"),
    ),
    request_body = LeaseMessages,
    responses((status = 200, description = "The messages, or none", body = Leases)),
)]
pub(crate) async fn lease(
    caller: Caller<Sell>,
    gate: Gate,
    service: Data<Service>,
    Segments((topic, group)): OfGroup,
    MaybeBody(wanted): MaybeBody<LeaseMessages>,
) -> Answer {
    caller.may_have(&group)?;
    let wanted = wanted.check()?;
    let group = service.groups.find(gate.store(), (&topic, &group)).await?;
    let mut messages = Vec::new();
    for leased in wait(&service, &group, &wanted).await? {
        match LeasedMessage::of(&leased, leased.until()) {
            Ok(message) => messages.push(message),
            // Then no client has published it. It must not keep the others back.
            Err(error) => {
                let failed = leased.fail(&format!("the payload is no JSON: {error}")).await;
                failed.unwrap_or_else(|error| tracing::warn!(%error, "a message is not failed"));
            }
        }
    }
    Ok(HttpResponse::Ok().json(Leases { messages }))
}

/// Until there is something, or the server is about to end.
async fn wait(
    service: &Service,
    group: &ConsumerGroup<Json>,
    wanted: &Wanted,
) -> Result<Vec<Leased<Json>>, Problem> {
    let mut draining = service.draining();
    if *draining.borrow() {
        return Ok(Vec::new());
    }
    let ends = draining.wait_for(|draining| *draining);
    // Either way the group is asked to its end: what it is about to hand out would have been tried
    // for nothing.
    let ended = async {
        if !wanted.wait.is_zero() {
            drop(timeout(wanted.wait, ends).await);
        }
    };
    Ok(group.lease_until(wanted.max, ended, wanted.lease_for).await?)
}

/// Messages are done, durably, together with what follows from each.
///
/// The status is 200 even if every lease is over: look at the outcomes, which are in the order of
/// the request. One whose lease is over has the problem `lease-over`, and nothing of it has
/// happened: somebody else has the message, or will have it, or has done it. So has one that was
/// acknowledged before: what follows from a message happens once, however often that is asked.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/groups/{group}/ack", tag = "topics",
    operation_id = "ack_messages",
    params(
        ("topic" = String, Path, pattern = "^[!-~]{1,64}$"),
        ("group" = String, Path, pattern = "^[!-~]{1,64}$"),
    ),
    request_body = AckMessages,
    responses((status = 200, description = "What became of each", body = LeaseOutcomes)),
)]
pub(crate) async fn ack(
    caller: Caller<Sell>,
    gate: Gate,
    service: Data<Service>,
    Segments((topic, group)): OfGroup,
    Body(messages): Body<AckMessages>,
) -> Answer {
    caller.may_have(&group)?;
    let acked = messages.check()?.into_iter();
    let acked = acked.map(|Named { id, token, with }| {
        Ok(Named { id, token, with: effects(&gate, &caller, with)? })
    });
    let acked = acked.collect::<Result<_, OutOfBounds>>()?;
    let group = service.groups.find(gate.store(), (&topic, &group)).await?;
    each(acked, move |id, token, effects| {
        let group = group.clone();
        async move { group.ack(id, token, effects).await }
    })
    .await
}

/// What follows from a message, as the library has it.
fn effects(gate: &Gate, caller: &Caller<Sell>, with: Following) -> Result<Effects, OutOfBounds> {
    let mut effects = Effects::new();
    for FollowingMessage { topic, payload, key } in with.publish {
        effects = effects.publish(&gate.topic(caller, &topic)?, &payload, key.as_deref());
    }
    Ok(with.cancel.into_iter().fold(effects, Effects::cancel))
}

/// Messages could not be handled: each is tried again later, or is a dead letter after its last
/// attempt.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/groups/{group}/fail", tag = "topics",
    operation_id = "fail_messages",
    params(
        ("topic" = String, Path, pattern = "^[!-~]{1,64}$"),
        ("group" = String, Path, pattern = "^[!-~]{1,64}$"),
    ),
    request_body = FailMessages,
    responses((status = 200, description = "What became of each", body = LeaseOutcomes)),
)]
pub(crate) async fn fail(
    caller: Caller<Sell>,
    gate: Gate,
    service: Data<Service>,
    Segments((topic, group)): OfGroup,
    Body(messages): Body<FailMessages>,
) -> Answer {
    caller.may_have(&group)?;
    let (named, cause) = messages.check()?;
    let group = service.groups.find(gate.store(), (&topic, &group)).await?;
    each(named, move |id, token, ()| {
        let (group, cause) = (group.clone(), cause.clone());
        async move { group.fail(id, token, &cause).await }
    })
    .await
}

/// Messages stay in the caller's hands for a time from now.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/groups/{group}/extend", tag = "topics",
    operation_id = "extend_leases",
    params(
        ("topic" = String, Path, pattern = "^[!-~]{1,64}$"),
        ("group" = String, Path, pattern = "^[!-~]{1,64}$"),
    ),
    request_body = ExtendLeases,
    responses((status = 200, description = "What became of each", body = LeaseOutcomes)),
)]
pub(crate) async fn extend(
    caller: Caller<Sell>,
    gate: Gate,
    service: Data<Service>,
    Segments((topic, group)): OfGroup,
    Body(leases): Body<ExtendLeases>,
) -> Answer {
    caller.may_have(&group)?;
    let (named, lease_for) = leases.check()?;
    let group = service.groups.find(gate.store(), (&topic, &group)).await?;
    each(named, move |id, token, ()| {
        let group = group.clone();
        async move { group.extend(id, token, lease_for) }
    })
    .await
}

/// Says of each message what became of it. It goes on if the client goes away, so that the group
/// knows of what its machine knows.
async fn each<W, F>(
    named: Vec<Named<W>>,
    say: impl Fn(MessageId, LeaseToken, W) -> F + 'static,
) -> Answer
where
    W: 'static,
    F: Future<Output = Result<(), ConsumeError>> + 'static,
{
    let saying = actix_web::rt::spawn(async move {
        let outcome = |Named { id, token, with }| {
            let token = token.ok_or(ConsumersRejection::Late { id, token: LeaseToken(0) });
            let said = token.map(|token| say(id, token, with));
            async move {
                let outcome = match said {
                    Ok(said) => said.await,
                    Err(late) => Err(late.into()),
                };
                LeaseOutcome::new(id, outcome.map_err(Problem::from))
            }
        };
        join_all(named.into_iter().map(outcome)).await
    });
    let failed = |error: tokio::task::JoinError| {
        tracing::error!(%error, "outcomes of messages could not be told");
        Problem::new(crate::http::problem::ProblemType::Internal, "see the log")
    };
    let outcomes = saying.await.map_err(failed)?;
    Ok(HttpResponse::Ok().json(LeaseOutcomes { outcomes }))
}
