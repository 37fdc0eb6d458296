//! What is due when: numbers by time, in buckets that clones share. It deliberately doesn't know
//! what time it is.

use std::collections::{BTreeMap, VecDeque, btree_map::Entry};

use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use triomphe::Arc;

use crate::Timestamp;

/// Milliseconds of one bucket. A bucket is copied when it changes while a clone has it too.
const BUCKET_MS: u64 = 256;

/// What is due in a bucket: at each of its milliseconds these, both in their order. No list is
/// empty. Nearly all come at the end and leave from either end.
type Bucket<T> = Vec<(Timestamp, VecDeque<T>)>;

/// See the module. Equal if the same is due at the same times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Calendar<T> {
    // None is empty.
    buckets: BTreeMap<u64, Arc<Bucket<T>>>,
}

impl<T> Default for Calendar<T> {
    fn default() -> Self {
        Self { buckets: BTreeMap::new() }
    }
}

/// Where `at` is in `bucket`, or would be.
fn find<T>(bucket: &Bucket<T>, at: Timestamp) -> Result<usize, usize> {
    match bucket.last() {
        // Nearly always, when something comes.
        Some((last, _)) if *last == at => Ok(bucket.len() - 1),
        Some((last, _)) if *last > at => bucket.binary_search_by_key(&at, |(at, _)| *at),
        _ => Err(bucket.len()),
    }
}

impl<T: Copy + Ord> Calendar<T> {
    pub(crate) fn insert(&mut self, at: Timestamp, what: T) {
        let bucket = Arc::make_mut(self.buckets.entry(at.0 / BUCKET_MS).or_default());
        let dues = match find(bucket, at) {
            Ok(place) => &mut bucket[place].1,
            Err(place) => {
                bucket.insert(place, (at, VecDeque::new()));
                &mut bucket[place].1
            }
        };
        if dues.back().is_none_or(|last| *last < what) {
            // Nearly always.
            dues.push_back(what);
        } else if let Err(place) = dues.binary_search(&what) {
            dues.insert(place, what);
        }
    }

    pub(crate) fn remove(&mut self, at: Timestamp, what: T) {
        let Entry::Occupied(mut entry) = self.buckets.entry(at.0 / BUCKET_MS) else { return };
        let bucket = Arc::make_mut(entry.get_mut());
        let Ok(time) = find(bucket, at) else { return };
        let (_, dues) = &mut bucket[time];
        if let Ok(place) = dues.binary_search(&what) {
            dues.remove(place);
        }
        if dues.is_empty() {
            bucket.remove(time);
        }
        if bucket.is_empty() {
            entry.remove();
        }
    }

    /// What is due first, and when.
    pub(crate) fn first(&self) -> Option<(Timestamp, T)> {
        self.iter().next()
    }

    pub(crate) fn contains(&self, at: Timestamp, what: T) -> bool {
        let bucket = self.buckets.get(&(at.0 / BUCKET_MS));
        bucket.is_some_and(|bucket| {
            find(bucket, at).is_ok_and(|time| bucket[time].1.binary_search(&what).is_ok())
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.buckets.values().flat_map(|bucket| bucket.iter()).map(|(_, dues)| dues.len()).sum()
    }

    /// All of it, what is due first before what is due later.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Timestamp, T)> {
        let times = self.buckets.values().flat_map(|bucket| bucket.iter());
        times.flat_map(|(at, dues)| dues.iter().map(|due| (*at, *due)))
    }
}

impl<T: Copy + Ord> FromIterator<(Timestamp, T)> for Calendar<T> {
    fn from_iter<I: IntoIterator<Item = (Timestamp, T)>>(dues: I) -> Self {
        let mut calendar = Self::default();
        dues.into_iter().for_each(|(at, what)| calendar.insert(at, what));
        calendar
    }
}

/// Written like a set of pairs.
impl<T: Copy + Ord + Serialize> Serialize for Calendar<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = serializer.serialize_seq(Some(self.len()))?;
        for due in self.iter() {
            all.serialize_element(&due)?;
        }
        all.end()
    }
}

impl<'de, T: Copy + Ord + Deserialize<'de>> Deserialize<'de> for Calendar<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_calendar_is_a_set_of_pairs(
            steps in prop::collection::vec((any::<bool>(), 0..600_u64, 0..4_u8), 1..300),
        ) {
            let (mut calendar, mut model) = (Calendar::default(), BTreeSet::new());
            for (comes, at, what) in steps {
                let at = Timestamp(at / 4 * 4);
                if comes {
                    calendar.insert(at, what);
                    model.insert((at, what));
                } else {
                    calendar.remove(at, what);
                    model.remove(&(at, what));
                }
                prop_assert_eq!(calendar.contains(at, what), comes);
                prop_assert!(calendar.iter().eq(model.iter().copied()));
                prop_assert_eq!(calendar.len(), model.len());
                prop_assert_eq!(calendar.first(), model.first().copied());
            }
            prop_assert!(calendar == model.into_iter().collect());
        }
    }

    #[test]
    fn what_is_due_first_is_first_and_a_clone_stays_as_it_was() {
        let dues = [(700, 'b'), (10, 'z'), (300, 'a'), (300, 'c'), (10, 'y')];
        let mut calendar: Calendar<char> =
            dues.map(|(at, what)| (Timestamp(at), what)).into_iter().collect();
        let before = calendar.clone();
        let text = |calendar: &Calendar<char>| calendar.iter().map(|(_, what)| what).collect();
        let text: fn(&Calendar<char>) -> String = text;
        assert_eq!((text(&calendar).as_str(), calendar.first()), ("yzacb", before.first()));
        calendar.remove(Timestamp(10), 'y');
        calendar.remove(Timestamp(10), 'z');
        calendar.remove(Timestamp(11), 'a');
        assert_eq!(calendar.first(), Some((Timestamp(300), 'a')));
        assert_eq!((text(&calendar).as_str(), text(&before).as_str()), ("acb", "yzacb"));
        assert!(calendar != before);
        calendar.insert(Timestamp(10), 'y');
        calendar.insert(Timestamp(10), 'z');
        assert!(calendar == before);
    }
}
