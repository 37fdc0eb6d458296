//! Rebuilding a machine from its latest snapshot and the journal after it: the same code at open
//! and after a panic. It writes nothing.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tidegate_machines::Timestamp;
use tidegate_storage::{Journal, Position, Snapshots, State};

use super::{
    Host, Life, Shard,
    turn::{self, panic_text},
};
use crate::{codec, durable::Durable, error::RestoreError, observe::Phase};

/// A machine as the store remembers it.
pub struct Rebuilt<M> {
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
    let snapshot = Snapshots::new(Arc::clone(state)).latest(M::KIND.stream(index))?;
    let Some((position, bytes)) = snapshot else {
        return rebuild_from(index, fresh, Position::ZERO, journal);
    };
    let durable = journal.durable();
    if position > durable {
        return Err(RestoreError::JournalBehind { shards: M::NAME, index, position, durable });
    }
    let (stamp, mut machine): (Timestamp, M) = codec::decode_snapshot(&bytes)
        .map_err(|cause| RestoreError::Codec { shards: M::NAME, index, position, cause })?;
    machine.reconfigure(&fresh);
    let rebuilt = rebuild_from(index, machine, position, journal)?;
    Ok(Rebuilt { stamp: rebuilt.stamp.max(stamp), ..rebuilt })
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
    let stream = M::KIND.stream(index);
    let mut rebuilt = Rebuilt { machine, stamp: Timestamp(0), position: after };
    let mut reader = journal.read(after)?;
    while let Some(entry) = reader.next()? {
        rebuilt.position = entry.position;
        rebuilt.stamp = rebuilt.stamp.max(Timestamp(entry.stamp));
        if entry.stream == stream {
            let position = entry.position;
            let event: M::Event = codec::decode(entry.bytes)
                .map_err(|cause| RestoreError::Codec { shards: M::NAME, index, position, cause })?;
            let apply = AssertUnwindSafe(|| rebuilt.machine.apply(&event));
            catch_unwind(apply).map_err(|panic| {
                let panic = panic_text(&*panic);
                RestoreError::Fault { shards: M::NAME, index, position, panic }
            })?;
        }
    }
    Ok(rebuilt)
}

impl<M: Durable> Shard<M> {
    /// From here on it is rebuilt: what does that, and blocks. Its result is for
    /// [`Shard::restored`].
    pub fn restoring(
        &mut self,
    ) -> impl FnOnce() -> Result<Rebuilt<M>, RestoreError> + Send + use<M> {
        self.leave(Life::Restoring);
        self.commit_scheduled = false;
        self.gauges.set_phase(Phase::Restoring);
        let (kit, index, last) = (Arc::clone(&self.kit), self.index, self.last);
        move || {
            // Others may have seen events of ours that are not durable yet: they must not be
            // forgotten.
            kit.journal.wait_durable(last)?;
            rebuild(index, (kit.fresh)(index), &*kit.journal, &kit.state)
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
            Ok(Rebuilt { machine, stamp, position }) => {
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
                    Some(open) => self.deliver(open),
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
