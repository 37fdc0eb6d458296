//! How an order shard answers a new order. It deliberately does not look at stock: the stock shards
//! do, and until they have, the order is only queued.

use std::{borrow::Cow, collections::BTreeMap};

use super::{
    NewLine, Order, OrderEvent, OrderRejection, OrderReply, Orders, PLACE, PlaceOrder, Placed,
    intake::receipt,
};
use crate::bounds::{self, LINES_MAX};
use crate::short::all_differ;
use crate::{Answer, Decision, OrderId, OutOfBounds, Short, Ticket, Timestamp, shard_of};

impl Orders {
    pub(super) fn decide_place(
        &self,
        place: &PlaceOrder,
        now: Timestamp,
    ) -> Result<Decision<Self>, OrderRejection> {
        if let Some(order) = self.memory.look_up(place.key, place.fingerprint)? {
            return self.placed_before(*order, place.respond_async, now);
        }
        let lines = check_order(&place.lines, place.hold_ms)?;
        if let Some(hint) = &place.hint {
            return Err(hint.clone().into());
        }
        self.memory.check_room(self.config.idempotency_keys_max)?;
        let intake = self.config.intake.as_ref().filter(|_| place.respond_async);
        intake.map_or(Ok(()), |intake| self.check_queue(intake, now))?;
        let placed = Placed {
            at: now,
            order: OrderId::new(self.config.shard, self.next_order)?,
            key: place.key,
            fingerprint: place.fingerprint,
            user: place.user.clone(),
            lines: self.with_shards(&lines),
            hold_ms: place.hold_ms,
            respond_async: place.respond_async,
        };
        if let Some(intake) = intake {
            return Ok(self.enqueue(placed, intake, now));
        }
        let asks = placed.reserves();
        let answer = if place.respond_async {
            Answer::Now(OrderReply::Placed(Order::place(&placed, &asks).receipt()))
        } else {
            Answer::Later(ticket(placed.order))
        };
        let (event, effects) = (Some(OrderEvent::Placed(placed)), self.op_effects(asks));
        Ok(Decision { event, effects, answer, settles: Vec::new() })
    }

    // Names the stock shard of each line.
    fn with_shards(&self, lines: &[NewLine]) -> Short<(NewLine, u16)> {
        let with_shard = |line: &NewLine| {
            let shard = shard_of(line.sku.as_str().as_bytes(), self.config.stock_shards);
            (line.clone(), shard)
        };
        Short::of_each(lines, with_shard)
    }

    // The same key and the same request: the same order, as it is now.
    fn placed_before(
        &self,
        id: OrderId,
        respond_async: bool,
        now: Timestamp,
    ) -> Result<Decision<Self>, OrderRejection> {
        let Some(order) = self.order(id) else {
            return Ok(Decision::reply(OrderReply::AtRest { order: id }));
        };
        if respond_async {
            let receipt = receipt(order, self.queue_place(order, now));
            return Ok(Decision::reply(OrderReply::Placed(receipt)));
        }
        if order.placing {
            return Ok(Decision::later(ticket(id)));
        }
        order.placed().map(OrderReply::Placed).map(Decision::reply)
    }
}

pub(super) fn ticket(order: OrderId) -> Ticket {
    Ticket { subject: order.0, purpose: PLACE }
}

/// All that can be said of a new order by itself: checks each line, sums those of the same SKU and
/// location at the place of the first, and checks the sums. Gives the lines as they are sold.
///
/// # Errors
/// A value out of bounds, or amounts on only some lines of the same SKU and location.
pub fn check_order(lines: &[NewLine], hold_ms: u64) -> Result<Cow<'_, [NewLine]>, OrderRejection> {
    if lines.is_empty() || lines.len() > LINES_MAX {
        let bound = format_args!("1 to {LINES_MAX} lines");
        return Err(OutOfBounds::new("lines", bound, lines.len()).into());
    }
    for line in lines {
        bounds::check_quantity(line.quantity)?;
        if let Some(amount_minor) = line.amount_minor {
            bounds::check_amount("amount_minor", amount_minor)?;
        }
    }
    // Most orders have one line, or a few of different places; they need no sum.
    let summed = all_differ(lines, |line| (&line.sku, &line.location));
    let lines = if summed { Cow::Borrowed(lines) } else { Cow::Owned(sum_lines(lines)?) };
    let total_minor = lines.iter().filter_map(|line| line.amount_minor).sum();
    bounds::check_amount("total_minor", total_minor)?;
    bounds::check_hold_ms("hold_ms", hold_ms)?;
    Ok(lines)
}

fn sum_lines(lines: &[NewLine]) -> Result<Vec<NewLine>, OrderRejection> {
    let mut summed: Vec<NewLine> = Vec::with_capacity(lines.len());
    let mut places = BTreeMap::new();
    for line in lines {
        let place = *places.entry((&line.sku, &line.location)).or_insert(summed.len());
        let Some(sum) = summed.get_mut(place) else {
            summed.push(line.clone());
            continue;
        };
        // Neither sum can overflow: at most 256 lines, each within its bound, far below u64.
        sum.quantity = bounds::check_quantity(sum.quantity + line.quantity)?;
        sum.amount_minor = match (sum.amount_minor, line.amount_minor) {
            (None, None) => None,
            (Some(one), Some(other)) => Some(bounds::check_amount("amount_minor", one + other)?),
            _ => {
                let (sku, location) = (line.sku.clone(), line.location.clone());
                return Err(OrderRejection::MixedAmounts { sku, location });
            }
        };
    }
    Ok(summed)
}
