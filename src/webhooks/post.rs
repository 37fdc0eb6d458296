//! One request to an endpoint, and what came of it. It decides nothing about trying again.

use std::{
    io::Read,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustls::crypto::ring;
use serde::{Deserialize, Serialize};
use tidegate_machines::Timestamp;
use ureq::{
    Agent, Body,
    http::{Response, StatusCode, header},
    tls::{Certificate, RootCerts, TlsConfig},
    unversioned::transport::DefaultConnector,
};

use super::{Endpoint, Secret, address::OnlyPublic};

/// Bytes of an answer that are read, for the log of deliveries.
const ANSWER_BYTES_MAX: u64 = 512;

/// A connection is kept so long for the next message.
const IDLE: Duration = Duration::from_secs(30);

/// Refusals of a message by an endpoint that is well: another message may be taken.
const ABOUT_THE_MESSAGE: [StatusCode; 5] = [
    StatusCode::BAD_REQUEST,
    StatusCode::CONFLICT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    StatusCode::UNPROCESSABLE_ENTITY,
];

/// One attempt to deliver a message, as the log of deliveries keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// When it ended, by the machine's clock.
    pub at: Timestamp,
    /// The message's id, as the endpoint gets it.
    pub id: String,
    /// What kind of message it was.
    pub kind: String,
    /// Which attempt this was, from 1.
    pub attempt: u32,
    /// What the endpoint answered, if it did.
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Why it failed, if it did; with the beginning of what the endpoint said.
    pub error: Option<String>,
}

/// What came of one request.
pub(super) struct Outcome {
    pub(super) delivery: Delivery,
    /// It has said something about the message, be it that it does not like it.
    pub(super) answered: bool,
    /// How long the endpoint asks to be left alone.
    pub(super) rest: Option<Duration>,
    /// It says that it is gone for good.
    pub(super) gone: bool,
}

/// A message as it is posted.
pub(super) struct Post {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) attempt: u32,
    pub(super) body: Vec<u8>,
}

/// Posts to one endpoint. Blocks.
pub(super) struct Poster {
    agent: Agent,
    endpoint: Arc<Endpoint>,
}

impl Poster {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Self {
        let config = Agent::config_builder()
            .tls_config(tls())
            .user_agent(concat!("Tidegate/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // Whoever answers could send us anywhere.
            .max_redirects(0)
            // A proxy would resolve names by itself.
            .proxy(None)
            .timeout_global(Some(endpoint.timeout))
            .max_idle_age(IDLE)
            .https_only(!endpoint.private)
            .build();
        let agent = if endpoint.private {
            config.new_agent()
        } else {
            Agent::with_parts(config, DefaultConnector::default(), OnlyPublic::default())
        };
        Self { agent, endpoint }
    }

    pub(super) fn send(&self, post: &Post) -> Outcome {
        let Post { id, kind, attempt, body } = post;
        let (began, seconds) = (Instant::now(), now().0 / 1_000);
        let sign = |secret: &Secret| secret.sign(id, seconds, body);
        let signatures: Vec<_> = self.endpoint.secrets.iter().map(sign).collect();
        let sent = self
            .agent
            .post(&self.endpoint.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signatures.join(" "))
            .send(body.as_slice());
        let (status, rest, error) = match sent {
            Ok(answer) => {
                let (status, rest) = (answer.status(), rest(&answer));
                (Some(status), rest, (!status.is_success()).then(|| refusal(answer)))
            }
            Err(error) => (None, None, Some(error.to_string())),
        };
        let about_it = status.is_some_and(|status| ABOUT_THE_MESSAGE.contains(&status));
        let answered = error.is_none() || about_it;
        let delivery = Delivery {
            at: now(),
            id: id.clone(),
            kind: kind.clone(),
            attempt: *attempt,
            status: status.map(|status| status.as_u16()),
            took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            error,
        };
        Outcome { delivery, answered, rest, gone: status == Some(StatusCode::GONE) }
    }
}

/// What this machine trusts.
fn tls() -> TlsConfig {
    let known = rustls_native_certs::load_native_certs().certs;
    let roots: Vec<_> =
        known.iter().map(|it| Certificate::from_der(it.as_ref()).to_owned()).collect();
    TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build()
}

/// What `Retry-After` says, in seconds; of an endpoint that is busy.
fn rest(answer: &Response<Body>) -> Option<Duration> {
    let busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
    let asked = answer.headers().get(header::RETRY_AFTER);
    let asked = asked.filter(|_| busy.contains(&answer.status()));
    asked?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// The status, and the beginning of what comes with it.
fn refusal(mut answer: Response<Body>) -> String {
    let (status, mut said) = (answer.status(), Vec::new());
    // That it failed is known; what it says is only for the log.
    let _ = answer.body_mut().as_reader().take(ANSWER_BYTES_MAX).read_to_end(&mut said);
    let said = String::from_utf8_lossy(&said);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let what = if status.is_redirection() { ", which is not followed" } else { "" };
    if said.is_empty() { format!("{status}{what}") } else { format!("{status}{what}: {said}") }
}

/// By the machine's clock: receivers compare it with theirs.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
