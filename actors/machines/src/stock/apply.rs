//! How an event changes a stock shard, now and at every replay. It deliberately asks neither the
//! configuration nor whether the event was right to happen.

use super::item::Item;
use super::users::{Units, Users};
use super::{
    Answered, Bound, Hold, HoldOutcome, Level, OpAction, OpOutcome, OrderHold, OrderOp, SkuPatch,
    Stock, StockEvent, StockLine, StockReceipt,
};
use crate::{HoldId, Sku, Timestamp, UserId};

/// A move of units between the counters of a level.
#[derive(Clone, Copy)]
enum Move {
    Hold,
    Release,
    Allocate,
    Deallocate,
    Ship,
    Restock,
    Scrap,
}

impl Stock {
    pub(super) fn apply_event(&mut self, event: &StockEvent) {
        match event {
            StockEvent::OpApplied { op, outcome } => {
                self.apply_op(op);
                let answered = Answered { order: op.order, outcome: outcome.clone() };
                self.inbox.record(op.from, op.op, op.acked_below, answered);
            }
            StockEvent::OpRefused { op, from, acked_below, order, refusal } => {
                let outcome = OpOutcome::Refused(refusal.clone());
                self.inbox.record(*from, *op, *acked_below, Answered { order: *order, outcome });
            }
            StockEvent::Defined { sku, patch } => {
                self.define(sku, patch);
            }
            StockEvent::Adjusted { at, key, fingerprint, sku, location, delta, .. } => {
                let item = self.items.get_or_insert(sku, Item::default);
                let level = item.levels.entry(location.clone()).or_default();
                level.on_hand = level.on_hand.saturating_add_signed(*delta);
                let receipt = StockReceipt::of(sku, location, *level, *at);
                self.memory.bind(*key, *fingerprint, *at, Bound::Receipt(receipt));
            }
            StockEvent::Ticked { at, expired, forget_before } => {
                for hold in expired {
                    self.settle(*hold, HoldOutcome::Expired, *at);
                }
                if let Some(cutoff) = forget_before {
                    self.memory.forget_before(*cutoff);
                    self.forget_finished(*cutoff);
                }
            }
            StockEvent::HoldPlaced { .. }
            | StockEvent::HoldExtended { .. }
            | StockEvent::HoldConfirmed { .. }
            | StockEvent::HoldReleased { .. }
            | StockEvent::HoldShipped { .. } => self.apply_hold(event),
        }
    }

    // What happens to standalone holds, but for their expiry.
    fn apply_hold(&mut self, event: &StockEvent) {
        match event {
            StockEvent::HoldPlaced { at, key, fingerprint, hold, user, line, expires_at } => {
                self.next_hold = self.next_hold.max(hold.sequence() + 1);
                self.memory.bind(*key, *fingerprint, *at, Bound::Hold(*hold));
                self.shift(user, std::slice::from_ref(line), Move::Hold);
                self.deadlines.insert(*expires_at, *hold);
                let hold = Hold {
                    id: *hold,
                    user: user.clone(),
                    line: line.clone(),
                    placed_at: *at,
                    expires_at: *expires_at,
                    settled: None,
                    shipped_at: None,
                };
                self.holds.insert(hold.id, hold);
            }
            StockEvent::HoldExtended { hold, expires_at } => {
                if let Some(held) = self.holds.get_mut(*hold) {
                    self.deadlines.remove(held.expires_at, *hold);
                    held.expires_at = *expires_at;
                    self.deadlines.insert(*expires_at, *hold);
                }
            }
            StockEvent::HoldConfirmed { at, hold } => {
                self.settle(*hold, HoldOutcome::Confirmed, *at);
            }
            StockEvent::HoldReleased { at, hold } => {
                self.settle(*hold, HoldOutcome::Released, *at);
            }
            StockEvent::HoldShipped { at, hold } => self.ship(*hold, *at),
            _ => {}
        }
    }

    fn define(&mut self, sku: &Sku, patch: &SkuPatch) {
        let item = self.items.get_or_insert(sku, Item::default);
        let before = item.options.limit_per_user.is_some();
        item.options.patch(patch);
        if item.options.limit_per_user.is_some() != before {
            self.recount(sku);
        }
    }

    fn apply_op(&mut self, op: &OrderOp) {
        match &op.action {
            OpAction::Reserve { user, lines } => {
                self.shift(user, lines, Move::Hold);
                let hold = OrderHold { user: user.clone(), lines: lines.clone() };
                if self.order_holds.insert(op.order, hold).is_some() {
                    self.impossible += 1;
                }
            }
            OpAction::Release | OpAction::Allocate => {
                let Some(OrderHold { user, lines }) = self.order_holds.remove(op.order) else {
                    self.impossible += 1;
                    return;
                };
                let release = op.action == OpAction::Release;
                self.shift(&user, &lines, if release { Move::Release } else { Move::Allocate });
            }
            OpAction::Deallocate { user, lines } => {
                self.shift(user, lines, Move::Deallocate);
            }
            OpAction::Ship { lines } => {
                for line in &**lines {
                    self.shift_level(line, Move::Ship);
                }
            }
            OpAction::Return { user, lines, restock } => {
                let what = if *restock { Move::Restock } else { Move::Scrap };
                self.shift(user, lines, what);
            }
        }
    }

    fn shift(&mut self, user: &UserId, lines: &[StockLine], what: Move) {
        for line in lines {
            if let Some(item) = self.shift_level(line, what) {
                item.count(user, |units| units.shift(line.quantity, what));
            }
        }
    }

    fn shift_level(&mut self, line: &StockLine, what: Move) -> Option<&mut Item> {
        let item = self.items.get_mut(&line.sku);
        let shifted = item.and_then(|item| {
            let level = item.levels.entry(line.location.clone()).or_default();
            level.shift(line.quantity, what).map(|()| item)
        });
        if shifted.is_none() {
            self.impossible += 1;
        }
        shifted
    }

    fn settle(&mut self, id: HoldId, outcome: HoldOutcome, at: Timestamp) {
        let Some(hold) = self.holds.get_mut(id).filter(|hold| hold.settled.is_none()) else {
            self.impossible += 1;
            return;
        };
        hold.settled = Some((outcome, at));
        self.deadlines.remove(hold.expires_at, id);
        let (user, line) = (hold.user.clone(), hold.line.clone());
        if outcome == HoldOutcome::Confirmed {
            self.shift(&user, &[line], Move::Allocate);
        } else {
            self.finished.insert(at, id);
            self.shift(&user, &[line], Move::Release);
        }
    }

    fn ship(&mut self, id: HoldId, at: Timestamp) {
        let Some(hold) = self.holds.get_mut(id).filter(|hold| hold.shipped_at.is_none()) else {
            self.impossible += 1;
            return;
        };
        hold.shipped_at = Some(at);
        let line = hold.line.clone();
        self.finished.insert(at, id);
        self.shift_level(&line, Move::Ship);
    }

    fn forget_finished(&mut self, cutoff: Timestamp) {
        while let Some((at, hold)) = self.finished.first().filter(|(at, _)| *at < cutoff) {
            self.finished.remove(at, hold);
            self.holds.remove(hold);
        }
    }

    // A limit that is new counts the units held now; without a limit nothing is counted.
    fn recount(&mut self, sku: &Sku) {
        let Some(item) = self.items.get_mut(sku) else {
            return;
        };
        item.users = Users::default();
        for hold in self.order_holds.values() {
            for line in hold.lines.iter().filter(|line| line.sku == *sku) {
                item.count(&hold.user, |units| units.shift(line.quantity, Move::Hold));
            }
        }
        for hold in self.holds.values().filter(|hold| hold.line.sku == *sku) {
            item.count(&hold.user, |units| match hold.settled {
                None => units.held += hold.line.quantity,
                Some((HoldOutcome::Confirmed, _)) => units.owned += hold.line.quantity,
                Some(_) => {}
            });
        }
    }
}

impl Units {
    fn shift(&mut self, units: u64, what: Move) {
        match what {
            Move::Hold => self.held += units,
            Move::Release => self.held = self.held.saturating_sub(units),
            Move::Allocate => {
                self.held = self.held.saturating_sub(units);
                self.owned += units;
            }
            Move::Deallocate | Move::Restock | Move::Scrap => {
                self.owned = self.owned.saturating_sub(units);
            }
            Move::Ship => {}
        }
    }
}

impl Level {
    // `None`, with nothing changed, if there are not as many units as are to be moved.
    fn shift(&mut self, units: u64, what: Move) -> Option<()> {
        let mut level = *self;
        match what {
            Move::Hold => level.held = level.held.checked_add(units)?,
            Move::Release => level.held = level.held.checked_sub(units)?,
            Move::Allocate => {
                level.held = level.held.checked_sub(units)?;
                level.allocated = level.allocated.checked_add(units)?;
            }
            Move::Deallocate => level.allocated = level.allocated.checked_sub(units)?,
            Move::Ship => {
                level.allocated = level.allocated.checked_sub(units)?;
                level.on_hand = level.on_hand.checked_sub(units)?;
            }
            Move::Scrap => {}
            Move::Restock => level.on_hand = level.on_hand.checked_add(units)?,
        }
        *self = level;
        Some(())
    }
}
