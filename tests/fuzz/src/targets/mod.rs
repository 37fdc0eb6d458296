//! Every target, one file per decoder or family of them.

mod config;
mod csv;
mod http;
mod ids;
mod journal;
mod machines;
mod rows;

use crate::Target;

/// All of them.
pub const TARGETS: &[Target] = &[
    journal::FRAME,
    journal::PAYLOAD,
    journal::SEGMENT,
    rows::MANIFEST,
    rows::BOUNDS,
    rows::CHANGE,
    rows::ROW,
    rows::SNAPSHOT_HEAD,
    machines::ORDER_EVENT,
    machines::STOCK_EVENT,
    machines::TOPICS_EVENT,
    machines::CONSUMERS_EVENT,
    machines::ORDERS_IMAGE,
    machines::STOCK_IMAGE,
    machines::TOPICS_IMAGE,
    machines::CONSUMERS_IMAGE,
    machines::ARCHIVED_ORDER,
    machines::LAYOUT,
    ids::IDS,
    ids::EVENT_CURSOR,
    ids::USER_CURSOR,
    csv::TRACE,
    csv::STOCK_FILE,
    config::CONFIG,
    config::ACCESS,
    http::BODY,
    http::HEADERS,
];
