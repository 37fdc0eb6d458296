//! Which idempotency keys an order shard may know: those that are bound there and those on their
//! way to it, for fronts to ask without asking the shard. A key that it doesn't have is certainly
//! new. It has some keys too many, and never says what a key is bound to: the shard does. Until
//! the shard is rebuilt for the first time and has told its keys, every key may be known.
//!
//! It is a Bloom filter in generations. A key is noted **before** its command is left for the
//! shard, and by the shard before it binds it. A generation that is full closes, and goes when the
//! shard has forgotten, durably, every key that was bound until then. So no key that is bound can
//! fall out, whatever clocks do: the shard says when, and no clock does.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    thread::{self, JoinHandle},
};

use crossbeam_utils::CachePadded;
use tidegate_machines::{KeyHash, OrderEvent, Orders, Timestamp};
use tidegate_storage::Position;

use crate::sync::{AtomicBool, AtomicU64, ReadMostlyLock};

/// Bits for each key. With them about one new key of a hundred is taken for a known one.
const BITS_PER_KEY: u64 = 16;

/// Keys of the first generation, which takes 128 KiB.
const KEYS_FIRST: u64 = 1 << 16;

/// How much larger each generation is than the one before it, until one has room for all.
const GROWTH: u64 = 4;

/// A generation of so many keys, which takes 2 MiB, is made by a thread of its own, ahead of time.
const KEYS_AHEAD: u64 = 1 << 20;

/// The keys that one order shard may know, shared with all fronts. It begins with 128 KiB and grows
/// with the keys, to 4 bytes for each that the shard may remember: 32 MB with 8 million. Beyond
/// that it takes more and more new keys for known ones.
pub struct KnownKeys {
    /// Oldest first; the last one is open.
    generations: ReadMostlyLock<Vec<Generation>>,
    keys_max: u64,
    /// Whether it has the keys that the shard was rebuilt with.
    whole: AtomicBool,
}

struct Generation {
    /// A key sets four bits of one word: one step of one thread, so no key is ever there by half.
    words: Box<[AtomicU64]>,
    /// How many keys it has taken. Apart, for it changes while others only read.
    taken: CachePadded<AtomicU64>,
    /// No key was bound later than this while it was open.
    closed: Option<Timestamp>,
}

impl KnownKeys {
    /// Of a shard that remembers up to `keys_max` keys.
    #[must_use]
    pub fn new(keys_max: usize) -> Self {
        let keys_max = (keys_max as u64).max(KEYS_FIRST);
        let generations = ReadMostlyLock::new(vec![Generation::new(KEYS_FIRST)]);
        Self { generations, keys_max, whole: AtomicBool::new(false) }
    }

    /// Notes a key that may become known to the shard. Before its command is on its way.
    pub fn note(&self, key: KeyHash) {
        let generations = self.generations.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = generations.last() {
            open.note(key);
        }
    }

    /// Whether the shard may know `key`. If not, it was never bound, or was forgotten.
    #[must_use]
    pub fn may_know(&self, key: KeyHash) -> bool {
        if !self.whole.load(Ordering::Acquire) {
            return true;
        }
        let generations = self.generations.read().unwrap_or_else(PoisonError::into_inner);
        generations.iter().rev().any(|generation| generation.may_have(key))
    }

    /// The size of the generation to open after the present one, if that is half full at least, and
    /// whether it is full.
    fn next(&self) -> Option<(u64, bool)> {
        let generations = self.generations.read().unwrap_or_else(PoisonError::into_inner);
        let open = generations.last().filter(|open| open.taken() >= open.room() / 2)?;
        let next = open.room().saturating_mul(GROWTH).min(self.keys_max);
        let all: u64 = generations.iter().map(Generation::room).sum();
        let full = open.taken() >= open.room();
        (all + next <= self.keys_max.saturating_mul(2)).then_some((next, full))
    }

    /// Closes the present generation, which is full: nothing is bound in it after `newest`. By the
    /// shard only, which binds.
    fn open(&self, next: Generation, newest: Timestamp) {
        let mut generations = self.generations.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = generations.last_mut() {
            open.closed = Some(newest);
        }
        generations.push(next);
    }

    /// The shard has forgotten, durably, every key that was bound before `cutoff`.
    fn forget_before(&self, cutoff: Timestamp) {
        let goes = |generation: &Generation| generation.closed.is_some_and(|at| at < cutoff);
        let generations = self.generations.read().unwrap_or_else(PoisonError::into_inner);
        let any = generations.iter().any(goes);
        drop(generations);
        if any {
            let mut generations = self.generations.write().unwrap_or_else(PoisonError::into_inner);
            generations.retain(|generation| !goes(generation));
        }
    }
}

impl Generation {
    fn new(keys: u64) -> Self {
        let words = (keys * BITS_PER_KEY).div_ceil(64);
        let words = (0..words).map(|_| AtomicU64::new(0)).collect();
        Self { words, taken: CachePadded::new(AtomicU64::new(0)), closed: None }
    }

    /// The keys that it is made for.
    fn room(&self) -> u64 {
        self.words.len() as u64 * 64 / BITS_PER_KEY
    }

    fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// The word of a key, and its bits there. Which shard a key leads to is in its upper half.
    fn place(&self, key: KeyHash) -> (&AtomicU64, u64) {
        let hash = key.0 as u64;
        let word = (u128::from(hash) * self.words.len() as u128) >> 64;
        let bits = [0, 6, 12, 18].map(|from| 1 << (hash >> from & 63));
        (&self.words[word as usize], bits.iter().fold(0, |all, bit| all | bit))
    }

    fn note(&self, key: KeyHash) {
        let (word, bits) = self.place(key);
        // Looked at first: mostly the caller has noted what the shard notes.
        let new = word.load(Ordering::Relaxed) & bits != bits
            && word.fetch_or(bits, Ordering::Release) & bits != bits;
        if new {
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn may_have(&self, key: KeyHash) -> bool {
        let (word, bits) = self.place(key);
        word.load(Ordering::Acquire) & bits == bits
    }
}

/// One order shard's way to the keys that it may know.
pub(crate) struct KnownWriter {
    known: Arc<KnownKeys>,
    /// When the newest key was bound.
    newest: Timestamp,
    /// The generation after the present one, if that is large: clearing its memory takes time.
    ahead: Option<JoinHandle<Generation>>,
    /// Keys bound before this are forgotten, by events that have no position yet.
    fresh: Option<Timestamp>,
    /// And by events up to this position, which is not known to be durable.
    pending: Option<(Position, Timestamp)>,
}

impl KnownWriter {
    pub(crate) fn new(known: Arc<KnownKeys>) -> Self {
        Self { known, newest: Timestamp(0), ahead: None, fresh: None, pending: None }
    }

    /// The shard is rebuilt, and has decided nothing yet.
    pub(crate) fn restored(&mut self, orders: &Orders) {
        let newest = orders.keys().map(|(_, at)| at).max();
        self.newest = self.newest.max(newest.unwrap_or(Timestamp(0)));
        for (key, at) in orders.keys() {
            self.bind(key, at);
        }
        self.known.whole.store(true, Ordering::Release);
    }

    /// Before `event` is applied: notes the key that it binds.
    pub(crate) fn applying(&mut self, event: &OrderEvent) {
        if let OrderEvent::Placed(placed) | OrderEvent::Enqueued { placed, .. } = event.bare() {
            self.bind(placed.key, placed.at);
        }
    }

    /// After `event` is applied: notes what is forgotten.
    pub(crate) fn applied(&mut self, event: &OrderEvent) {
        if let OrderEvent::Ticked { forget_before: Some(cutoff), .. } = event.bare() {
            self.fresh = Some(*cutoff);
        }
    }

    /// The present turn is in the journal up to `position`.
    pub(crate) fn journalled(&mut self, position: Position) {
        if let Some(cutoff) = self.fresh.take() {
            self.pending = Some((position, cutoff));
        }
    }

    /// Whether something waits to be on disk, for a generation to go then.
    pub(crate) fn awaits(&self) -> bool {
        self.pending.is_some()
    }

    /// Everything up to `durable` is on disk.
    pub(crate) fn durable(&mut self, durable: Position) {
        if let Some((_, cutoff)) = self.pending.take_if(|(position, _)| *position <= durable) {
            self.known.forget_before(cutoff);
        }
    }

    fn bind(&mut self, key: KeyHash, at: Timestamp) {
        self.newest = self.newest.max(at);
        self.make_room();
        self.known.note(key);
    }

    fn make_room(&mut self) {
        match self.known.next() {
            Some((next, true)) => {
                let made = self.ahead.take().and_then(|ahead| ahead.join().ok());
                let made = made.unwrap_or_else(|| Generation::new(next));
                self.known.open(made, self.newest);
            }
            Some((next, false)) if next >= KEYS_AHEAD && self.ahead.is_none() => {
                let thread = thread::Builder::new().name("tidegate-keys".into());
                // Without a thread, it is made when it is needed.
                self.ahead = thread.spawn(move || Generation::new(next)).ok();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;

/// Every order of events that loom can think of.
#[cfg(all(test, tidegate_loom))]
mod loom_tests {
    use super::*;
    use crate::board::Board;
    use tidegate_machines::{Location, Sku};

    /// Of one word, so that loom has few steps to try.
    fn small() -> Arc<KnownKeys> {
        let generations = ReadMostlyLock::new(vec![Generation::new(4)]);
        Arc::new(KnownKeys { generations, keys_max: 16, whole: AtomicBool::new(true) })
    }

    #[test]
    fn loom_no_note_is_lost_to_another_or_to_a_generation_that_closes() {
        loom::model(|| {
            let known = small();
            let [one, other] = [KeyHash(1), KeyHash(2)];
            let caller = loom::thread::spawn({
                let known = Arc::clone(&known);
                move || known.note(one)
            });
            let shard = loom::thread::spawn({
                let known = Arc::clone(&known);
                move || {
                    known.generations.read().unwrap()[0].taken.store(4, Ordering::Relaxed);
                    // The count may be an older one: then there is room for now.
                    if let Some((next, _)) = known.next() {
                        known.open(Generation::new(next), Timestamp(5));
                    }
                    known.note(other);
                    // Nothing that was bound until 5 is forgotten yet.
                    known.forget_before(Timestamp(5));
                }
            });
            caller.join().unwrap();
            shard.join().unwrap();
            assert!(known.may_know(one) && known.may_know(other));
        });
    }

    /// Who reads that stock is gone, and then that his key is new, was not the one who took it.
    #[test]
    fn loom_who_took_the_last_unit_is_known_before_the_board_says_so() {
        loom::model(|| {
            let (known, board) = (small(), Arc::new(Board::default()));
            let (mug, main, key) = (Sku::new("mug").unwrap(), Location::default(), KeyHash(1));
            let first = loom::thread::spawn({
                let (known, board) = (Arc::clone(&known), Arc::clone(&board));
                let (mug, main) = (mug.clone(), main.clone());
                move || {
                    known.note(key);
                    // Through fronts, shards and the disk.
                    board.add(&mug, &main);
                }
            });
            if board.is_sold_out(&mug, &main) {
                assert!(known.may_know(key), "a new key, says the front, and refuses its order");
            }
            first.join().unwrap();
        });
    }
}
