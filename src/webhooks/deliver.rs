//! The work for one endpoint: messages of its group are posted, as long as it is not to be left
//! alone. Whether and when a message is tried again is the group's business.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use tidegate_actors::{AskError, dispatch::ConsumeError};
use tidegate_machines::{ConsumersRejection, Letter, Timestamp};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::watch;

use super::{
    Delivery, Endpoint, EndpointReport,
    breaker::{Breaker, Gate, Trial},
    log::Log,
    post::{Outcome, Post, Poster},
};
use crate::{ConsumerGroup, HandlerError, Leased, handler::tell};

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
                Ok(Some(leased)) => self.deliver(&leased, gate.trial()).await.err(),
                Ok(None) => None,
                Err(error) => Some(error),
            };
            // Unless it was made: then this changes nothing.
            self.breaker().give_back(gate.trial());
            match error {
                None => self.figures().trouble = None,
                Some(ConsumeError::Ask(AskError::Closing)) => return,
                Some(error) if is_over(&error) => return self.trouble(&error),
                Some(error) => {
                    self.trouble(&error);
                    let _ = tokio::time::timeout(WAIT, stopped.changed()).await;
                }
            }
        }
    }

    async fn deliver(
        self: &Arc<Self>,
        leased: &Leased<Value>,
        trial: Option<Trial>,
    ) -> Result<(), ConsumeError> {
        let letter = leased.letter();
        let (kind, data) = match self.told(letter) {
            Ok(told) => told,
            Err(error) => {
                let why = HandlerError::new(format_args!("its payload is no JSON: {error}"));
                return late_is_fine(tell(leased, &Err(why)).await);
            }
        };
        if !self.endpoint.wants(&kind) {
            return late_is_fine(tell(leased, &Ok(())).await);
        }
        let id = format!("{}-{}", self.store, letter.id);
        let body = body(&kind, letter.at, data);
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
        let Ok(Outcome { delivery, answered, rest, gone }) = sent.await else { return Ok(()) };
        let outcome = delivery.error.as_ref().map_or(Ok(()), |why| Err(HandlerError::new(why)));
        if answered {
            self.breaker().answered();
        } else {
            self.breaker().failed(Instant::now(), trial, rest);
        }
        self.note(delivery);
        if gone {
            let name = &self.endpoint.name;
            tracing::error!(endpoint = %name, "it says that it is gone: its group is paused");
            if let Err(error) = self.group.pause().await {
                self.trouble(&error);
            }
        }
        late_is_fine(tell(leased, &outcome).await)
    }

    /// The kind of a message, and what it says, as it was written.
    fn told<'a>(&self, letter: &'a Letter) -> serde_json::Result<(String, &'a RawValue)> {
        /// An event, as the built-in topic has it.
        #[derive(Deserialize)]
        struct Told<'a> {
            kind: String,
            #[serde(borrow)]
            data: &'a RawValue,
        }
        let (bytes, topic) = (letter.payload.bytes(), &self.group.id().topic);
        if topic.is_events() {
            let Told { kind, data } = serde_json::from_slice(bytes)?;
            return Ok((kind, data));
        }
        Ok((topic.to_string(), serde_json::from_slice(bytes)?))
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
pub(super) fn body(kind: &str, at: Timestamp, data: &RawValue) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        r#type: &'a str,
        timestamp: String,
        data: &'a RawValue,
    }
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000);
    let timestamp = at.ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default();
    // Texts: this can't fail.
    serde_json::to_vec(&Body { r#type: kind, timestamp, data }).unwrap_or_default()
}

fn late_is_fine(told: Result<(), ConsumeError>) -> Result<(), ConsumeError> {
    match told {
        // Somebody else has it: then it is delivered once more, which receivers must bear anyway.
        Err(ConsumeError::Ask(AskError::Rejected(ConsumersRejection::Late { .. }))) => Ok(()),
        told => told,
    }
}

/// Nothing will come any more, though the store is open.
fn is_over(error: &ConsumeError) -> bool {
    matches!(
        error,
        ConsumeError::Failed
            | ConsumeError::Ask(AskError::Rejected(ConsumersRejection::UnknownGroup { .. }))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_kind_its_time_and_its_data() {
        let data = serde_json::from_str(r#"{"b":1.10, "a":123456789012345678901}"#).unwrap();
        let told = body("risk", Timestamp(1_795_369_060_532), data);
        let expected = concat!(
            r#"{"type":"risk","timestamp":"2026-11-22T17:37:40.532Z","#,
            r#""data":{"b":1.10, "a":123456789012345678901}}"#,
        );
        assert_eq!(String::from_utf8(told).unwrap(), expected, "as it was published");
    }
}
