//! The figures of the server and of its store, for Prometheus. They name no user, no order and no
//! SKU, but tell how business goes, so where there are keys they need one.

use std::time::Duration;

use actix_web::{HttpResponse, http::header, web::Data};
use tidegate::admin::{
    groups, metrics,
    page::{CONTENT_TYPE, Page},
};

use crate::http::{
    caller::{Caller, Read},
    service::{Readiness, Service},
};

/// How long consumer groups may take to say how they stand: a shard that is being rebuilt must not
/// keep all other figures back.
const GROUPS_WAIT: Duration = Duration::from_secs(1);

/// Figures of the server and of its store, as Prometheus reads them.
///
/// While the store is being opened there are only those of the server.
#[utoipa::path(
    get, path = "/metrics", tag = "server", operation_id = "get_metrics",
    responses(
        (status = 200, description = "Figures", body = String,
            content_type = "text/plain; version=0.0.4; charset=utf-8"),
    ),
)]
pub(crate) async fn show(_: Caller<Read>, service: Data<Service>) -> HttpResponse {
    let mut page = Page::new();
    page.head("tidegate_build_info", "gauge", "Always 1; the labels say what is running.");
    page.sample("tidegate_build_info", &[("version", &env!("CARGO_PKG_VERSION"))], 1);
    let uptime_s = service.begun.elapsed().as_secs();
    page.gauge("tidegate_uptime_seconds", "Time since the server began to listen.", uptime_s);
    let ready = u8::from(service.readiness() == Readiness::Ready);
    page.gauge("tidegate_ready", "1 if requests should be sent here, as /readyz says.", ready);
    let in_flight = service.in_flight();
    let help = "Requests without an answer yet, this one included.";
    page.gauge("tidegate_http_requests_in_flight", help, in_flight);
    let help = "Streams of events and of messages that are open.";
    page.gauge("tidegate_http_event_streams", help, service.streams());
    service.figures.write(&mut page);
    if let Some(report) = service.report() {
        metrics::write(&mut page, &report);
    }
    if let Ok(Some(standing)) = tokio::time::timeout(GROUPS_WAIT, service.standing()).await {
        groups::write(&mut page, &standing);
    }
    if let Some(report) = service.follower() {
        metrics::write_postgres(&mut page, &report);
    }
    if let Some(sender) = service.webhooks() {
        metrics::write_webhooks(&mut page, &sender.report());
    }
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CONTENT_TYPE, CONTENT_TYPE));
    response.insert_header((header::CACHE_CONTROL, "no-store")).body(page.into_text())
}

#[cfg(test)]
mod tests {
    use actix_web::{FromRequest, HttpMessage, body::to_bytes, dev::Payload, test::TestRequest};

    use super::*;
    use crate::{
        config::{Config, Flags},
        http::access::{Access, Identity},
    };

    #[tokio::test]
    async fn there_are_figures_before_the_store_is_open() {
        let Config { limits, events, timeouts, access, rates, .. } =
            Config::load(&Flags::default()).unwrap();
        let access = Access::new(access, &rates);
        let request = TestRequest::default().to_http_request();
        let identity = access.identify(request.head(), [127, 0, 0, 1].into());
        request.extensions_mut().insert::<Result<Identity, _>>(identity);
        let caller = Caller::from_request(&request, &mut Payload::None).await.ok().unwrap();
        let service = Service::new(limits, &events, timeouts, access, false);
        let page = show(caller, Data::new(service)).await;
        let page = to_bytes(page.into_body()).await.unwrap();
        let page = std::str::from_utf8(&page).unwrap();
        assert!(page.contains("\ntidegate_ready 0\n"), "{page}");
        assert!(!page.contains("tidegate_shards") && !page.contains("journal"), "{page}");
    }
}
