//! Answers on their way out: those held until they are durable, and callers who wait for other
//! shards. Nothing here decides what an answer says.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
    time::Duration,
};

use quanta::Instant;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use tidegate_machines::Ticket;
use tidegate_storage::{Position, StorageError};

use super::{
    messages::ReplySlot,
    turn::{Ready, guarded},
};
use crate::{
    durable::Durable,
    error::AskError,
    observe::ShardGauges,
    sync::{Mutex, MutexGuard},
};

/// Answers that wait for the disk: those of each turn, with the position that must be durable
/// first. Shared by a shard and by the journal, whose thread sends them, so that an answer need not
/// wait for a turn of its shard.
pub(super) struct Held<T> {
    inner: Mutex<Inner<T>>,
    gauges: Arc<ShardGauges>,
}

struct Inner<T> {
    turns: VecDeque<(Position, Vec<T>)>,
    answers: usize,
    /// The shard has something of its own that waits.
    word_wanted: bool,
}

impl<T> Held<T> {
    pub(super) fn new(gauges: Arc<ShardGauges>) -> Self {
        let inner = Inner { turns: VecDeque::new(), answers: 0, word_wanted: false };
        Self { inner: Mutex::new(inner), gauges }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // No user code runs under this lock, so its content is whole even after a panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps `answers` until `until` is durable. Who has called this must then look whether it is
    /// by now: the journal may have been quicker.
    pub(super) fn hold(&self, until: Position, answers: Vec<T>) {
        if !answers.is_empty() {
            let mut inner = self.lock();
            inner.answers += answers.len();
            self.gauges.held.set(inner.answers as u64);
            inner.turns.push_back((until, answers));
        }
    }

    /// The journal is to have the shard told of the next position that becomes durable. As with
    /// [`Held::hold`], it may have become so by now.
    pub(super) fn want_word(&self) {
        self.lock().word_wanted = true;
    }

    /// Whether the shard is to be told, which is asked once for each time that it wants to be.
    pub(super) fn take_want(&self) -> bool {
        std::mem::take(&mut self.lock().word_wanted)
    }

    /// The answers of the next turn that `durable` covers.
    pub(super) fn next(&self, durable: Position) -> Option<Vec<T>> {
        let mut inner = self.lock();
        let (_, answers) = inner.turns.pop_front_if(|(until, _)| *until <= durable)?;
        inner.answers -= answers.len();
        self.gauges.held.set(inner.answers as u64);
        Some(answers)
    }
}

impl<M: Durable> Held<Ready<M>> {
    /// Sends every answer that `durable` covers.
    pub(super) fn release(&self, durable: Position) {
        while let Some(answers) = self.next(durable) {
            let now = Instant::now();
            // What a caller's waker does is not ours. If one panics, other turns still get theirs.
            guarded(M::NAME, "a waker", || answers.into_iter().for_each(|answer| answer.send(now)));
        }
    }

    pub(super) fn drop_all(&self, error: &StorageError) {
        while let Some(answers) = self.next(Position(u64::MAX)) {
            let tell = || answers.into_iter().for_each(|answer| answer.unavailable(error));
            guarded(M::NAME, "a waker", tell);
        }
    }
}

/// Those who wait for the same, since when. Mostly one.
type Callers<M> = SmallVec<[(Instant, ReplySlot<M>); 1]>;

/// Callers whose answer a later command will settle.
pub(super) struct Waiting<M: Durable> {
    /// Tickets are the machine's own numbers, which nobody can choose to fall together.
    callers: FxHashMap<Ticket, Callers<M>>,
}

impl<M: Durable> Default for Waiting<M> {
    fn default() -> Self {
        Self { callers: FxHashMap::default() }
    }
}

impl<M: Durable> Waiting<M> {
    pub(super) fn add(&mut self, ticket: Ticket, reply: ReplySlot<M>) {
        self.callers.entry(ticket).or_default().push((Instant::now(), reply));
    }

    pub(super) fn take(&mut self, ticket: Ticket) -> impl Iterator<Item = ReplySlot<M>> + use<M> {
        self.callers.remove(&ticket).unwrap_or_default().into_iter().map(|(_, reply)| reply)
    }

    /// Answers everyone who has waited for `patience` with `why`.
    pub(super) fn let_go_after(
        &mut self,
        patience: Duration,
        why: impl Fn() -> AskError<M::Rejection>,
    ) {
        let now = Instant::now();
        self.callers.retain(|_, callers| {
            // Who has waited longest is in front.
            let patient = |(since, _): &(Instant, _)| now.duration_since(*since) < patience;
            let over = callers.iter().position(patient).unwrap_or(callers.len());
            callers.drain(..over).for_each(|(_, reply)| reply.send(Err(why())));
            !callers.is_empty()
        });
    }

    /// Answers everyone with `why`.
    pub(super) fn let_go(&mut self, why: impl Fn() -> AskError<M::Rejection>) {
        self.let_go_after(Duration::ZERO, why);
    }

    pub(super) fn len(&self) -> usize {
        self.callers.len()
    }
}

/// Every order of events that loom can think of.
#[cfg(all(test, tidegate_loom))]
mod loom_tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::sync::AtomicU64;

    /// What is held is just the position that it waits for.
    type Answers = Arc<Held<u64>>;

    fn held() -> (Answers, Arc<AtomicU64>) {
        (Arc::new(Held::new(ShardGauges::new())), Arc::new(AtomicU64::new(0)))
    }

    /// Takes what may leave at `durable`.
    fn sent(held: &Answers, durable: u64) -> usize {
        let mut sent = 0;
        while let Some(answers) = held.next(Position(durable)) {
            assert!(answers.iter().all(|until| *until <= durable), "it has left too early");
            sent += answers.len();
        }
        sent
    }

    #[test]
    fn loom_an_answer_leaves_once_and_not_before_it_is_on_disk() {
        loom::model(|| {
            let (held, durable) = held();
            let journal = loom::thread::spawn({
                let (held, durable) = (Arc::clone(&held), Arc::clone(&durable));
                move || {
                    let commit = |position| {
                        durable.store(position, Ordering::Release);
                        sent(&held, position)
                    };
                    commit(1) + commit(2)
                }
            });
            held.hold(Position(2), vec![2]);
            let late = durable.load(Ordering::Acquire);
            let by_the_shard = if late >= 2 { sent(&held, late) } else { 0 };
            assert_eq!(by_the_shard + journal.join().unwrap(), 1);
        });
    }

    #[test]
    fn loom_a_shard_that_waits_is_told_or_sees_it_itself() {
        loom::model(|| {
            let (held, durable) = held();
            let journal = loom::thread::spawn({
                let (held, durable) = (Arc::clone(&held), Arc::clone(&durable));
                move || {
                    durable.store(1, Ordering::Release);
                    held.take_want()
                }
            });
            held.want_word();
            let seen = durable.load(Ordering::Acquire) == 1;
            assert!(journal.join().unwrap() || seen, "nobody would ever tell it");
        });
    }
}
