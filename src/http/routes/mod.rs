//! The handlers, one file per noun: each reads a request, asks the store, and answers. They decide
//! nothing; who may call them is in the type of their caller.

pub(crate) mod batch;
pub(crate) mod changes;
pub(crate) mod dead_letters;
pub(crate) mod events;
pub(crate) mod groups;
pub(crate) mod holds;
pub(crate) mod leases;
pub(crate) mod metrics;
pub(crate) mod orders;
pub(crate) mod parse_only;
pub(crate) mod server;
pub(crate) mod skus;
pub(crate) mod topics;
pub(crate) mod views;
pub(crate) mod webhooks;

use actix_web::HttpResponse;

use super::problem::Problem;

/// What a handler comes to.
type Answer = Result<HttpResponse, Problem>;

/// The parameters that several operations have, for the documentation.
pub(crate) mod parameters {
    use utoipa::IntoParams;

    /// The key of what is to be done.
    #[derive(IntoParams)]
    #[into_params(parameter_in = Header)]
    #[expect(dead_code, reason = "it is only documented")]
    pub(crate) struct Key {
        /// A key of the client's own for this one thing to be done. The same key with the same
        /// request gives the same answer and does nothing again. It may stand in quotes.
        #[param(
            rename = "Idempotency-Key",
            pattern = r#"^([!#-~][!-~]{0,254}|"[!#-\[\]-~]{1,255}")$"#
        )]
        key: String,
    }

    /// The key of what is to be done, where one need not be given.
    #[derive(IntoParams)]
    #[into_params(parameter_in = Header)]
    #[expect(dead_code, reason = "it is only documented")]
    pub(crate) struct MaybeKey {
        /// A key of the client's own for this one message. The same key with the same message gives
        /// the same answer and publishes nothing again. Without one, what is sent again is
        /// published again. It may stand in quotes.
        #[param(rename = "Idempotency-Key", required = false, nullable = false)]
        #[param(pattern = r#"^([!#-~][!-~]{0,254}|"[!#-\[\]-~]{1,255}")$"#)]
        key: Option<String>,
    }

    /// What the client has already.
    #[derive(IntoParams)]
    #[into_params(parameter_in = Header)]
    #[expect(dead_code, reason = "it is only documented")]
    pub(crate) struct Known {
        /// Tags of what the client has: answered with 304 if it is still so.
        #[param(rename = "If-None-Match", required = false, nullable = false)]
        tags: Option<String>,
    }
    /// Where a stream of events was left.
    #[derive(IntoParams)]
    #[into_params(parameter_in = Header)]
    #[expect(dead_code, reason = "it is only documented")]
    pub(crate) struct Seen {
        /// The `id` of the event seen last, as browsers send it.
        #[param(rename = "Last-Event-ID", required = false, nullable = false)]
        #[param(pattern = r"^[0-9]{1,19}(\.[0-9]{1,9})?$")]
        last: Option<String>,
    }
}
