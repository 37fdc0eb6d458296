//! What a stock shard does about a command. It deliberately changes nothing; `apply` does.

use std::collections::BTreeMap;

use super::item::Item;
use super::users::Units;
use super::{
    Answered, Bound, Hold, HoldOutcome, OpAction, OpOutcome, OrderOp, SkuPatch, Stock,
    StockCommand, StockEffect, StockEvent, StockLine, StockReceipt, StockRejection, StockReply,
    UnitPrices,
};
use crate::bounds::{
    self, DELTA_UNITS_MAX, EXPIRIES_PER_EVENT_MAX, ON_HAND_UNITS_MAX, REASON_CHARS_MAX,
};
use crate::short::all_differ;
use crate::{
    Answer, Decision, Fingerprint, HoldId, KeyHash, Known, Location, OutOfBounds, Refusal, Short,
    Sku, Timestamp, UserId,
};

type Decided = Result<Decision<Stock>, StockRejection>;

impl Stock {
    pub(super) fn known(&self, sku: &Sku) -> Result<&Item, Refusal> {
        self.items.get(sku).ok_or_else(|| Refusal::UnknownSku { sku: sku.clone() })
    }

    pub(super) fn known_hold(&self, hold: HoldId) -> Result<&Hold, StockRejection> {
        self.holds.get(hold).ok_or(StockRejection::UnknownHold { hold })
    }

    /// The recorded answer, if the key is known for this request. A hold is answered as it is now:
    /// it outlives the key that made it.
    pub(super) fn recall(
        &self,
        key: KeyHash,
        fingerprint: Fingerprint,
    ) -> Result<Option<Decision<Self>>, StockRejection> {
        let reply = match self.memory.look_up(key, fingerprint)? {
            Some(Bound::Receipt(receipt)) => StockReply::Receipt(receipt.clone()),
            Some(Bound::Hold(hold)) => StockReply::Hold(self.known_hold(*hold)?.clone()),
            None => {
                self.memory.check_room(self.config.idempotency_keys_max)?;
                return Ok(None);
            }
        };
        Ok(Some(Decision::reply(reply)))
    }

    pub(super) fn decide_define(&self, sku: &Sku, patch: &SkuPatch) -> Decided {
        patch.check()?;
        let mut item = self.items.get(sku).cloned().unwrap_or_default();
        if let Some(given) = patch.backorder_limit {
            let ahead = |level: &super::Level| level.committed().saturating_sub(level.on_hand);
            let in_use = item.levels.values().map(ahead).max().unwrap_or(0);
            if in_use > u64::from(given) {
                return Err(StockRejection::BackorderInUse { sku: sku.clone(), in_use, given });
            }
        }
        let before = item.options.clone();
        item.options.patch(patch);
        let reply = Answer::Now(StockReply::Item(Box::new(item.view(sku))));
        if self.items.contains(sku) && item.options == before {
            return Ok(Decision::nothing().answered(reply));
        }
        let event = StockEvent::Defined { sku: sku.clone(), patch: patch.clone() };
        Ok(Decision::event(event).answered(reply))
    }

    pub(super) fn check_adjust(
        &self,
        sku: &Sku,
        location: &Location,
        delta: i64,
        reason: &str,
        now: Timestamp,
    ) -> Result<StockReceipt, StockRejection> {
        if delta == 0 || delta.unsigned_abs() > DELTA_UNITS_MAX {
            let bound = format_args!("at most {DELTA_UNITS_MAX} units in or out, and not 0");
            return Err(OutOfBounds::new("delta", bound, delta).into());
        }
        // No control characters: a reason is for people, and databases refuse some.
        if reason.chars().count() > REASON_CHARS_MAX || reason.chars().any(char::is_control) {
            let bound = format_args!("at most {REASON_CHARS_MAX} characters of one line");
            return Err(OutOfBounds::new("reason", bound, format_args!("{reason:?}")).into());
        }
        let item = self.known(sku)?;
        let mut level = item.level(location);
        let backorder_limit = item.options.backorder_limit;
        let after = level.on_hand.checked_add_signed(delta);
        let enough = |on_hand: &u64| {
            delta > 0 || on_hand.saturating_add(backorder_limit.into()) >= level.committed()
        };
        let Some(on_hand) = after.filter(enough) else {
            return Err(StockRejection::BelowCommitted {
                sku: sku.clone(),
                location: location.clone(),
                delta,
                on_hand: level.on_hand,
                committed: level.committed(),
                backorder_limit,
            });
        };
        if on_hand > ON_HAND_UNITS_MAX {
            let bound = format_args!("such that on_hand stays at most {ON_HAND_UNITS_MAX}");
            return Err(OutOfBounds::new("delta", bound, delta).into());
        }
        level.on_hand = on_hand;
        Ok(StockReceipt::of(sku, location, level, now))
    }

    pub(super) fn decide_hold(&self, command: &StockCommand, now: Timestamp) -> Decided {
        let StockCommand::Hold { key, fingerprint, user, sku, location, quantity, ttl_ms } =
            command
        else {
            return Ok(Decision::nothing());
        };
        if let Some(known) = self.recall(*key, *fingerprint)? {
            return Ok(known);
        }
        bounds::check_quantity(*quantity)?;
        bounds::check_hold_ms("ttl_ms", *ttl_ms)?;
        let line = StockLine { sku: sku.clone(), location: location.clone(), quantity: *quantity };
        self.check_reserve(user, std::slice::from_ref(&line))?;
        let hold = Hold {
            id: HoldId::compose(self.config.shard, self.next_hold),
            user: user.clone(),
            line,
            placed_at: now,
            expires_at: now.plus_ms(*ttl_ms),
            settled: None,
            shipped_at: None,
        };
        let event = StockEvent::HoldPlaced {
            at: now,
            key: *key,
            fingerprint: *fingerprint,
            hold: hold.id,
            user: hold.user.clone(),
            line: hold.line.clone(),
            expires_at: hold.expires_at,
        };
        Ok(Decision::event(event).answered(Answer::Now(StockReply::Hold(hold))))
    }

    pub(super) fn decide_extend(&self, hold: HoldId, ttl_ms: u64, now: Timestamp) -> Decided {
        bounds::check_hold_ms("ttl_ms", ttl_ms)?;
        let mut held = self.known_hold(hold)?.clone();
        if let Some((outcome, _)) = held.settled {
            return Err(StockRejection::HoldSettled { hold, outcome });
        }
        held.expires_at = now.plus_ms(ttl_ms);
        let event = StockEvent::HoldExtended { hold, expires_at: held.expires_at };
        Ok(Decision::event(event).answered(Answer::Now(StockReply::Hold(held))))
    }

    pub(super) fn decide_settle(
        &self,
        hold: HoldId,
        wanted: HoldOutcome,
        at: Timestamp,
    ) -> Decided {
        let mut held = self.known_hold(hold)?.clone();
        match held.settled {
            Some((outcome, _)) if outcome == wanted => {
                return Ok(Decision::reply(StockReply::Hold(held)));
            }
            Some((outcome, _)) => return Err(StockRejection::HoldSettled { hold, outcome }),
            None => held.settled = Some((wanted, at)),
        }
        let event = match wanted {
            HoldOutcome::Confirmed => StockEvent::HoldConfirmed { at, hold },
            _ => StockEvent::HoldReleased { at, hold },
        };
        Ok(Decision::event(event).answered(Answer::Now(StockReply::Hold(held))))
    }

    pub(super) fn decide_ship(&self, hold: HoldId, at: Timestamp) -> Decided {
        let mut held = self.known_hold(hold)?.clone();
        if held.shipped_at.is_some() {
            return Ok(Decision::reply(StockReply::Hold(held)));
        }
        if !matches!(held.settled, Some((HoldOutcome::Confirmed, _))) {
            return Err(StockRejection::HoldNotConfirmed { hold });
        }
        self.check_on_hand(std::slice::from_ref(&held.line))?;
        held.shipped_at = Some(at);
        let event = StockEvent::HoldShipped { at, hold };
        Ok(Decision::event(event).answered(Answer::Now(StockReply::Hold(held))))
    }

    pub(super) fn decide_tick(&self, now: Timestamp) -> Decision<Self> {
        let due = self.deadlines.iter().take_while(|(at, _)| *at <= now);
        let expired: Vec<_> = due.take(EXPIRIES_PER_EVENT_MAX).map(|(_, hold)| hold).collect();
        let forget_before = self.forget_before(now);
        if expired.is_empty() && forget_before.is_none() {
            return Decision::nothing();
        }
        Decision::event(StockEvent::Ticked { at: now, expired, forget_before })
    }

    pub(super) fn decide_op(&self, op: &OrderOp) -> Decision<Self> {
        let effect =
            |outcome| StockEffect::Outcome { to: op.from, op: op.op, order: op.order, outcome };
        match self.inbox.look_up(op.from, op.op) {
            Known::New => {}
            Known::Closed => return Decision::nothing(),
            Known::Applied(Answered { outcome, .. }) => {
                return Decision::nothing().with_effect(effect(outcome.clone()));
            }
        }
        let outcome = match &op.action {
            OpAction::Reserve { user, lines } => {
                self.check_reserve(user, lines).map(|unit_prices| OpOutcome::Held { unit_prices })
            }
            OpAction::Ship { lines } => self.check_on_hand(lines).map(|()| OpOutcome::Done),
            _ => Ok(OpOutcome::Done),
        };
        let (event, outcome) = match outcome {
            Ok(outcome) => {
                (StockEvent::OpApplied { op: op.clone(), outcome: outcome.clone() }, outcome)
            }
            Err(refusal) => {
                let event = StockEvent::OpRefused {
                    op: op.op,
                    from: op.from,
                    acked_below: op.acked_below,
                    order: op.order,
                    refusal: refusal.clone(),
                };
                (event, OpOutcome::Refused(refusal))
            }
        };
        let effects = vec![effect(outcome)];
        Decision { event: Some(event), effects, answer: Answer::Nobody, settles: Vec::new() }
    }

    // All lines or none, in the documented precedence. Gives the unit prices.
    fn check_reserve(&self, user: &UserId, lines: &[StockLine]) -> Result<UnitPrices, Refusal> {
        let mut items = Short::<&Item>::new();
        for line in lines {
            items.push(self.known(&line.sku)?);
        }
        if items.iter().any(|item| item.options.limit_per_user.is_some()) {
            let wanted = sums_of(lines, |line| &line.sku);
            for (line, item) in lines.iter().zip(&items) {
                let Some(limit) = item.options.limit_per_user else {
                    continue;
                };
                let Units { held, owned } = item.users.units_of(user);
                let already = held.saturating_add(owned);
                let summed = wanted.as_ref().and_then(|wanted| wanted.get(&line.sku));
                let asked = summed.copied().unwrap_or(line.quantity);
                if already.saturating_add(asked) > u64::from(limit) {
                    return Err(Refusal::LimitExceeded { sku: line.sku.clone(), limit, already });
                }
            }
        }
        let wanted = sums_of(lines, |line| (&line.sku, &line.location));
        for (line, item) in lines.iter().zip(&items) {
            let available = item.sellable(&line.location);
            let place = (&line.sku, &line.location);
            let summed = wanted.as_ref().and_then(|wanted| wanted.get(&place));
            let requested = summed.copied().unwrap_or(line.quantity);
            if requested > available {
                return Err(Refusal::SoldOut {
                    sku: line.sku.clone(),
                    location: line.location.clone(),
                    requested,
                    available,
                });
            }
        }
        if items.iter().all(|item| item.options.price_minor.is_none()) {
            return Ok(UnitPrices::new());
        }
        Ok(Short::of_each(&items, |item| item.options.price_minor))
    }

    fn check_on_hand(&self, lines: &[StockLine]) -> Result<(), Refusal> {
        for ((sku, location), requested) in sum(lines, |line| (&line.sku, &line.location)) {
            let on_hand = self.known(sku)?.level(location).on_hand;
            if requested > on_hand {
                let (sku, location) = (sku.clone(), location.clone());
                return Err(Refusal::NotInStock { sku, location, requested, on_hand });
            }
        }
        Ok(())
    }
}

impl StockReceipt {
    pub(super) fn of(sku: &Sku, location: &Location, level: super::Level, at: Timestamp) -> Self {
        Self {
            sku: sku.clone(),
            location: location.clone(),
            on_hand: level.on_hand,
            held: level.held,
            allocated: level.allocated,
            available: level.available(),
            at,
        }
    }
}

// The sums of lines, if any are alike. The order shard sums those already; summing again keeps the
// check right for any sender.
fn sums_of<'a, K: Ord>(
    lines: &'a [StockLine],
    key: impl Fn(&'a StockLine) -> K,
) -> Option<BTreeMap<K, u64>> {
    (!all_differ(lines, &key)).then(|| sum(lines, key))
}

fn sum<'a, K: Ord>(lines: &'a [StockLine], key: impl Fn(&'a StockLine) -> K) -> BTreeMap<K, u64> {
    let mut sums = BTreeMap::new();
    for line in lines {
        let units: &mut u64 = sums.entry(key(line)).or_default();
        *units = units.saturating_add(line.quantity);
    }
    sums
}
