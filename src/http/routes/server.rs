//! What is asked about the server itself: whether it lives, whether it is ready, what it can do. No
//! key is needed, and nothing of the store is shown.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::Data,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::Answer;
use crate::http::{
    headers::Segment,
    openapi,
    problem::{self, Problem, ProblemType},
    service::{Readiness, Service},
};

/// How the server is.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    status: HealthStatus,
}

/// How the server is, in a word.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HealthStatus {
    /// The process answers.
    Alive,
    /// Requests are answered.
    Ready,
    /// The store is being opened, or a shard rebuilt.
    Recovering,
    /// Storage has failed; restart the server.
    Poisoned,
    /// A part of the store is down; restart the server.
    Failed,
    /// The server is about to end.
    Draining,
}

/// Whether the process answers at all.
#[utoipa::path(
    get, path = "/healthz", tag = "server", operation_id = "get_health", security(()),
    responses((status = 200, description = "It does", body = Health)),
)]
pub(crate) async fn health() -> HttpResponse {
    answer(StatusCode::OK, HealthStatus::Alive)
}

/// Whether requests should be sent here.
#[utoipa::path(
    get, path = "/readyz", tag = "server", operation_id = "get_readiness", security(()),
    responses(
        (status = 200, description = "They should", body = Health),
        (status = 503, description = "Not now", body = Health),
    ),
)]
pub(crate) async fn readiness(service: Data<Service>) -> HttpResponse {
    let not = StatusCode::SERVICE_UNAVAILABLE;
    match service.readiness() {
        Readiness::Ready => answer(StatusCode::OK, HealthStatus::Ready),
        Readiness::Recovering => answer(not, HealthStatus::Recovering),
        Readiness::Poisoned => answer(not, HealthStatus::Poisoned),
        Readiness::Failed => answer(not, HealthStatus::Failed),
        Readiness::Draining => answer(not, HealthStatus::Draining),
    }
}

fn answer(code: StatusCode, status: HealthStatus) -> HttpResponse {
    let mut response = HttpResponse::build(code);
    response.insert_header((header::CACHE_CONTROL, "no-store")).json(Health { status })
}

/// The OpenAPI document.
pub(crate) async fn document() -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.content_type("application/json").body(openapi::json())
}

/// The document, to be read by people.
pub(crate) async fn docs() -> HttpResponse {
    let policy = "default-src 'none'; connect-src 'self'; script-src 'self'; style-src 'self'";
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CONTENT_SECURITY_POLICY, policy));
    response.content_type("text/html; charset=utf-8").body(include_str!("../docs/index.html"))
}

/// What the page runs.
pub(crate) async fn docs_script() -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.content_type("text/javascript; charset=utf-8").body(include_str!("../docs/docs.js"))
}

/// How the page looks.
pub(crate) async fn docs_style() -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.content_type("text/css; charset=utf-8").body(include_str!("../docs/docs.css"))
}

/// What a type of problem means.
pub(crate) async fn problem_page(slug: Segment) -> Answer {
    let page = problem::page(&slug.0).ok_or_else(|| {
        Problem::new(ProblemType::RouteNotFound, format!("there is no problem type {:?}", slug.0))
    })?;
    Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(page))
}

/// Whatever else is asked.
pub(crate) async fn not_found(request: HttpRequest) -> HttpResponse {
    let detail = format!("there is nothing at {}", request.path());
    Problem::new(ProblemType::RouteNotFound, detail).into_response()
}
