//! What every request passes, before and after its handler: a trace id, size of its headers, lists
//! and rates, who asks; then it is counted and logged. It reads no body.

use std::{cell::Cell, net::IpAddr, rc::Rc, sync::Arc};

use actix_web::{
    Error, HttpMessage, HttpResponse,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        ConnectionType,
        header::{HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
    web::Data,
};
use quanta::Instant;

use super::{
    access::Identity,
    connections::{Handed, Watched},
    figures::{Counts, REFUSED, Template, UNMATCHED},
    position::{POSITION, is_written},
    problem::{Problem, ProblemType},
    service::Service,
};

/// Names the request in logs and to the client.
const TRACE_ID: HeaderName = HeaderName::from_static("trace-id");

/// Where a client says which trace the request belongs to (W3C Trace Context).
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Asked by machines that watch the server; everything else counts for the rates. (Not the other
/// way round: `/%761/orders` is a path under `/v1` too.)
const UNCOUNTED: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// What the requests of one worker have in common.
pub(super) struct Worker {
    service: Data<Service>,
    counts: Arc<Counts>,
}

impl Worker {
    /// One more worker of `service`.
    pub(super) fn of(service: &Data<Service>) -> Rc<Self> {
        Rc::new(Self { service: service.clone(), counts: service.figures.of_a_worker() })
    }
}

/// The middleware.
pub(super) async fn guard<B: MessageBody + Unpin>(
    worker: Rc<Worker>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<Handed<EitherBody<B>>>, Error> {
    let Worker { service, counts } = &*worker;
    let _in_flight = counts.enter();
    let in_use = request.conn_data().map(Watched::in_use);
    let begun = Instant::now();
    let trace_id = trace_id(request.headers());
    let (mut who, mut template) = (None, REFUSED);
    let mut response = match check(service, &request) {
        Ok(identity) => {
            who = identity.as_ref().ok().map(|identity| identity.name.clone());
            request.extensions_mut().insert(identity);
            let response = next.call(request).await?;
            let matched = response.request().app_data::<Template>();
            template = matched.map_or(UNMATCHED, |Template(path)| path);
            response.map_into_left_body()
        }
        Err(problem) => {
            let response: HttpResponse = problem.into_response();
            request.into_response(response).map_into_right_body()
        }
    };
    response.headers_mut().insert(TRACE_ID, trace_id.clone());
    let method = response.request().method();
    if let Some(position) = service.position()
        && is_written(method, response.status())
    {
        response.headers_mut().insert(POSITION, position.0.into());
    }
    if service.is_draining() {
        // So that clients go elsewhere, and nothing is left waiting here.
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    let who = who.as_deref().unwrap_or("");
    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    let problem = response.response().extensions().get::<ProblemType>().copied();
    counts.count(template, response.request().method(), response.status(), problem, micros);
    log(service, &response, &trace_id, who, micros);
    Ok(response.map_body(|_, body| Handed::new(body, in_use)))
}

/// Refuses what need not be looked at further; otherwise says who asks, if anybody known does.
fn check(
    service: &Service,
    request: &ServiceRequest,
) -> Result<Result<Identity, Problem>, Problem> {
    let address = request.peer_addr().map(|peer| canonical(peer.ip()));
    let nowhere = || Problem::new(ProblemType::AddressDenied, "the address is not known");
    let address = address.ok_or_else(nowhere)?;
    let access = &service.access;
    access.check_address(address)?;
    let sizes = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    let (bytes, max) = (sizes.sum::<usize>(), service.limits.header_bytes_max);
    if bytes + request.uri().path().len() + request.query_string().len() > max {
        let detail = format!("path and headers may have {max} bytes together");
        return Err(Problem::new(ProblemType::HeadersTooLarge, detail));
    }
    if UNCOUNTED.contains(&request.path()) {
        return Ok(access.identify(request.head(), address));
    }
    access.count_address(address)?;
    let identity = access.identify(request.head(), address);
    if let Ok(identity) = &identity {
        access.count_key(identity)?;
    }
    Ok(identity)
}

/// An IPv4 address that came over an IPv6 socket is what it is in lists.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn log<B>(
    service: &Service,
    response: &ServiceResponse<B>,
    trace_id: &HeaderValue,
    who: &str,
    micros: u64,
) {
    let trace_id = trace_id.to_str().unwrap_or_default();
    let request = response.request();
    let (method, path, status) = (request.method(), request.path(), response.status().as_u16());
    if let Some(error) = response.response().error()
        && status == 500
    {
        tracing::error!(trace_id, %method, path, status, caller = who, %error, "failed");
    } else if service.log_requests {
        tracing::info!(trace_id, %method, path, status, caller = who, micros, "answered");
    }
}

/// The client's trace, or a new one.
fn trace_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok());
    let known = given.and_then(of_traceparent).and_then(|id| HeaderValue::from_str(id).ok());
    known.unwrap_or_else(new_trace_id)
}

/// The trace id of `version-traceid-parentid-flags`, if all of it is as it must be. Later versions
/// may have more.
fn of_traceparent(text: &str) -> Option<&str> {
    let mut parts = text.split('-');
    let mut hex = |digits: usize| {
        let lower = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        parts.next().filter(|part| part.len() == digits && part.bytes().all(lower))
    };
    let (version, trace_id, parent_id, _flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    let known = version != "ff" && (version != "00" || parts.next().is_none());
    let zero = |id: &str| id.bytes().all(|b| b == b'0');
    (known && !zero(trace_id) && !zero(parent_id)).then_some(trace_id)
}

thread_local! {
    /// Random at first, then counted on: unique, and no call of the system for each request.
    static NEXT_TRACE: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
}

fn new_trace_id() -> HeaderValue {
    let (high, low) = NEXT_TRACE.get().unwrap_or_else(|| {
        let mut bytes = [0; 16];
        // Without a random source ids begin at 0: worse logs, no worse answers.
        getrandom::fill(&mut bytes).unwrap_or_default();
        let number = u128::from_le_bytes(bytes);
        ((number >> 64) as u64, number as u64)
    });
    NEXT_TRACE.set(Some((high, low.wrapping_add(1))));
    // Spread, so that neighbours differ in more than the last digit.
    let spread = low.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let id = (u128::from(high) << 64) | u128::from(spread);
    // Digit by digit: every request has one.
    let digit = |at: usize| b"0123456789abcdef"[(id >> (124 - 4 * at)) as usize & 0xf];
    let digits: [u8; 32] = std::array::from_fn(digit);
    HeaderValue::from_bytes(&digits).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_taken_over_if_it_is_one() {
        const ID: &str = "0af7651916cd43dd8448eb211c80319c";
        let of = |before: &str, after: &str| format!("{before}{ID}{after}");
        let parent = "-b7ad6b7169203331-01";
        for good in [of("00-", parent), of("cc-", &format!("{parent}-more"))] {
            assert_eq!(of_traceparent(&good), Some(ID), "{good}");
        }
        for bad in [
            of("", ""),
            of("00-", ""),
            of("ff-", parent),
            of("0-", parent),
            of("00-", "-b7ad6b7169203331"),
            of("00-", &format!("{parent}-more")),
            of("00-", parent).to_uppercase(),
            of("00-", parent).replace(ID, &"0".repeat(32)),
        ] {
            assert_eq!(of_traceparent(&bad), None, "{bad}");
        }
    }
}
