//! Which keys were used for what, with the outcome to give again. It deliberately forgets nothing
//! by itself: a machine's event says what is forgotten, and refusals are never remembered.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::{Fingerprint, KeyHash, Timestamp, bounds::FORGET_EVERY_MS};

/// Entries of freed keys that are not worth a clean-up.
const FREED_ENTRIES_MIN: usize = 64;

/// Idempotency keys with the outcome of the command that bound each.
///
/// A refused command binds nothing: its key may be used again. In a flash sale most commands are
/// refused; remembering them would cost a write each, and asking again can change nothing.
#[derive(Clone, Debug)]
pub struct Idempotency<R> {
    // The keys are hashes already, made with a secret.
    bound: FxHashMap<KeyHash, (u64, Binding<R>)>,
    // Every binding ever made that is not forgotten yet, oldest first, with its number. Stamps
    // never go backwards, so this is the order of time too. A key that was freed leaves its entry
    // behind until its time comes; the number tells it from a later binding of the same key.
    in_order: VecDeque<(u64, Timestamp, KeyHash)>,
    next: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Binding<R> {
    fingerprint: Fingerprint,
    outcome: R,
    at: Timestamp,
}

/// Why a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdempotencyError {
    /// The key was used for another request.
    #[error("the idempotency key was already used for a different request")]
    Conflict,
    /// No further key can be remembered; forgetting one early would weaken every promise made.
    #[error("{keys_max} idempotency keys are remembered, the most that may be; try again later")]
    MemoryFull {
        /// Most keys remembered.
        keys_max: usize,
    },
}

/// Equal if the same keys are bound to the same; entries of freed keys don't count.
impl<R: PartialEq> PartialEq for Idempotency<R> {
    fn eq(&self, other: &Self) -> bool {
        let binding = |key| other.bound.get(key).map(|(_, binding)| binding);
        self.bound.len() == other.bound.len()
            && self.bound.iter().all(|(key, (_, bound))| binding(key) == Some(bound))
    }
}

impl<R: Eq> Eq for Idempotency<R> {}

impl<R> Default for Idempotency<R> {
    fn default() -> Self {
        Self { bound: FxHashMap::default(), in_order: VecDeque::new(), next: 0 }
    }
}

impl<R> Idempotency<R> {
    /// The outcome that `key` is bound to, `None` if it is free.
    ///
    /// # Errors
    /// If it is bound for another request.
    pub fn look_up(
        &self,
        key: KeyHash,
        fingerprint: Fingerprint,
    ) -> Result<Option<&R>, IdempotencyError> {
        match self.bound.get(&key) {
            None => Ok(None),
            Some((_, known)) if known.fingerprint == fingerprint => Ok(Some(&known.outcome)),
            Some(_) => Err(IdempotencyError::Conflict),
        }
    }

    /// Checks that one more key can be bound.
    ///
    /// # Errors
    /// If `keys_max` are bound. What is older than the retention is forgotten by the machine's
    /// tick, which the shell runs before it decides.
    pub fn check_room(&self, keys_max: usize) -> Result<(), IdempotencyError> {
        if self.bound.len() < keys_max {
            return Ok(());
        }
        Err(IdempotencyError::MemoryFull { keys_max })
    }

    /// The time before which keys may be forgotten, if the `oldest` of what goes with them is old
    /// enough to be worth an event: `retention_ms` and a little, or no more if no key has room.
    #[must_use]
    pub fn cutoff(
        &self,
        oldest: Timestamp,
        now: Timestamp,
        retention_ms: u64,
        keys_max: usize,
    ) -> Option<Timestamp> {
        let slack_ms = if self.check_room(keys_max).is_ok() { FORGET_EVERY_MS } else { 0 };
        let cutoff = Timestamp(now.0.saturating_sub(retention_ms));
        (oldest.plus_ms(slack_ms) < cutoff).then_some(cutoff)
    }

    /// Binds `key`.
    pub fn bind(&mut self, key: KeyHash, fingerprint: Fingerprint, at: Timestamp, outcome: R) {
        self.bound.insert(key, (self.next, Binding { fingerprint, outcome, at }));
        self.in_order.push_back((self.next, at, key));
        self.next += 1;
    }

    /// Frees `key`, because what bound it was refused after all.
    pub fn unbind(&mut self, key: KeyHash) {
        self.bound.remove(&key);
        // So that what is freed, however much, never takes more room than what is bound.
        if self.in_order.len() > 2 * self.bound.len() + FREED_ENTRIES_MIN {
            let bound = &self.bound;
            self.in_order.retain(|entry| is_current(bound, entry));
        }
    }

    /// The keys that are bound, and when each was, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = (KeyHash, Timestamp)> {
        self.bound.iter().map(|(key, (_, binding))| (*key, binding.at))
    }

    /// When the oldest key was bound.
    #[must_use]
    pub fn oldest(&self) -> Option<Timestamp> {
        self.in_order.front().map(|(_, at, _)| *at)
    }

    /// Forgets the keys that were bound before `cutoff`.
    pub fn forget_before(&mut self, cutoff: Timestamp) {
        while let Some(entry) = self.in_order.pop_front_if(|(_, at, _)| *at < cutoff) {
            if is_current(&self.bound, &entry) {
                self.bound.remove(&entry.2);
            }
        }
    }

    /// How many keys are bound.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bound.len()
    }

    /// Whether no key is bound.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bound.is_empty()
    }
}

/// Whether this entry is the one that its key is bound by.
fn is_current<R>(
    bound: &FxHashMap<KeyHash, (u64, Binding<R>)>,
    (number, _, key): &(u64, Timestamp, KeyHash),
) -> bool {
    bound.get(key).is_some_and(|(current, _)| current == number)
}

// Written in the order in which the keys were bound, so that equal memories have equal bytes.
impl<R: Serialize> Serialize for Idempotency<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let current = self.in_order.iter().filter(|entry| is_current(&self.bound, entry));
        let bound: Vec<_> =
            current.filter_map(|(_, _, key)| Some((key, &self.bound.get(key)?.1))).collect();
        bound.serialize(serializer)
    }
}

impl<'de, R: Deserialize<'de>> Deserialize<'de> for Idempotency<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = Vec::<(KeyHash, Binding<R>)>::deserialize(deserializer)?;
        let mut memory = Self::default();
        for (key, Binding { fingerprint, outcome, at }) in entries {
            memory.bind(key, fingerprint, at, outcome);
        }
        Ok(memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_bound_freed_and_forgotten() {
        let mut memory = Idempotency::default();
        for number in 1..=3 {
            memory.bind(KeyHash(number), Fingerprint(0), Timestamp(number as u64), number);
        }
        assert_eq!(memory.look_up(KeyHash(2), Fingerprint(0)), Ok(Some(&2)));
        let conflict = Err(IdempotencyError::Conflict);
        assert_eq!(memory.look_up(KeyHash(2), Fingerprint(1)), conflict);
        memory.unbind(KeyHash(2));
        assert_eq!(memory.look_up(KeyHash(2), Fingerprint(1)), Ok(None));
        memory.forget_before(Timestamp(3));
        assert_eq!(memory.look_up(KeyHash(1), Fingerprint(0)), Ok(None));
        assert_eq!(memory.oldest(), Some(Timestamp(3)));
        assert!(memory.check_room(2).is_ok() && memory.check_room(1).is_err());
    }

    #[test]
    fn no_key_is_forgotten_before_its_time() {
        let mut memory = Idempotency::default();
        for number in 0..1_000 {
            memory.bind(KeyHash(number), Fingerprint(0), Timestamp(number as u64), number);
        }
        memory.forget_before(Timestamp(100));
        for number in 100..1_000 {
            assert_eq!(memory.look_up(KeyHash(number), Fingerprint(0)), Ok(Some(&number)));
        }
    }
}
