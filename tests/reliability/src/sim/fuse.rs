//! Panics on demand, at the places where a machine of a shard could have one. It breaks nothing by
//! itself: what a panic may cost is the shard's business.

use std::{
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use tidegate_actors::{Deliver, Durable};
use tidegate_storage::Position;

/// Where the next panic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Place {
    Nowhere = 0,
    /// Before an event is applied.
    Applying = 1,
    /// When it is applied and not yet journalled: the machine is ahead of everything.
    Applied = 2,
    /// When effects are to be delivered: the shard stays down.
    Delivering = 3,
}

/// Blows once where it is set.
#[derive(Clone, Default)]
pub(super) struct Fuse(Arc<AtomicU8>);

impl Fuse {
    pub(super) fn set(&self, place: Place) {
        self.0.store(place as u8, Ordering::Relaxed);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != Place::Nowhere as u8
    }

    fn blow(&self, place: Place) {
        if self.0.load(Ordering::Relaxed) == place as u8 {
            self.set(Place::Nowhere);
            // Past the panic hook: nothing is to be printed.
            resume_unwind(Box::new("a panic on demand"));
        }
    }
}

/// A delivery with a fuse in it.
pub(super) struct Fused<D> {
    pub(super) post: D,
    pub(super) fuse: Fuse,
}

impl<M: Durable, D: Deliver<M>> Deliver<M> for Fused<D> {
    fn deliver(&mut self, effects: &mut Vec<M::Effect>) {
        if !effects.is_empty() {
            self.fuse.blow(Place::Delivering);
        }
        self.post.deliver(effects);
    }

    fn applying(&mut self, machine: &M, event: &M::Event) {
        self.post.applying(machine, event);
        self.fuse.blow(Place::Applying);
    }

    fn applied(&mut self, machine: &M, event: &M::Event) {
        self.fuse.blow(Place::Applied);
        self.post.applied(machine, event);
    }

    fn journalled(&mut self, position: Position) {
        self.post.journalled(position);
    }

    fn durable(&mut self, durable: Position) {
        self.post.durable(durable);
    }

    fn awaits(&self) -> bool {
        self.post.awaits()
    }
}
