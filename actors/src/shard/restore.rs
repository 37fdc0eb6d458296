//! Rebuilding a machine from its latest snapshot and the journal after it: the same code at open
//! and after a panic. Its events come from a reading for all shards, or it reads by itself. It
//! writes nothing.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tidegate_machines::Timestamp;
use tidegate_storage::{Entry, Journal, Position, Snapshots, State, StorageError};

use super::{
    Host, Life, Shard,
    turn::{self, panic_text},
};
use crate::{
    codec,
    durable::Durable,
    error::RestoreError,
    observe::Phase,
    replay::{Handed, Seat},
};

/// A machine as the store remembers it.
pub struct Rebuilt<M> {
    index: u16,
    /// The machine.
    pub machine: M,
    /// The newest stamp seen on the way.
    pub stamp: Timestamp,
    /// The position up to which the journal was read.
    pub position: Position,
}

/// Rebuilds shard `index` of `M` from `fresh`, its snapshot, and every durable event after that.
/// Blocks; reads the disk.
///
/// # Errors
/// [`RestoreError`]: what is stored can't be read, understood or applied.
pub fn rebuild<M: Durable>(
    index: u16,
    fresh: M,
    journal: &dyn Journal,
    state: &Arc<dyn State>,
) -> Result<Rebuilt<M>, RestoreError> {
    Rebuilt::latest(index, fresh, journal, state)?.read(journal)
}

/// Applies to `machine`, which is shard `index` of `M` as of position `after`, every durable event
/// since. Blocks; reads the disk.
///
/// # Errors
/// [`RestoreError`].
pub fn rebuild_from<M: Durable>(
    index: u16,
    machine: M,
    after: Position,
    journal: &dyn Journal,
) -> Result<Rebuilt<M>, RestoreError> {
    Rebuilt { index, machine, stamp: Timestamp(0), position: after }.read(journal)
}

impl<M: Durable> Rebuilt<M> {
    /// As its latest snapshot has it; `fresh` if there is none.
    fn latest(
        index: u16,
        fresh: M,
        journal: &dyn Journal,
        state: &Arc<dyn State>,
    ) -> Result<Self, RestoreError> {
        let snapshot = Snapshots::new(Arc::clone(state)).latest(M::KIND.stream(index))?;
        let Some((position, bytes)) = snapshot else {
            let (stamp, position) = (Timestamp(0), Position::ZERO);
            return Ok(Self { index, machine: fresh, stamp, position });
        };
        let durable = journal.durable();
        if position > durable {
            return Err(RestoreError::JournalBehind { shards: M::NAME, index, position, durable });
        }
        let (stamp, mut machine): (Timestamp, M) = codec::decode(&bytes)
            .map_err(|cause| RestoreError::Codec { shards: M::NAME, index, position, cause })?;
        machine.reconfigure(&fresh);
        Ok(Self { index, machine, stamp, position })
    }

    /// Goes on with every durable event since, which it reads by itself.
    fn read(mut self, journal: &dyn Journal) -> Result<Self, RestoreError> {
        let mut reader = journal.read(self.position)?;
        while let Some(entry) = reader.next()? {
            self.take(entry)?;
        }
        Ok(self)
    }

    /// The same, with what it is handed by one who reads for all.
    fn hear(mut self, seat: Seat) -> Result<Self, RestoreError> {
        for handed in seat.take(self.position) {
            match handed {
                Handed::Records(piece) => {
                    piece.entries().try_for_each(|entry| self.take(entry))?;
                }
                Handed::End(position) => {
                    self.position = self.position.max(position);
                    return Ok(self);
                }
                Handed::Failed(error) => return Err(error.into()),
            }
        }
        // Whoever reads has gone away, and there may be more.
        Err(StorageError::Closed.into())
    }

    fn take(&mut self, entry: Entry<'_>) -> Result<(), RestoreError> {
        let (index, position) = (self.index, entry.position);
        self.position = position;
        self.stamp = self.stamp.max(Timestamp(entry.stamp));
        if entry.stream != M::KIND.stream(index) {
            return Ok(());
        }
        let event: M::Event = codec::decode(entry.bytes).map_err(|cause| RestoreError::Codec {
            shards: M::NAME,
            index,
            position,
            cause,
        })?;
        let apply = AssertUnwindSafe(|| self.machine.apply(&event));
        catch_unwind(apply).map_err(|panic| {
            let panic = panic_text(&*panic);
            RestoreError::Fault { shards: M::NAME, index, position, panic }
        })
    }
}

impl<M: Durable> Shard<M> {
    /// From here on it is rebuilt: what does that, and blocks. Its result is for
    /// [`Shard::restored`]. It hears its events from its `seat`; without one it reads the journal.
    pub fn restoring(
        &mut self,
        seat: Option<Seat>,
    ) -> impl FnOnce() -> Result<Rebuilt<M>, RestoreError> + Send + use<M> {
        self.leave(Life::Restoring);
        self.commit_scheduled = false;
        self.gauges.set_phase(Phase::Restoring);
        let (kit, index, last) = (Arc::clone(&self.kit), self.index, self.last);
        move || {
            // Others may have seen events of ours that are not durable yet: they must not be
            // forgotten.
            kit.journal.wait_durable(last)?;
            let latest = Rebuilt::latest(index, (kit.fresh)(index), &*kit.journal, &kit.state)?;
            match seat {
                Some(seat) => latest.hear(seat),
                None => latest.read(&*kit.journal),
            }
        }
    }

    /// Goes on with the machine that was rebuilt: drives its open effects, takes what is queued.
    ///
    /// # Errors
    /// The result's own, or that open effects can't be driven. The shard is down then.
    pub fn restored(
        &mut self,
        result: Result<Rebuilt<M>, RestoreError>,
        host: &mut impl Host,
    ) -> Result<(), RestoreError> {
        match result {
            Ok(Rebuilt { machine, stamp, position, .. }) => {
                self.kit.clock.observe(stamp);
                self.gauges.queue.set(machine.queue_counts());
                self.last = self.last.max(position);
                let (shards, index) = (M::NAME, self.index);
                let post = &mut self.post;
                let open = turn::guarded(shards, "finding open effects", || {
                    post.restored(&machine);
                    machine.outstanding()
                });
                self.shown.put(machine);
                self.life = Life::Running;
                self.gauges.set_phase(Phase::Running);
                match open {
                    Some(open) => drop(self.deliver(open)),
                    None => self.die(),
                }
                if matches!(self.life, Life::Dead) {
                    let panic = "its open effects can't be driven".to_owned();
                    return Err(RestoreError::Fault { shards, index, position, panic });
                }
                self.drain(host);
                Ok(())
            }
            Err(RestoreError::Storage(error)) => {
                self.poison(error.clone());
                Err(RestoreError::Storage(error))
            }
            Err(error) => {
                self.die();
                Err(error)
            }
        }
    }
}
