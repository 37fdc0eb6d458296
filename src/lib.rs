//! Tidegate: a durable actor runtime, embedded in your app, for back ends that must survive a
//! traffic surge.
//!
//! [`Tidegate::builder`] opens a store; [`Tidegate::stock`] and [`Tidegate::orders`] are what to
//! ask it; [`machine`] is for durable actors of your own. Every answer waits until what it says is
//! on disk. This crate decides nothing itself: the rules are in `tidegate-machines`.

#[cfg(feature = "cli")]
pub mod admin;
mod audit;
mod builder;
mod consumers;
mod detail;
mod error;
mod handler;
mod inspect;
mod intake;
mod layout;
mod marks;
mod orders;
mod own;
mod placing;
mod runtime;
mod stock;
mod topics;
mod views;
#[cfg(feature = "webhooks")]
pub mod webhooks;

pub mod machine;
#[cfg(feature = "postgres")]
pub mod postgres;

pub use audit::{AuditReport, Check, audit};
pub use builder::Builder;
pub use consumers::{ConsumerGroup, Effects, Leased, OpenGroup};
pub use detail::OrderDetail;
pub use error::OpenError;
pub use handler::{Handler, HandlerError, Message, Workers};
pub use inspect::{
    InspectReport, JournalReport, MachineReport, OrdersReport, SegmentReport, SnapshotReport,
    inspect,
};
pub use intake::Intake;
pub use marks::{MarkError, Marks};
pub use orders::{OrderError, OrdersClient, PaymentEvent, Units, UserOrders};
pub use placing::{HOLD_MS_DEFAULT, NewOrder};
pub use runtime::{Report, Tidegate};
pub use stock::{Adjustment, NewHold, StockClient, StockError};
pub use tidegate_actors::{
    AskError, Bucket, Distribution, ManualTime, Phase, ProjectorReport, RestoreError, ShardReport,
    SystemTimeSource, TimeSource,
    archive::UserCursor,
    dispatch::{ConsumeError, GroupFigures, LEASE_MESSAGES_MAX, LEASE_MS_MAX, Whence},
    feed::{
        Cursor, Event, EventData, EventKind, Events, Feed, FeedError, HeldLine, Letters, Pick,
        PlacedLine, Reason, SetOptions,
    },
};
pub use tidegate_machines::{
    ConsumersRejection, Currency, DeadLetter, EventId, Fulfilment, FulfilmentStatus, GroupId,
    GroupName, GroupSummary, GroupView, History, Hold, HoldId, HoldOutcome, IdempotencyError,
    ItemView, KeyHash, LeaseToken, Leg, LegState, Letter, Level, Location, MessageId, MessageKey,
    OpId, Order, OrderEntries, OrderId, OrderLine, OrderRejection, OrderState, OutOfBounds,
    Payload, Payment, PaymentKind, PaymentStatus, Pending, Provider, PublishReceipt, QueueCounts,
    QueuePlace, Receipt, Refusal, Rereserve, Retry, Return, Schedule, ScheduleName, Short, Sku,
    SkuOptions, SkuPatch, StockLine, StockReceipt, StockRejection, Timestamp, TopicName,
    TopicsRejection, UserId, bounds,
};
pub use tidegate_storage::{
    JournalStats, Opening, OpeningProgress, OpeningStep, Position, StorageError,
};
pub use topics::{NewSchedule, Publish, Topic, TopicError};
pub use views::{
    Fact, ROW_BYTES_MAX, ROW_KEY_BYTES_MAX, Rebuild, RebuildProgress, Rows, Sales, SalesHour,
    SalesPage, SalesPeriod, SalesRow, SalesStep, SoldOrder, StoredView, View, ViewCondition,
    ViewError, ViewFault, ViewPage, ViewReader, ViewReport, stored_views,
};

// The program's modules, compiled into the library for the fuzzers only.
#[cfg(feature = "fuzzing")]
extern crate self as tidegate;
#[cfg(feature = "fuzzing")]
#[allow(dead_code, reason = "only its decoders are asked for")]
mod cli;
#[cfg(feature = "fuzzing")]
#[allow(dead_code, reason = "only its decoders are asked for")]
mod config;
#[cfg(feature = "fuzzing")]
#[allow(dead_code, reason = "only its decoders are asked for")]
mod http;

/// Doors to what the program decodes, for `tests/fuzz`; no part of the interface.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz {
    pub use crate::{cli::fuzz::*, config::fuzz::*, http::fuzz::*};
}

/// The examples of the README, which are run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;

/// The example of the documentation of views, likewise.
#[cfg(doctest)]
#[doc = include_str!("../docs/views.md")]
struct ViewsExamples;
