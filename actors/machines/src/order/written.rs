//! An order as it is written: with its history's entries among its own fields. It deliberately
//! leaves where they lie in memory to the order.

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use super::{
    Fulfilment, History, Leg, Order, OrderEntries, OrderLine, OrderState, Payment, Rereserve,
    Return,
};
use crate::{KeyHash, OpId, OrderId, Refusal, Short, Timestamp, UserId};

/// An order as it is read; see there what each field is.
#[derive(Deserialize)]
pub(super) struct Written {
    id: OrderId,
    version: u32,
    user: UserId,
    placed_at: Timestamp,
    changed_at: Timestamp,
    expires_at: Option<Timestamp>,
    hold_ms: u64,
    state: OrderState,
    rejection: Option<Box<Refusal>>,
    lines: Short<OrderLine>,
    total_minor: u64,
    payments: Vec<Payment>,
    captured_minor: u64,
    refunded_minor: u64,
    fulfilments: Vec<Fulfilment>,
    returns: Vec<Return>,
    rereserve: Rereserve,
    legs: Short<Leg>,
    open_ops: Short<OpId>,
    key: KeyHash,
    respond_async: bool,
    placing: bool,
}

impl From<Written> for Order {
    fn from(it: Written) -> Self {
        let history = History::from(OrderEntries {
            payments: it.payments,
            captured_minor: it.captured_minor,
            refunded_minor: it.refunded_minor,
            fulfilments: it.fulfilments,
            returns: it.returns,
        });
        Self {
            id: it.id,
            version: it.version,
            user: it.user,
            placed_at: it.placed_at,
            changed_at: it.changed_at,
            expires_at: it.expires_at,
            hold_ms: it.hold_ms,
            state: it.state,
            rejection: it.rejection,
            lines: it.lines,
            total_minor: it.total_minor,
            history,
            rereserve: it.rereserve,
            legs: it.legs,
            open_ops: it.open_ops,
            key: it.key,
            respond_async: it.respond_async,
            placing: it.placing,
        }
    }
}

impl Serialize for Order {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const FIELDS: usize = 22;
        let mut order = serializer.serialize_struct("Order", FIELDS)?;
        order.serialize_field("id", &self.id)?;
        order.serialize_field("version", &self.version)?;
        order.serialize_field("user", &self.user)?;
        order.serialize_field("placed_at", &self.placed_at)?;
        order.serialize_field("changed_at", &self.changed_at)?;
        order.serialize_field("expires_at", &self.expires_at)?;
        order.serialize_field("hold_ms", &self.hold_ms)?;
        order.serialize_field("state", &self.state)?;
        order.serialize_field("rejection", &self.rejection)?;
        order.serialize_field("lines", &self.lines)?;
        order.serialize_field("total_minor", &self.total_minor)?;
        order.serialize_field("payments", &self.history.payments)?;
        order.serialize_field("captured_minor", &self.history.captured_minor)?;
        order.serialize_field("refunded_minor", &self.history.refunded_minor)?;
        order.serialize_field("fulfilments", &self.history.fulfilments)?;
        order.serialize_field("returns", &self.history.returns)?;
        order.serialize_field("rereserve", &self.rereserve)?;
        order.serialize_field("legs", &self.legs)?;
        order.serialize_field("open_ops", &self.open_ops)?;
        order.serialize_field("key", &self.key)?;
        order.serialize_field("respond_async", &self.respond_async)?;
        order.serialize_field("placing", &self.placing)?;
        order.end()
    }
}
