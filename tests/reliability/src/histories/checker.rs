//! The search for an order: whether calls that overlapped can be put in one sequence that a plain
//! model agrees with (Wing and Gong's algorithm, with Lowe's memory of what was tried). It knows no
//! store and makes no calls.
//!
//! It is our own because the search must remember what it has tried (`stateright`'s tester doesn't,
//! and takes exponential time on refused histories), and because one call here may be several steps
//! in a fixed order, of which some may never happen.

use std::{
    collections::HashSet,
    fmt::{Debug, Write as _},
    hash::Hash,
};

/// States tried before the search gives up: a guard, far above what our histories need.
const TRIED_MAX: usize = 4_000_000;

/// What a thing does when it is asked one thing after the other.
pub(crate) trait Model: Clone + Eq + Hash + Debug {
    /// What was asked and what was answered; no answer if it is not known.
    type Step: Debug;

    /// The state after `step`; `None` if it could not have been answered so in this state, or if it
    /// would change nothing and was not answered.
    fn after(&self, step: &Self::Step) -> Option<Self>;
}

/// One step, with the moments between which it happened.
#[derive(Clone, Debug)]
pub(crate) struct Entry<S> {
    pub(crate) step: S,
    pub(crate) client: usize,
    pub(crate) began: u64,
    /// `None`: it may happen at any later time, or never.
    pub(crate) ended: Option<u64>,
    /// The entry that must have happened before this one.
    pub(crate) follows: Option<usize>,
}

/// Why a history is not accepted.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is no such order. With the history, and how far the best try came.
    NoOrder(String),
    /// Too many states were tried.
    TooHard,
}

/// Checks that `entries` have an order, beginning with `start`.
///
/// # Errors
/// [`Refused`].
pub(crate) fn check<M: Model>(start: &M, entries: &[Entry<M::Step>]) -> Result<(), Refused> {
    let mut search = Search { entries, tried: HashSet::new(), best: Vec::new(), path: Vec::new() };
    let mut taken = Taken(vec![0; entries.len().div_ceil(64)]);
    match search.go(&mut taken, start) {
        Some(true) => Ok(()),
        Some(false) => Err(Refused::NoOrder(search.explain(start))),
        None => Err(Refused::TooHard),
    }
}

/// Which entries have happened, one bit each.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Taken(Vec<u64>);

impl Taken {
    fn has(&self, number: usize) -> bool {
        self.0[number / 64] >> (number % 64) & 1 == 1
    }

    fn flip(&mut self, number: usize) {
        self.0[number / 64] ^= 1 << (number % 64);
    }
}

struct Search<'a, M: Model> {
    entries: &'a [Entry<M::Step>],
    tried: HashSet<(Taken, M)>,
    path: Vec<usize>,
    best: Vec<usize>,
}

impl<M: Model> Search<'_, M> {
    /// Whether what is left has an order after `state`; `None` if it was given up.
    fn go(&mut self, taken: &mut Taken, state: &M) -> Option<bool> {
        if self.path.len() > self.best.len() {
            self.best.clone_from(&self.path);
        }
        let left = (0..self.entries.len()).filter(|number| !taken.has(*number));
        // Nothing can happen after something else has ended that has not happened yet.
        let Some(first_end) = left.filter_map(|number| self.entries[number].ended).min() else {
            return Some(true);
        };
        for number in 0..self.entries.len() {
            let Entry { step, began, follows, .. } = &self.entries[number];
            let early = follows.is_some_and(|before| !taken.has(before));
            if taken.has(number) || early || *began > first_end {
                continue;
            }
            let Some(after) = state.after(step) else { continue };
            taken.flip(number);
            if self.tried.len() >= TRIED_MAX {
                return None;
            }
            if self.tried.insert((taken.clone(), after.clone())) {
                self.path.push(number);
                let found = self.go(taken, &after);
                if found != Some(false) {
                    return found;
                }
                self.path.pop();
            }
            taken.flip(number);
        }
        Some(false)
    }

    /// The history, and the longest order found.
    fn explain(&self, start: &M) -> String {
        let mut text = format!("no order explains these {} steps:\n", self.entries.len());
        let mut by_begin: Vec<_> = self.entries.iter().enumerate().collect();
        by_begin.sort_by_key(|(_, entry)| entry.began);
        for (number, Entry { step, client, began, ended, .. }) in by_begin {
            let end = ended.map_or_else(|| "...".to_owned(), |end| end.to_string());
            let mark = if self.best.contains(&number) { ' ' } else { '!' };
            // Writing to a string can't fail.
            let _ = writeln!(text, "{mark} #{number} client {client} [{began}, {end}] {step:?}");
        }
        let mut state = start.clone();
        for number in &self.best {
            state = state.after(&self.entries[*number].step).unwrap_or(state);
        }
        let _ = writeln!(text, "the longest order: {:?}\nleads to {state:?}", self.best);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    struct Register(u8);

    #[derive(Clone, Debug)]
    enum Step {
        Write(u8),
        Read(u8),
    }

    impl Model for Register {
        type Step = Step;

        fn after(&self, step: &Step) -> Option<Self> {
            match step {
                Step::Write(value) => Some(Self(*value)),
                Step::Read(value) => (self.0 == *value).then(|| self.clone()),
            }
        }
    }

    fn entry(step: Step, began: u64, ended: impl Into<Option<u64>>) -> Entry<Step> {
        Entry { step, client: 0, began, ended: ended.into(), follows: None }
    }

    fn accepted(entries: &[Entry<Step>]) -> bool {
        match check(&Register(0), entries) {
            Ok(()) => true,
            Err(Refused::NoOrder(_)) => false,
            Err(Refused::TooHard) => panic!("too hard"),
        }
    }

    #[test]
    fn overlapping_calls_may_be_either_way_round() {
        use Step::{Read, Write};
        assert!(accepted(&[entry(Write(1), 1, 4), entry(Read(0), 2, 3)]));
        assert!(accepted(&[entry(Write(1), 1, 4), entry(Read(1), 2, 3)]));
        assert!(!accepted(&[entry(Write(1), 1, 4), entry(Read(2), 2, 3)]));
    }

    #[test]
    fn what_was_answered_is_seen_from_then_on() {
        use Step::{Read, Write};
        assert!(!accepted(&[entry(Write(1), 1, 2), entry(Read(0), 3, 4)]), "a stale read");
        let back = [entry(Write(1), 1, 8), entry(Read(1), 2, 3), entry(Read(0), 4, 5)];
        assert!(!accepted(&back), "a value that was seen goes away again");
    }

    #[test]
    fn what_was_not_answered_happens_late_or_never_but_not_early() {
        use Step::{Read, Write};
        let unknown =
            |rest: &[Entry<Step>]| accepted(&[&[entry(Write(1), 5, None)], rest].concat());
        assert!(unknown(&[entry(Read(0), 6, 7), entry(Read(0), 8, 9)]));
        assert!(unknown(&[entry(Read(0), 6, 7), entry(Read(1), 8, 9)]));
        assert!(!unknown(&[entry(Read(1), 1, 2)]));
        assert!(!unknown(&[entry(Read(1), 6, 7), entry(Read(0), 8, 9)]));
    }

    #[test]
    fn steps_of_one_call_keep_their_order() {
        use Step::{Read, Write};
        let mut call = [entry(Write(1), 1, 9), entry(Read(0), 1, 9)];
        assert!(accepted(&call));
        call[1].follows = Some(0);
        assert!(!accepted(&call));
    }

    #[test]
    fn refusing_takes_no_exponential_time() {
        // 12 writes at once, and a read of what nobody wrote: 12! orders, 12 × 2^12 states.
        let mut all: Vec<_> = (1..=12).map(|value| entry(Step::Write(value), 1, 100)).collect();
        all.push(entry(Step::Read(99), 1, 100));
        assert!(!accepted(&all));
    }
}
