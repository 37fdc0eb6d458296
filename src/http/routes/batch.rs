//! Many orders in one request, each by itself: one refused order stops no other. There is no batch
//! in the store; it makes batches of what is in flight anyway.

use actix_web::{HttpResponse, http::StatusCode, web::Data};
use futures_util::future::join_all;
use tidegate::{OrdersClient, OutOfBounds};

use super::{Answer, orders::place_one};
use crate::http::{
    body::Body,
    caller::{Caller, Sell},
    service::{Gate, Service},
    wire::{
        object::Object,
        place::{KeyedOrder, OrderOutcome, Outcomes, PlaceOrders},
    },
};

/// Places up to 1,000 orders, with an outcome for each.
///
/// The status is 200 even if every order was refused: look at the outcomes, which are in the order of
/// the request.
#[utoipa::path(
    post, path = "/v1/orders:batch", tag = "orders", operation_id = "place_orders",
    request_body = PlaceOrders,
    responses((status = 200, description = "What became of each order", body = Outcomes)),
)]
pub(crate) async fn place(
    caller: Caller<Sell>,
    gate: Gate,
    service: Data<Service>,
    Body(batch): Body<PlaceOrders>,
) -> Answer {
    let (count, max) = (batch.orders.len(), service.limits.batch_orders_max);
    if !(1..=max).contains(&count) {
        return Err(OutOfBounds::new("orders", format_args!("1 to {max} orders"), count).into());
    }
    let orders = gate.orders(&caller);
    let placing = batch.orders.into_iter().map(|Object(order)| outcome(&orders, &service, order));
    let outcomes = join_all(placing).await;
    Ok(HttpResponse::Ok().json(Outcomes { outcomes }))
}

async fn outcome(orders: &OrdersClient, service: &Service, order: KeyedOrder) -> OrderOutcome {
    let (key, order) = order.split();
    match place_one(orders, service, order, &key, false).await {
        Ok(order) => {
            OrderOutcome { status: StatusCode::CREATED.as_u16(), order: Some(order), problem: None }
        }
        Err(problem) => OrderOutcome {
            status: problem.kind().status().as_u16(),
            order: None,
            problem: Some(problem.into_body()),
        },
    }
}
