//! All shards of one kind, with their doors and their mail, moved on step by step. The shards are
//! those of a store; only what runs them is not. It chooses nothing but whose letter is next.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_actors::{
    Consumed, Copy, Deliver, Door, Durable, Envelope, Kit, Phase, Rebuilt, RestoreError, Shard,
    Snapshottable,
};
use tidegate_machines::Timestamp;
use tidegate_storage::{Position, StorageError, StreamId};

use super::{
    fuse::{Fuse, Fused},
    mail::{Desk, Letter, Mail, SHARDS, SharedShard, Wire},
};
use crate::random::Random;

/// What became of a rebuild, until the shard takes it.
type Rebuild<M> = Result<Rebuilt<M>, RestoreError>;

/// See the module.
pub(super) struct Side<M: Durable> {
    pub(super) doors: Vec<Door<M>>,
    pub(super) mail: Mail<M>,
    shards: Vec<SharedShard<M>>,
    fuses: Vec<Fuse>,
    rebuilds: Vec<Option<Rebuild<M>>>,
    /// Those that have been up before.
    begun: Vec<bool>,
}

impl<M: Durable<Command: Clone>> Side<M> {
    /// As many shards as `mail` is for, all of them still to be rebuilt.
    pub(super) fn new<D: Deliver<M>>(mail: Mail<M>, kit: Kit<M>, post: impl Fn(u16) -> D) -> Self {
        let (count, kit) = (mail.lock().len() as u16, Arc::new(kit));
        let doors: Vec<_> =
            (0..count).map(|index| Door::new(index, kit.options.in_flight_max)).collect();
        let fuses: Vec<_> = (0..count).map(|_| Fuse::default()).collect();
        let shards = (0..count).zip(&doors).zip(&fuses).map(|((index, door), fuse)| {
            let post = Fused { post: post(index), fuse: fuse.clone() };
            Arc::new(Mutex::new(Shard::new(index, Arc::clone(&kit), door, Box::new(post))))
        });
        let shards = shards.collect();
        let rebuilds = (0..count).map(|_| None).collect();
        mail.lock().iter_mut().for_each(|slot| slot.rebuild = true);
        Self { doors, mail, shards, fuses, rebuilds, begun: vec![false; usize::from(count)] }
    }

    pub(super) fn count(&self) -> u16 {
        self.shards.len() as u16
    }

    pub(super) fn phase(&self, index: u16) -> Phase {
        self.doors[usize::from(index)].report().phase
    }

    /// The way of `from`, who may look at the shards.
    pub(super) fn wire(&self, from: usize) -> Wire<M> {
        Wire { mail: self.mail.clone(), from, shards: self.shards.clone() }
    }

    pub(super) fn fuse(&self, index: u16) -> &Fuse {
        &self.fuses[usize::from(index)]
    }

    fn shard(&self, index: u16) -> MutexGuard<'_, Shard<M>> {
        self.shards[usize::from(index)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn desk(&self, index: u16) -> Desk<M> {
        Desk { mail: self.mail.clone(), index }
    }

    /// Whether shard `index` may take something: an actor takes nothing while it is rebuilt.
    fn is_up(&self, index: u16) -> bool {
        let place = usize::from(index);
        self.rebuilds[place].is_none() && !self.mail.lock()[place].rebuild
    }

    /// Gives shard `index` one letter.
    pub(super) fn deliver(&mut self, index: u16, random: &mut Random) -> bool {
        if !self.is_up(index) {
            return false;
        }
        let letter = self.mail.lock()[usize::from(index)].take(random);
        let commands = match letter {
            None => return false,
            Some(Letter::Asked(envelope)) => vec![envelope],
            Some(Letter::Told(commands)) => commands.into_iter().map(Envelope::told).collect(),
        };
        self.shard(index).take(commands, &mut self.desk(index));
        true
    }

    /// Ends the turn of shard `index`, if it asked for that.
    pub(super) fn end_turn(&mut self, index: u16) -> bool {
        let turn =
            self.is_up(index) && std::mem::take(&mut self.mail.lock()[usize::from(index)].turn);
        if turn {
            self.shard(index).end_turn(&mut self.desk(index));
        }
        turn
    }

    /// Gives shard `index` one word of the journal.
    pub(super) fn word(&mut self, index: u16) -> bool {
        if !self.is_up(index) {
            return false;
        }
        let word = self.mail.lock()[usize::from(index)].words.pop_front();
        word.map(|word| self.shard(index).committed(word)).is_some()
    }

    /// Lets shard `index` look at the time.
    pub(super) fn tick(&mut self, index: u16) {
        if self.is_up(index) {
            self.shard(index).look_at_time(&mut self.desk(index));
        }
    }

    /// Moves the rebuild of shard `index` on by one of its two steps: it is read, it goes on with
    /// what was read.
    ///
    /// # Errors
    /// It can't be rebuilt, and storage has not failed.
    pub(super) fn rebuild(
        &mut self,
        index: u16,
        mend: impl FnOnce(usize),
    ) -> Result<bool, RestoreError> {
        let place = usize::from(index);
        if let Some(read) = self.rebuilds[place].take() {
            mend(SHARDS + place);
            let fused = self.fuses[place].is_set();
            let restored = self.shard(index).restored(read, &mut self.desk(index));
            return match restored {
                Ok(()) => Ok(true),
                // Storage has failed as it was told to; the store must be opened again.
                Err(RestoreError::Storage(StorageError::Poisoned { .. })) => Ok(true),
                // Its open effects can't be delivered: it stays down, as it must.
                Err(RestoreError::Fault { .. }) if fused => Ok(true),
                Err(error) => Err(error),
            };
        }
        if !std::mem::take(&mut self.mail.lock()[place].rebuild) {
            return Ok(false);
        }
        // A stopped actor forgets what it wanted of itself.
        self.mail.lock()[place].turn = false;
        self.begun[place] = true;
        let read = self.shard(index).restoring(None);
        self.rebuilds[place] = Some(read());
        Ok(true)
    }

    /// Whether nothing is left to be done.
    pub(super) fn is_quiet(&self) -> bool {
        let quiet = |slot: &super::mail::Slot<M>| {
            !(slot.waits() || slot.turn || slot.rebuild) && slot.words.is_empty()
        };
        self.rebuilds.iter().all(Option::is_none) && self.mail.lock().iter().all(quiet)
    }

    /// Whether some shard is not up again yet.
    pub(super) fn is_rebuilding(&self) -> bool {
        !(0..self.count()).all(|index| self.is_up(index))
    }

    /// Whether something of it can only be mended by opening the store again.
    pub(super) fn is_broken(&self) -> bool {
        let down = |index| matches!(self.phase(index), Phase::Poisoned | Phase::Dead);
        (0..self.count()).any(down) || self.mail.lock().iter().any(|slot| slot.is_cut())
    }

    /// What `look` sees of the machine of shard `index`, which must be up.
    pub(super) fn look<T: Send + 'static>(
        &self,
        index: u16,
        look: impl FnOnce(&M, Position) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, seen) = std::sync::mpsc::channel();
        let look = Box::new(move |machine: &M, position: Position| {
            // Received below.
            let _ = sender.send(look(machine, position));
        });
        self.shard(index).inspect(look, &mut self.desk(index));
        seen.try_recv().ok()
    }

    /// Copies of the machines of `chosen` shards, for snapshots.
    pub(super) fn copies(&self, chosen: u64, stamp: Timestamp, to: &std::sync::mpsc::Sender<Copy>) {
        for index in (0..self.count()).filter(|index| chosen >> (index % 64) & 1 == 1) {
            let copy = self.look(index, move |machine, position| {
                Copy::of(M::KIND.stream(index), machine, position, stamp)
            });
            // Received by whoever asked for them.
            copy.map(|copy| to.send(copy));
        }
    }

    pub(super) fn streams(&self) -> Vec<StreamId> {
        (0..self.count()).map(|index| M::KIND.stream(index)).collect()
    }
}

/// Copies that were made, with the streams of all shards, those without a copy too.
pub(super) struct Copies {
    pub(super) streams: Vec<StreamId>,
    pub(super) copies: Mutex<Vec<Copy>>,
}

impl Snapshottable for Copies {
    fn streams(&self) -> Vec<StreamId> {
        self.streams.clone()
    }

    fn copies(&self, to: &std::sync::mpsc::Sender<Copy>) {
        let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        // The snapshotter waits for them.
        copies.drain(..).for_each(|copy| drop(to.send(copy)));
    }

    /// There are no consumer groups in the simulation.
    fn consumed(&self, to: &std::sync::mpsc::Sender<Consumed>) {
        for _ in &self.streams {
            // As above.
            let _ = to.send((None, Position::ZERO));
        }
    }
}
