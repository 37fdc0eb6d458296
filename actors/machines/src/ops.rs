//! Operations by their numbers, which count up: nearly all come at the end and leave at the front.
//! It deliberately doesn't know what an operation is.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::OpId;

/// Gaps that are left in any case. With more of them than operations, all are closed up.
const GAPS: usize = 64;

/// A map of operations that keeps them in one row.
#[derive(Clone)]
pub(crate) struct Ops<T> {
    // In the order of their numbers. What was removed leaves a gap; the first is never one.
    row: VecDeque<(OpId, Option<T>)>,
    len: usize,
    // The longest row since room was last looked at, and how many have gone since then.
    longest: usize,
    gone: usize,
}

impl<T> Default for Ops<T> {
    fn default() -> Self {
        Self { row: VecDeque::new(), len: 0, longest: 0, gone: 0 }
    }
}

impl<T> Ops<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn first(&self) -> Option<OpId> {
        self.row.front().map(|(id, _)| *id)
    }

    pub(crate) fn get(&self, id: OpId) -> Option<&T> {
        self.row[self.find(id).ok()?].1.as_ref()
    }

    /// In the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (OpId, &T)> {
        self.row.iter().filter_map(|(id, op)| Some((*id, op.as_ref()?)))
    }

    pub(crate) fn insert(&mut self, id: OpId, op: T) {
        if self.row.back().is_none_or(|(last, _)| *last < id) {
            self.len += 1;
            self.row.push_back((id, Some(op)));
        } else {
            match self.find(id) {
                Ok(at) => self.len += usize::from(self.row[at].1.replace(op).is_none()),
                Err(at) => {
                    self.len += 1;
                    self.row.insert(at, (id, Some(op)));
                }
            }
        }
        self.longest = self.longest.max(self.row.len());
    }

    pub(crate) fn remove(&mut self, id: OpId) -> Option<T> {
        let at = self.find(id).ok()?;
        let removed = self.row[at].1.take()?;
        self.len -= 1;
        while self.row.front().is_some_and(|(_, op)| op.is_none()) {
            self.row.pop_front();
        }
        if self.row.len() > 2 * self.len + GAPS {
            // One that stays for long must not keep room for all that came after it.
            self.row.retain(|(_, op)| op.is_some());
        }
        self.gone += 1;
        self.give_room_back();
        Some(removed)
    }

    pub(crate) fn remove_below(&mut self, mark: OpId) {
        while self.first().is_some_and(|id| id < mark) {
            let gone = self.row.pop_front();
            self.len -= usize::from(gone.is_some_and(|(_, op)| op.is_some()));
            self.gone += 1;
        }
        while self.row.front().is_some_and(|(_, op)| op.is_none()) {
            self.row.pop_front();
        }
        self.give_room_back();
    }

    // Seldom: after very many were here at once, and not again while as many went as there is room
    // for. A row that is empty now may be as long as ever in a moment.
    fn give_room_back(&mut self) {
        let room = self.row.capacity();
        if self.gone < room.max(GAPS) {
            return;
        }
        if room > 4 * (self.longest + GAPS) {
            self.row.shrink_to(2 * self.longest + GAPS);
        }
        (self.longest, self.gone) = (self.row.len(), 0);
    }

    // Where `id` is, or would be.
    fn find(&self, id: OpId) -> Result<usize, usize> {
        if self.row.back().is_none_or(|(last, _)| *last < id) {
            return Err(self.row.len());
        }
        // Often there are all numbers from the first one on.
        let first = self.row.front().map_or(id, |(first, _)| *first);
        let guess = id.0.wrapping_sub(first.0) as usize;
        match self.row.get(guess) {
            Some((there, _)) if *there == id => Ok(guess),
            _ => self.row.binary_search_by_key(&id, |(there, _)| *there),
        }
    }
}

impl<T: PartialEq> PartialEq for Ops<T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<T: Eq> Eq for Ops<T> {}

impl<T: fmt::Debug> fmt::Debug for Ops<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Written like any map.
impl<T: Serialize> Serialize for Ops<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(self.len))?;
        for (id, op) in self.iter() {
            map.serialize_entry(&id, op)?;
        }
        map.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ops<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut ops = Self::default();
        for (id, op) in BTreeMap::deserialize(deserializer)? {
            ops.insert(id, op);
        }
        Ok(ops)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn operations_are_a_map(steps in prop::collection::vec((0..6_u8, 0..300_u64), 1..600)) {
            let (mut ops, mut model) = (Ops::default(), BTreeMap::new());
            let mut next = 0;
            for (at, (what, number)) in (0_u64..).zip(steps) {
                let any = OpId(number);
                match what {
                    0..=2 => {
                        next += 1 + number / 250;
                        ops.insert(OpId(next), at);
                        model.insert(OpId(next), at);
                    }
                    3 => {
                        ops.insert(any, at);
                        model.insert(any, at);
                        next = next.max(number);
                    }
                    4 => prop_assert_eq!(ops.remove(any), model.remove(&any)),
                    _ => {
                        let mark = OpId(next.saturating_sub(number));
                        ops.remove_below(mark);
                        model = model.split_off(&mark);
                    }
                }
                prop_assert_eq!(ops.get(any), model.get(&any));
                prop_assert_eq!(ops.first(), model.keys().next().copied());
                prop_assert!(ops.iter().eq(model.iter().map(|(id, op)| (*id, op))));
                prop_assert_eq!(ops.len(), model.len());
            }
            let config = bincode::config::standard();
            let bytes = bincode::serde::encode_to_vec(&ops, config).unwrap();
            prop_assert_eq!(&bytes, &bincode::serde::encode_to_vec(&model, config).unwrap());
            let read = bincode::serde::decode_from_slice::<Ops<u64>, _>(&bytes, config);
            prop_assert!(read.unwrap().0 == ops);
        }
    }

    #[test]
    fn room_is_kept_while_it_is_needed_again_and_again_and_given_back_later() {
        let (mut ops, mut next) = (Ops::default(), 0);
        let mut come_and_go = |ops: &mut Ops<()>, count: u64| {
            (next..next + count).for_each(|number| ops.insert(OpId(number), ()));
            (next..next + count).for_each(|number| assert!(ops.remove(OpId(number)).is_some()));
            next += count;
            ops.row.capacity()
        };
        let room = come_and_go(&mut ops, 10_000);
        for _ in 0..10 {
            assert_eq!(come_and_go(&mut ops, 10_000), room, "it grew again, or shrank");
        }
        let later = (0..100).map(|_| come_and_go(&mut ops, 1_000)).last();
        assert!(later.is_some_and(|later| later < 5_000), "{later:?}");
    }

    #[test]
    fn one_that_stays_keeps_no_room_for_all_after_it() {
        let mut ops = Ops::default();
        for number in 0..10_000 {
            ops.insert(OpId(number), number);
            if number > 0 {
                assert_eq!(ops.remove(OpId(number)), Some(number));
            }
            assert!(ops.row.len() <= 2 + GAPS);
        }
        assert_eq!((ops.len(), ops.get(OpId(0))), (1, Some(&0)));
    }
}
