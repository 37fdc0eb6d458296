//! The sold-out board: what stock shards have durably found sold out, for fronts to read without
//! asking them. So that in a sale, where most orders are refused, a refusal costs no write.
//!
//! It may be late to say "sold out", never late to say "back": a place leaves the board before the
//! event that brings stock back is applied, and enters it only when the event that took the last
//! unit is on disk. It doesn't know how much is left.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use rustc_hash::{FxHashMap, FxHashSet};
use tidegate_machines::{Location, Refusal, Sku, Stock, StockEvent, Touch};
use tidegate_storage::Position;

use crate::sync::{AtomicUsize, ReadMostlyLock};

/// Places that are sold out, shared by all shards and fronts of a store.
#[derive(Default)]
pub struct Board {
    // Only SKUs that are defined are ever in it, so callers can't make up names that collide.
    places: ReadMostlyLock<FxHashMap<Sku, FxHashSet<Location>>>,
    /// How many SKUs are on it: on most days none, and then nobody takes the lock.
    skus: AtomicUsize,
}

impl Board {
    /// Whether nothing of `sku` is left at `location`, durably.
    #[must_use]
    pub fn is_sold_out(&self, sku: &Sku, location: &Location) -> bool {
        if self.skus.load(Ordering::Acquire) == 0 {
            return false;
        }
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        places.get(sku).is_some_and(|locations| locations.contains(location))
    }

    pub(crate) fn add(&self, sku: &Sku, location: &Location) {
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        places.entry(sku.clone()).or_default().insert(location.clone());
        self.skus.store(places.len(), Ordering::Release);
    }

    /// Takes `sku` off, at all locations if `location` is `None`.
    fn remove(&self, sku: &Sku, location: Option<&Location>) {
        if self.skus.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(locations) = places.get_mut(sku) {
            locations.retain(|known| location.is_some_and(|location| location != known));
            if locations.is_empty() {
                places.remove(sku);
            }
        }
        self.skus.store(places.len(), Ordering::Release);
    }
}

/// One stock shard's way to the board.
pub(crate) struct BoardWriter {
    board: Arc<Board>,
    /// Sold out by events of the present turn, which has no position yet.
    fresh: Vec<(Sku, Location)>,
    /// Sold out since this position, which is not known to be durable, and not touched since.
    pending: HashMap<(Sku, Location), Position>,
}

impl BoardWriter {
    pub(crate) fn new(board: Arc<Board>) -> Self {
        Self { board, fresh: Vec::new(), pending: HashMap::new() }
    }

    /// Before `event` is applied: what may come back leaves the board.
    pub(crate) fn applying(&mut self, stock: &Stock, event: &StockEvent) {
        stock.touched(event, &mut |sku, location, touch| {
            if touch == Touch::Raises {
                let other = |known: &(Sku, Location)| {
                    known.0 != *sku || location.is_some_and(|location| *location != known.1)
                };
                self.fresh.retain(other);
                self.pending.retain(|known, _| other(known));
                self.board.remove(sku, location);
            }
        });
    }

    /// After `event` is applied: notes what it has sold out, or found sold out.
    pub(crate) fn applied(&mut self, stock: &Stock, event: &StockEvent) {
        let fresh = &mut self.fresh;
        let mut note = |sku: &Sku, location: &Location| {
            // Other places than these, where there never was stock, could be made up without end.
            let is_place = stock.is_stocked(sku, location) || *location == Location::default();
            if is_place && stock.available(sku, location) == Some(0) {
                fresh.push((sku.clone(), location.clone()));
            }
        };
        if let StockEvent::OpRefused { refusal: Refusal::SoldOut { sku, location, .. }, .. } = event
        {
            note(sku, location);
        }
        stock.touched(event, &mut |sku, location, touch| {
            if let (Touch::Lowers, Some(location)) = (touch, location) {
                note(sku, location);
            }
        });
    }

    /// The present turn is in the journal up to `position`.
    pub(crate) fn journalled(&mut self, position: Position) {
        self.pending.extend(self.fresh.drain(..).map(|place| (place, position)));
    }

    /// Whether something waits to be on disk, to go on the board then.
    pub(crate) fn awaits(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Everything up to `durable` is on disk.
    pub(crate) fn durable(&mut self, durable: Position) {
        if self.pending.is_empty() {
            return;
        }
        for ((sku, location), _) in self.pending.extract_if(|_, position| *position <= durable) {
            self.board.add(&sku, &location);
        }
    }
}

/// Every order of events that loom can think of.
#[cfg(all(test, tidegate_loom))]
mod loom_tests {
    use super::*;

    #[test]
    fn loom_who_knows_that_stock_is_back_is_never_told_that_it_is_gone() {
        loom::model(|| {
            let (board, main) = (Arc::new(Board::default()), Location::default());
            let [mug, cup] = ["mug", "cup"].map(|name| Sku::new(name).unwrap());
            board.add(&mug, &main);
            let back = Arc::new(AtomicUsize::new(0));
            let writer = loom::thread::spawn({
                let (board, back) = (Arc::clone(&board), Arc::clone(&back));
                let (mug, main) = (mug.clone(), main.clone());
                move || {
                    board.remove(&mug, Some(&main));
                    back.store(1, Ordering::Release);
                }
            });
            // A place of another shard comes and stays.
            let other = loom::thread::spawn({
                let (board, cup, main) = (Arc::clone(&board), cup.clone(), main.clone());
                move || board.add(&cup, &main)
            });
            if back.load(Ordering::Acquire) == 1 {
                assert!(!board.is_sold_out(&mug, &main));
            }
            writer.join().unwrap();
            other.join().unwrap();
            assert!(!board.is_sold_out(&mug, &main));
            assert!(board.is_sold_out(&cup, &main), "a place of another shard was lost");
        });
    }
}
