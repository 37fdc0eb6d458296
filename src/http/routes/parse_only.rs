//! The yardstick of `benches/wrk.rs`: reads and checks an order as placing it does, and answers as
//! placing it does, with nothing in between. It asks nothing of the store, and is there only with
//! `tidegate serve --parse-only-route`, which is for measuring and not in the documentation.

use actix_web::{HttpResponse, http::header, web::Data};
use tidegate::{HOLD_MS_DEFAULT, OrderId, OrderState, Receipt, machine::Timestamp};

use super::Answer;
use crate::http::{
    body::Body,
    caller::{Caller, Sell},
    headers::{IdempotencyKey, RespondAsync, with_json},
    service::{Gate, Service},
    wire::place::PlaceOrder,
};

/// Where it is.
pub(crate) const PATH: &str = "/v1/orders:parse";

/// When nothing was placed: any moment with as many digits as now.
const PLACED_AT: Timestamp = Timestamp(1_800_000_000_000);

/// An answer that looks like an order's. Everything that placing asks for is asked for.
pub(crate) async fn parse_only(
    _caller: Caller<Sell>,
    _gate: Gate,
    service: Data<Service>,
    _key: IdempotencyKey,
    _prefer: RespondAsync,
    Body(order): Body<PlaceOrder>,
) -> Answer {
    let (_order, asked) = order.check(service.limits.order_lines_max)?;
    let body = asked.answer(&Receipt {
        queue: None,
        id: OrderId(u64::MAX),
        state: OrderState::AwaitingPayment,
        total_minor: 1_990,
        placed_at: PLACED_AT,
        expires_at: Some(Timestamp(PLACED_AT.0 + HOLD_MS_DEFAULT)),
    });
    let mut response = HttpResponse::Created();
    response.insert_header((header::LOCATION, format!("/v1/orders/{}", body.id())));
    Ok(with_json(&mut response, &body))
}
