//! A SKU as one thing that is asked one thing after the other: its levels, and what became of each
//! hold and each order of a single line. Of an order it knows only what the SKU sees. It knows
//! nothing of shards, saga or time.

use std::collections::BTreeMap;

use super::checker::Model;

/// A key of a caller, as a number.
pub(crate) type Key = u32;

/// The model of one SKU at one location.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Sku {
    on_hand: u64,
    backorder_limit: u64,
    limit_per_user: Option<u64>,
    claims: BTreeMap<Key, Claim>,
    /// What each adjustment was answered.
    receipts: BTreeMap<Key, Levels>,
}

/// Units that are somebody's: by a hold or by an order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Claim {
    /// The number that it was given, once that is known.
    id: Option<u64>,
    user: u8,
    units: u64,
    status: Status,
}

/// What has become of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Status {
    Held,
    Allocated,
    Shipped,
    Freed,
    Returned,
}

/// On hand, held, allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Levels(pub(crate) u64, pub(crate) u64, pub(crate) u64);

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Backorder(u64),
    Adjust {
        key: Key,
        delta: i64,
    },
    Read,
    /// A hold, or an order.
    Claim {
        key: Key,
        user: u8,
        units: u64,
        of: Of,
    },
    /// The claim is confirmed: a hold by itself, an order by paying it in full.
    Confirm {
        key: Key,
        of: Of,
    },
    /// The claim is given up: a hold is released, an order cancelled.
    GiveUp {
        key: Key,
        of: Of,
    },
    Ship {
        key: Key,
        of: Of,
    },
    TakeBack {
        key: Key,
        restock: bool,
    },
    /// Reads a hold, or sets its time anew.
    Look {
        key: Key,
    },
    Extend {
        key: Key,
    },
}

/// What a claim is made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Hold,
    Order,
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Levels(Levels),
    /// The claim has this number, and its hold this status.
    Claimed {
        id: u64,
        status: Option<Status>,
    },
    /// It is done, whoever did it.
    Done,
    SoldOut {
        available: u64,
    },
    Limited {
        already: u64,
    },
    BelowCommitted {
        on_hand: u64,
        committed: u64,
    },
    BackorderInUse(u64),
    /// The hold has another outcome.
    Settled(Status),
    NotConfirmed,
    NotInStock {
        on_hand: u64,
    },
    /// The order's own rules refuse it, which its own history checks: stock is not asked.
    OrderRefuses,
}

/// A step in the history of a SKU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) asked: Asked,
    pub(crate) said: Option<Said>,
}

impl Sku {
    /// One that nobody has any of yet.
    pub(crate) fn stocked(on_hand: u64, limit_per_user: Option<u64>) -> Self {
        Self { on_hand, limit_per_user, ..Self::default() }
    }

    pub(crate) fn levels(&self) -> Levels {
        let sum = |status| -> u64 {
            let claims = self.claims.values().filter(|claim| claim.status == status);
            claims.map(|claim| claim.units).sum()
        };
        Levels(self.on_hand, sum(Status::Held), sum(Status::Allocated))
    }

    fn sellable(&self) -> u64 {
        let Levels(on_hand, held, allocated) = self.levels();
        (on_hand + self.backorder_limit).saturating_sub(held + allocated)
    }

    fn units_of(&self, user: u8) -> u64 {
        let kept = |claim: &&Claim| {
            claim.user == user && !matches!(claim.status, Status::Freed | Status::Returned)
        };
        self.claims.values().filter(kept).map(|claim| claim.units).sum()
    }

    fn status(&self, key: Key) -> Option<Status> {
        self.claims.get(&key).map(|claim| claim.status)
    }

    fn set(&mut self, key: Key, status: Status) {
        if let Some(claim) = self.claims.get_mut(&key) {
            claim.status = status;
        }
    }

    /// The units of a claim leave the stock.
    fn ship(&mut self, key: Key) -> Said {
        let Some(units) = self.claims.get(&key).map(|claim| claim.units) else {
            return Said::OrderRefuses;
        };
        if units > self.on_hand {
            return Said::NotInStock { on_hand: self.on_hand };
        }
        self.on_hand -= units;
        self.set(key, Status::Shipped);
        Said::Done
    }

    fn claim(&mut self, key: Key, user: u8, units: u64, of: Of, said: Option<Said>) -> Said {
        let given = match said {
            Some(Said::Claimed { id, .. }) => Some(id),
            _ => None,
        };
        if let Some(claim) = self.claims.get_mut(&key) {
            claim.id = claim.id.or(given);
            let status = (of == Of::Hold).then_some(claim.status);
            return Said::Claimed { id: claim.id.unwrap_or_default(), status };
        }
        let (already, available) = (self.units_of(user), self.sellable());
        let limited = self.limit_per_user.is_some_and(|limit| already + units > limit);
        // Of an order, the sold-out board is looked at before anything else is.
        let by_board = of == Of::Order && said == Some(Said::SoldOut { available: 0 });
        if limited && !(by_board && available == 0) {
            return Said::Limited { already };
        }
        if units > available {
            return Said::SoldOut { available };
        }
        self.claims.insert(key, Claim { id: given, user, units, status: Status::Held });
        let status = (of == Of::Hold).then_some(Status::Held);
        Said::Claimed { id: given.unwrap_or_default(), status }
    }

    /// A hold is told with its status; of an order the SKU sees only that it is done.
    fn confirm(&mut self, key: Key, of: Of) -> Said {
        match (self.status(key), of) {
            (Some(Status::Held), _) => {
                self.set(key, Status::Allocated);
                self.told(key, of)
            }
            (Some(Status::Freed), Of::Hold) => Said::Settled(Status::Freed),
            _ => self.told(key, of),
        }
    }

    fn give_up(&mut self, key: Key, of: Of) -> Said {
        match (self.status(key), of) {
            (Some(Status::Held), _) | (Some(Status::Allocated), Of::Order) => {
                self.set(key, Status::Freed);
                self.told(key, of)
            }
            (Some(Status::Freed), _) => self.told(key, of),
            (_, Of::Hold) => Said::Settled(Status::Allocated),
            (_, Of::Order) => Said::OrderRefuses,
        }
    }

    fn send(&mut self, key: Key, of: Of) -> Said {
        match (self.status(key), of) {
            (Some(Status::Allocated), _) => match self.ship(key) {
                Said::Done => self.told(key, of),
                refusal => refusal,
            },
            (Some(Status::Shipped | Status::Returned), _) => self.told(key, of),
            (_, Of::Hold) => Said::NotConfirmed,
            (_, Of::Order) => Said::OrderRefuses,
        }
    }

    fn told(&self, key: Key, of: Of) -> Said {
        match (self.claims.get(&key), of) {
            (Some(Claim { id, status, .. }), Of::Hold) => {
                Said::Claimed { id: id.unwrap_or_default(), status: Some(*status) }
            }
            _ => Said::Done,
        }
    }

    fn extend(&self, key: Key) -> Said {
        match self.status(key) {
            Some(Status::Held) | None => self.told(key, Of::Hold),
            Some(Status::Freed) => Said::Settled(Status::Freed),
            Some(_) => Said::Settled(Status::Allocated),
        }
    }

    fn adjust(&mut self, key: Key, delta: i64) -> Said {
        if let Some(receipt) = self.receipts.get(&key) {
            return Said::Levels(*receipt);
        }
        let Levels(on_hand, held, allocated) = self.levels();
        let committed = held + allocated;
        let after = on_hand.checked_add_signed(delta);
        let Some(after) =
            after.filter(|after| delta > 0 || after + self.backorder_limit >= committed)
        else {
            return Said::BelowCommitted { on_hand, committed };
        };
        self.on_hand = after;
        self.receipts.insert(key, self.levels());
        Said::Levels(self.levels())
    }

    fn set_backorder(&mut self, limit: u64) -> Said {
        let Levels(on_hand, held, allocated) = self.levels();
        let in_use = (held + allocated).saturating_sub(on_hand);
        if in_use > limit {
            return Said::BackorderInUse(in_use);
        }
        self.backorder_limit = limit;
        Said::Levels(self.levels())
    }

    fn take_back(&mut self, key: Key, restock: bool) -> Said {
        match self.status(key) {
            Some(Status::Shipped) => {
                let units = self.claims.get(&key).map_or(0, |claim| claim.units);
                self.on_hand += if restock { units } else { 0 };
                self.set(key, Status::Returned);
                Said::Done
            }
            Some(Status::Returned) => Said::Done,
            _ => Said::OrderRefuses,
        }
    }
}

impl Model for Sku {
    type Step = Step;

    fn after(&self, Step { asked, said }: &Step) -> Option<Self> {
        if *said == Some(Said::OrderRefuses) {
            return Some(self.clone());
        }
        let mut after = self.clone();
        let says = match *asked {
            Asked::Backorder(limit) => after.set_backorder(limit),
            Asked::Adjust { key, delta } => after.adjust(key, delta),
            Asked::Read => Said::Levels(after.levels()),
            Asked::Claim { key, user, units, of } => after.claim(key, user, units, of, *said),
            Asked::Confirm { key, of } => after.confirm(key, of),
            Asked::GiveUp { key, of } => after.give_up(key, of),
            Asked::Ship { key, of } => after.send(key, of),
            Asked::TakeBack { key, restock } => after.take_back(key, restock),
            Asked::Look { key } => after.told(key, Of::Hold),
            Asked::Extend { key } => after.extend(key),
        };
        match said {
            Some(said) => (says == *said).then_some(after),
            None => (after != *self).then_some(after),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_unit_is_sold_once() {
        let start = Sku { on_hand: 1, ..Sku::default() };
        let buy = |key, said| Step {
            asked: Asked::Claim { key, user: 0, units: 1, of: Of::Order },
            said: Some(said),
        };
        let sold = |id| Said::Claimed { id, status: None };
        let one = start.after(&buy(1, sold(7))).unwrap();
        assert!(one.after(&buy(2, sold(8))).is_none(), "sold twice");
        assert!(one.after(&buy(1, sold(7))).is_some(), "the same key, the same order");
        assert!(one.after(&buy(1, sold(8))).is_none(), "the same key, another order");
        assert!(one.after(&buy(2, Said::SoldOut { available: 0 })).is_some());
        assert!(start.after(&buy(2, Said::SoldOut { available: 0 })).is_none(), "one was left");
        let cancel = Step { asked: Asked::GiveUp { key: 1, of: Of::Order }, said: None };
        let freed = one.after(&cancel).unwrap();
        assert!(freed.after(&buy(2, sold(8))).is_some());
        assert!(freed.after(&cancel).is_none(), "an unanswered step must change something");
    }
}
