//! One step of a cart, asked of an open store; the same again is the same request. It tries once
//! and keeps nothing.

use std::fmt;

use tidegate::{
    Adjustment, AskError, NewOrder, OrderId, OrderRejection, PaymentEvent, Refusal, SkuPatch,
    Tidegate, Units,
};

use super::plan::{PRICE_MINOR, Plan, SKUS, Step, begin_units};

/// How long unpaid orders are held: longer than any run, so that none expires by itself.
const HOLD_MS: u64 = 7 * 24 * 60 * 60 * 1_000;

/// What a step came to, safely.
pub(crate) enum Done {
    Placed(OrderId),
    /// Not enough of something. Nothing is held.
    SoldOut,
    Changed,
}

/// Why it came to nothing that is known.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Nothing has changed; ask again a little later.
    Busy,
    /// The store is closing: nothing has changed.
    Closing,
    /// It may be done or not.
    Unknown(String),
    /// What must never be answered.
    Wrong(String),
}

impl<R: fmt::Display> From<AskError<R>> for Trouble {
    fn from(error: AskError<R>) -> Self {
        match error {
            AskError::Overloaded { .. } | AskError::Backlogged { .. } => Self::Busy,
            AskError::Closing => Self::Closing,
            AskError::Unavailable { why } => Self::Unknown(why),
            other => Self::Wrong(other.to_string()),
        }
    }
}

/// Takes `step` of the cart `name`. All but the first need the order that placing it gave.
pub(crate) async fn take(
    gate: &Tidegate,
    name: &str,
    plan: &Plan,
    step: Step,
    order: Option<OrderId>,
) -> Result<Done, Trouble> {
    let no_order = || Trouble::Wrong(format!("{name} was never placed"));
    let orders = gate.orders();
    match step {
        Step::Adjust => {
            let (sku, units) = plan.lines[0];
            let adjustment = Adjustment::new(SKUS[sku], units as i64, "arrival");
            gate.stock().adjust(adjustment, name).await?;
        }
        Step::Place => return place(gate, name, plan).await,
        Step::Pay => {
            let event = PaymentEvent::captured("bank", name, plan.total_minor());
            orders.pay(order.ok_or_else(no_order)?, event).await?;
        }
        Step::Cancel => drop(orders.cancel(order.ok_or_else(no_order)?, name).await?),
        Step::Ship => drop(orders.fulfil(order.ok_or_else(no_order)?, None, name).await?),
        Step::TakeBack => {
            let units = plan.lines.iter().map(|(sku, units)| Units::new(SKUS[*sku], *units));
            let order = order.ok_or_else(no_order)?;
            orders.take_back(order, units.collect(), true, name).await?;
        }
    }
    Ok(Done::Changed)
}

/// Each cart has a user of its own, so that what a user has tells what became of the cart.
async fn place(gate: &Tidegate, name: &str, plan: &Plan) -> Result<Done, Trouble> {
    let order = plan.lines.iter().fold(NewOrder::new(name), |order, (sku, units)| {
        order.line_for(SKUS[*sku], *units, units * PRICE_MINOR)
    });
    let order = order.hold_ms(HOLD_MS);
    match gate.orders().place(order, name).await {
        Ok(receipt) => Ok(Done::Placed(receipt.id)),
        Err(AskError::Rejected(OrderRejection::Refused(Refusal::SoldOut { .. }))) => {
            Ok(Done::SoldOut)
        }
        Err(error) => Err(error.into()),
    }
}

/// Defines every SKU with what there is at the beginning; harmless if that is done already.
pub(crate) async fn stock_up(gate: &Tidegate) -> Result<(), Trouble> {
    for (number, sku) in SKUS.into_iter().enumerate() {
        gate.stock().define(sku, SkuPatch::default()).await?;
        let arrival = Adjustment::new(sku, begin_units(number), "beginning");
        gate.stock().adjust(arrival, "beginning").await?;
    }
    Ok(())
}
