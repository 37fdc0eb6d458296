//! The work for one endpoint: messages of its group are posted, as long as it is not to be left
//! alone. Whether and when a message is tried again is the group's business.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_actors::{AskError, dispatch::ConsumeError};
use tidegate_machines::{ConsumersRejection, Letter, Timestamp};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::watch;

use super::{
    Delivery, Endpoint, EndpointReport,
    breaker::{Breaker, Gate},
    log::Log,
    post::{Outcome, Post, Poster},
};
use crate::{ConsumerGroup, Leased};

/// How long a worker waits for a message before it looks whether it is to stop.
const WAIT: Duration = Duration::from_secs(1);

/// What is added to the time of a request for that of a lease.
const MARGIN: Duration = Duration::from_secs(15);

/// An endpoint at work.
pub(super) struct Line {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) group: ConsumerGroup<Value>,
    pub(super) log: Log,
    /// Begins the id of every message: ids of different stores never meet.
    pub(super) store: String,
    pub(super) poster: Poster,
    pub(super) breaker: Mutex<Breaker>,
    pub(super) figures: Mutex<EndpointReport>,
}

impl Line {
    /// Posts messages until it is to stop, or the store closes.
    pub(super) async fn work(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        while !*stopped.borrow() {
            let gate = self.breaker().enter(Instant::now());
            if let Gate::Shut(rest) = gate {
                let _ = tokio::time::timeout(rest.min(WAIT), stopped.changed()).await;
                continue;
            }
            let leased = self.group.lease(1, WAIT, self.endpoint.timeout + MARGIN).await;
            let error = match leased.map(|mut leases| leases.pop()) {
                Ok(Some(leased)) => self.deliver(&leased).await.err(),
                Ok(None) => None,
                Err(error) => Some(error),
            };
            if gate == Gate::Trial {
                // Unless it was tried: then this changes nothing.
                self.breaker().give_back();
            }
            match error {
                None => self.figures().trouble = None,
                Some(error) if is_over(&error) => return,
                Some(error) => {
                    self.trouble(&error);
                    let _ = tokio::time::timeout(WAIT, stopped.changed()).await;
                }
            }
        }
    }

    async fn deliver(self: &Arc<Self>, leased: &Leased<Value>) -> Result<(), ConsumeError> {
        let letter = leased.letter();
        let (kind, data) = self.told(letter);
        if !self.endpoint.wants(&kind) {
            return late_is_fine(leased.ack().await);
        }
        let id = format!("{}-{}", self.store, letter.id);
        let body = body(&kind, letter.at, &data);
        let post = Post { id, kind, attempt: leased.attempt(), body };
        let line = Arc::clone(self);
        let sent = tokio::task::spawn_blocking(move || {
            let outcome = line.poster.send(&post);
            if let Err(error) = line.log.add(&outcome.delivery) {
                tracing::warn!(%error, "an attempt is missing in the log of deliveries");
            }
            outcome
        });
        // An error is the runtime's end, or a panic: then the message comes again.
        let Ok(Outcome { delivery, rest, gone }) = sent.await else { return Ok(()) };
        let error = delivery.error.clone();
        match &error {
            None => self.breaker().succeeded(),
            Some(_) => self.breaker().failed(Instant::now(), rest),
        }
        self.note(delivery);
        if gone {
            let name = &self.endpoint.name;
            tracing::error!(endpoint = %name, "it says that it is gone: its group is paused");
            self.group.pause().await?;
        }
        late_is_fine(match error {
            None => leased.ack().await,
            Some(cause) => leased.fail(&cause).await,
        })
    }

    /// The kind of a message, and what it says.
    fn told(&self, letter: &Letter) -> (String, Value) {
        /// An event, as the built-in topic has it.
        #[derive(Deserialize)]
        struct Told {
            kind: String,
            data: Value,
        }
        let bytes = letter.payload.bytes();
        let topic = &self.group.id().topic;
        if topic.is_events()
            && let Ok(Told { kind, data }) = serde_json::from_slice(bytes)
        {
            return (kind, data);
        }
        (topic.to_string(), serde_json::from_slice(bytes).unwrap_or(Value::Null))
    }

    fn note(&self, delivery: Delivery) {
        let mut figures = self.figures();
        match &delivery.error {
            None => {
                figures.delivered += 1;
                figures.failures_in_a_row = 0;
            }
            Some(error) => {
                figures.failed += 1;
                figures.failures_in_a_row += 1;
                let (endpoint, id) = (&self.endpoint.name, &delivery.id);
                tracing::warn!(%endpoint, id, attempt = delivery.attempt, error, "not delivered");
            }
        }
        figures.last = Some(delivery);
    }

    /// Says once what keeps messages from coming.
    fn trouble(&self, error: &ConsumeError) {
        let (error, mut figures) = (error.to_string(), self.figures());
        if figures.trouble.as_ref() != Some(&error) {
            tracing::error!(endpoint = %self.endpoint.name, error, "no messages");
            figures.trouble = Some(error);
        }
    }

    pub(super) fn report(&self) -> EndpointReport {
        let open = self.breaker().is_open();
        EndpointReport { left_alone: open, ..self.figures().clone() }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn figures(&self) -> MutexGuard<'_, EndpointReport> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message as the standard recommends it.
pub(super) fn body(kind: &str, at: Timestamp, data: &Value) -> Vec<u8> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000);
    let at = at.ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default();
    json!({ "type": kind, "timestamp": at, "data": data }).to_string().into_bytes()
}

fn late_is_fine(told: Result<(), ConsumeError>) -> Result<(), ConsumeError> {
    match told {
        // Somebody else has it: then it is delivered once more, which receivers must bear anyway.
        Err(ConsumeError::Ask(AskError::Rejected(ConsumersRejection::Late { .. }))) => Ok(()),
        told => told,
    }
}

/// Nothing will come any more.
fn is_over(error: &ConsumeError) -> bool {
    matches!(
        error,
        ConsumeError::Failed
            | ConsumeError::Ask(
                AskError::Closing | AskError::Rejected(ConsumersRejection::UnknownGroup { .. })
            )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_kind_its_time_and_its_data() {
        let told = body("order.placed", Timestamp(1_795_369_060_532), &json!({"order": "o-1"}));
        let told: Value = serde_json::from_slice(&told).unwrap();
        let expected = json!({
            "type": "order.placed",
            "timestamp": "2026-11-22T17:37:40.532Z",
            "data": { "order": "o-1" },
        });
        assert_eq!(told, expected);
    }
}
