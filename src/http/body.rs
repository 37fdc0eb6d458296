//! Reads a JSON body into a type: within bounds of size and time, objects only, no unknown fields.
//! Whatever is wrong becomes a problem before anything is asked of the store.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    http::header::{self, HeaderValue},
    web::{Bytes, BytesMut, Data},
};
use futures_util::{StreamExt, future::LocalBoxFuture};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::{
    problem::{Problem, ProblemType},
    service::Service,
    wire::object::Object,
};

/// A body that must be there.
pub(crate) struct Body<T>(pub(crate) T);

/// A body that may be empty, which is as good as `{}`.
pub(crate) struct MaybeBody<T>(pub(crate) T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let checked = check_type(request).and_then(|()| Bounds::of(request));
        let payload = payload.take();
        Box::pin(async move { parse(&read(payload, checked?).await?).map(Self) })
    }
}

impl<T: DeserializeOwned + Default + 'static> FromRequest for MaybeBody<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (typed, checked) = (check_type(request), Bounds::of(request));
        let payload = payload.take();
        Box::pin(async move {
            let bytes = read(payload, checked?).await?;
            if bytes.is_empty() {
                return Ok(Self(T::default()));
            }
            typed?;
            parse(&bytes).map(Self)
        })
    }
}

/// How much of a body is read, and how long.
struct Bounds {
    bytes_max: usize,
    time_max: Duration,
}

impl Bounds {
    /// An error if the request says already that it is too much.
    fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let service = request.app_data::<Data<Service>>();
        let nowhere = || Problem::new(ProblemType::Internal, "no limits are known");
        let service = service.ok_or_else(nowhere)?;
        let bounds =
            Self { bytes_max: service.limits.body_bytes_max, time_max: service.timeouts.body_read };
        let declared = request.headers().get(header::CONTENT_LENGTH);
        let declared = declared.and_then(|it| it.to_str().ok()).and_then(|it| it.parse().ok());
        if declared.is_some_and(|bytes: usize| bytes > bounds.bytes_max) {
            return Err(bounds.too_large());
        }
        Ok(bounds)
    }

    fn too_large(&self) -> Problem {
        let detail = format!("a body may have {} bytes", self.bytes_max);
        Problem::new(ProblemType::BodyTooLarge, detail)
    }
}

/// A form or plain text is never JSON. It also keeps other sites' scripts away from a server on
/// loopback: browsers ask first before they send this type.
pub(super) fn check_type(request: &HttpRequest) -> Result<(), Problem> {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let essence = value.and_then(|it| it.split(';').next()).unwrap_or("").trim();
    let plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if request.headers().get_all(header::CONTENT_ENCODING).any(|value| !plain(value)) {
        let detail = "a body must not be compressed";
        return Err(Problem::new(ProblemType::UnsupportedMediaType, detail));
    }
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail = format!("the content type must be application/json; got {essence:?}");
    Err(Problem::new(ProblemType::UnsupportedMediaType, detail))
}

async fn read(payload: Payload, bounds: Bounds) -> Result<Bytes, Problem> {
    let mut whole = pin!(read_all(payload, &bounds));
    // Nearly always the body came with the head, and is handed over a moment after this is asked
    // for it. A timer for that moment costs more than to ask again.
    let mut asked_again = false;
    let soon = poll_fn(|task| match whole.as_mut().poll(task) {
        Poll::Ready(read) => Poll::Ready(Some(read)),
        Poll::Pending if asked_again => Poll::Ready(None),
        Poll::Pending => {
            asked_again = true;
            task.waker().wake_by_ref();
            Poll::Pending
        }
    });
    if let Some(read) = soon.await {
        return read;
    }
    tokio::time::timeout(bounds.time_max, whole).await.unwrap_or_else(|_| {
        let detail = format!("a body must arrive within {} ms", bounds.time_max.as_millis());
        Err(Problem::new(ProblemType::BodyTimeout, detail))
    })
}

async fn read_all(mut payload: Payload, bounds: &Bounds) -> Result<Bytes, Problem> {
    let mut all = Bytes::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| {
            let detail = format!("the body broke off: {error}");
            Problem::new(ProblemType::MalformedJson, detail)
        })?;
        if all.len() + chunk.len() > bounds.bytes_max {
            return Err(bounds.too_large());
        }
        // Mostly there is only one, which is taken as it is.
        all = if all.is_empty() {
            chunk
        } else {
            let mut joined = BytesMut::from(all);
            joined.extend_from_slice(&chunk);
            joined.freeze()
        };
    }
    Ok(all)
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if let Err(error) = std::str::from_utf8(bytes) {
        let detail = format!("the body is not UTF-8 from byte {}", error.valid_up_to());
        return Err(Problem::new(ProblemType::MalformedJson, detail));
    }
    let parsed = serde_json::from_slice::<Object<T>>(bytes);
    parsed.map(|Object(it)| it).map_err(|error| {
        let kind = match error.classify() {
            Category::Data => ProblemType::InvalidBody,
            Category::Io | Category::Syntax | Category::Eof => ProblemType::MalformedJson,
        };
        Problem::new(kind, error.to_string())
    })
}
