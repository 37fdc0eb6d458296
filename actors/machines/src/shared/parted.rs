//! A hash table in parts, and a map made of it. Clones share the parts; a part grows alone. It
//! deliberately has no order: what is written is written in the order of its keys.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use hashbrown::{HashTable, hash_table::Entry};
use serde::de::MapAccess;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use siphasher::sip::SipHasher13;
use triomphe::Arc;

/// A table this small is one part. Most are: nearly every item has few users. A larger one gets
/// more parts when they hold this many each: a part that a clone has too is copied as a whole when
/// it changes, and that must take no time that anybody notices.
const PART: usize = 256;
/// How many parts become of one.
const SPLIT: usize = 16;
/// The most parts, a power of [`SPLIT`]: with more, not even where they begin stays in a cache.
const PARTS_MAX: usize = SPLIT.pow(2);

/// A hash table of values that hold their keys. Who asks gives the hash.
#[derive(Clone)]
pub(crate) struct Parted<T> {
    parts: Vec<Arc<HashTable<T>>>,
    len: usize,
}

impl<T> Default for Parted<T> {
    fn default() -> Self {
        Self { parts: Vec::new(), len: 0 }
    }
}

/// The part of a hash among so many. The table below takes its lowest and highest bits.
///
/// A part gets between 3/4 and 3/2 of what it would if all got the same, the first the fewest. So
/// parts don't all grow at the same time: neither the time that takes nor the memory comes at once.
fn part_of(hash: u64, parts: usize) -> usize {
    const ONE: u64 = 1 << 16;
    let even = (hash >> 40) % ONE;
    let bent = even + even * (ONE - even) / (3 * ONE);
    (bent * parts as u64 / ONE) as usize
}

impl<T> Parted<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        let parts = self.parts.len();
        if parts == 0 {
            return None;
        }
        self.parts[part_of(hash, parts)].find(hash, is_it)
    }

    /// All of them, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.parts.iter().flat_map(|part| part.iter())
    }
}

impl<T: Clone> Parted<T> {
    pub(crate) fn get_mut(
        &mut self,
        hash: u64,
        mut is_it: impl FnMut(&T) -> bool,
    ) -> Option<&mut T> {
        let parts = self.parts.len();
        if parts == 0 {
            return None;
        }
        let part = &mut self.parts[part_of(hash, parts)];
        if !Arc::is_unique(part) {
            // Looked up first: what isn't there copies nothing.
            part.find(hash, &mut is_it)?;
        }
        Arc::make_mut(part).find_mut(hash, is_it)
    }

    /// The value that `is_it`, or the one that `make` makes.
    pub(crate) fn get_or_insert(
        &mut self,
        hash: u64,
        is_it: impl FnMut(&T) -> bool,
        make: impl FnOnce() -> T,
        hash_of: impl Fn(&T) -> u64,
    ) -> &mut T {
        match self.parts.len() {
            0 => self.parts.push(Arc::default()),
            parts if parts < PARTS_MAX && self.len >= parts * PART => self.split(&hash_of),
            _ => {}
        }
        let parts = self.parts.len();
        let part = Arc::make_mut(&mut self.parts[part_of(hash, parts)]);
        match part.entry(hash, is_it, hash_of) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(none) => {
                self.len += 1;
                none.insert(make()).into_mut()
            }
        }
    }

    pub(crate) fn remove(&mut self, hash: u64, mut is_it: impl FnMut(&T) -> bool) -> Option<T> {
        self.get(hash, &mut is_it)?;
        let parts = self.parts.len();
        let part = Arc::make_mut(&mut self.parts[part_of(hash, parts)]);
        let (value, _) = part.find_entry(hash, is_it).ok()?.remove();
        self.len -= 1;
        Some(value)
    }

    fn split(&mut self, hash_of: impl Fn(&T) -> u64) {
        let count = self.parts.len() * SPLIT;
        let mut parts: Vec<HashTable<T>> = Vec::new();
        parts.resize_with(count, HashTable::new);
        for value in self.iter() {
            let hash = hash_of(value);
            parts[part_of(hash, count)].insert_unique(hash, value.clone(), &hash_of);
        }
        self.parts = parts.into_iter().map(Arc::new).collect();
    }
}

/// Hashes what callers name, so that none of them can tell which hashes are alike.
#[derive(Clone)]
pub(crate) struct Secret(SipHasher13);

impl Default for Secret {
    fn default() -> Self {
        let random = RandomState::new();
        Self(SipHasher13::new_with_keys(random.hash_one(0), random.hash_one(1)))
    }
}

impl Secret {
    pub(crate) fn hash(&self, name: &impl AsRef<str>) -> u64 {
        self.0.hash(name.as_ref().as_bytes())
    }
}

/// A map of keys that callers name.
#[derive(Clone)]
pub(crate) struct PartedMap<K, V> {
    table: Parted<(K, V)>,
    secret: Secret,
}

impl<K, V> Default for PartedMap<K, V> {
    fn default() -> Self {
        Self { table: Parted::default(), secret: Secret::default() }
    }
}

impl<K, V> PartedMap<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// All of them, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.table.iter().map(|(key, value)| (key, value))
    }
}

impl<K: AsRef<str> + Eq, V> PartedMap<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let found = self.table.get(self.secret.hash(key), |(known, _)| known == key);
        found.map(|(_, value)| value)
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.get(key).is_some()
    }
}

impl<K: AsRef<str> + Eq + Clone, V: Clone> PartedMap<K, V> {
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let found = self.table.get_mut(self.secret.hash(key), |(known, _)| known == key);
        found.map(|(_, value)| value)
    }

    /// The value of `key`, or the one that `make` makes.
    pub(crate) fn get_or_insert(&mut self, key: &K, make: impl FnOnce() -> V) -> &mut V {
        let Self { table, secret } = self;
        let (_, value) = table.get_or_insert(
            secret.hash(key),
            |(known, _)| known == key,
            || (key.clone(), make()),
            |(known, _)| secret.hash(known),
        );
        value
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let removed = self.table.remove(self.secret.hash(key), |(known, _)| known == key);
        removed.map(|(_, value)| value)
    }
}

impl<K: AsRef<str> + Eq, V: PartialEq> PartialEq for PartedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|(key, value)| other.get(key) == Some(value))
    }
}

impl<K: AsRef<str> + Eq, V: Eq> Eq for PartedMap<K, V> {}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for PartedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Written in the order of its keys, so that equal maps have equal bytes.
impl<K: Serialize + Ord, V: Serialize> Serialize for PartedMap<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().collect::<BTreeMap<_, _>>())
    }
}

impl<'de, K, V> Deserialize<'de> for PartedMap<K, V>
where
    K: AsRef<str> + Eq + Clone + Deserialize<'de>,
    V: Clone + Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries(std::marker::PhantomData))
    }
}

struct Entries<K, V>(std::marker::PhantomData<fn() -> (K, V)>);

impl<'de, K, V> serde::de::Visitor<'de> for Entries<K, V>
where
    K: AsRef<str> + Eq + Clone + Deserialize<'de>,
    V: Clone + Deserialize<'de>,
{
    type Value = PartedMap<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map = PartedMap::default();
        while let Some((key, value)) = entries.next_entry::<K, V>()? {
            // As in any map, the last value of a key counts.
            map.remove(&key);
            map.get_or_insert(&key, || value);
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn every_part_gets_something_and_the_last_twice_as_much_as_the_first() {
        let mut shares = [0_u32; PARTS_MAX];
        (0..1 << 16).for_each(|bits: u64| shares[part_of(bits << 40, PARTS_MAX)] += 1);
        let mean = (1 << 16) / PARTS_MAX as u32;
        assert!(shares.iter().all(|share| (mean * 2 / 3..mean * 8 / 5).contains(share)));
        let (first, last): (u32, u32) = (shares[..16].iter().sum(), shares[240..].iter().sum());
        assert!((18..=20).contains(&(last * 10 / first)), "{first} and {last}");
        assert_eq!(part_of(u64::MAX, 1), 0);
    }

    #[test]
    fn a_parted_map_is_a_map_however_large_and_a_clone_stays_as_it_was() {
        let (mut map, mut model) = (PartedMap::<String, u64>::default(), HashMap::new());
        let mut clones = Vec::new();
        for step in 0..30_000_u64 {
            if [100, 1_000, 4_000, 20_000].contains(&step) {
                clones.push((map.clone(), model.clone()));
            }
            let key = (step * 7_919 % 9_973).to_string();
            if step % 5 == 4 {
                assert_eq!(map.remove(&key), model.remove(&key));
            } else {
                *map.get_or_insert(&key, || 0) += step;
                *model.entry(key).or_insert(0) += step;
            }
            let other = (step % 1_000).to_string();
            if let Some(value) = map.get_mut(&other) {
                *value += 1;
            }
            model.entry(other).and_modify(|value| *value += 1);
            assert_eq!(map.len(), model.len());
        }
        assert_eq!(map.table.parts.len(), PARTS_MAX, "it never grew");
        for (map, model) in clones.into_iter().chain([(map, model)]) {
            let found: HashMap<String, u64> =
                map.iter().map(|(key, value)| (key.clone(), *value)).collect();
            assert_eq!(found, model);
            assert!(model.iter().all(|(key, value)| map.get(key) == Some(value)));
            let config = bincode::config::standard();
            let bytes = bincode::serde::encode_to_vec(&map, config).unwrap();
            let (read, _) = bincode::serde::decode_from_slice(&bytes, config).unwrap();
            assert!(map == read);
        }
    }
}
