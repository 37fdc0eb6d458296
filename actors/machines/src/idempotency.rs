//! Which keys were used for what, with the outcome to give again. It deliberately forgets nothing
//! by itself: a machine's event says what is forgotten, and refusals are never remembered.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::{Fingerprint, KeyHash, Timestamp};

/// Idempotency keys with the outcome of the command that bound each.
///
/// A refused command binds nothing: its key may be used again. In a flash sale most commands are
/// refused; remembering them would cost a write each, and asking again can change nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency<R> {
    bound: HashMap<KeyHash, Binding<R>>,
    by_time: BTreeSet<(Timestamp, KeyHash)>,
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

impl<R> Default for Idempotency<R> {
    fn default() -> Self {
        Self { bound: HashMap::new(), by_time: BTreeSet::new() }
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
            Some(binding) if binding.fingerprint == fingerprint => Ok(Some(&binding.outcome)),
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

    /// Binds `key`.
    pub fn bind(&mut self, key: KeyHash, fingerprint: Fingerprint, at: Timestamp, outcome: R) {
        self.unbind(key);
        self.bound.insert(key, Binding { fingerprint, outcome, at });
        self.by_time.insert((at, key));
    }

    /// Frees `key`, because what bound it was refused after all.
    pub fn unbind(&mut self, key: KeyHash) {
        if let Some(binding) = self.bound.remove(&key) {
            self.by_time.remove(&(binding.at, key));
        }
    }

    /// When the oldest key was bound.
    #[must_use]
    pub fn oldest(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Forgets the keys that were bound before `cutoff`.
    pub fn forget_before(&mut self, cutoff: Timestamp) {
        while let Some((at, key)) = self.by_time.first().copied() {
            if at >= cutoff {
                break;
            }
            self.by_time.pop_first();
            self.bound.remove(&key);
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

// Kept in the order of time, so that equal memories have equal bytes; the second index is rebuilt.
impl<R: Serialize> Serialize for Idempotency<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.by_time.iter().map(|(_, key)| (key, self.bound.get(key))))
    }
}

impl<'de, R: Deserialize<'de>> Deserialize<'de> for Idempotency<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = Vec::<(KeyHash, Option<Binding<R>>)>::deserialize(deserializer)?;
        let mut memory = Self::default();
        for (key, binding) in entries {
            if let Some(Binding { fingerprint, outcome, at }) = binding {
                memory.bind(key, fingerprint, at, outcome);
            }
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
}
