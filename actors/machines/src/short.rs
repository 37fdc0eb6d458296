//! Short lists that nearly always have one element. It deliberately leaves the format to serde: the
//! bytes are those of any list.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::slice;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use triomphe::Arc;

/// A list that nearly always has one element, which then lies in it. More than one lie apart, and
/// clones share them until one of the clones changes.
#[derive(Clone)]
pub struct Short<T>(Kept<T>);

#[derive(Clone, Default)]
enum Kept<T> {
    #[default]
    None,
    One(T),
    Many(Arc<Vec<T>>),
}

impl<T> Short<T> {
    /// An empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self(Kept::None)
    }

    /// What `make` makes of each of `values`. Quicker than collecting it: nearly always it is one.
    #[inline]
    pub(crate) fn of_each<U>(values: &[U], mut make: impl FnMut(&U) -> T) -> Self {
        match values {
            [] => Self::new(),
            [one] => Self(Kept::One(make(one))),
            many => Self(Kept::Many(Arc::new(many.iter().map(make).collect()))),
        }
    }
}

impl<T: Clone> Short<T> {
    /// Adds an element behind all others.
    #[inline]
    pub fn push(&mut self, value: T) {
        match self.0 {
            Kept::None => self.0 = Kept::One(value),
            _ => self.push_more(value),
        }
    }

    fn push_more(&mut self, value: T) {
        self.0 = match std::mem::take(&mut self.0) {
            Kept::None => Kept::One(value),
            Kept::One(first) => Kept::Many(Arc::new(vec![first, value])),
            Kept::Many(mut many) => {
                Arc::make_mut(&mut many).push(value);
                Kept::Many(many)
            }
        };
    }

    /// Gives all elements to `take`, first to last.
    #[inline]
    pub fn take_each(self, mut take: impl FnMut(T)) {
        match self.0 {
            Kept::None => {}
            Kept::One(one) => take(one),
            Kept::Many(many) => {
                let many = Arc::try_unwrap(many).unwrap_or_else(|shared| Vec::clone(&shared));
                many.into_iter().for_each(take);
            }
        }
    }

    /// Leaves only the elements that `keep` keeps.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        match &mut self.0 {
            Kept::None => {}
            Kept::One(one) => {
                if !keep(one) {
                    self.0 = Kept::None;
                }
            }
            Kept::Many(many) => {
                Arc::make_mut(many).retain(keep);
                if many.is_empty() {
                    self.0 = Kept::None;
                }
            }
        }
    }
}

impl<T> Default for Short<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for Short<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match &self.0 {
            Kept::None => &[],
            Kept::One(one) => slice::from_ref(one),
            Kept::Many(many) => many,
        }
    }
}

impl<T: Clone> DerefMut for Short<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.0 {
            Kept::None => &mut [],
            Kept::One(one) => slice::from_mut(one),
            Kept::Many(many) => &mut *Arc::make_mut(many),
        }
    }
}

impl<T: PartialEq> PartialEq for Short<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Short<T> {}

impl<T: fmt::Debug> fmt::Debug for Short<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T> FromIterator<T> for Short<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut values = values.into_iter();
        let Some(first) = values.next() else { return Self::new() };
        let Some(second) = values.next() else { return Self(Kept::One(first)) };
        let mut many = Vec::with_capacity(values.size_hint().0 + 2);
        many.extend([first, second]);
        many.extend(values);
        Self(Kept::Many(Arc::new(many)))
    }
}

impl<T> From<Vec<T>> for Short<T> {
    fn from(values: Vec<T>) -> Self {
        values.into_iter().collect()
    }
}

impl<T: Clone> Extend<T> for Short<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        values.into_iter().for_each(|value| self.push(value));
    }
}

impl<'a, T> IntoIterator for &'a Short<T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Serialize> Serialize for Short<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

impl<'de, T: Clone + Deserialize<'de>> Deserialize<'de> for Short<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Elements(PhantomData))
    }
}

struct Elements<T>(PhantomData<fn() -> T>);

impl<'de, T: Clone + Deserialize<'de>> Visitor<'de> for Elements<T> {
    type Value = Short<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    // Grows with what is there: the length that stands before it is not to be believed.
    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Short<T>, A::Error> {
        let mut list = Short::new();
        while let Some(value) = values.next_element()? {
            list.push(value);
        }
        Ok(list)
    }
}

/// Whether no two of a few values are alike. Many are not looked at: then the answer is no.
pub(crate) fn all_differ<'a, T, K: PartialEq>(values: &'a [T], key: impl Fn(&'a T) -> K) -> bool {
    const FEW: usize = 8;
    let is_new = |at: usize| {
        let this = key(&values[at]);
        values[..at].iter().all(|before| key(before) != this)
    };
    values.len() <= FEW && (1..values.len()).all(is_new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn few_that_differ_are_known_to() {
        let differ = |values: &[u8]| all_differ(values, |value| *value);
        assert!(differ(&[]) && differ(&[1]) && differ(&[1, 2, 3, 0]));
        assert!(!differ(&[1, 1]) && !differ(&[1, 2, 3, 2]));
        assert!(!differ(&[1, 2, 3, 4, 5, 6, 7, 8, 9]), "too many to look at");
    }

    proptest! {
        #[test]
        fn a_short_list_is_a_list_and_a_clone_stays_as_it_was(
            start in prop::collection::vec(0..9_u64, 0..4),
            steps in prop::collection::vec((0..4_u8, 0..9_u64), 0..30),
        ) {
            let (mut short, mut model): (Short<u64>, _) = (start.iter().copied().collect(), start);
            for (what, number) in steps {
                let before = (short.clone(), model.clone());
                match what {
                    0 | 1 => {
                        short.push(number);
                        model.push(number);
                    }
                    2 => {
                        short.retain(|one| *one != number);
                        model.retain(|one| *one != number);
                    }
                    _ => {
                        short.iter_mut().for_each(|one| *one += number);
                        model.iter_mut().for_each(|one| *one += number);
                    }
                }
                prop_assert_eq!(&*before.0, &before.1[..]);
                prop_assert_eq!(&*short, &model[..]);
                prop_assert!(Short::of_each(&model, |one| *one) == short);
                let config = bincode::config::standard();
                let bytes = bincode::serde::encode_to_vec(&short, config).unwrap();
                prop_assert_eq!(&bytes, &bincode::serde::encode_to_vec(&model, config).unwrap());
                let read = bincode::serde::decode_from_slice::<Short<u64>, _>(&bytes, config);
                prop_assert!(read.unwrap().0 == short);
                let mut taken = Vec::new();
                short.clone().take_each(|one| taken.push(one));
                prop_assert_eq!(&taken, &model);
            }
        }
    }
}
