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
mod error;
mod inspect;
mod intake;
mod layout;
mod marks;
mod orders;
mod runtime;
mod stock;

pub mod machine;

pub use audit::{AuditReport, Check, audit};
pub use builder::Builder;
pub use error::OpenError;
pub use inspect::{
    InspectReport, JournalReport, MachineReport, OrdersReport, SegmentReport, SnapshotReport,
    inspect,
};
pub use intake::Intake;
pub use marks::{MarkError, Marks};
pub use orders::{
    HOLD_MS_DEFAULT, NewOrder, OrderError, OrdersClient, PaymentEvent, Units, UserOrders,
};
pub use runtime::{Report, Tidegate};
pub use stock::{Adjustment, NewHold, StockClient, StockError};
pub use tidegate_actors::{
    AskError, Bucket, Distribution, ManualTime, Phase, ProjectorReport, RestoreError, ShardReport,
    SystemTimeSource, TimeSource,
    archive::UserCursor,
    feed::{
        Cursor, Event, EventData, EventKind, Events, Feed, FeedError, PlacedLine, Reason,
        SetOptions,
    },
};
pub use tidegate_machines::{
    Currency, EventId, Fulfilment, FulfilmentStatus, Hold, HoldId, HoldOutcome, IdempotencyError,
    ItemView, KeyHash, Leg, LegState, Level, Location, OpId, Order, OrderId, OrderLine,
    OrderRejection, OrderState, OutOfBounds, Payment, PaymentKind, PaymentStatus, Provider,
    QueueCounts, QueuePlace, Receipt, Refusal, Rereserve, Return, Sku, SkuOptions, SkuPatch,
    StockLine, StockReceipt, StockRejection, Timestamp, UserId, bounds,
};
pub use tidegate_storage::{JournalStats, Position, StorageError};

// The program's modules, compiled into the library for the fuzzers only.
#[cfg(feature = "fuzzing")]
extern crate self as tidegate;
#[cfg(feature = "fuzzing")]
#[allow(dead_code)]
mod cli;
#[cfg(feature = "fuzzing")]
#[allow(dead_code)]
mod config;
#[cfg(feature = "fuzzing")]
#[allow(dead_code)]
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
