//! Placing and reading orders, one at a time or by user. What happens to an order later is in
//! `changes`, many at a time in `batch`.

use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use serde::Deserialize;
use tidegate::{NewOrder, OrdersClient, OutOfBounds, Receipt};
use utoipa::IntoParams;

use super::{Answer, parameters};
use crate::http::{
    body::Body,
    caller::{Caller, Read, Sell},
    headers::{
        IdempotencyKey, Query, RespondAsync, Segment, read_cursor, tag_of, tagged, with_json,
        write_cursor,
    },
    problem::Problem,
    service::{Gate, Service},
    wire::{
        orders::{OrderBody, UserOrders},
        place::{Asked, PlaceOrder},
    },
};

/// Places an order: all of its lines are held, or none.
///
/// Answered when that is on disk. With `Prefer: respond-async` it is answered with 202 as soon as
/// the order is durably queued; read it at `Location`. If the server has an intake, the order waits
/// for its turn, and `queue` says where; a full queue is answered with 429 `queue-full`.
#[utoipa::path(
    post, path = "/v1/orders", tag = "orders", operation_id = "place_order",
    params(
        parameters::Key,
        ("Prefer" = Option<String>, Header, description = "`respond-async`"),
    ),
    request_body = PlaceOrder,
    responses(
        (status = 201, description = "The order, its stock held until it is paid or expires",
            body = OrderBody, headers(("Location" = String))),
        (status = 202, description = "The order, durably queued",
            body = OrderBody, headers(("Location" = String))),
    ),
)]
pub(crate) async fn place(
    caller: Caller<Sell>,
    gate: Gate,
    service: Data<Service>,
    key: IdempotencyKey,
    RespondAsync(respond_async): RespondAsync,
    Body(order): Body<PlaceOrder>,
) -> Answer {
    let orders = gate.orders(&caller);
    let (order, asked) = order.check(service.limits.order_lines_max)?;
    let body = place_one(&orders, order, asked, &key.0, respond_async).await?;
    let mut response =
        if respond_async { HttpResponse::Accepted() } else { HttpResponse::Created() };
    if respond_async {
        response.insert_header(("preference-applied", "respond-async"));
    }
    response.insert_header((header::LOCATION, format!("/v1/orders/{}", body.id())));
    Ok(with_json(&mut response, &body))
}

/// Places one order and makes its answer.
async fn place_one(
    orders: &OrdersClient,
    order: NewOrder,
    asked: Asked,
    key: &str,
    respond_async: bool,
) -> Result<OrderBody, Problem> {
    let order = if respond_async { order.respond_async() } else { order };
    let receipt = orders.place(order, key).await?;
    if respond_async {
        return Ok(asked.answer(&receipt));
    }
    Ok(answer_one(orders, &receipt, asked).await)
}

/// The answer to an order that was placed.
pub(super) async fn answer_one(
    orders: &OrdersClient,
    receipt: &Receipt,
    mut asked: Asked,
) -> OrderBody {
    find_amounts(orders, receipt, &mut asked).await;
    asked.answer(receipt)
}

/// A receipt tells the total only. Amounts never change, so the answer stays the same; without them
/// (the server is ending) it is still right.
async fn find_amounts(orders: &OrdersClient, receipt: &Receipt, asked: &mut Asked) {
    if !asked.lacks_amounts() {
        return;
    }
    // In a box, since few need it, and every order that waits would keep room for it.
    if let Ok(order) = Box::pin(orders.get(receipt.id)).await {
        asked.take_amounts(&order);
    }
}

/// An order as it is now, live or finished. While it waits in the queue, `queue` says where.
#[utoipa::path(
    get, path = "/v1/orders/{id}", tag = "orders", operation_id = "get_order",
    params(("id" = String, Path), parameters::Known),
    responses(
        (status = 200, description = "The order", body = OrderBody),
        (status = 304, description = "Not changed since"),
    ),
)]
pub(crate) async fn get(
    caller: Caller<Read>,
    gate: Gate,
    id: Segment,
    request: HttpRequest,
) -> Answer {
    let (order, place) = gate.orders(&caller).get_with_place(id.order()?).await?;
    let version = format!("v{}", order.version);
    let body = OrderBody::from(order).at(place);
    // Places change without the order.
    let tag = if place.is_some() { tag_of(&body) } else { version };
    Ok(tagged(&request, tag, &body))
}

/// Which part of a user's orders.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// How many orders at most. Default: 20.
    #[serde(default)]
    #[param(minimum = 1, maximum = 100, nullable = false)]
    limit: Option<u64>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    #[param(pattern = "^1[0-9a-f]{32}$", nullable = false)]
    cursor: Option<String>,
}

/// A user's orders, newest first.
#[utoipa::path(
    get, path = "/v1/users/{user}/orders", tag = "orders", operation_id = "list_user_orders",
    params(("user" = String, Path, pattern = "^[!-~]{1,64}$"), Page, parameters::Known),
    responses(
        (status = 200, description = "A page of orders", body = UserOrders),
        (status = 304, description = "Not changed since"),
    ),
)]
pub(crate) async fn by_user(
    caller: Caller<Read>,
    gate: Gate,
    user: Segment,
    Query(page): Query<Page>,
    request: HttpRequest,
) -> Answer {
    const LIMIT_MAX: u64 = 100;
    let limit = page.limit.unwrap_or(20);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let bound = format_args!("1 to {LIMIT_MAX}");
        return Err(OutOfBounds::new("limit", bound, limit).into());
    }
    let after = page.cursor.as_deref().map(read_cursor).transpose()?;
    let found = gate.orders(&caller).by_user(&user.0, after, limit as usize).await?;
    let next_cursor = found.next.map(write_cursor);
    let orders = found.orders.into_iter().map(OrderBody::from).collect();
    let page = UserOrders { orders, next_cursor };
    Ok(tagged(&request, tag_of(&page), &page))
}
