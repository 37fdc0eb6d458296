//! What every handler can reach: the store once it is open, the limits, and whether the server is
//! about to end. It knows no route.

use std::{
    borrow::Cow,
    future::{Ready, ready},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix_web::{FromRequest, HttpRequest, dev::Payload, web::Data};
use tidegate::{
    Events, OrdersClient, OutOfBounds, Phase, Position, Report, StockClient, Tidegate, Topic,
    admin::groups::Standing, postgres, webhooks,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{
    access::Access,
    caller::Caller,
    figures::Figures,
    groups::Groups,
    problem::{Problem, ProblemType},
    wire::topics::Json,
};
use crate::config::{self, Limits, Timeouts};

/// When to look again whether the store is open.
const RECOVERING_RETRY_S: u64 = 2;

/// When to look again whether a reader of events has left.
const SEAT_RETRY_S: u64 = 5;

/// See the module.
pub(crate) struct Service {
    gate: OnceLock<Tidegate>,
    follower: OnceLock<postgres::Figures>,
    webhooks: OnceLock<Arc<webhooks::Sender>>,
    draining: watch::Sender<bool>,
    /// The same: every request looks at it.
    is_draining: AtomicBool,
    /// A permit for each stream of events that may be open.
    seats: Arc<Semaphore>,
    seats_max: usize,
    pub(super) heartbeat: Duration,
    /// Measured as requests are.
    pub(super) begun: quanta::Instant,
    pub(super) figures: Figures,
    pub(super) groups: Groups,
    pub(super) limits: Limits,
    pub(super) timeouts: Timeouts,
    pub(super) access: Access,
    pub(super) log_requests: bool,
}

/// Whether requests can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// They can.
    Ready,
    /// The store is not open yet, or a shard is being rebuilt.
    Recovering,
    /// Storage has failed; a restart recovers.
    Poisoned,
    /// A shard or the projector is down for good; a restart recovers.
    Failed,
    /// The server is about to end.
    Draining,
}

impl Service {
    pub(super) fn new(
        limits: Limits,
        events: &config::Events,
        timeouts: Timeouts,
        access: Access,
        log_requests: bool,
    ) -> Self {
        Self {
            gate: OnceLock::new(),
            follower: OnceLock::new(),
            webhooks: OnceLock::new(),
            draining: watch::Sender::new(false),
            is_draining: AtomicBool::new(false),
            seats: Arc::new(Semaphore::new(events.streams_max)),
            seats_max: events.streams_max,
            heartbeat: events.heartbeat,
            // The first look at this clock takes up to 200 ms, here and not in a request.
            begun: quanta::Instant::now(),
            figures: Figures::default(),
            groups: Groups::default(),
            limits,
            timeouts,
            access,
            log_requests,
        }
    }

    /// From now on requests get at the store.
    pub(super) fn open(&self, gate: Tidegate) {
        if self.gate.set(gate).is_err() {
            tracing::error!("the store was opened twice; the second one is not used");
        }
    }

    /// From now on these figures are shown.
    pub(super) fn follow(&self, figures: postgres::Figures) {
        // There is one worker of a server.
        let _ = self.follower.set(figures);
    }

    /// How PostgreSQL follows, if one is configured.
    pub(super) fn follower(&self) -> Option<postgres::Report> {
        self.follower.get().map(postgres::Figures::report)
    }

    /// From now on it can be asked what was posted.
    pub(super) fn post(&self, sender: Arc<webhooks::Sender>) {
        // There is one sender of a server.
        let _ = self.webhooks.set(sender);
    }

    /// What posts messages, if anything does.
    pub(super) fn webhooks(&self) -> Option<&webhooks::Sender> {
        self.webhooks.get().map(Arc::as_ref)
    }

    /// From now on the server says that it ends.
    pub(super) fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
        self.draining.send_replace(true);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// For what lasts longer than a request: tells when the server is about to end.
    pub(super) fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// A place among the readers of events, until it is dropped.
    pub(super) fn take_seat(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.seats).try_acquire_owned().map_err(|_| {
            let detail = format!("{} streams of events are open already", self.seats_max);
            Problem::new(ProblemType::TooManyStreams, detail).retry_after_s(SEAT_RETRY_S)
        })
    }

    /// Streams of events that are open.
    pub(super) fn streams(&self) -> usize {
        self.seats_max.saturating_sub(self.seats.available_permits())
    }

    /// Where the store is, once it is open: everything answered is at or before it.
    pub(super) fn position(&self) -> Option<Position> {
        self.gate.get().map(Tidegate::position)
    }

    /// The store's figures, once it is open.
    pub(super) fn report(&self) -> Option<Report> {
        self.gate.get().map(Tidegate::report)
    }

    /// How every consumer group stands, by name, if the store is open and can tell.
    pub(super) async fn standing(&self) -> Option<Vec<Standing>> {
        let all = self.gate.get()?.consumer_groups().await.ok()?;
        let mut open = self.groups.figures();
        open.extend(self.webhooks().into_iter().flat_map(|sender| sender.figures()));
        let standing = all.into_iter().map(|(of, summary)| {
            let figures = open.remove(&of);
            (of, summary, figures)
        });
        Some(standing.collect())
    }

    /// Requests that have no answer yet.
    pub(super) fn in_flight(&self) -> usize {
        self.figures.in_flight()
    }

    /// Whether requests can be answered.
    pub(super) fn readiness(&self) -> Readiness {
        if self.is_draining() {
            return Readiness::Draining;
        }
        let Some(report) = self.report() else { return Readiness::Recovering };
        let any = |phase| report.shards.iter().any(|shard| shard.phase == phase);
        if any(Phase::Poisoned) {
            Readiness::Poisoned
        } else if any(Phase::Dead) || report.projector.failed {
            Readiness::Failed
        } else if any(Phase::Restoring) {
            Readiness::Recovering
        } else {
            Readiness::Ready
        }
    }
}

/// The open store, for a handler.
pub(crate) struct Gate(Tidegate);

impl Gate {
    /// Orders, with the caller's idempotency keys.
    pub(super) fn orders<R>(&self, caller: &Caller<R>) -> Cow<'_, OrdersClient> {
        match caller.name() {
            "" => Cow::Borrowed(self.0.orders()),
            name => Cow::Owned(self.0.orders().for_caller(name)),
        }
    }

    /// A topic, with the caller's idempotency keys.
    pub(super) fn topic<R>(
        &self,
        caller: &Caller<R>,
        name: &str,
    ) -> Result<Topic<Json>, OutOfBounds> {
        self.0.topic(name).map(|topic| topic.for_caller(caller.name()))
    }

    /// The store, for what is the same for every caller.
    pub(super) fn store(&self) -> &Tidegate {
        &self.0
    }

    /// Durable events.
    pub(super) fn events(&self) -> &Events {
        self.0.events()
    }

    /// Stock, with the caller's idempotency keys.
    pub(super) fn stock<R>(&self, caller: &Caller<R>) -> StockClient {
        match caller.name() {
            "" => self.0.stock().clone(),
            name => self.0.stock().for_caller(name),
        }
    }
}

impl FromRequest for Gate {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let gate = request.app_data::<Data<Service>>().and_then(|service| service.gate.get());
        ready(gate.map(|gate| Self(gate.clone())).ok_or_else(|| {
            Problem::new(ProblemType::Recovering, "the store is still being opened")
                .retry_after_s(RECOVERING_RETRY_S)
        }))
    }
}
