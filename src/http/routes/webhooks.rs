//! Webhooks: how endpoints fare, what was tried, and a test. Where messages go is configured, and
//! nobody who asks the server can change it.

use actix_web::{HttpResponse, web::Data};
use serde::Deserialize;
use tidegate::{OutOfBounds, webhooks::Error};
use utoipa::IntoParams;

use super::Answer;
use crate::http::{
    body::MaybeBody,
    caller::{Admin, Caller, Read},
    headers::{Query, Segments},
    problem::{Problem, ProblemType},
    service::{Gate, Service},
    wire::{
        orders::Nothing,
        webhooks::{Deliveries, Delivery, Webhook, Webhooks},
    },
};

/// Attempts that are kept of an endpoint.
const LIMIT_MAX: u64 = 1_000;

/// How many attempts.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Last {
    /// How many at most. Default: 20.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<u64>,
}

/// Every endpoint that messages are posted to.
#[utoipa::path(
    get, path = "/v1/webhooks", tag = "webhooks", operation_id = "list_webhooks",
    responses((status = 200, description = "All endpoints", body = Webhooks)),
)]
pub(crate) async fn list(_: Caller<Read>, _: Gate, service: Data<Service>) -> Answer {
    let reports = service.webhooks().map(|sender| sender.report()).unwrap_or_default();
    let webhooks = reports.into_iter().map(Webhook::from).collect();
    Ok(HttpResponse::Ok().json(Webhooks { webhooks }))
}

/// The last attempts to deliver to an endpoint, over restarts: the log of deliveries.
#[utoipa::path(
    get, path = "/v1/webhooks/{webhook}/deliveries", tag = "webhooks",
    operation_id = "list_deliveries",
    params(("webhook" = String, Path, pattern = "^[a-z0-9-]{1,40}$"), Last),
    responses((status = 200, description = "The last attempts", body = Deliveries)),
)]
pub(crate) async fn deliveries(
    _: Caller<Read>,
    _: Gate,
    service: Data<Service>,
    Segments((webhook,)): Segments<(String,)>,
    Query(Last { limit }): Query<Last>,
) -> Answer {
    let limit = limit.unwrap_or(20);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let bound = format_args!("1 to {LIMIT_MAX}");
        return Err(OutOfBounds::new("limit", bound, limit).into());
    }
    let sender = service.webhooks().ok_or_else(|| unknown(&webhook))?;
    let found = sender.deliveries(&webhook, limit as usize).await.map_err(failed)?;
    let found = found.ok_or_else(|| unknown(&webhook))?;
    let deliveries = found.into_iter().map(Delivery::from).collect();
    Ok(HttpResponse::Ok().json(Deliveries { deliveries }))
}

/// Posts a message of the kind `webhook.test` to an endpoint, once, and tells what came of it.
#[utoipa::path(
    post, path = "/v1/webhooks/{webhook}/test", tag = "webhooks", operation_id = "test_webhook",
    params(("webhook" = String, Path, pattern = "^[a-z0-9-]{1,40}$")),
    responses((status = 200, description = "What came of it", body = Delivery)),
)]
pub(crate) async fn test(
    _: Caller<Admin>,
    _: Gate,
    service: Data<Service>,
    Segments((webhook,)): Segments<(String,)>,
    _: MaybeBody<Nothing>,
) -> Answer {
    let sender = service.webhooks().ok_or_else(|| unknown(&webhook))?;
    let tested = sender.test(&webhook).await.map_err(failed)?;
    let tested = tested.ok_or_else(|| unknown(&webhook))?;
    Ok(HttpResponse::Ok().json(Delivery::from(tested)))
}

fn unknown(webhook: &str) -> Problem {
    Problem::new(ProblemType::UnknownWebhook, format!("no webhook {webhook:?} is configured"))
}

/// The store can't be read, or the process can't work.
fn failed(error: Error) -> Problem {
    tracing::error!(%error, "a webhook could not be asked");
    Problem::new(ProblemType::Internal, "see the server's log")
}
