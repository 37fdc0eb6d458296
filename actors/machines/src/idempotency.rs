//! Which keys were used for what, with the outcome to give again. It deliberately forgets nothing
//! by itself: a machine's event says what is forgotten, and refusals are never remembered.

use std::fmt;

use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::shared::{Paged, Parted};
use crate::{Fingerprint, KeyHash, Timestamp, bounds::FORGET_EVERY_MS};

/// Idempotency keys with the outcome of the command that bound each.
///
/// A refused command binds nothing: its key may be used again. In a flash sale most commands are
/// refused; remembering them would cost a write each, and asking again can change nothing.
#[derive(Clone)]
pub struct Idempotency<R> {
    // Every binding by its number. Stamps never go backwards, so this is the order of time too.
    bound: Paged<u64, Bound<R>>,
    by_key: Parted<Entry>,
    // The oldest binding has this number; if there is none, the next one will.
    oldest: u64,
    next: u64,
}

// A key that is bound, with the number of its binding. A part of the key is kept here, so that the
// table can grow without a look at the bindings. Packed, because there are very many.
#[repr(Rust, packed(4))]
#[derive(Clone, Copy)]
struct Entry {
    number: u64,
    mark: u32,
}

#[derive(Clone, Debug)]
struct Bound<R> {
    key: KeyHash,
    binding: Binding<R>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Binding<R> {
    fingerprint: Fingerprint,
    outcome: R,
    at: Timestamp,
}

// Keys are hashes themselves, made with a secret: a part of one is as good.
fn mark(key: KeyHash) -> u32 {
    key.0 as u32
}

// The bits of a mark, spread over those that the table looks at.
fn hash(mark: u32) -> u64 {
    u64::from(mark).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

// The binding of `entry`, if that is the one of `key`.
fn of<'a, R>(bound: &'a Paged<u64, Bound<R>>, entry: &Entry, key: KeyHash) -> Option<&'a Bound<R>> {
    let bound = (entry.mark == mark(key)).then(|| bound.get(entry.number))?;
    bound.filter(|bound| bound.key == key)
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

/// Equal if the same keys are bound to the same, whatever was bound and freed before.
impl<R: PartialEq> PartialEq for Idempotency<R> {
    fn eq(&self, other: &Self) -> bool {
        let same = |bound: &Bound<R>| {
            other.find(bound.key).is_some_and(|other| other.binding == bound.binding)
        };
        self.len() == other.len() && self.bound.values().all(same)
    }
}

impl<R: Eq> Eq for Idempotency<R> {}

impl<R: fmt::Debug> fmt::Debug for Idempotency<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.bound.iter()).finish()
    }
}

impl<R> Default for Idempotency<R> {
    fn default() -> Self {
        Self { bound: Paged::default(), by_key: Parted::default(), oldest: 0, next: 0 }
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
        match self.find(key).map(|bound| &bound.binding) {
            None => Ok(None),
            Some(known) if known.fingerprint == fingerprint => Ok(Some(&known.outcome)),
            Some(_) => Err(IdempotencyError::Conflict),
        }
    }

    fn find(&self, key: KeyHash) -> Option<&Bound<R>> {
        let mut found = None;
        self.by_key.get(hash(mark(key)), |entry| {
            found = of(&self.bound, entry, key);
            found.is_some()
        })?;
        found
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

    /// The keys that are bound, and when each was, oldest first.
    pub fn keys(&self) -> impl Iterator<Item = (KeyHash, Timestamp)> {
        self.bound.iter().map(|(_, bound)| (bound.key, bound.binding.at))
    }

    /// When the oldest key was bound.
    #[must_use]
    pub fn oldest(&self) -> Option<Timestamp> {
        self.bound.get(self.oldest).map(|bound| bound.binding.at)
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

impl<R: Clone> Idempotency<R> {
    /// Binds `key`.
    pub fn bind(&mut self, key: KeyHash, fingerprint: Fingerprint, at: Timestamp, outcome: R) {
        let Self { bound, by_key, next, .. } = self;
        let new = Entry { number: *next, mark: mark(key) };
        *next += 1;
        let is_it = |entry: &Entry| of(bound, entry, key).is_some();
        let hash_of = |entry: &Entry| hash(entry.mark);
        let entry = by_key.get_or_insert(hash(new.mark), is_it, || new, hash_of);
        let before = std::mem::replace(entry, new);
        if before.number != new.number {
            // What a key was bound to before, it is bound to no more.
            bound.remove(before.number);
        }
        bound.insert(new.number, Bound { key, binding: Binding { fingerprint, outcome, at } });
        if before.number == self.oldest {
            self.pass_freed();
        }
    }

    /// A copy that is good for being written only: it finds no key. While it is there, a change
    /// copies nothing for it but the newest bindings.
    pub(crate) fn image(&self) -> Self {
        let Self { bound, oldest, next, .. } = self;
        Self { bound: bound.clone(), by_key: Parted::default(), oldest: *oldest, next: *next }
    }

    /// Frees `key`, because what bound it was refused after all.
    pub fn unbind(&mut self, key: KeyHash) {
        let is_it = |entry: &Entry| of(&self.bound, entry, key).is_some();
        if let Some(entry) = self.by_key.remove(hash(mark(key)), is_it) {
            self.bound.remove(entry.number);
            self.pass_freed();
        }
    }

    /// Forgets the keys that were bound before `cutoff`.
    pub fn forget_before(&mut self, cutoff: Timestamp) {
        while self.oldest().is_some_and(|at| at < cutoff) {
            let (number, forgotten) = (self.oldest, self.bound.remove(self.oldest));
            let mark = forgotten.map(|bound| mark(bound.key)).unwrap_or_default();
            self.by_key.remove(hash(mark), |entry| entry.number == number);
            self.pass_freed();
        }
    }

    // The oldest binding may have gone: moves on to the one that is the oldest now.
    fn pass_freed(&mut self) {
        while self.oldest < self.next && !self.bound.contains(self.oldest) {
            self.oldest += 1;
        }
    }
}

// Written in the order in which the keys were bound, so that equal memories have equal bytes.
impl<R: Serialize> Serialize for Idempotency<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = serializer.serialize_seq(Some(self.len()))?;
        for (_, bound) in self.bound.iter() {
            all.serialize_element(&(bound.key, &bound.binding))?;
        }
        all.end()
    }
}

impl<'de, R: Clone + Deserialize<'de>> Deserialize<'de> for Idempotency<R> {
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
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_bound_is_what_a_plain_list_says(
            steps in prop::collection::vec((0..4u8, 0..40u128), 1..300),
        ) {
            let (mut memory, mut model) = (Idempotency::default(), Vec::<(u128, u64)>::new());
            for (at, (what, number)) in (0..).zip(steps) {
                let key = KeyHash(number << 64 | number);
                match what {
                    0 | 1 => {
                        model.retain(|(known, _)| *known != number);
                        model.push((number, at));
                        memory.bind(key, Fingerprint(0), Timestamp(at), number);
                    }
                    2 => {
                        model.retain(|(known, _)| *known != number);
                        memory.unbind(key);
                    }
                    _ => {
                        let cutoff = at.saturating_sub(number as u64);
                        model.retain(|(_, at)| *at >= cutoff);
                        memory.forget_before(Timestamp(cutoff));
                    }
                }
                for number in 0..40 {
                    let key = KeyHash(number << 64 | number);
                    let known = model.iter().find(|(known, _)| *known == number);
                    let expected = Ok(known.map(|(number, _)| number));
                    prop_assert_eq!(memory.look_up(key, Fingerprint(0)), expected);
                }
                prop_assert_eq!(memory.len(), model.len());
                prop_assert_eq!(memory.oldest(), model.first().map(|(_, at)| Timestamp(*at)));
            }
            let mut fresh = Idempotency::default();
            for (number, at) in model {
                fresh.bind(KeyHash(number << 64 | number), Fingerprint(0), Timestamp(at), number);
            }
            prop_assert!(memory == fresh);
            let bytes = |memory: &Idempotency<u128>| {
                bincode::serde::encode_to_vec(memory, bincode::config::standard()).unwrap()
            };
            prop_assert_eq!(bytes(&memory), bytes(&fresh), "equal memories have equal bytes");
        }
    }

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
