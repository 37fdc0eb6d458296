//! Clients that fight for a few units of a few SKUs, and the histories of those SKUs. What they are
//! answered is put into the words of the model here; whether it is right is not asked.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use tidegate::{
    Adjustment, Hold, HoldId, HoldOutcome, ItemView, NewHold, NewOrder, OrderId, OrderRejection,
    PaymentEvent, Refusal, SkuPatch, StockError, StockReceipt, StockRejection, Units,
};

use super::{
    Tally,
    checker::Entry,
    sku::{Asked, Key, Levels, Of, Said, Sku, Status, Step},
    store::{Caller, Failed, Handles, sorted},
};

/// Users who share a limit.
const USERS: u8 = 3;

/// Time to live of holds: longer than any round.
const TTL_MS: u64 = 3_600_000;

/// A SKU that clients fight for.
pub(crate) struct Contested {
    pub(crate) name: String,
    pub(crate) start: Sku,
    pub(crate) history: Mutex<Vec<Entry<Step>>>,
    claims: Mutex<Vec<Claim>>,
    keys: AtomicU32,
}

/// A hold or an order that a client was given.
#[derive(Clone, Copy)]
struct Claim {
    key: Key,
    of: Of,
    user: u8,
    units: u64,
    id: u64,
}

impl Contested {
    /// Defines a SKU with a few units.
    pub(crate) async fn new(
        caller: &mut Caller,
        name: String,
        luck: &mut fastrand::Rng,
    ) -> anyhow::Result<Self> {
        let (on_hand, limit) = (luck.u64(1..6), luck.u32(2..7));
        let limit = luck.bool().then_some(limit);
        let start = Sku::stocked(on_hand, limit.map(u64::from));
        let patch = SkuPatch { limit_per_user: Some(limit), ..SkuPatch::default() }.price_minor(1);
        let (named, options) = (&name, &patch);
        let define =
            |to: Handles| async move { sorted(to.stock.define(named, options.clone()).await) };
        caller.call(define, |_| {}).await?.answer?;
        let arrive = |to: Handles| async move {
            let arrival = Adjustment::new(named, on_hand as i64, "arrival");
            sorted(to.stock.adjust(arrival, "arrival").await)
        };
        caller.call(arrive, |_| {}).await?.answer?;
        let (history, claims, keys) = (Mutex::default(), Mutex::default(), AtomicU32::new(1));
        Ok(Self { name, start, history, claims, keys })
    }

    fn draw(&self, luck: &mut fastrand::Rng) -> (Asked, Option<Claim>) {
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let known = luck.choice(&*claims).copied();
        drop(claims);
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        let (user, units) = (luck.u8(..USERS), luck.u64(1..3));
        let fresh = Asked::Claim { key, user, units, of: Of::Order };
        let asked = match (luck.u8(..28), known) {
            (0..6, _) => fresh,
            (6..9, _) => Asked::Claim { key, user, units, of: Of::Hold },
            (9..13, _) => Asked::Read,
            (13..15, _) => {
                Asked::Adjust { key, delta: *luck.choice(&[-2, -1, 1, 2]).unwrap_or(&1) }
            }
            (15, _) => Asked::Backorder(luck.u64(..3)),
            (16..20, Some(Claim { key, of, .. })) => Asked::Confirm { key, of },
            (20..23, Some(Claim { key, of, .. })) => Asked::GiveUp { key, of },
            (23..25, Some(Claim { key, of, .. })) => Asked::Ship { key, of },
            (25, Some(Claim { key, of: Of::Order, .. })) => {
                Asked::TakeBack { key, restock: key % 3 > 0 }
            }
            (25, Some(Claim { key, .. })) => Asked::Extend { key },
            (26, Some(Claim { key, user, units, of, .. })) => Asked::Claim { key, user, units, of },
            (_, Some(Claim { key, of: Of::Hold, .. })) => Asked::Look { key },
            _ => fresh,
        };
        (asked, known)
    }
}

/// One client asks `calls` things of SKUs drawn from `skus`.
pub(crate) async fn client(
    mut caller: Caller,
    skus: &[Contested],
    mut luck: fastrand::Rng,
    calls: u64,
) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    for _ in 0..calls {
        let sku = &skus[luck.usize(..skus.len())];
        let (asked, known) = sku.draw(&mut luck);
        let client = caller.client;
        let note = |said, began, ended| {
            let entry = Entry { step: Step { asked, said }, client, began, ended, follows: None };
            sku.history.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        };
        let ask = |to: Handles| async move { ask(&to, sku, asked, known).await };
        let lost = |began| {
            tally.unknown += 1;
            note(None, began, None);
        };
        let answered = caller.call(ask, lost).await?;
        let said = answered.answer;
        note(Some(said), answered.began, Some(answered.ended));
        if let (Said::Claimed { id, .. }, Asked::Claim { key, user, units, of }) = (said, asked) {
            let claim = Claim { key, of, user, units, id };
            sku.claims.lock().unwrap_or_else(PoisonError::into_inner).push(claim);
        }
    }
    Ok(tally)
}

async fn ask(
    to: &Handles,
    sku: &Contested,
    asked: Asked,
    known: Option<Claim>,
) -> Result<Said, Failed> {
    let Handles { stock, orders, .. } = to;
    let named = |key: Key| format!("{}-{key}", sku.name);
    let (id, units_known) = known.map_or((0, 1), |claim| (claim.id, claim.units));
    let (order, hold) = (OrderId(id), HoldId(id));
    match asked {
        Asked::Backorder(limit) => {
            let patch = SkuPatch::default().backorder_limit(limit as u32);
            item(stock.define(&sku.name, patch).await)
        }
        Asked::Read => item(stock.get(&sku.name).await),
        Asked::Adjust { key, delta } => {
            let adjustment = Adjustment::new(&sku.name, delta, "count");
            match sorted(stock.adjust(adjustment, &named(key)).await)? {
                Ok(StockReceipt { on_hand, held, allocated, .. }) => {
                    Ok(Said::Levels(Levels(on_hand, held, allocated)))
                }
                Err(no) => stock_says_no(no),
            }
        }
        Asked::Claim { key, user, units, of: Of::Hold } => {
            let new = NewHold::new(format!("u{user}"), &sku.name, units, TTL_MS);
            held(stock.hold(new, &named(key)).await)
        }
        Asked::Claim { key, user, units, of: Of::Order } => {
            let new = NewOrder::new(format!("u{user}")).line(&sku.name, units);
            match sorted(orders.place(new, &named(key)).await)? {
                Ok(receipt) => Ok(Said::Claimed { id: receipt.id.0, status: None }),
                Err(no) => order_says_no(no),
            }
        }
        Asked::Confirm { of: Of::Hold, .. } => held(stock.confirm_hold(hold).await),
        Asked::Confirm { .. } => {
            // More than any of these orders costs.
            changed(orders.pay(order, PaymentEvent::captured("bank", "paid", 1_000)).await)
        }
        Asked::GiveUp { of: Of::Hold, .. } => held(stock.release_hold(hold).await),
        Asked::GiveUp { .. } => changed(orders.cancel(order, "cancel").await),
        Asked::Ship { of: Of::Hold, .. } => held(stock.ship_hold(hold).await),
        Asked::Ship { .. } => changed(orders.fulfil(order, None, "ship").await),
        Asked::TakeBack { restock, .. } => {
            let lines = vec![Units::new(&sku.name, units_known)];
            changed(orders.take_back(order, lines, restock, "back").await)
        }
        Asked::Look { .. } => held(stock.get_hold(hold).await),
        Asked::Extend { .. } => held(stock.extend_hold(hold, TTL_MS).await),
    }
}

fn item(outcome: Result<ItemView, StockError>) -> Result<Said, Failed> {
    match sorted(outcome)? {
        Ok(ItemView { total, .. }) => {
            Ok(Said::Levels(Levels(total.on_hand, total.held, total.allocated)))
        }
        Err(no) => stock_says_no(no),
    }
}

fn held(outcome: Result<Hold, StockError>) -> Result<Said, Failed> {
    match sorted(outcome)? {
        Ok(Hold { id, settled, shipped_at, .. }) => {
            let status = match settled {
                None => Status::Held,
                Some((HoldOutcome::Confirmed, _)) if shipped_at.is_some() => Status::Shipped,
                Some((HoldOutcome::Confirmed, _)) => Status::Allocated,
                Some(_) => Status::Freed,
            };
            Ok(Said::Claimed { id: id.0, status: Some(status) })
        }
        Err(no) => stock_says_no(no),
    }
}

fn changed(outcome: Result<tidegate::Order, tidegate::OrderError>) -> Result<Said, Failed> {
    sorted(outcome)?.map_or_else(order_says_no, |_| Ok(Said::Done))
}

fn stock_says_no(no: StockRejection) -> Result<Said, Failed> {
    match no {
        StockRejection::Refused(refusal) => refused(refusal),
        StockRejection::BelowCommitted { on_hand, committed, .. } => {
            Ok(Said::BelowCommitted { on_hand, committed })
        }
        StockRejection::BackorderInUse { in_use, .. } => Ok(Said::BackorderInUse(in_use)),
        StockRejection::HoldSettled { outcome: HoldOutcome::Confirmed, .. } => {
            Ok(Said::Settled(Status::Allocated))
        }
        StockRejection::HoldSettled { .. } => Ok(Said::Settled(Status::Freed)),
        StockRejection::HoldNotConfirmed { .. } => Ok(Said::NotConfirmed),
        other => Err(Failed::Wrong(other.to_string())),
    }
}

fn order_says_no(no: OrderRejection) -> Result<Said, Failed> {
    match no {
        OrderRejection::Refused(refusal) => refused(refusal),
        OrderRejection::WrongState { .. }
        | OrderRejection::AlreadyShipped { .. }
        | OrderRejection::TooMany { .. }
        | OrderRejection::ChangeUnderWay { .. } => Ok(Said::OrderRefuses),
        other => Err(Failed::Wrong(other.to_string())),
    }
}

fn refused(refusal: Refusal) -> Result<Said, Failed> {
    match refusal {
        Refusal::SoldOut { available, .. } => Ok(Said::SoldOut { available }),
        Refusal::LimitExceeded { already, .. } => Ok(Said::Limited { already }),
        Refusal::NotInStock { on_hand, .. } => Ok(Said::NotInStock { on_hand }),
        other => Err(Failed::Wrong(other.to_string())),
    }
}
