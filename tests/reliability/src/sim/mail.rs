//! What is on its way to shards, in place of their mailboxes. Letters of one sender to one receiver
//! stay in order, as between actors; everything else is the simulation's choice. It delivers
//! nothing by itself.

use crate::random::Random;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tidegate_actors::{Durable, Envelope, Host, Look, Reach, Shard};
use tidegate_storage::{Position, StorageError};

/// The sender of what callers ask.
pub(super) const CALLERS: usize = 0;
/// The sender of what the projector says.
pub(super) const PROJECTOR: usize = 1;
/// The first shard of the other kind.
pub(super) const SHARDS: usize = 2;

/// What one sender has sent at once.
pub(super) enum Letter<M: Durable> {
    Asked(Envelope<M>),
    Told(Vec<M::Command>),
}

/// What waits for one shard.
pub(super) struct Slot<M: Durable> {
    /// By sender.
    letters: Vec<VecDeque<Letter<M>>>,
    /// Senders that can't be heard any more.
    cut: Vec<bool>,
    /// The journal's words.
    pub(super) words: VecDeque<Result<Position, StorageError>>,
    /// It wants its turn to be ended.
    pub(super) turn: bool,
    /// It wants its machine to be rebuilt.
    pub(super) rebuild: bool,
}

/// What waits for all shards of one kind.
pub(super) struct Mail<M: Durable>(Arc<Mutex<Vec<Slot<M>>>>);

impl<M: Durable> Clone for Mail<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Durable> Mail<M> {
    pub(super) fn new(shards: u16, others: u16) -> Self {
        let senders = SHARDS + usize::from(others);
        let slot = |_| Slot {
            letters: (0..senders).map(|_| VecDeque::new()).collect(),
            cut: vec![false; senders],
            words: VecDeque::new(),
            turn: false,
            rebuild: false,
        };
        Self(Arc::new(Mutex::new((0..shards).map(slot).collect())))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Slot<M>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn send(&self, to: u16, from: usize, letter: Letter<M>) {
        let mut slots = self.lock();
        let slot = &mut slots[usize::from(to)];
        if !slot.cut[from] {
            slot.letters[from].push_back(letter);
        }
    }
}

impl<M: Durable> Slot<M> {
    /// Whether a letter waits.
    pub(super) fn waits(&self) -> bool {
        self.letters.iter().any(|letters| !letters.is_empty())
    }

    /// Takes the next letter of some sender.
    pub(super) fn take(&mut self, random: &mut Random) -> Option<Letter<M>> {
        let first = random.index(self.letters.len());
        let (before, from) = self.letters.split_at_mut(first);
        from.iter_mut().chain(before).find_map(VecDeque::pop_front)
    }

    /// From here on nothing of `from` arrives, and what is on its way is lost.
    pub(super) fn cut(&mut self, from: usize) -> usize {
        self.cut[from] = true;
        std::mem::take(&mut self.letters[from]).len()
    }

    /// A sender has begun anew: it is heard again.
    pub(super) fn mend(&mut self, from: usize) {
        self.cut[from] = false;
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.contains(&true)
    }

    /// Puts a copy of something that waits somewhere behind it.
    pub(super) fn repeat(&mut self, from: usize, random: &mut Random) -> bool
    where
        M::Command: Clone,
    {
        let letters = &mut self.letters[from];
        if letters.is_empty() {
            return false;
        }
        let place = random.index(letters.len());
        let Some(Letter::Told(commands)) = letters.get(place) else { return false };
        let copy = Letter::Told(commands.clone());
        let behind = place + 1 + random.index(letters.len() - place);
        letters.insert(behind, copy);
        true
    }
}

/// A shard that others can reach.
pub(super) type SharedShard<M> = Arc<Mutex<Shard<M>>>;

/// The way of one sender to the shards of one kind.
pub(super) struct Wire<M: Durable> {
    pub(super) mail: Mail<M>,
    pub(super) from: usize,
    /// Those it may look at; none for shards themselves.
    pub(super) shards: Vec<SharedShard<M>>,
}

impl<M: Durable> Reach<M> for Wire<M> {
    fn count(&self) -> u16 {
        self.mail.lock().len() as u16
    }

    fn tell(&self, index: u16, commands: &mut Vec<M::Command>) {
        self.mail.send(index, self.from, Letter::Told(std::mem::take(commands)));
    }

    fn look(&self, index: u16, look: Look<M>) {
        let Some(shard) = self.shards.get(usize::from(index)) else { return };
        let mut host = Desk { mail: self.mail.clone(), index };
        shard.lock().unwrap_or_else(PoisonError::into_inner).inspect(look, &mut host);
    }
}

/// What runs shard `index`.
pub(super) struct Desk<M: Durable> {
    pub(super) mail: Mail<M>,
    pub(super) index: u16,
}

impl<M: Durable> Host for Desk<M> {
    fn commit_soon(&mut self) {
        self.mail.lock()[usize::from(self.index)].turn = true;
    }

    fn tell(&self) -> impl FnOnce(Result<Position, StorageError>) + Send + 'static {
        let (mail, index) = (self.mail.clone(), usize::from(self.index));
        move |result| mail.lock()[index].words.push_back(result)
    }

    fn rebuild(&mut self) {
        self.mail.lock()[usize::from(self.index)].rebuild = true;
    }
}
