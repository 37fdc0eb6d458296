//! What happens to an order after it was placed: payments, cancelling, shipping, returning. Each is
//! answered with the order as it is then.

use actix_web::HttpResponse;

use super::{Answer, parameters};
use crate::http::{
    body::{Body, MaybeBody},
    caller::{Caller, Sell},
    headers::{IdempotencyKey, Segment},
    service::Gate,
    wire::orders::{NewFulfilment, NewPayment, NewReturn, Nothing, OrderBody},
};

/// Tells of a payment event. The same event again changes nothing; out of order is harmless.
#[utoipa::path(
    post, path = "/v1/orders/{id}/payments", tag = "orders", operation_id = "add_payment",
    params(("id" = String, Path)),
    request_body = NewPayment,
    responses((status = 200, description = "The order", body = OrderBody)),
)]
pub(crate) async fn pay(
    caller: Caller<Sell>,
    gate: Gate,
    id: Segment,
    Body(payment): Body<NewPayment>,
) -> Answer {
    let order = gate.orders(&caller).pay(id.order()?, payment.into()).await?;
    Ok(HttpResponse::Ok().json(OrderBody::from(order)))
}

/// Cancels an order of which nothing was shipped; what was paid becomes due as a refund.
#[utoipa::path(
    post, path = "/v1/orders/{id}/cancel", tag = "orders", operation_id = "cancel_order",
    params(("id" = String, Path), parameters::Key),
    responses((status = 200, description = "The order", body = OrderBody)),
)]
pub(crate) async fn cancel(
    caller: Caller<Sell>,
    gate: Gate,
    id: Segment,
    key: IdempotencyKey,
    _: MaybeBody<Nothing>,
) -> Answer {
    let order = gate.orders(&caller).cancel(id.order()?, &key.0).await?;
    Ok(HttpResponse::Ok().json(OrderBody::from(order)))
}

/// Ships lines of a confirmed order, or all that remains of it.
#[utoipa::path(
    post, path = "/v1/orders/{id}/fulfilments", tag = "orders", operation_id = "fulfil_order",
    params(("id" = String, Path), parameters::Key),
    request_body = NewFulfilment,
    responses((status = 200, description = "The order", body = OrderBody)),
)]
pub(crate) async fn fulfil(
    caller: Caller<Sell>,
    gate: Gate,
    id: Segment,
    key: IdempotencyKey,
    MaybeBody(shipped): MaybeBody<NewFulfilment>,
) -> Answer {
    let orders = gate.orders(&caller);
    let order = orders.fulfil(id.order()?, shipped.into_units(), &key.0).await?;
    Ok(HttpResponse::Ok().json(OrderBody::from(order)))
}

/// Takes shipped units back; their value becomes due as a refund.
#[utoipa::path(
    post, path = "/v1/orders/{id}/returns", tag = "orders", operation_id = "return_units",
    params(("id" = String, Path), parameters::Key),
    request_body = NewReturn,
    responses((status = 200, description = "The order", body = OrderBody)),
)]
pub(crate) async fn take_back(
    caller: Caller<Sell>,
    gate: Gate,
    id: Segment,
    key: IdempotencyKey,
    Body(returned): Body<NewReturn>,
) -> Answer {
    let (orders, restock) = (gate.orders(&caller), returned.restock);
    let order = orders.take_back(id.order()?, returned.into_units(), restock, &key.0).await?;
    Ok(HttpResponse::Ok().json(OrderBody::from(order)))
}
