//! The OpenAPI document, put together from the handlers and the types on the wire, so that it can't
//! say anything else than the code does. It adds what every operation shares.

use std::{collections::BTreeSet, sync::OnceLock};

use serde_json::{Value, json};
use tidegate::EventKind;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        Content, HeaderBuilder, ObjectBuilder, Ref, RefOr, Required, ResponseBuilder,
        path::{Operation, PathItem},
        schema::Type,
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

use super::{
    problem::{ProblemBody, ProblemType},
    routes::{
        batch, changes, dead_letters, events, groups, holds, leases, metrics, orders, server, skus,
        topics, views, webhooks,
    },
};

/// What can be done with what was placed.
const LINKS: [(&str, &[&str]); 2] = [
    (
        "place_order",
        &[
            "get_order",
            "get_order_detail",
            "add_payment",
            "cancel_order",
            "fulfil_order",
            "return_units",
        ],
    ),
    ("place_hold", &["get_hold", "extend_hold", "confirm_hold", "release_hold", "ship_hold"]),
];

/// The operations whose body may be left out.
const WITHOUT_BODY: [&str; 3] = ["fulfil_order", "put_group", "lease_messages"];

/// The name of the security scheme.
const BEARER: &str = "api_key";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tidegate",
        description = "Stock and orders that stay right through a traffic surge.",
    ),
    paths(
        skus::define, skus::get, skus::adjust,
        holds::place, holds::get, holds::extend, holds::confirm, holds::release, holds::ship,
        orders::place, batch::place, orders::get, orders::by_user,
        changes::pay, changes::cancel, changes::fulfil, changes::take_back,
        events::stream, metrics::show,
        topics::publish, topics::stream, topics::schedules,
        topics::put_schedule, topics::get_schedule, topics::end_schedule,
        groups::list_all, groups::list, groups::put, groups::get, groups::remove,
        groups::pause, groups::resume, groups::seek,
        leases::lease, leases::ack, leases::fail, leases::extend,
        webhooks::list, webhooks::deliveries, webhooks::test,
        dead_letters::list, dead_letters::get, dead_letters::replay, dead_letters::discard,
        views::order_detail, views::sales, views::list, views::rebuild,
        server::health, server::readiness,
    ),
    components(schemas(ProblemBody)),
    modifiers(&Shared),
)]
struct Document;

/// The document as JSON.
pub(super) fn json() -> &'static str {
    static JSON: OnceLock<String> = OnceLock::new();
    // Strings and numbers: writing them can't fail.
    JSON.get_or_init(|| {
        let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
        add_links(&mut document);
        add_kinds(&mut document);
        document.to_string()
    })
}

/// What every operation shares: problems and keys.
struct Shared;

impl Modify for Shared {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme(BEARER, scheme);
        // Keys are needed only where some are configured.
        let none = SecurityRequirement::default();
        let key = SecurityRequirement::new::<_, [&str; 0], &str>(BEARER, []);
        document.security = Some(vec![none, key]);
        for item in document.paths.paths.values_mut() {
            [&mut item.put, &mut item.post].into_iter().flatten().for_each(add_position);
            for operation in operations(item) {
                add_problems(operation);
                let body = operation.request_body.as_mut();
                let id = operation.operation_id.as_deref();
                let optional = id.is_some_and(|id| WITHOUT_BODY.contains(&id));
                if let Some(body) = body.filter(|_| optional) {
                    body.required = Some(Required::False);
                }
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, .. } = item;
    [get, put, post, delete].into_iter().flatten()
}

/// Where the store is after a write: for reads that must show it.
fn add_position(operation: &mut Operation) {
    let responses = operation.responses.responses.iter_mut();
    for (_, response) in responses.filter(|(status, _)| status.starts_with('2')) {
        if let RefOr::T(response) = response {
            let header = HeaderBuilder::new()
                .schema(ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9]+$")))
                .description(Some("A position; views that have reached it show this write."));
            response.headers.insert("Tidegate-Position".to_owned(), header.build());
        }
    }
}

/// Every status that a problem can have, on every operation that doesn't give it another meaning.
fn add_problems(operation: &mut Operation) {
    let statuses: BTreeSet<_> = ProblemType::ALL.iter().map(|kind| kind.status()).collect();
    for status in statuses {
        let of_status = ProblemType::ALL.iter().filter(|kind| kind.status() == status);
        let slugs: Vec<_> = of_status.map(|kind| format!("`{}`", kind.slug())).collect();
        let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
        let response = ResponseBuilder::new()
            .description(slugs.join(", "))
            .content("application/problem+json", content)
            .build();
        let responses = &mut operation.responses.responses;
        responses.entry(status.as_str().to_owned()).or_insert(RefOr::T(response));
    }
}

/// Where the id in an answer leads. (Put into the JSON: the library writes a link's `operationId`
/// under another name.)
fn add_links(document: &mut Value) {
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    for item in paths.into_iter().flat_map(|paths| paths.values_mut()) {
        let Some(operation) = item.get_mut("post") else { continue };
        let id = operation.get("operationId").and_then(Value::as_str);
        let known = LINKS.iter().find(|(from, _)| Some(*from) == id);
        let created = operation.pointer_mut("/responses/201").and_then(Value::as_object_mut);
        let (Some((_, targets)), Some(created)) = (known, created) else { continue };
        let link = |target: &&str| {
            let parameters = json!({"id": "$response.body#/id"});
            ((*target).to_owned(), json!({"operationId": target, "parameters": parameters}))
        };
        created.insert("links".to_owned(), Value::Object(targets.iter().map(link).collect()));
    }
}

/// The kinds of events that can be asked for.
fn add_kinds(document: &mut Value) {
    let parameters = document.pointer_mut("/paths/~1v1~1events/get/parameters");
    let parameters = parameters.and_then(Value::as_array_mut).into_iter().flatten();
    for kinds in parameters.filter(|parameter| parameter["name"] == "kinds") {
        let names: Vec<_> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
        kinds["schema"]["items"]["enum"] = names.into();
        kinds["schema"]["minItems"] = 1.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_openapi_3_1_and_names_every_operation_once() {
        let document: serde_json::Value = serde_json::from_str(json()).unwrap();
        assert!(
            document["openapi"].as_str().unwrap().starts_with("3.1"),
            "{}",
            document["openapi"]
        );
        let mut ids = BTreeSet::new();
        for item in document["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values() {
                let id = operation["operationId"].as_str().unwrap();
                assert!(ids.insert(id.to_owned()), "{id} twice");
                assert!(operation["summary"].is_string(), "{id} has no summary");
            }
        }
        assert_eq!(ids.len(), 50);
    }
}
