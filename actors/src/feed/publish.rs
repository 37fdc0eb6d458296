//! From what is stored to what subscribers see: the one place where the events of the default
//! machines become public events. Pure; it doesn't read the journal.

use tidegate_machines::{
    OpAction, OpOutcome, OrderEvent, OrderOp, OrderState, Orders, Placed, Refusal, Stock,
    StockEvent, Timestamp, UnitPrices, Upshot,
};
use tidegate_storage::StreamId;

use super::event::{EventData, HeldLine, PlacedLine, Reason};
use crate::{
    codec::{self, CodecError},
    durable::Durable,
};

/// When something happened, and what.
pub(super) type Published = (Timestamp, EventData);

/// The public events of one record, in order. None for machines that are not Tidegate's own.
pub(super) fn publish(
    stream: StreamId,
    stamp: Timestamp,
    bytes: &[u8],
    out: &mut Vec<Published>,
) -> Result<(), CodecError> {
    let (kind, shard) = (stream.0 >> 16, stream.0 as u16);
    if kind == u32::from(Orders::KIND.0) {
        orders(&codec::decode(bytes)?, stamp, out);
    } else if kind == u32::from(Stock::KIND.0) {
        stock(codec::decode(bytes)?, shard, stamp, out);
    }
    Ok(())
}

fn orders(event: &OrderEvent, stamp: Timestamp, out: &mut Vec<Published>) {
    let nothing = Upshot::default();
    let (event, upshot) = match event {
        OrderEvent::Told { event, upshot } => (&**event, upshot),
        event => (event, &nothing),
    };
    let at = happened_at(event).unwrap_or(stamp);
    match event {
        OrderEvent::Placed(placed) | OrderEvent::Enqueued { placed, .. } => {
            out.push((at, placed_data(placed)));
        }
        OrderEvent::Released { orders, .. } => {
            out.extend(orders.iter().map(|&order| (at, EventData::OrderReleased { order })));
        }
        OrderEvent::TimedOut { orders, .. } => out.extend(orders.iter().map(|&order| {
            let reason = Reason::from(&Refusal::QueueTimeout);
            (at, EventData::OrderRejected { order, reason })
        })),
        OrderEvent::Paid { order, payment } => {
            let data = EventData::PaymentRecorded {
                order: *order,
                provider: payment.provider.clone(),
                event_id: payment.event_id.clone(),
                kind: payment.kind,
                amount_minor: payment.amount_minor,
            };
            out.push((at, data));
        }
        OrderEvent::Cancelled { order, .. } => {
            out.push((at, EventData::OrderCancelled { order: *order }));
        }
        OrderEvent::Fulfilled { order, lines, .. } => {
            out.push((at, EventData::OrderFulfilled { order: *order, lines: lines.clone() }));
        }
        OrderEvent::Returned { order, lines, restock, .. } => {
            let (order, lines, restock) = (*order, lines.clone(), *restock);
            out.push((at, EventData::OrderReturned { order, lines, restock }));
        }
        OrderEvent::Ticked { expired, .. } => {
            out.extend(expired.iter().map(|&order| (at, EventData::OrderExpired { order })));
        }
        OrderEvent::Answered { .. }
        | OrderEvent::Forgotten { .. }
        | OrderEvent::Revived { .. }
        | OrderEvent::Told { .. } => {}
    }
    came_to(event, upshot, at, out);
}

/// What an event came to, beyond what it says itself.
fn came_to(event: &OrderEvent, upshot: &Upshot, at: Timestamp, out: &mut Vec<Published>) {
    let order = match event {
        OrderEvent::Answered { order, .. } | OrderEvent::Paid { order, .. } => Some(*order),
        _ => None,
    };
    let reason = || match event {
        OrderEvent::Answered { outcome: OpOutcome::Refused(refusal), .. } => refusal.into(),
        // Stock was held, but its price is beyond what can be kept.
        _ => Reason {
            code: "amount_overflow",
            sku: None,
            message: "the amount of the order is too large".to_owned(),
        },
    };
    if let (Some(order), Some(accepted)) = (order, upshot.accepted) {
        let (total_minor, expires_at_ms) = (accepted.total_minor, accepted.expires_at);
        out.push((at, EventData::OrderAccepted { order, total_minor, expires_at_ms }));
    }
    if let Some(order) = order {
        let lines = upshot.unshipped.clone();
        if !lines.is_empty() {
            let reason = reason();
            out.push((at, EventData::OrderFulfilmentRefused { order, lines, reason }));
        }
        match upshot.state {
            Some(OrderState::Rejected) => {
                out.push((at, EventData::OrderRejected { order, reason: reason() }));
            }
            Some(OrderState::Confirmed) => out.push((at, EventData::OrderConfirmed { order })),
            Some(OrderState::Completed) => out.push((at, EventData::OrderCompleted { order })),
            // Told by `accepted`, or by the event itself.
            Some(
                OrderState::AwaitingPayment
                | OrderState::Queued
                | OrderState::Cancelled
                | OrderState::Expired,
            )
            | None => {}
        }
    }
    let due = upshot.refunds_due.iter();
    out.extend(due.map(|&(order, refund_due_minor)| {
        (at, EventData::OrderRefundDue { order, refund_due_minor })
    }));
}

fn happened_at(event: &OrderEvent) -> Option<Timestamp> {
    match event {
        OrderEvent::Placed(Placed { at, .. })
        | OrderEvent::Enqueued { placed: Placed { at, .. }, .. }
        | OrderEvent::Released { at, .. }
        | OrderEvent::TimedOut { at, .. }
        | OrderEvent::Answered { at, .. }
        | OrderEvent::Cancelled { at, .. }
        | OrderEvent::Fulfilled { at, .. }
        | OrderEvent::Returned { at, .. }
        | OrderEvent::Ticked { at, .. } => Some(*at),
        OrderEvent::Paid { payment, .. } => Some(payment.at),
        OrderEvent::Forgotten { .. } | OrderEvent::Revived { .. } | OrderEvent::Told { .. } => None,
    }
}

fn placed_data(placed: &Placed) -> EventData {
    let lines = placed.lines.iter().map(|(line, shard)| PlacedLine {
        sku: line.sku.clone(),
        location: line.location.clone(),
        quantity: line.quantity,
        amount_minor: line.amount_minor,
        stock_shard: *shard,
    });
    EventData::OrderPlaced {
        order: placed.order,
        user: placed.user.clone(),
        lines: lines.collect(),
        hold_ms: placed.hold_ms,
    }
}

fn stock(event: StockEvent, shard: u16, stamp: Timestamp, out: &mut Vec<Published>) {
    let one = match event {
        StockEvent::Defined { sku, patch } => {
            (stamp, EventData::StockDefined { sku, options: patch.into() })
        }
        StockEvent::Adjusted { at, sku, location, delta, reason, .. } => {
            (at, EventData::StockAdjusted { sku, location, delta, reason })
        }
        StockEvent::HoldPlaced { at, hold, user, line, expires_at, .. } => {
            (at, EventData::HoldPlaced { hold, user, line, expires_at_ms: expires_at })
        }
        StockEvent::HoldExtended { hold, expires_at } => {
            (stamp, EventData::HoldExtended { hold, expires_at_ms: expires_at })
        }
        StockEvent::HoldConfirmed { at, hold } => (at, EventData::HoldConfirmed { hold }),
        StockEvent::HoldReleased { at, hold } => (at, EventData::HoldReleased { hold }),
        StockEvent::HoldShipped { at, hold } => (at, EventData::HoldShipped { hold }),
        StockEvent::OpApplied { op, outcome } => (stamp, applied(op, outcome, shard)),
        // The order says so.
        StockEvent::OpRefused { .. } => return,
        StockEvent::Ticked { at, expired, .. } => {
            out.extend(expired.into_iter().map(|hold| (at, EventData::HoldExpired { hold })));
            return;
        }
    };
    out.push(one);
}

fn applied(op: OrderOp, outcome: OpOutcome, stock_shard: u16) -> EventData {
    let order = op.order;
    match op.action {
        OpAction::Reserve { user, lines } => {
            let prices = match outcome {
                OpOutcome::Held { unit_prices } => unit_prices,
                OpOutcome::Done | OpOutcome::Refused(_) => UnitPrices::new(),
            };
            let prices = prices.iter().copied().chain(std::iter::repeat(None));
            let held = lines.iter().cloned().zip(prices);
            let lines = held.map(|(line, unit_price_minor)| HeldLine { line, unit_price_minor });
            let lines = lines.collect();
            EventData::StockHeld { order, stock_shard, user, lines }
        }
        OpAction::Release => EventData::StockReleased { order, stock_shard },
        OpAction::Allocate => EventData::StockAllocated { order, stock_shard },
        OpAction::Deallocate { lines, .. } => {
            EventData::StockDeallocated { order, stock_shard, lines: lines.to_vec() }
        }
        OpAction::Ship { lines } => {
            EventData::StockShipped { order, stock_shard, lines: lines.to_vec() }
        }
        OpAction::Return { lines, restock, .. } => {
            EventData::StockReturned { order, stock_shard, lines: lines.to_vec(), restock }
        }
    }
}

#[cfg(test)]
mod tests;
