//! Headers and parameters with a meaning of their own: idempotency keys, preferences, entity tags,
//! cursors and paths. It asks nothing of the store.

use std::{
    future::{Ready, ready},
    hash::Hasher,
};

use actix_web::{
    FromRequest, HttpRequest, HttpResponse, HttpResponseBuilder,
    dev::Payload,
    http::header::{self, ContentType, EntityTag, Header, IfNoneMatch},
    web,
};
use serde::{Serialize, de::DeserializeOwned};
use siphasher::sip::SipHasher13;
use tidegate::{OrderId, UserCursor, machine::Timestamp};

use super::problem::{Problem, ProblemType};

/// The `Idempotency-Key` header, which must be there.
pub(crate) struct IdempotencyKey(pub(crate) String);

impl FromRequest for IdempotencyKey {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let mut given = request.headers().get_all("idempotency-key");
        let key = match (given.next(), given.next()) {
            (None, _) => Err(Problem::new(
                ProblemType::KeyMissing,
                "send an Idempotency-Key header: 1 to 255 visible ASCII characters",
            )),
            (Some(_), Some(_)) => {
                Err(Problem::new(ProblemType::KeyInvalid, "there is more than one Idempotency-Key"))
            }
            (Some(key), None) => key.to_str().ok().and_then(unquoted).map(Self).ok_or_else(|| {
                let detail = "the key must be 1 to 255 visible ASCII characters, as they are \
                                  or as a string in quotes";
                Problem::new(ProblemType::KeyInvalid, detail)
            }),
        };
        ready(key)
    }
}

/// The `Idempotency-Key` header, which may be left out.
pub(crate) struct MaybeKey(pub(crate) Option<String>);

impl FromRequest for MaybeKey {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        if !request.headers().contains_key("idempotency-key") {
            return ready(Ok(Self(None)));
        }
        let key = IdempotencyKey::from_request(request, payload).into_inner();
        ready(key.map(|IdempotencyKey(key)| Self(Some(key))))
    }
}

/// A key as it is, or as the IETF's draft has it: a string of a structured field (RFC 9651). Both
/// are the same key.
fn unquoted(text: &str) -> Option<String> {
    let Some(quoted) = text.strip_prefix('"') else { return Some(text.to_owned()) };
    let (mut key, mut rest) = (String::new(), quoted.chars());
    loop {
        match rest.next()? {
            '"' => return rest.next().is_none().then_some(key),
            '\\' => key.push(rest.next().filter(|it| matches!(it, '"' | '\\'))?),
            it => key.push(it),
        }
    }
}

/// Whether the client would rather be answered at once (RFC 7240).
pub(crate) struct RespondAsync(pub(crate) bool);

impl FromRequest for RespondAsync {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let mut values = request.headers().get_all("prefer").filter_map(|it| it.to_str().ok());
        let asks = |value: &str| {
            value.split([',', ';']).any(|part| part.trim().eq_ignore_ascii_case("respond-async"))
        };
        ready(Ok(Self(values.any(asks))))
    }
}

/// A query, which has no names but those known.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let query = web::Query::<T>::from_query(request.query_string());
        ready(query.map(|query| Self(query.into_inner())).map_err(|error| {
            Problem::new(ProblemType::InvalidParameter, format!("the query: {error}"))
        }))
    }
}

/// The variable parts of a path that has several.
pub(crate) struct Segments<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest for Segments<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let path = web::Path::<T>::from_request(request, payload).into_inner();
        ready(path.map(|path| Self(path.into_inner())).map_err(|error| {
            Problem::new(ProblemType::InvalidParameter, format!("the path: {error}"))
        }))
    }
}

/// The one variable part of a path.
pub(crate) struct Segment(pub(crate) String);

impl FromRequest for Segment {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let part = Segments::<String>::from_request(request, payload).into_inner();
        ready(part.map(|Segments(part)| Self(part)))
    }
}

impl Segment {
    /// The order that it names.
    pub(crate) fn order(&self) -> Result<OrderId, Problem> {
        // What is no id can't be the id of an order.
        let unknown = |error: tidegate::OutOfBounds| {
            Problem::new(ProblemType::UnknownOrder, error.to_string())
        };
        self.0.parse().map_err(unknown)
    }

    /// The hold that it names.
    pub(crate) fn hold(&self) -> Result<tidegate::HoldId, Problem> {
        let unknown = |error: tidegate::OutOfBounds| {
            Problem::new(ProblemType::UnknownHold, error.to_string())
        };
        self.0.parse().map_err(unknown)
    }
}

/// Answers with `body`, or that the client has it already.
pub(crate) fn tagged<T: Serialize>(request: &HttpRequest, tag: String, body: &T) -> HttpResponse {
    let quoted = format!("\"{tag}\"");
    let known = request.headers().contains_key(header::IF_NONE_MATCH) && is_known(request, tag);
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header((header::ETAG, quoted));
    response.insert_header((header::CACHE_CONTROL, "private, no-cache"));
    if known { response.finish() } else { with_json(&mut response, body) }
}

/// Whether the client, which asks for what it has not, has what this is the tag of.
fn is_known(request: &HttpRequest, tag: String) -> bool {
    let tag = EntityTag::new_strong(tag);
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
        Err(_) => false,
    }
}

/// Puts `body` into an answer.
pub(crate) fn with_json<T: Serialize>(
    response: &mut HttpResponseBuilder,
    body: &T,
) -> HttpResponse {
    // An order's, which need not grow step by step.
    const BYTES: usize = 512;
    let mut json = Vec::with_capacity(BYTES);
    match serde_json::to_writer(&mut json, body) {
        Ok(()) => response.content_type(ContentType::json()).body(json),
        Err(error) => HttpResponse::from_error(error),
    }
}

/// A tag that follows from what is answered, for what has no version.
pub(crate) fn tag_of<T: Serialize>(body: &T) -> String {
    let mut hasher = SipHasher13::new();
    // Plain data: this can't fail, and a tag of nothing would only never match.
    hasher.write(&serde_json::to_vec(body).unwrap_or_default());
    format!("{:016x}", hasher.finish())
}

/// A cursor as clients carry it: opaque, and never confused with another version's.
pub(crate) fn write_cursor(cursor: UserCursor) -> String {
    format!("1{:016x}{:016x}", cursor.placed_at.0, cursor.order.0)
}

/// Reads it back.
pub(crate) fn read_cursor(text: &str) -> Result<UserCursor, Problem> {
    let read = || {
        let digits = text.strip_prefix('1')?;
        if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let (placed_at, order) = digits.split_at(16);
        let placed_at = Timestamp(u64::from_str_radix(placed_at, 16).ok()?);
        let order = OrderId(u64::from_str_radix(order, 16).ok()?);
        Some(UserCursor { placed_at, order })
    };
    read().ok_or_else(|| {
        let detail = "the cursor is not one that this server gave out";
        Problem::new(ProblemType::InvalidCursor, detail).field("cursor")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_with_quotes_and_without() {
        for (text, key) in [
            ("a", "a"),
            (r#""a""#, "a"),
            (r#"a"b""#, r#"a"b""#),
            (r#""a\"b\\""#, r#"a"b\"#),
            (r#""""#, ""),
        ] {
            assert_eq!(unquoted(text).as_deref(), Some(key), "{text}");
        }
        for text in [r#"""#, r#""a"#, r#""a"b"#, r#""a";x=1"#, r#""a\b""#, r#""a\"#] {
            assert_eq!(unquoted(text), None, "{text}");
        }
    }

    #[test]
    fn cursors_read_back_and_nothing_else_does() {
        let cursor = UserCursor { placed_at: Timestamp(u64::MAX), order: OrderId(7) };
        assert_eq!(read_cursor(&write_cursor(cursor)).unwrap(), cursor);
        for text in ["", "1", "x", &"1".repeat(34), &"g".repeat(33), "2".repeat(33).as_str()] {
            assert!(read_cursor(text).is_err(), "{text}");
        }
    }
}
