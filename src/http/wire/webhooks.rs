//! Webhooks, as they are written.

use serde::Serialize;
use tidegate::webhooks::{Delivery as DeliveryOf, EndpointReport};
use utoipa::ToSchema;

use super::time::Time;

/// An endpoint that messages are posted to. Counts are since the server began.
#[derive(Serialize, ToSchema)]
pub(crate) struct Webhook {
    name: String,
    topic: String,
    /// The consumer group that it is: with it, it is paused, moved, and looked at.
    group: String,
    /// Messages that it took.
    delivered: u64,
    /// Attempts that failed.
    failed: u64,
    /// Attempts that failed since it last took a message.
    failures_in_a_row: u64,
    /// Whether it is left alone for a while because of them, or only tried.
    left_alone: bool,
    last_delivery: Option<Delivery>,
    /// Why the store gives no messages to it, if so.
    trouble: Option<String>,
}

/// Every endpoint.
#[derive(Serialize, ToSchema)]
pub(crate) struct Webhooks {
    pub(crate) webhooks: Vec<Webhook>,
}

/// An attempt to deliver a message.
#[derive(Serialize, ToSchema)]
pub(crate) struct Delivery {
    /// When it ended.
    at: Time,
    /// The message's id, as the endpoint gets it.
    id: String,
    /// What kind of message it was.
    kind: String,
    /// Which attempt this was, from 1.
    attempt: u32,
    /// What the endpoint answered, if it did.
    status: Option<u16>,
    /// How long it took, in milliseconds.
    took_ms: u64,
    /// Why it failed, if it did.
    error: Option<String>,
}

/// Attempts, the latest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct Deliveries {
    pub(crate) deliveries: Vec<Delivery>,
}

impl From<EndpointReport> for Webhook {
    fn from(report: EndpointReport) -> Self {
        let EndpointReport { name, topic, group, delivered, failed, .. } = report;
        let EndpointReport { failures_in_a_row, left_alone, last, trouble, .. } = report;
        let last_delivery = last.map(Delivery::from);
        Self {
            name,
            topic,
            group,
            delivered,
            failed,
            failures_in_a_row,
            left_alone,
            last_delivery,
            trouble,
        }
    }
}

impl From<DeliveryOf> for Delivery {
    fn from(delivery: DeliveryOf) -> Self {
        let DeliveryOf { at, id, kind, attempt, status, took_ms, error } = delivery;
        Self { at: Time(at), id, kind, attempt, status, took_ms, error }
    }
}
