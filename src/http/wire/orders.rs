//! Orders and what happens to them, as they are written. What is asked of a new order is not here,
//! but in `place`.

use serde::{Deserialize, Serialize};
use tidegate::{
    EventId, FulfilmentStatus, Location, Order, OrderLine, OrderState, Payment, PaymentEvent,
    PaymentKind, PaymentStatus, Provider, QueuePlace, Refusal, Return as ReturnOf, Sku, StockLine,
    Units, UserId,
};
use utoipa::ToSchema;

use super::{object::Object, spoken, time::Time, whole::whole};
use crate::http::{problem::TYPE_PREFIX, refusals::refusal};

spoken! {
    /// Where an order is in its life.
    State of OrderState as OrderState {
        Queued, AwaitingPayment, Confirmed, Completed, Rejected, Cancelled, Expired,
    }
}
spoken! {
    /// What the payments of an order come to.
    PaymentState of PaymentStatus as PaymentStatus {
        Unpaid, Authorized, PartiallyPaid, Paid, RefundDue, PartiallyRefunded, Refunded,
    }
}
spoken! {
    /// How much of an order was shipped, and came back.
    FulfilmentState of FulfilmentStatus as FulfilmentStatus {
        Unfulfilled, Partial, Fulfilled, PartiallyReturned, Returned,
    }
}
spoken! {
    /// What happened to a payment.
    Kind of PaymentKind as PaymentKind { Authorized, Captured, Failed, Refunded }
}

/// An order.
#[derive(Serialize, ToSchema)]
#[schema(as = Order)]
pub(crate) struct OrderBody {
    pub(super) id: String,
    #[schema(value_type = String)]
    pub(super) user: UserId,
    pub(super) state: State,
    /// One line for each SKU and location.
    pub(super) lines: Vec<Line>,
    /// The sum of the lines' amounts, in minor units.
    pub(super) total_minor: u64,
    pub(super) placed_at: Time,
    /// When it last changed.
    pub(super) changed_at: Time,
    /// When it expires, or would have expired, unless paid; null before its stock is held.
    pub(super) expires_at: Option<Time>,
    pub(super) payment_status: PaymentState,
    pub(super) fulfilment_status: FulfilmentState,
    /// What has come in, in minor units.
    pub(super) captured_minor: u64,
    /// What has gone back, in minor units.
    pub(super) refunded_minor: u64,
    /// What has come in and must go back, in minor units.
    pub(super) refund_due_minor: u64,
    /// Payment events in the order they were told.
    pub(super) payments: Vec<PaymentEntry>,
    pub(super) fulfilments: Vec<Shipment>,
    pub(super) returns: Vec<Return>,
    /// Why it was rejected, or why its late payment came to nothing.
    pub(super) rejection: Option<Rejection>,
    /// Where it waits, if it waits in the queue and was asked for by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) queue: Option<Place>,
}

/// Where an order waits in the queue, as things are.
#[derive(Serialize, ToSchema)]
#[schema(as = QueuePlace)]
pub(crate) struct Place {
    /// Its place among all orders that wait, from 1; an estimate if there are several order shards.
    position: u64,
    /// How long it will wait at the present rate, in milliseconds.
    expected_wait_ms: u64,
    /// When it is rejected unless its turn has come.
    deadline: Time,
}

impl From<QueuePlace> for Place {
    fn from(place: QueuePlace) -> Self {
        let QueuePlace { position, expected_wait_ms, deadline } = place;
        Self { position, expected_wait_ms, deadline: Time(deadline) }
    }
}

/// All of one SKU from one location.
#[derive(Serialize, ToSchema)]
#[schema(as = OrderLine)]
pub(crate) struct Line {
    #[schema(value_type = String)]
    pub(super) sku: Sku,
    #[schema(value_type = String)]
    pub(super) location: Location,
    pub(super) quantity: u64,
    /// Amount of the whole line, in minor units; null until stock has given the price.
    pub(super) amount_minor: Option<u64>,
    /// Units shipped.
    pub(super) shipped: u64,
    /// Units that came back.
    pub(super) returned: u64,
}

/// A payment event.
#[derive(Serialize, ToSchema)]
#[schema(as = Payment)]
pub(crate) struct PaymentEntry {
    #[schema(value_type = String)]
    provider: Provider,
    #[schema(value_type = String)]
    event_id: EventId,
    kind: Kind,
    amount_minor: u64,
    /// When it was told.
    at: Time,
}

/// Units that left together.
#[derive(Serialize, ToSchema)]
#[schema(as = Fulfilment)]
pub(crate) struct Shipment {
    at: Time,
    lines: Vec<UnitsEntry>,
}

/// Units that came back together.
#[derive(Serialize, ToSchema)]
pub(crate) struct Return {
    at: Time,
    lines: Vec<UnitsEntry>,
    /// Whether they went back on the shelf.
    restock: bool,
    /// By how much they raised what is to be refunded, in minor units.
    refund_minor: u64,
}

/// Units of a line.
#[derive(Serialize, ToSchema)]
#[schema(as = LineUnits)]
pub(crate) struct UnitsEntry {
    #[schema(value_type = String)]
    sku: Sku,
    #[schema(value_type = String)]
    location: Location,
    quantity: u64,
}

/// Why an order came to nothing: a problem's type and what it was.
#[derive(Serialize, ToSchema)]
pub(crate) struct Rejection {
    #[serde(rename = "type")]
    kind: String,
    detail: String,
}

impl From<&Refusal> for Rejection {
    fn from(why: &Refusal) -> Self {
        Self { kind: format!("{TYPE_PREFIX}{}", refusal(why).slug()), detail: why.to_string() }
    }
}

impl OrderBody {
    /// Its number.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The same, with where it waits.
    pub(crate) fn at(self, place: Option<QueuePlace>) -> Self {
        Self { queue: place.map(Place::from), ..self }
    }
}

impl From<Order> for OrderBody {
    fn from(order: Order) -> Self {
        let (payment, fulfilment) = (order.payment_status(), order.fulfilment_status());
        let refund_due_minor = order.refund_due_minor();
        let shipment =
            |it: tidegate::Fulfilment| Shipment { at: Time(it.at), lines: units(it.lines) };
        let history = order.history.into_entries();
        Self {
            id: order.id.to_string(),
            user: order.user,
            state: order.state.into(),
            lines: order.lines.iter().cloned().map(Line::from).collect(),
            total_minor: order.total_minor,
            placed_at: Time(order.placed_at),
            changed_at: Time(order.changed_at),
            expires_at: order.expires_at.map(Time),
            payment_status: payment.into(),
            fulfilment_status: fulfilment.into(),
            captured_minor: history.captured_minor,
            refunded_minor: history.refunded_minor,
            refund_due_minor,
            payments: history.payments.into_iter().map(PaymentEntry::from).collect(),
            fulfilments: history.fulfilments.into_iter().map(shipment).collect(),
            returns: history.returns.into_iter().map(Return::from).collect(),
            rejection: order.rejection.as_deref().map(Rejection::from),
            queue: None,
        }
    }
}

impl From<OrderLine> for Line {
    fn from(line: OrderLine) -> Self {
        let OrderLine { sku, location, quantity, amount_minor, shipped, returned, .. } = line;
        Self {
            sku,
            location,
            quantity: quantity.into(),
            amount_minor,
            shipped: shipped.into(),
            returned: returned.into(),
        }
    }
}

impl From<Payment> for PaymentEntry {
    fn from(payment: Payment) -> Self {
        let Payment { provider, event_id, kind, amount_minor, at } = payment;
        Self { provider, event_id, kind: kind.into(), amount_minor, at: Time(at) }
    }
}

impl From<ReturnOf> for Return {
    fn from(it: ReturnOf) -> Self {
        let ReturnOf { at, lines, restock, refund_minor } = it;
        Self { at: Time(at), lines: units(lines), restock, refund_minor }
    }
}

fn units(lines: Vec<StockLine>) -> Vec<UnitsEntry> {
    let entry = |StockLine { sku, location, quantity }| UnitsEntry { sku, location, quantity };
    lines.into_iter().map(entry).collect()
}

/// What a payment provider says has happened.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPayment {
    /// The provider's name.
    #[schema(pattern = "^[!-~]{1,255}$")]
    provider: String,
    /// The provider's own id of this event. The same event again changes nothing.
    #[schema(pattern = "^[!-~]{1,255}$")]
    event_id: String,
    kind: Kind,
    /// How much, in minor units.
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 0, maximum = 9007199254740991u64)]
    amount_minor: u64,
}

impl From<NewPayment> for PaymentEvent {
    fn from(payment: NewPayment) -> Self {
        let NewPayment { provider, event_id, kind, amount_minor } = payment;
        Self { provider, event_id, kind: kind.into(), amount_minor }
    }
}

/// Units of a line to ship or to take back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewUnits {
    #[schema(pattern = "^[!-~]{1,64}$")]
    sku: String,
    /// Default: `main`.
    #[serde(default)]
    #[schema(pattern = "^[!-~]{1,64}$")]
    location: Option<String>,
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 1000000)]
    quantity: u64,
}

impl From<Object<NewUnits>> for Units {
    fn from(Object(units): Object<NewUnits>) -> Self {
        let NewUnits { sku, location, quantity } = units;
        location.into_iter().fold(Self::new(sku, quantity), Self::at)
    }
}

/// What is shipped.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewFulfilment {
    /// Absent: all that remains.
    #[serde(default)]
    #[schema(value_type = Option<Vec<NewUnits>>, min_items = 1, max_items = 256)]
    lines: Option<Vec<Object<NewUnits>>>,
}

impl NewFulfilment {
    pub(crate) fn into_units(self) -> Option<Vec<Units>> {
        self.lines.map(|lines| lines.into_iter().map(Units::from).collect())
    }
}

/// What came back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewReturn {
    #[schema(value_type = Vec<NewUnits>, min_items = 1, max_items = 256)]
    lines: Vec<Object<NewUnits>>,
    /// Whether it goes back on the shelf. Default: it does not.
    #[serde(default)]
    pub(crate) restock: bool,
}

impl NewReturn {
    pub(crate) fn into_units(self) -> Vec<Units> {
        self.lines.into_iter().map(Units::from).collect()
    }
}

/// Nothing to say; an empty object, or no body at all.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// Some of a user's orders, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct UserOrders {
    pub(crate) orders: Vec<OrderBody>,
    /// Where to go on; null at the end.
    pub(crate) next_cursor: Option<String>,
}
