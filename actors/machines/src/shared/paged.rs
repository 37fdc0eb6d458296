//! A map for what is numbered as it comes: neighbours lie together in pages. It deliberately has no
//! hash of each number.

use std::{fmt, marker::PhantomData, sync::Arc};

use rustc_hash::FxHashMap;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
    used: usize,
    slots: [Option<V>; PAGE as usize],
}

impl<V> Page<V> {
    fn empty() -> Self {
        Self { used: 0, slots: [const { None }; PAGE as usize] }
    }
}

/// The page of a number, and its slot there.
fn place(number: u64) -> (u64, usize) {
    (number / PAGE, (number % PAGE) as usize)
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
        let (page, slot) = place(key.number());
        self.pages.get(&page)?.slots[slot].as_ref()
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
            let slots = (number * PAGE..).zip(&page.slots);
            slots.filter_map(|(number, slot)| Some((K::of(number), slot.as_ref()?)))
        })
    }

    /// All of them, in no particular order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.pages.values().flat_map(|page| page.slots.iter().flatten())
    }
}

impl<K: Number, V: Clone> Paged<K, V> {
    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        let (page, slot) = place(key.number());
        Arc::make_mut(self.pages.get_mut(&page)?).slots[slot].as_mut()
    }

    /// Puts `value` there; gives what was there before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (page, slot) = place(key.number());
        let page = self.pages.entry(page).or_insert_with(|| Arc::new(Page::empty()));
        let page = Arc::make_mut(page);
        let before = page.slots[slot].replace(value);
        if before.is_none() {
            page.used += 1;
            self.len += 1;
        }
        before
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        let (number, slot) = place(key.number());
        let page = self.pages.get_mut(&number).filter(|page| page.slots[slot].is_some())?;
        self.len -= 1;
        if page.used == 1 {
            let page = self.pages.remove(&number)?;
            return match Arc::try_unwrap(page) {
                Ok(mut page) => page.slots[slot].take(),
                Err(shared) => shared.slots[slot].clone(),
            };
        }
        let page = Arc::make_mut(page);
        page.used -= 1;
        page.slots[slot].take()
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
