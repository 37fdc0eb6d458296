//! A map for what is numbered as it comes: neighbours lie together in pages. It deliberately keeps
//! no room for numbers that are not there.

use std::{fmt, marker::PhantomData};

use rustc_hash::FxHashMap;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use triomphe::Arc;

/// Numbers of one page. A page is copied when it changes while a clone of the map has it too.
const PAGE: u64 = 128;

/// What a [`Paged`] has its values under.
pub(crate) trait Number: Copy {
    fn number(self) -> u64;

    fn of(number: u64) -> Self;
}

impl Number for u64 {
    fn number(self) -> u64 {
        self
    }

    fn of(number: u64) -> Self {
        number
    }
}

/// See the module. Equal if the same numbers have the same values.
pub(crate) struct Paged<K, V> {
    pages: FxHashMap<u64, Arc<Page<V>>>,
    len: usize,
    keys: PhantomData<fn() -> K>,
}

#[derive(Clone, PartialEq, Eq)]
struct Page<V> {
    /// A bit for each number that is there, and the values in the order of the bits.
    present: u128,
    values: Vec<V>,
}

impl<V> Page<V> {
    fn empty() -> Self {
        Self { present: 0, values: Vec::new() }
    }

    fn has(&self, bit: u32) -> bool {
        self.present >> bit & 1 == 1
    }

    /// Where the value of a number is, or would be.
    fn rank(&self, bit: u32) -> usize {
        let below = (1 << bit) - 1;
        if self.present & below == below {
            // Nearly always; and counting takes long where processors can't be asked to.
            return bit as usize;
        }
        (self.present & below).count_ones() as usize
    }

    fn get(&self, bit: u32) -> Option<&V> {
        self.has(bit).then(|| &self.values[self.rank(bit)])
    }

    fn insert(&mut self, bit: u32, value: V) -> Option<V> {
        let rank = self.rank(bit);
        if self.has(bit) {
            return Some(std::mem::replace(&mut self.values[rank], value));
        }
        if rank == self.values.len() {
            // Nearly always.
            self.values.push(value);
        } else {
            self.values.insert(rank, value);
        }
        self.present |= 1 << bit;
        None
    }

    fn remove(&mut self, bit: u32) -> Option<V> {
        if !self.has(bit) {
            return None;
        }
        let removed = self.values.remove(self.rank(bit));
        self.present &= !(1 << bit);
        if self.values.len() <= self.values.capacity() / 4 {
            // What few are left must not keep the room of all that were there.
            self.values.shrink_to(2 * self.values.len());
        }
        Some(removed)
    }

    /// The bits of the numbers that are there, in order.
    fn bits(&self) -> impl Iterator<Item = u32> + use<V> {
        let present = self.present;
        (0..PAGE as u32).filter(move |bit| present >> bit & 1 == 1)
    }
}

/// The page of a number, and its bit there.
fn place(number: u64) -> (u64, u32) {
    (number / PAGE, (number % PAGE) as u32)
}

impl<K, V> Default for Paged<K, V> {
    fn default() -> Self {
        Self { pages: FxHashMap::default(), len: 0, keys: PhantomData }
    }
}

impl<K, V> Clone for Paged<K, V> {
    fn clone(&self) -> Self {
        Self { pages: self.pages.clone(), len: self.len, keys: PhantomData }
    }
}

impl<K, V: PartialEq> PartialEq for Paged<K, V> {
    fn eq(&self, other: &Self) -> bool {
        // No page is empty, so the same pages have the same numbers.
        self.pages == other.pages
    }
}

impl<K, V: Eq> Eq for Paged<K, V> {}

impl<K: Number + fmt::Debug, V: fmt::Debug> fmt::Debug for Paged<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Number, V> Paged<K, V> {
    pub(crate) fn get(&self, key: K) -> Option<&V> {
        let (page, bit) = place(key.number());
        self.pages.get(&page)?.get(bit)
    }

    pub(crate) fn contains(&self, key: K) -> bool {
        self.get(key).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them, in the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        let mut pages: Vec<_> = self.pages.iter().collect();
        pages.sort_unstable_by_key(|(page, _)| **page);
        pages.into_iter().flat_map(|(number, page)| {
            let keys = page.bits().map(move |bit| K::of(number * PAGE + u64::from(bit)));
            keys.zip(&page.values)
        })
    }

    /// All of them, in no particular order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.pages.values().flat_map(|page| &page.values)
    }
}

impl<K: Number, V: Clone> Paged<K, V> {
    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        let (page, bit) = place(key.number());
        let page = self.pages.get_mut(&page).filter(|page| page.has(bit))?;
        let rank = page.rank(bit);
        Arc::make_mut(page).values.get_mut(rank)
    }

    /// Puts `value` there; gives what was there before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (page, bit) = place(key.number());
        let before = match self.pages.get_mut(&page) {
            Some(page) => Arc::make_mut(page).insert(bit, value),
            None => {
                let mut fresh = Page::empty();
                fresh.insert(bit, value);
                self.pages.insert(page, Arc::new(fresh));
                None
            }
        };
        self.len += usize::from(before.is_none());
        before
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        let (number, bit) = place(key.number());
        let page = self.pages.get_mut(&number).filter(|page| page.has(bit))?;
        self.len -= 1;
        let page = Arc::make_mut(page);
        let removed = page.remove(bit);
        if page.values.is_empty() {
            self.pages.remove(&number);
        }
        removed
    }
}

/// Written like any map, in the order of its numbers, so that equal maps have equal bytes.
impl<K: Number + Serialize, V: Serialize> Serialize for Paged<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(self.len))?;
        for (key, value) in self.iter() {
            map.serialize_entry(&key, value)?;
        }
        map.end()
    }
}

impl<'de, K, V> Deserialize<'de> for Paged<K, V>
where
    K: Number + Deserialize<'de>,
    V: Clone + Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

struct Entries<K, V>(PhantomData<fn() -> (K, V)>);

impl<'de, K, V> Visitor<'de> for Entries<K, V>
where
    K: Number + Deserialize<'de>,
    V: Clone + Deserialize<'de>,
{
    type Value = Paged<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map by numbers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map = Paged::default();
        while let Some((key, value)) = entries.next_entry()? {
            map.insert(key, value);
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_paged_map_is_a_map_and_a_clone_stays_as_it_was(
            steps in prop::collection::vec((0..3u8, 0..700u64), 1..400),
            clone_at in 0..400usize,
        ) {
            let (mut paged, mut model) = (Paged::<u64, u64>::default(), BTreeMap::new());
            let mut clone = None;
            for (at, (what, number)) in steps.into_iter().enumerate() {
                if at == clone_at {
                    clone = Some((paged.clone(), model.clone()));
                }
                let at = at as u64;
                match what {
                    0 => prop_assert_eq!(paged.insert(number, at), model.insert(number, at)),
                    1 => prop_assert_eq!(paged.remove(number), model.remove(&number)),
                    _ => {
                        if let Some(value) = paged.get_mut(number) {
                            *value += 1;
                        }
                        model.entry(number).and_modify(|value| *value += 1);
                    }
                }
                prop_assert_eq!(paged.get(number), model.get(&number));
            }
            for (paged, model) in clone.into_iter().chain([(paged, model)]) {
                prop_assert!(paged.iter().eq(model.iter().map(|(key, value)| (*key, value))));
                prop_assert_eq!((paged.len(), paged.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!(paged.values().sum::<u64>(), model.values().sum::<u64>());
                let bytes = serde_bytes(&paged);
                prop_assert_eq!(&bytes, &serde_bytes(&model), "another format on disk");
                let read: Paged<u64, u64> = read(&bytes);
                prop_assert!(read == paged);
            }
        }
    }

    fn serde_bytes(value: &impl Serialize) -> Vec<u8> {
        bincode::serde::encode_to_vec(value, bincode::config::standard()).unwrap()
    }

    fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> T {
        bincode::serde::decode_from_slice(bytes, bincode::config::standard()).unwrap().0
    }
}
