//! What is joined or counted over several parts of the store: an order with its SKUs, sales over
//! time, and the views that keep those. Views are kept by the library; nothing is counted here.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use tidegate::{OutOfBounds, Position, Sales as SalesView, Sku, machine::Timestamp};
use utoipa::IntoParams;

use super::{Answer, parameters};
use crate::http::{
    caller::{Admin, Caller, Read},
    headers::{Query, Segment, tag_of, tagged},
    position::POSITION,
    problem::{Problem, ProblemType},
    service::Gate,
    wire::views::{Detail, Sales, Step, ViewBody, Views},
};

/// How long a read waits for a view to reach the position that it asks for.
const VIEW_WAIT: Duration = Duration::from_secs(5);

/// The largest number that all clients can write.
const NUMBER_MAX: u64 = 9_007_199_254_740_991;

/// Periods of one answer.
const PERIODS_MAX: u64 = 1_000;

/// An order as it is now, and each SKU in it as it is now: joined from where each is decided, so it
/// is never stale.
#[utoipa::path(
    get, path = "/v1/orders/{id}/detail", tag = "orders", operation_id = "get_order_detail",
    params(("id" = String, Path), parameters::Known),
    responses(
        (status = 200, description = "The order and its SKUs", body = Detail),
        (status = 304, description = "Not changed since"),
    ),
)]
pub(crate) async fn order_detail(
    _: Caller<Read>,
    gate: Gate,
    id: Segment,
    request: HttpRequest,
) -> Answer {
    let detail = Detail::from(gate.store().order_detail(id.order()?).await?);
    Ok(tagged(&request, tag_of(&detail), &detail))
}

/// Which periods.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Only periods that begin at this moment or later, in milliseconds since 1970. Default: all.
    #[serde(default)]
    #[param(minimum = 0, maximum = 9007199254740991u64, nullable = false)]
    from_ms: Option<u64>,
    /// Only periods that begin before this moment, in milliseconds since 1970. Default: all.
    #[serde(default)]
    #[param(minimum = 0, maximum = 9007199254740991u64, nullable = false)]
    to_ms: Option<u64>,
    /// How long a period is. Default: `hour`.
    #[serde(default)]
    #[param(inline, nullable = false)]
    step: Option<Step>,
    /// How many periods at most. Default: 100.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<u64>,
    /// Waits, for up to 5 seconds, until the figures hold everything up to this position: the
    /// `Tidegate-Position` of an answer, to read what was written by it.
    #[serde(default)]
    #[param(minimum = 0, maximum = 9007199254740991u64, nullable = false)]
    min_position: Option<u64>,
}

/// What of a SKU was sold, what came back, and how much stock there was, over time.
///
/// An order counts in the period in which it was placed, from when it is confirmed, and not any
/// more once it is cancelled. Periods in which nothing happened are left out, but for the one in
/// which the figures were built from what the store held. The server must have `views.sales`
/// switched on; `Tidegate-Position` says up to where the figures hold everything.
#[utoipa::path(
    get, path = "/v1/skus/{sku}/sales", tag = "stock", operation_id = "get_sales",
    params(("sku" = String, Path, pattern = "^[!-~]{1,64}$"), Wanted, parameters::Known),
    responses(
        (status = 200, description = "A page of periods", body = Sales,
            headers(("Tidegate-Position" = String))),
        (status = 304, description = "Not changed since"),
    ),
)]
pub(crate) async fn sales(
    caller: Caller<Read>,
    gate: Gate,
    sku: Segment,
    Query(wanted): Query<Wanted>,
    request: HttpRequest,
) -> Answer {
    let number = |field, given: Option<u64>, default, (min, max)| {
        let number = given.unwrap_or(default);
        if (min..=max).contains(&number) {
            return Ok(number);
        }
        Err(OutOfBounds::new(field, format_args!("{min} to {max}"), number))
    };
    let name = Sku::new(&sku.0)?;
    let from = number("from_ms", wanted.from_ms, 0, (0, NUMBER_MAX))?;
    let to = number("to_ms", wanted.to_ms, NUMBER_MAX, (0, NUMBER_MAX))?;
    let limit = number("limit", wanted.limit, 100, (1, PERIODS_MAX))?;
    number("min_position", wanted.min_position, 0, (0, NUMBER_MAX))?;
    let reader = gate.store().view::<SalesView>().ok_or_else(|| switched_off(SALES))?;
    if let Some(position) = wanted.min_position {
        reader.at_least(Position(position), VIEW_WAIT).await?;
    }
    let span = (Timestamp(from), Timestamp(to));
    let step = wanted.step.map(Into::into).unwrap_or_default();
    let page = reader.periods(&name, span, step, limit as usize).await?;
    let position = page.position;
    let body = Sales::from(page);
    if body.is_empty() {
        // A SKU that is unknown is told from one of which nothing was ever sold.
        gate.stock(&caller).get(&sku.0).await?;
    }
    let mut response = tagged(&request, tag_of(&body), &body);
    response.headers_mut().insert(POSITION, position.0.into());
    Ok(response)
}

/// The name of the built-in view.
const SALES: &str = "sales";

fn switched_off(name: &str) -> Problem {
    Problem::new(ProblemType::UnknownView, format!("there is no view {name:?} on this server"))
}

/// Every view that is switched on, and how it is doing.
#[utoipa::path(
    get, path = "/v1/views", tag = "server", operation_id = "list_views",
    responses((status = 200, description = "The views", body = Views)),
)]
pub(crate) async fn list(_: Caller<Read>, gate: Gate) -> HttpResponse {
    let views = gate.store().report().views.into_iter().map(ViewBody::from).collect();
    HttpResponse::Ok().json(Views { views })
}

/// Builds a view anew; the old rows are read until the new ones are there.
///
/// Answered when it is on disk that new rows are wanted: they come, over crashes too. `GET
/// /v1/views` says how far they are, and when `rebuilding` is over.
#[utoipa::path(
    post, path = "/v1/views/{name}/rebuild", tag = "server", operation_id = "rebuild_view",
    params(("name" = String, Path)),
    responses((status = 202, description = "It will be done", body = Views)),
)]
pub(crate) async fn rebuild(_: Caller<Admin>, gate: Gate, name: Segment) -> Answer {
    let rebuild = gate.store().rebuild_view(&name.0);
    // It goes on without anybody who waits.
    rebuild.ok_or_else(|| switched_off(&name.0))?.noted().await?;
    let views = gate.store().report().views.into_iter().map(ViewBody::from).collect();
    Ok(HttpResponse::Accepted().json(Views { views }))
}
