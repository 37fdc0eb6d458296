//! Tidegate: a durable actor runtime, embedded in your app, for back ends that must survive a
//! traffic surge.

#[cfg(feature = "cli")]
pub mod admin;
mod audit;
mod builder;
mod error;
mod layout;
mod orders;
mod runtime;
mod stock;

pub mod machine;

pub use audit::{AuditReport, Check, audit};
pub use builder::Builder;
pub use error::OpenError;
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
    ItemView, Level, Location, Order, OrderId, OrderLine, OrderRejection, OrderState, OutOfBounds,
    Payment, PaymentKind, PaymentStatus, Provider, Receipt, Refusal, Return, Sku, SkuOptions,
    SkuPatch, StockLine, StockReceipt, StockRejection, Timestamp, UserId, bounds,
};
pub use tidegate_storage::{JournalStats, Position, StorageError};
