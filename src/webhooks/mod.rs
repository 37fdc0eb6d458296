//! Webhooks: messages of a topic, posted to endpoints elsewhere, signed as [Standard
//! Webhooks](https://www.standardwebhooks.com) has it. Each endpoint is a consumer group, so what
//! holds there holds here: nothing is lost, order per key, retries, dead letters. It is a host as
//! any other, decides nothing, and never holds the store up.
//!
//! ```no_run
//! # async fn example(gate: tidegate::Tidegate) -> Result<(), Box<dyn std::error::Error>> {
//! use tidegate::webhooks::{Endpoint, Secret, Sender};
//! let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
//! let crm = Endpoint::new("crm", "https://crm.example/hooks", secret)?.only(["order.confirmed"]);
//! let sender = Sender::start(&gate, [crm]).await?;
//! # sender.stop().await; Ok(()) }
//! ```

mod address;
mod breaker;
mod deliver;
mod log;
mod post;
mod signature;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;
use serde_json::{Value, json};
use tidegate_actors::{
    dispatch::{ConsumeError, GroupFigures, Whence},
    feed::EventKind,
};
use tidegate_machines::{GroupId, OutOfBounds, Retry, TopicName};
use tokio::{sync::watch, task::JoinHandle};
use ureq::http::Uri;

use crate::Tidegate;
pub use post::Delivery;
pub use signature::Secret;

use deliver::Line;
use post::{Post, Poster};

/// The topic of an endpoint, unless said otherwise.
const EVENTS: &str = "events";

/// What the name of an endpoint's group begins with.
pub const GROUP_PREFIX: &str = "webhook-";

/// Characters of an endpoint's name.
const NAME_CHARS_MAX: usize = 40;

/// Workers of one endpoint.
const WORKERS_MAX: usize = 64;

/// Why there are no webhooks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An endpoint or the machine is not as it must be.
    #[error("{0}")]
    Setup(String),
    /// A value is out of bounds.
    #[error(transparent)]
    Bounds(#[from] OutOfBounds),
    /// The store does not hand out messages.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
    /// The store can't be read.
    #[error(transparent)]
    Storage(#[from] tidegate_storage::StorageError),
}

/// Where messages are posted to, and which.
#[derive(Clone)]
pub struct Endpoint {
    name: String,
    url: Uri,
    secrets: Vec<Secret>,
    topic: String,
    kinds: Vec<String>,
    retry: Retry,
    timeout: Duration,
    workers: usize,
    private: bool,
}

impl Endpoint {
    /// The endpoint `name` (1 to 40 of `a`–`z`, `0`–`9`, `-`), which is kept with how far it is, at
    /// an `https` URL on the public internet. It gets everything of the topic `events` that happens
    /// after it was first started.
    ///
    /// # Errors
    /// [`Error::Setup`]; it never repeats the URL, which may be a secret.
    pub fn new(name: &str, url: &str, secret: Secret) -> Result<Self, Error> {
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(known) {
            let must = format!("must be 1 to {NAME_CHARS_MAX} of a-z, 0-9 and -");
            return Err(Error::Setup(format!("an endpoint's name {must}; got {name:?}")));
        }
        let url: Uri = url
            .parse()
            .map_err(|error| Error::Setup(format!("the URL of endpoint {name}: {error}")))?;
        let is_http = url.scheme_str().is_some_and(|scheme| ["http", "https"].contains(&scheme));
        let has_user = url.authority().is_none_or(|host| host.as_str().contains('@'));
        if !is_http || has_user {
            let must = "must be https://HOST/… with neither user nor password";
            return Err(Error::Setup(format!("the URL of endpoint {name} {must}")));
        }
        Ok(Self {
            name: name.to_owned(),
            url,
            secrets: vec![secret],
            topic: EVENTS.to_owned(),
            kinds: Vec::new(),
            retry: Retry {
                attempts_max: 15,
                backoff_ms: 5_000,
                backoff_ms_max: 12 * 60 * 60 * 1_000,
            },
            timeout: Duration::from_secs(15),
            workers: 4,
            private: false,
        })
    }

    /// Signs with this secret as well: for the time in which a receiver changes to a new one.
    #[must_use]
    pub fn also_signed_with(mut self, secret: Secret) -> Self {
        self.secrets.push(secret);
        self
    }

    /// Posts the messages of another topic. Its messages are of the kind of its name.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = topic.into();
        self
    }

    /// Posts only messages of these kinds, as `order.confirmed`. Others are passed over, which
    /// takes about as long as having them handled.
    #[must_use]
    pub fn only(mut self, kinds: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.kinds = kinds.into_iter().map(Into::into).collect();
        self
    }

    /// How often a message is tried, and how far apart. Default: 15 times within a day, the
    /// second 5 seconds after the first.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// How long an answer may take, 1 ms to 1 hour. Default: 15 seconds.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        const HOUR: Duration = Duration::from_secs(3_600);
        self.timeout = timeout.clamp(Duration::from_millis(1), HOUR);
        self
    }

    /// How many messages are on their way at a time, of different keys: 1 to 64. Default: 4.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.clamp(1, WORKERS_MAX);
        self
    }

    /// Lets it be any address, and without TLS: only for endpoints that nobody else can name.
    #[must_use]
    pub fn allow_private(mut self) -> Self {
        self.private = true;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Posts a message of the kind `webhook.test` with no data, now and once.
    ///
    /// # Errors
    /// [`Error::Setup`]. That it was not taken is told by [`Delivery::error`].
    pub async fn test(&self) -> Result<Delivery, Error> {
        const KIND: &str = "webhook.test";
        self.check()?;
        let now = post::now();
        let nothing = serde_json::value::to_raw_value(&json!({}));
        let nothing = nothing.map_err(|error| Error::Setup(error.to_string()))?;
        let (id, body) = (format!("test-{}", now.0), deliver::body(KIND, now, &nothing));
        let post = Post { id, kind: KIND.to_owned(), attempt: 1, body };
        let poster = Poster::new(Arc::new(self.clone()));
        let sent = tokio::task::spawn_blocking(move || poster.send(&post).delivery).await;
        sent.map_err(|error| Error::Setup(error.to_string()))
    }

    fn wants(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted == kind)
    }

    /// Finds what can only be found when all of it is known, as [`Sender::start`] does.
    ///
    /// # Errors
    /// [`Error`]: a bound was passed, or it may not be sent there.
    pub fn check(&self) -> Result<(), Error> {
        self.retry.check()?;
        let topic = TopicName::new(&self.topic)?;
        for kind in &self.kinds {
            let known = if topic.is_events() {
                kind.parse::<EventKind>().map(drop).map_err(|error| error.to_string())
            } else if *kind == self.topic {
                Ok(())
            } else {
                Err(format!("messages of the topic {topic} are all of that kind"))
            };
            known.map_err(|why| {
                Error::Setup(format!("endpoint {}: the kind {kind:?}: {why}", self.name))
            })?;
        }
        if self.private {
            return Ok(());
        }
        let barred = |what: &str| {
            let allow = "allow private addresses for it if it is yours";
            Err(Error::Setup(format!("endpoint {}: {what}; {allow}", self.name)))
        };
        if self.url.scheme_str() != Some("https") {
            return barred("its URL must begin with https://");
        }
        // Names are looked at when they are resolved.
        let host = self.url.host().unwrap_or_default();
        match host.trim_matches(['[', ']']).parse() {
            Ok(address) if !address::is_public(address) => {
                barred(&format!("{address} is not on the public internet"))
            }
            _ => Ok(()),
        }
    }
}

/// Shows neither the URL's path nor a secret.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.host();
        f.debug_struct("Endpoint")
            .field("name", &self.name)
            .field("host", &host)
            .finish_non_exhaustive()
    }
}

/// How an endpoint fares, since it was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EndpointReport {
    /// Its name.
    pub name: String,
    /// Its topic.
    pub topic: String,
    /// Its consumer group, by which it is paused, moved and looked at.
    pub group: String,
    /// Messages that it took.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Failed attempts since it last took one.
    pub failures_in_a_row: u64,
    /// Whether it is left alone for a while because of them, or only tried.
    pub left_alone: bool,
    /// The last attempt.
    pub last: Option<Delivery>,
    /// Why no messages come from the store, if so.
    pub trouble: Option<String>,
}

/// What posts messages. Dropped, it stops like [`Sender::stop`], but nobody waits.
#[must_use = "nothing more is sent when this is dropped"]
pub struct Sender {
    lines: Vec<Arc<Line>>,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Sender {
    /// Begins to post to `endpoints`, in tasks of the present tokio runtime, until it is stopped or
    /// the store is closed. Waits for the disk.
    ///
    /// # Errors
    /// [`Error`]: an endpoint is not as it must be; two have the same name; the store is closing.
    pub async fn start(
        gate: &Tidegate,
        endpoints: impl IntoIterator<Item = Endpoint>,
    ) -> Result<Self, Error> {
        let (stop, stopped) = watch::channel(false);
        let mut lines: Vec<Arc<Line>> = Vec::new();
        for endpoint in endpoints {
            let name = &endpoint.name;
            if lines.iter().any(|line| line.endpoint.name == *name) {
                return Err(Error::Setup(format!("there are two endpoints of the name {name}")));
            }
            endpoint.check()?;
            lines.push(Arc::new(line(gate, endpoint).await?));
        }
        let work = |line: &Arc<Line>| {
            let (line, stopped) = (Arc::clone(line), stopped.clone());
            (0..line.endpoint.workers)
                .map(move |_| tokio::spawn(Arc::clone(&line).work(stopped.clone())))
        };
        let tasks = Mutex::new(lines.iter().flat_map(work).collect());
        Ok(Self { lines, stop, tasks })
    }

    /// How each endpoint fares, in the order in which they were given.
    #[must_use]
    pub fn report(&self) -> Vec<EndpointReport> {
        self.lines.iter().map(|line| line.report()).collect()
    }

    /// How the group of each endpoint stands.
    #[must_use]
    pub fn figures(&self) -> Vec<(GroupId, GroupFigures)> {
        let figures = |line: &Arc<Line>| (line.group.id().clone(), line.group.figures());
        self.lines.iter().map(figures).collect()
    }

    /// The last `limit` attempts of an endpoint, of up to 1,000 that are kept over restarts; the
    /// latest first. `None` if there is no such endpoint.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn deliveries(
        &self,
        endpoint: &str,
        limit: usize,
    ) -> Result<Option<Vec<Delivery>>, Error> {
        let Some(line) = self.line(endpoint).cloned() else { return Ok(None) };
        let read = tokio::task::spawn_blocking(move || line.log.last(limit)).await;
        Ok(Some(read.map_err(|error| Error::Setup(error.to_string()))??))
    }

    /// Posts a test message to an endpoint; `None` if there is no such endpoint.
    ///
    /// # Errors
    /// As for [`Endpoint::test`].
    pub async fn test(&self, endpoint: &str) -> Result<Option<Delivery>, Error> {
        let Some(line) = self.line(endpoint) else { return Ok(None) };
        line.endpoint.test().await.map(Some)
    }

    /// Takes no more messages, and waits until those on their way have arrived or failed. It can
    /// still be asked what became of them.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a worker of a webhook has failed");
            }
        }
    }

    fn line(&self, name: &str) -> Option<&Arc<Line>> {
        self.lines.iter().find(|line| line.endpoint.name == name)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

async fn line(gate: &Tidegate, endpoint: Endpoint) -> Result<Line, Error> {
    let topic = gate.topic::<Value>(&endpoint.topic)?;
    let name = format!("{GROUP_PREFIX}{}", endpoint.name);
    let group = topic.group(&name).begin(Whence::Now).open().await?;
    // Somebody may have it open already.
    group.set_retry(endpoint.retry)?;
    let (state, of) = (gate.state(), endpoint.name.clone());
    let log = tokio::task::spawn_blocking(move || log::Log::open(state, &of)).await;
    let log = log.map_err(|error| Error::Setup(error.to_string()))??;
    let endpoint = Arc::new(endpoint);
    let figures = EndpointReport {
        name: endpoint.name.clone(),
        topic: endpoint.topic.clone(),
        group: name,
        ..EndpointReport::default()
    };
    Ok(Line {
        poster: Poster::new(Arc::clone(&endpoint)),
        endpoint,
        group,
        log,
        store: gate.id().to_owned(),
        breaker: Mutex::default(),
        figures: Mutex::new(figures),
    })
}
