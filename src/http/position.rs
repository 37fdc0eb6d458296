//! The position that an answer carries, so that its reader can ask a view for at least that.
//! Whoever writes gets it here; what is read from a view has its own.

use actix_web::http::{Method, StatusCode, header::HeaderName};

/// Names the header.
pub(super) const POSITION: HeaderName = HeaderName::from_static("tidegate-position");

/// Whether an answer tells of something that was written.
pub(super) fn is_written(method: &Method, status: StatusCode) -> bool {
    status.is_success() && (method == Method::POST || method == Method::PUT)
}
