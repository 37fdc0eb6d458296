//! Standalone holds. Holds of orders are not reached from here.

use actix_web::{HttpRequest, HttpResponse};

use super::{Answer, parameters};
use crate::http::{
    body::{Body, MaybeBody},
    caller::{Caller, Read, Sell},
    headers::{IdempotencyKey, Segment, tag_of, tagged},
    service::Gate,
    wire::{
        holds::{ExtendHold, Hold, PlaceHold},
        orders::Nothing,
    },
};

/// Holds units without an order; unless settled, the hold expires by itself.
#[utoipa::path(
    post, path = "/v1/holds", tag = "holds", operation_id = "place_hold",
    params(parameters::Key),
    request_body = PlaceHold,
    responses((status = 201, description = "The hold", body = Hold)),
)]
pub(crate) async fn place(
    caller: Caller<Sell>,
    gate: Gate,
    key: IdempotencyKey,
    Body(hold): Body<PlaceHold>,
) -> Answer {
    let hold = Hold::from(gate.stock(&caller).hold(hold.check()?, &key.0).await?);
    Ok(HttpResponse::Created().json(hold))
}

/// A hold, for at least 24 hours after it was settled.
#[utoipa::path(
    get, path = "/v1/holds/{id}", tag = "holds", operation_id = "get_hold",
    params(("id" = String, Path), parameters::Known),
    responses(
        (status = 200, description = "The hold", body = Hold),
        (status = 304, description = "Not changed since"),
    ),
)]
pub(crate) async fn get(
    caller: Caller<Read>,
    gate: Gate,
    id: Segment,
    request: HttpRequest,
) -> Answer {
    let hold = Hold::from(gate.stock(&caller).get_hold(id.hold()?).await?);
    Ok(tagged(&request, tag_of(&hold), &hold))
}

/// Lets a hold live for a time from now.
#[utoipa::path(
    post, path = "/v1/holds/{id}/extend", tag = "holds", operation_id = "extend_hold",
    params(("id" = String, Path)),
    request_body = ExtendHold,
    responses((status = 200, description = "The hold", body = Hold)),
)]
pub(crate) async fn extend(
    caller: Caller<Sell>,
    gate: Gate,
    id: Segment,
    Body(extend): Body<ExtendHold>,
) -> Answer {
    let hold = gate.stock(&caller).extend_hold(id.hold()?, extend.ttl_ms()?).await?;
    Ok(HttpResponse::Ok().json(Hold::from(hold)))
}

/// Settles a hold: its units are sold. Again gives the same answer.
#[utoipa::path(
    post, path = "/v1/holds/{id}/confirm", tag = "holds", operation_id = "confirm_hold",
    params(("id" = String, Path)),
    responses((status = 200, description = "The hold", body = Hold)),
)]
pub(crate) async fn confirm(
    caller: Caller<Sell>,
    gate: Gate,
    id: Segment,
    _: MaybeBody<Nothing>,
) -> Answer {
    let hold = gate.stock(&caller).confirm_hold(id.hold()?).await?;
    Ok(HttpResponse::Ok().json(Hold::from(hold)))
}

/// Settles a hold: its units are free. Again gives the same answer.
#[utoipa::path(
    post, path = "/v1/holds/{id}/release", tag = "holds", operation_id = "release_hold",
    params(("id" = String, Path)),
    responses((status = 200, description = "The hold", body = Hold)),
)]
pub(crate) async fn release(
    caller: Caller<Sell>,
    gate: Gate,
    id: Segment,
    _: MaybeBody<Nothing>,
) -> Answer {
    let hold = gate.stock(&caller).release_hold(id.hold()?).await?;
    Ok(HttpResponse::Ok().json(Hold::from(hold)))
}

/// The units of a confirmed hold leave the stock. Again gives the same answer.
#[utoipa::path(
    post, path = "/v1/holds/{id}/ship", tag = "holds", operation_id = "ship_hold",
    params(("id" = String, Path)),
    responses((status = 200, description = "The hold", body = Hold)),
)]
pub(crate) async fn ship(
    caller: Caller<Sell>,
    gate: Gate,
    id: Segment,
    _: MaybeBody<Nothing>,
) -> Answer {
    let hold = gate.stock(&caller).ship_hold(id.hold()?).await?;
    Ok(HttpResponse::Ok().json(Hold::from(hold)))
}
