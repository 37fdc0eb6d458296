//! Which path and method leads to which handler. Who may call it is said by the handler itself.

use actix_web::{
    FromRequest, Handler, Resource, Responder,
    guard::{self, Guard},
    http::Method,
    web::{self, ServiceConfig},
};

use super::{
    figures::Template,
    problem::{Problem, ProblemType},
    routes::{
        batch, changes, dead_letters, events, groups, holds, leases, metrics, orders, parse_only,
        server, skus, topics, views, webhooks,
    },
};

/// All routes.
pub(super) fn configure(app: &mut ServiceConfig) {
    // Looked through in this order: what is asked most is first, and plain paths before patterns.
    app.service(Path::new("/v1/orders").post(orders::place).end())
        .service(Path::new("/v1/orders:batch").post(batch::place).end())
        .service(Path::new("/v1/orders/{id}").get(orders::get).end())
        .service(Path::new("/v1/skus/{sku}").put(skus::define).get(skus::get).end())
        .service(Path::new("/v1/skus/{sku}/stock").post(skus::adjust).end())
        .service(Path::new("/v1/skus/{sku}/sales").get(views::sales).end())
        .service(Path::new("/v1/holds").post(holds::place).end())
        .service(Path::new("/v1/holds/{id}").get(holds::get).end())
        .service(Path::new("/v1/holds/{id}/extend").post(holds::extend).end())
        .service(Path::new("/v1/holds/{id}/confirm").post(holds::confirm).end())
        .service(Path::new("/v1/holds/{id}/release").post(holds::release).end())
        .service(Path::new("/v1/holds/{id}/ship").post(holds::ship).end())
        .service(Path::new("/v1/orders/{id}/detail").get(views::order_detail).end())
        .service(Path::new("/v1/orders/{id}/payments").post(changes::pay).end())
        .service(Path::new("/v1/orders/{id}/cancel").post(changes::cancel).end())
        .service(Path::new("/v1/orders/{id}/fulfilments").post(changes::fulfil).end())
        .service(Path::new("/v1/orders/{id}/returns").post(changes::take_back).end())
        .service(Path::new("/v1/users/{user}/orders").get(orders::by_user).end())
        .service(Path::new("/v1/events").get(events::stream).end())
        .service(Path::new("/v1/views").get(views::list).end())
        .service(Path::new("/v1/views/{name}/rebuild").post(views::rebuild).end())
        .service(Path::new("/metrics").get(metrics::show).end())
        .service(Path::new("/healthz").get(server::health).end())
        .service(Path::new("/readyz").get(server::readiness).end())
        .service(Path::new("/openapi.json").get(server::document).end())
        .service(Path::new("/docs").get(server::docs).end())
        .service(Path::new("/docs/docs.js").get(server::docs_script).end())
        .service(Path::new("/docs/docs.css").get(server::docs_style).end())
        .service(Path::new("/problems/{slug}").get(server::problem_page).end())
        .configure(configure_topics)
        .service(Path::new("/v1/webhooks").get(webhooks::list).end())
        .service(Path::new("/v1/webhooks/{webhook}/deliveries").get(webhooks::deliveries).end())
        .service(Path::new("/v1/webhooks/{webhook}/test").post(webhooks::test).end())
        .default_service(web::to(server::not_found));
}

fn configure_topics(app: &mut ServiceConfig) {
    let topic = Path::new("/v1/topics/{topic}/messages").post(topics::publish).end();
    app.service(topic).service(Path::new("/v1/topics/{topic}/stream").get(topics::stream).end());
    let schedules = Path::new("/v1/topics/{topic}/schedules").get(topics::schedules).end();
    let schedule = Path::new("/v1/topics/{topic}/schedules/{name}").put(topics::put_schedule);
    let schedule = schedule.get(topics::get_schedule).delete(topics::end_schedule).end();
    app.service(schedules).service(schedule);

    app.service(Path::new("/v1/groups").get(groups::list_all).end())
        .service(Path::new("/v1/topics/{topic}/groups").get(groups::list).end());
    let group = Path::new("/v1/topics/{topic}/groups/{group}").put(groups::put).get(groups::get);
    app.service(group.delete(groups::remove).end());
    app.service(Path::new("/v1/topics/{topic}/groups/{group}/lease").post(leases::lease).end())
        .service(Path::new("/v1/topics/{topic}/groups/{group}/ack").post(leases::ack).end())
        .service(Path::new("/v1/topics/{topic}/groups/{group}/fail").post(leases::fail).end())
        .service(Path::new("/v1/topics/{topic}/groups/{group}/extend").post(leases::extend).end())
        .service(Path::new("/v1/topics/{topic}/groups/{group}/pause").post(groups::pause).end())
        .service(Path::new("/v1/topics/{topic}/groups/{group}/resume").post(groups::resume).end())
        .service(Path::new("/v1/topics/{topic}/groups/{group}/seek").post(groups::seek).end());

    let all = Path::new("/v1/topics/{topic}/groups/{group}/dead-letters").get(dead_letters::list);
    let one = Path::new("/v1/topics/{topic}/groups/{group}/dead-letters/{id}");
    let one = one.get(dead_letters::get).delete(dead_letters::discard);
    let replay = Path::new("/v1/topics/{topic}/groups/{group}/dead-letters/{id}/replay");
    let replay = replay.post(dead_letters::replay);
    app.service(all.end()).service(one.end()).service(replay.end());
}

/// The yardstick of a bench, which no other server has. To be found as soon as what is measured
/// with it, it goes before all.
pub(super) fn configure_parse_only(app: &mut ServiceConfig) {
    app.service(Path::new(parse_only::PATH).post(parse_only::parse_only).end());
}

/// A path with its methods; any other method is answered with those it has.
struct Path {
    resource: Resource,
    allowed: Vec<&'static str>,
}

impl Path {
    fn new(path: &'static str) -> Self {
        Self { resource: web::resource(path).app_data(Template(path)), allowed: Vec::new() }
    }

    fn get<H, A>(self, handler: H) -> Self
    where
        H: Handler<A>,
        A: FromRequest + 'static,
        H::Output: Responder + 'static,
    {
        // Whoever has GET has HEAD; the body is left out on the way.
        let read = guard::Any(guard::Get()).or(guard::Head());
        self.with(read, &["GET", "HEAD"], handler)
    }

    fn put<H, A>(self, handler: H) -> Self
    where
        H: Handler<A>,
        A: FromRequest + 'static,
        H::Output: Responder + 'static,
    {
        self.with(guard::Method(Method::PUT), &["PUT"], handler)
    }

    fn delete<H, A>(self, handler: H) -> Self
    where
        H: Handler<A>,
        A: FromRequest + 'static,
        H::Output: Responder + 'static,
    {
        self.with(guard::Method(Method::DELETE), &["DELETE"], handler)
    }

    fn post<H, A>(self, handler: H) -> Self
    where
        H: Handler<A>,
        A: FromRequest + 'static,
        H::Output: Responder + 'static,
    {
        self.with(guard::Method(Method::POST), &["POST"], handler)
    }

    fn with<H, A>(
        mut self,
        method: impl Guard + 'static,
        names: &[&'static str],
        handler: H,
    ) -> Self
    where
        H: Handler<A>,
        A: FromRequest + 'static,
        H::Output: Responder + 'static,
    {
        self.resource = self.resource.route(web::route().guard(method).to(handler));
        self.allowed.extend(names);
        self
    }

    fn end(self) -> Resource {
        let allowed = self.allowed.join(", ");
        self.resource.default_service(web::to(move |method: Method| {
            let detail = format!("{method} is not one of {allowed}");
            let problem = Problem::new(ProblemType::MethodNotAllowed, detail).allow(&allowed);
            async move { problem.into_response() }
        }))
    }
}
