//! The kinds of public events, by their stable names. What each says is in `event`.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};
use tidegate_machines::OutOfBounds;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// What can happen, as subscribers know it. New kinds may come; a kind never changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum EventKind { $($(#[$doc])* $kind,)* }

        impl EventKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// Its stable name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    /// An order was placed; its stock is being reserved, or it waits in the queue.
    OrderPlaced = "order.placed",
    /// The turn of a queued order has come: now its stock is being reserved.
    OrderReleased = "order.released",
    /// All stock of an order is held for its payment.
    OrderAccepted = "order.accepted",
    /// An order was refused: nothing is held in the end.
    OrderRejected = "order.rejected",
    /// An order is paid.
    OrderConfirmed = "order.confirmed",
    /// An order was cancelled.
    OrderCancelled = "order.cancelled",
    /// An order was not paid in time.
    OrderExpired = "order.expired",
    /// Lines of an order are on their way out.
    OrderFulfilled = "order.fulfilled",
    /// Lines that were to be shipped are not on hand: they are to be fulfilled again later.
    OrderFulfilmentRefused = "order.fulfilment_refused",
    /// All of an order is shipped.
    OrderCompleted = "order.completed",
    /// Shipped units came back.
    OrderReturned = "order.returned",
    /// Another amount than before is to be paid back.
    OrderRefundDue = "order.refund_due",
    /// A payment provider's event was recorded.
    PaymentRecorded = "payment.recorded",
    /// A SKU was defined or its options changed.
    StockDefined = "stock.defined",
    /// Stock was moved in or out.
    StockAdjusted = "stock.adjusted",
    /// Units are held for an order.
    StockHeld = "stock.held",
    /// What an order held in a stock shard is free again.
    StockReleased = "stock.released",
    /// What an order held in a stock shard is sold.
    StockAllocated = "stock.allocated",
    /// Sold units are free again, before they were shipped.
    StockDeallocated = "stock.deallocated",
    /// Units of an order left the stock.
    StockShipped = "stock.shipped",
    /// Units of an order came back.
    StockReturned = "stock.returned",
    /// A standalone hold was made.
    HoldPlaced = "hold.placed",
    /// A standalone hold lives until another time.
    HoldExtended = "hold.extended",
    /// A standalone hold was confirmed: its units are sold.
    HoldConfirmed = "hold.confirmed",
    /// A standalone hold was released: its units are free.
    HoldReleased = "hold.released",
    /// A standalone hold expired: its units are free.
    HoldExpired = "hold.expired",
    /// The units of a confirmed hold left the stock.
    HoldShipped = "hold.shipped",
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for EventKind {
    type Err = OutOfBounds;

    fn from_str(text: &str) -> Result<Self, OutOfBounds> {
        let found = Self::ALL.iter().find(|kind| kind.as_str() == text);
        found.copied().ok_or_else(|| {
            OutOfBounds::new("kind", "the name of an event kind", format_args!("{text:?}"))
        })
    }
}

impl Serialize for EventKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
