//! What goes wrong: crashes, failing storage, panics, lost and repeated effects, clocks that jump.
//! It breaks only what a store must survive.

use std::{sync::atomic::Ordering, time::Duration};

use tidegate_storage::StorageError;

use super::{auditor::Verdict, fuse::Place, mail::SHARDS, world::World};

/// How far the wall clock may be moved ahead in a day: keys are remembered for 24 hours at least.
const JUMPED_MS_MAX: u64 = 18 * 3_600_000;

impl World {
    pub(super) fn fault(&mut self) -> Verdict {
        if self.store.is_broken() && self.random.per_mille(400) {
            self.crash();
            return Ok(());
        }
        match self.random.weighted(&[20, 12, 12, 2, 8, 6, 4, 8, 40, 6, 6, 3]) {
            0 => self.crash(),
            1 => self.light(Place::Applying, "fault: panic in a machine, unchanged"),
            2 => self.light(Place::Applied, "fault: panic in a machine, half changed"),
            3 => self.light(Place::Delivering, "fault: panic at delivery"),
            4 => {
                self.armed = true;
                self.figures.count("fault: sync failed");
                self.store.journal.fail_next_sync();
            }
            5 => {
                self.armed = true;
                self.figures.count("fault: append failed");
                let full = StorageError::Full { path: "memory".into() };
                self.store.journal.fail_next_append(full);
            }
            6 => {
                self.armed = true;
                self.figures.count("fault: flush of the state failed");
                self.store.state.fail_next_flush();
            }
            7 => self.cut(),
            8 => self.repeat(),
            9 => {
                let ms = self.random.between(1_000, 7_200_000);
                if self.jumped_ms + ms <= JUMPED_MS_MAX {
                    self.jumped_ms += ms;
                    self.wall.0.fetch_add(ms, Ordering::Relaxed);
                    self.figures.count("fault: clock jumped ahead");
                }
            }
            10 => {
                let ms = self.random.between(1_000, 3_600_000);
                self.wall.0.fetch_sub(ms, Ordering::Relaxed);
                self.figures.count("fault: clock jumped back");
            }
            _ => {
                self.since_start.increment(Duration::from_millis(31_000));
                self.figures.count("fault: half a minute passed");
            }
        }
        Ok(())
    }

    /// The process dies, and the store is opened again.
    pub(super) fn crash(&mut self) {
        let (unsynced, unflushed) = (self.store.journal.unsynced(), self.store.state.unflushed());
        let batches = if self.random.per_mille(400) { 0 } else { self.random.index(unsynced + 1) };
        let rows = if self.random.per_mille(400) { 0 } else { self.random.index(unflushed + 1) };
        let mail = self.store.stock.mail.lock().iter().any(|slot| slot.waits())
            || self.store.orders.mail.lock().iter().any(|slot| slot.waits());
        let seen = [
            (true, "crash"),
            (batches > 0, "crash: a beginning of the unsynced was kept"),
            (batches < unsynced, "crash: an end of the unsynced was lost"),
            (rows > 0, "crash: rows of the state were kept"),
            (rows < unflushed, "crash: rows of the state were lost"),
            (!self.sendings.is_empty(), "crash: answers were on their way"),
            (mail, "crash: effects were on their way"),
            (self.store.is_rebuilding(), "crash: shards were being rebuilt"),
        ];
        for (_, name) in seen.iter().filter(|(seen, _)| *seen) {
            self.figures.count(name);
        }
        self.note(|_| {
            format!("crash: {batches} of {unsynced} batches, {rows} of {unflushed} rows are left")
        });
        self.store = self.store.crash(batches, rows);
        self.armed = false;
    }

    /// Some shard, stock shards first.
    fn some_shard(&mut self) -> (bool, u16) {
        let (stock, orders) = (self.profile.stock_shards, self.profile.order_shards);
        let index = self.random.between(0, u64::from(stock + orders)) as u16;
        index.checked_sub(stock).map_or((true, index), |index| (false, index))
    }

    fn light(&mut self, place: Place, name: &'static str) {
        let (stock, index) = self.some_shard();
        let store = &self.store;
        let fuse = if stock { store.stock.fuse(index) } else { store.orders.fuse(index) };
        if !fuse.is_set() {
            fuse.set(place);
            self.figures.count(name);
            self.note(|_| format!("{name}: of stock: {stock}, shard {index}"));
            self.armed = true;
        }
    }

    /// One shard is not heard by one other any more, until it begins anew.
    fn cut(&mut self) {
        let (to_stock, to) = self.some_shard();
        let senders = if to_stock { self.profile.order_shards } else { self.profile.stock_shards };
        let from = self.random.between(0, u64::from(senders)) as u16;
        let lost = self.store.cut(to_stock, from, to);
        self.note(|_| format!("cut: {from} to {to}, to stock: {to_stock}, {lost} letters lost"));
        self.figures.count("fault: effects lost until the sender began anew");
    }

    fn repeat(&mut self) {
        let (to_stock, to) = self.some_shard();
        let senders = if to_stock { self.profile.order_shards } else { self.profile.stock_shards };
        let from = SHARDS + self.random.between(0, u64::from(senders)) as usize;
        let (store, random, to) = (&self.store, &mut self.random, usize::from(to));
        let repeated = if to_stock {
            store.stock.mail.lock()[to].repeat(from, random)
        } else {
            store.orders.mail.lock()[to].repeat(from, random)
        };
        if repeated {
            self.figures.count("fault: effect repeated");
        }
    }
}
