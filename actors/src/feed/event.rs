//! What subscribers see: events with stable names and fields. These names are a contract with other
//! programs, apart from what is stored, so they only ever grow. It deliberately knows no journal.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer, ser::SerializeStruct};
use tidegate_machines::{
    Currency, EventId, HoldId, Location, MessageId, OrderId, OutOfBounds, PaymentKind, Provider,
    Refusal, Sku, SkuPatch, StockLine, Timestamp, UserId,
};
use tidegate_storage::Position;

use super::kind::EventKind;

/// What an event says, by its kind. In JSON the fields alone; ids are text, times are milliseconds
/// since the Unix epoch, amounts are minor units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
#[allow(missing_docs)] // The fields mean what they mean everywhere.
pub enum EventData {
    OrderPlaced {
        #[serde(serialize_with = "text")]
        order: OrderId,
        user: UserId,
        lines: Vec<PlacedLine>,
        hold_ms: u64,
    },
    OrderReleased {
        #[serde(serialize_with = "text")]
        order: OrderId,
    },
    OrderAccepted {
        #[serde(serialize_with = "text")]
        order: OrderId,
        total_minor: u64,
        expires_at_ms: Timestamp,
    },
    OrderRejected {
        #[serde(serialize_with = "text")]
        order: OrderId,
        reason: Reason,
    },
    OrderConfirmed {
        #[serde(serialize_with = "text")]
        order: OrderId,
    },
    OrderCancelled {
        #[serde(serialize_with = "text")]
        order: OrderId,
    },
    OrderExpired {
        #[serde(serialize_with = "text")]
        order: OrderId,
    },
    OrderFulfilled {
        #[serde(serialize_with = "text")]
        order: OrderId,
        lines: Vec<StockLine>,
    },
    OrderFulfilmentRefused {
        #[serde(serialize_with = "text")]
        order: OrderId,
        lines: Vec<StockLine>,
        reason: Reason,
    },
    OrderCompleted {
        #[serde(serialize_with = "text")]
        order: OrderId,
    },
    OrderReturned {
        #[serde(serialize_with = "text")]
        order: OrderId,
        lines: Vec<StockLine>,
        restock: bool,
    },
    OrderRefundDue {
        #[serde(serialize_with = "text")]
        order: OrderId,
        refund_due_minor: u64,
    },
    PaymentRecorded {
        #[serde(serialize_with = "text")]
        order: OrderId,
        provider: Provider,
        event_id: EventId,
        #[serde(serialize_with = "payment_kind")]
        kind: PaymentKind,
        amount_minor: u64,
    },
    StockDefined {
        sku: Sku,
        #[serde(flatten)]
        options: SetOptions,
    },
    StockAdjusted {
        sku: Sku,
        location: Location,
        delta: i64,
        reason: String,
    },
    StockHeld {
        #[serde(serialize_with = "text")]
        order: OrderId,
        stock_shard: u16,
        user: UserId,
        lines: Vec<HeldLine>,
    },
    /// All lines that the order held in this stock shard, as `StockHeld` named them.
    StockReleased {
        #[serde(serialize_with = "text")]
        order: OrderId,
        stock_shard: u16,
    },
    /// All lines that the order held in this stock shard, as `StockHeld` named them.
    StockAllocated {
        #[serde(serialize_with = "text")]
        order: OrderId,
        stock_shard: u16,
    },
    StockDeallocated {
        #[serde(serialize_with = "text")]
        order: OrderId,
        stock_shard: u16,
        lines: Vec<StockLine>,
    },
    StockShipped {
        #[serde(serialize_with = "text")]
        order: OrderId,
        stock_shard: u16,
        lines: Vec<StockLine>,
    },
    StockReturned {
        #[serde(serialize_with = "text")]
        order: OrderId,
        stock_shard: u16,
        lines: Vec<StockLine>,
        restock: bool,
    },
    HoldPlaced {
        #[serde(serialize_with = "text")]
        hold: HoldId,
        user: UserId,
        #[serde(flatten)]
        line: StockLine,
        expires_at_ms: Timestamp,
    },
    HoldExtended {
        #[serde(serialize_with = "text")]
        hold: HoldId,
        expires_at_ms: Timestamp,
    },
    HoldConfirmed {
        #[serde(serialize_with = "text")]
        hold: HoldId,
    },
    HoldReleased {
        #[serde(serialize_with = "text")]
        hold: HoldId,
    },
    HoldExpired {
        #[serde(serialize_with = "text")]
        hold: HoldId,
    },
    HoldShipped {
        #[serde(serialize_with = "text")]
        hold: HoldId,
    },
}

/// A line of an order that was placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlacedLine {
    /// The SKU.
    pub sku: Sku,
    /// Where it is sold from.
    pub location: Location,
    /// Units.
    pub quantity: u64,
    /// Amount of the whole line in minor units; `None` if the SKU's price is to be asked.
    pub amount_minor: Option<u64>,
    /// The stock shard that has it, as the events of stock name it.
    pub stock_shard: u16,
}

/// Units that are held for an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeldLine {
    /// Units of a SKU at a location.
    #[serde(flatten)]
    pub line: StockLine,
    /// The SKU's unit price at that moment, in minor units: what the line costs if the order named
    /// no amount. `None`: the SKU had no price, which counts as 0.
    pub unit_price_minor: Option<u64>,
}

/// The options of a SKU that were set; in JSON `null` for one that was cleared, and nothing for one
/// that was left as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SetOptions {
    /// Unit price in minor units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_minor: Option<Option<u64>>,
    /// Currency of the price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<Option<Currency>>,
    /// Most units for one user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_per_user: Option<Option<u32>>,
    /// Units that may be promised ahead of stock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backorder_limit: Option<u32>,
}

impl From<SkuPatch> for SetOptions {
    fn from(patch: SkuPatch) -> Self {
        let SkuPatch { price_minor, currency, limit_per_user, backorder_limit } = patch;
        Self { price_minor, currency, limit_per_user, backorder_limit }
    }
}

/// Why stock said no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// A stable word.
    pub code: &'static str,
    /// The SKU that it is about.
    pub sku: Option<Sku>,
    /// A sentence for people.
    pub message: String,
}

impl From<&Refusal> for Reason {
    fn from(refusal: &Refusal) -> Self {
        let (code, sku) = match refusal {
            Refusal::UnknownSku { sku } => ("unknown_sku", Some(sku)),
            Refusal::LimitExceeded { sku, .. } => ("limit_exceeded", Some(sku)),
            Refusal::SoldOut { sku, .. } => ("sold_out", Some(sku)),
            Refusal::AmountOverflow { sku } => ("amount_overflow", Some(sku)),
            Refusal::NotInStock { sku, .. } => ("not_in_stock", Some(sku)),
            Refusal::ShardDown => ("shard_down", None),
            Refusal::QueueTimeout => ("queue_timeout", None),
        };
        Self { code, sku: sku.cloned(), message: refusal.to_string() }
    }
}

impl EventData {
    /// The order that it is about, or whose stock.
    #[must_use]
    pub fn order(&self) -> Option<OrderId> {
        match self {
            Self::OrderPlaced { order, .. }
            | Self::OrderReleased { order }
            | Self::OrderAccepted { order, .. }
            | Self::OrderRejected { order, .. }
            | Self::OrderConfirmed { order }
            | Self::OrderCancelled { order }
            | Self::OrderExpired { order }
            | Self::OrderFulfilled { order, .. }
            | Self::OrderFulfilmentRefused { order, .. }
            | Self::OrderCompleted { order }
            | Self::OrderReturned { order, .. }
            | Self::OrderRefundDue { order, .. }
            | Self::PaymentRecorded { order, .. }
            | Self::StockHeld { order, .. }
            | Self::StockReleased { order, .. }
            | Self::StockAllocated { order, .. }
            | Self::StockDeallocated { order, .. }
            | Self::StockShipped { order, .. }
            | Self::StockReturned { order, .. } => Some(*order),
            _ => None,
        }
    }

    /// The standalone hold that it is about.
    #[must_use]
    pub fn hold(&self) -> Option<HoldId> {
        match self {
            Self::HoldPlaced { hold, .. }
            | Self::HoldExtended { hold, .. }
            | Self::HoldConfirmed { hold }
            | Self::HoldReleased { hold }
            | Self::HoldExpired { hold }
            | Self::HoldShipped { hold } => Some(*hold),
            _ => None,
        }
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self {
            Self::OrderPlaced { .. } => EventKind::OrderPlaced,
            Self::OrderReleased { .. } => EventKind::OrderReleased,
            Self::OrderAccepted { .. } => EventKind::OrderAccepted,
            Self::OrderRejected { .. } => EventKind::OrderRejected,
            Self::OrderConfirmed { .. } => EventKind::OrderConfirmed,
            Self::OrderCancelled { .. } => EventKind::OrderCancelled,
            Self::OrderExpired { .. } => EventKind::OrderExpired,
            Self::OrderFulfilled { .. } => EventKind::OrderFulfilled,
            Self::OrderFulfilmentRefused { .. } => EventKind::OrderFulfilmentRefused,
            Self::OrderCompleted { .. } => EventKind::OrderCompleted,
            Self::OrderReturned { .. } => EventKind::OrderReturned,
            Self::OrderRefundDue { .. } => EventKind::OrderRefundDue,
            Self::PaymentRecorded { .. } => EventKind::PaymentRecorded,
            Self::StockDefined { .. } => EventKind::StockDefined,
            Self::StockAdjusted { .. } => EventKind::StockAdjusted,
            Self::StockHeld { .. } => EventKind::StockHeld,
            Self::StockReleased { .. } => EventKind::StockReleased,
            Self::StockAllocated { .. } => EventKind::StockAllocated,
            Self::StockDeallocated { .. } => EventKind::StockDeallocated,
            Self::StockShipped { .. } => EventKind::StockShipped,
            Self::StockReturned { .. } => EventKind::StockReturned,
            Self::HoldPlaced { .. } => EventKind::HoldPlaced,
            Self::HoldExtended { .. } => EventKind::HoldExtended,
            Self::HoldConfirmed { .. } => EventKind::HoldConfirmed,
            Self::HoldReleased { .. } => EventKind::HoldReleased,
            Self::HoldExpired { .. } => EventKind::HoldExpired,
            Self::HoldShipped { .. } => EventKind::HoldShipped,
        }
    }
}

/// A place in the order of all events: after a record of the journal, or after some of the events
/// of one that holds several. As text `17`, or `17.2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The record.
    pub position: Position,
    /// How many of its events lie before this place; `None`: all.
    pub within: Option<u32>,
}

impl From<Position> for Cursor {
    fn from(position: Position) -> Self {
        Self { position, within: None }
    }
}

impl From<MessageId> for Cursor {
    fn from(id: MessageId) -> Self {
        Self { position: Position(id.position), within: id.within }
    }
}

impl From<Cursor> for MessageId {
    fn from(cursor: Cursor) -> Self {
        Self { position: cursor.position.0, within: cursor.within }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        MessageId::from(*self).fmt(f)
    }
}

impl FromStr for Cursor {
    type Err = OutOfBounds;

    fn from_str(text: &str) -> Result<Self, OutOfBounds> {
        text.parse::<MessageId>().map(Self::from).map_err(|_| {
            let bound = "an event's id, like 17 or 17.2";
            OutOfBounds::new("after", bound, format_args!("{text:?}"))
        })
    }
}

/// Something durable that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The record of the journal that tells it.
    pub position: Position,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub data: EventData,
    pub(super) cursor: Cursor,
}

impl Event {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        self.data.kind()
    }

    /// The place right after it, where a subscriber who has seen it goes on. Also its id: no two
    /// events of a store have the same.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }
}

/// `{"id", "position", "at_ms", "kind", "data"}`.
impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Event", 5)?;
        fields.serialize_field("id", &format_args!("{}", self.cursor))?;
        fields.serialize_field("position", &self.position.0)?;
        fields.serialize_field("at_ms", &self.at)?;
        fields.serialize_field("kind", &self.kind())?;
        fields.serialize_field("data", &self.data)?;
        fields.end()
    }
}

fn text<S: Serializer>(id: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn payment_kind<S: Serializer>(kind: &PaymentKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match kind {
        PaymentKind::Authorized => "authorized",
        PaymentKind::Captured => "captured",
        PaymentKind::Failed => "failed",
        PaymentKind::Refunded => "refunded",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_refuse_the_rest() {
        for text in ["0", "17", "17.0", "17.2", "18446744073709551615"] {
            assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
        }
        for text in ["", ".", "1.", ".1", "-1", "+1", "1.+1", "1.2.3", "x", "18446744073709551616"]
        {
            assert!(text.parse::<Cursor>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn kinds_read_back_and_differ() {
        for kind in EventKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
            assert_eq!(EventKind::ALL.iter().filter(|other| *other == kind).count(), 1);
        }
        assert!("order.Placed".parse::<EventKind>().is_err());
    }
}
