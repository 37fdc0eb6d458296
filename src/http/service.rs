//! What every handler can reach: the store once it is open, the limits, and whether the server is
//! about to end. It knows no route.

use std::{
    future::{Ready, ready},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use actix_web::{FromRequest, HttpRequest, dev::Payload, web::Data};
use tidegate::{OrdersClient, Phase, StockClient, Tidegate};

use super::{
    access::Access,
    caller::Caller,
    problem::{Problem, ProblemType},
};
use crate::config::{Limits, Timeouts};

/// When to look again whether the store is open.
const RECOVERING_RETRY_S: u64 = 2;

/// See the module.
pub(crate) struct Service {
    gate: OnceLock<Tidegate>,
    draining: AtomicBool,
    in_flight: AtomicUsize,
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
        timeouts: Timeouts,
        access: Access,
        log_requests: bool,
    ) -> Self {
        let (draining, in_flight) = (AtomicBool::new(false), AtomicUsize::new(0));
        let gate = OnceLock::new();
        Self { gate, draining, in_flight, limits, timeouts, access, log_requests }
    }

    /// From now on requests get at the store.
    pub(super) fn open(&self, gate: Tidegate) {
        if self.gate.set(gate).is_err() {
            tracing::error!("the store was opened twice; the second one is not used");
        }
    }

    /// From now on the server says that it ends.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Counts a request until its answer is made.
    pub(super) fn enter(service: &Data<Self>) -> InFlight {
        service.in_flight.fetch_add(1, Ordering::SeqCst);
        InFlight(Data::clone(service))
    }

    /// Requests that have no answer yet.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Whether requests can be answered.
    pub(super) fn readiness(&self) -> Readiness {
        if self.is_draining() {
            return Readiness::Draining;
        }
        let Some(gate) = self.gate.get() else { return Readiness::Recovering };
        let report = gate.report();
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

/// A request that is being answered.
pub(crate) struct InFlight(Data<Service>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The open store, for a handler.
pub(crate) struct Gate(Tidegate);

impl Gate {
    /// Orders, with the caller's idempotency keys.
    pub(super) fn orders<R>(&self, caller: &Caller<R>) -> OrdersClient {
        match caller.name() {
            "" => self.0.orders().clone(),
            name => self.0.orders().for_caller(name),
        }
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
