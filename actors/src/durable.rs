//! What a machine needs beside its rules to be kept by a shard: a name in the journal, and words
//! for the few moments when the shell must ask. It decides nothing itself.

use serde::{Serialize, de::DeserializeOwned};
use tidegate_machines::{Machine, QueueCounts, Timestamp};
use tidegate_storage::{Position, State, StreamId};

use crate::shown::OnDisk;

/// What a question comes to that is answered beside the shard.
pub type Reading<M> = Result<<M as Machine>::Reply, <M as Machine>::Rejection>;

/// Why [`Durable::recall`] failed, in words.
pub type RecallError = Box<dyn std::error::Error + Send + Sync>;

/// The number of a kind of machine in the journal. Chosen once, never changed, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u16);

impl Kind {
    /// Kinds below this number are Tidegate's own.
    pub const FIRST_FREE: Self = Self(256);

    /// The kind whose shard has this journal stream.
    #[must_use]
    pub fn of(stream: StreamId) -> Self {
        Self((stream.0 >> 16) as u16)
    }

    /// The journal stream of shard `index` of this kind.
    #[must_use]
    pub fn stream(self, index: u16) -> StreamId {
        StreamId(u32::from(self.0) << 16 | u32::from(index))
    }
}

/// A [`Machine`] that a supervised shard can own, journal, snapshot and rebuild.
///
/// Events and state are stored with bincode. So the order of enum variants and of fields is the
/// format on disk: append variants, never reorder, and avoid `#[serde(flatten, skip, tag,
/// untagged)]`.
pub trait Durable:
    Machine<
        Command: Send + 'static,
        Event: Serialize + DeserializeOwned + Send + 'static,
        Reply: Clone + Send + 'static,
        Rejection: Clone + Send + 'static,
        Effect: Send + 'static,
    > + Clone
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Its number in the journal; [`Kind::FIRST_FREE`] or above for machines that are not
    /// Tidegate's.
    const KIND: Kind;

    /// Its name in logs, metrics and errors.
    const NAME: &'static str;

    /// Takes over the configuration of `fresh`, for a machine that was read from a snapshot and has
    /// its configuration in it.
    fn reconfigure(&mut self, _fresh: &Self) {}

    /// What a snapshot of it is written from, on another thread, while it goes on: written as the
    /// machine itself would be. Runs on the shard's thread, and should share more than it copies. A
    /// machine may leave out what follows from the rest: the next change copies what is shared.
    fn image(&self) -> impl Serialize + Send + 'static {
        self.clone()
    }

    /// The command to decide before `command`, for a machine that keeps resting entities in the
    /// state instead of in memory: it brings the entity back. Runs on the shard's thread.
    ///
    /// # Errors
    /// The entity can't be read; `command` is then answered as unavailable.
    fn recall(
        &self,
        _command: &Self::Command,
        _state: &dyn State,
    ) -> Result<Option<Self::Command>, RecallError> {
        Ok(None)
    }

    /// The answer to `command`, for one that only reads, if all that the answer shows is `on_disk`:
    /// it is given on the caller's thread, beside the shard, see [`Group::read`]. `None` if the
    /// shard is to be asked, as for every command unless a machine says otherwise. Should be quick:
    /// the shard can change nothing meanwhile.
    ///
    /// [`Group::read`]: crate::Group::read
    fn read(&self, _command: &Self::Command, _on_disk: OnDisk) -> Option<Reading<Self>> {
        None
    }

    /// Whether `effect` goes to something outside the journal's order (the projector, the world).
    /// Such an effect waits until its cause is durable; others leave at once.
    fn leaves_store(_effect: &Self::Effect) -> bool {
        false
    }

    /// The last record that none of the readers it keeps account of needs at `now`, for a machine
    /// that keeps such an account: the journal is kept for them from there on, within a bound.
    fn consumed(&self, _now: Timestamp) -> Option<Position> {
        None
    }

    /// For commands of other shards that must be decided in order: what `command` is about, and its
    /// number there. After a panic on one, those behind it wait for it to be sent again.
    fn place_in_line(_command: &Self::Command) -> Option<(u64, u64)> {
        None
    }

    /// How many commands or entities wait in the machine for their turn, and how many have: for
    /// figures only. Asked for at each look at the time.
    fn queue_counts(&self) -> QueueCounts {
        QueueCounts::default()
    }

    /// What to tell the shard that sent `command`, when deciding it panicked or this shard is dead.
    fn fault(_command: &Self::Command) -> Option<Self::Effect> {
        None
    }
}

/// Carries the effects of a machine to where they go. Each shard has its own.
pub trait Deliver<M: Machine>: Send + 'static {
    /// Sends `effects` on, in order, and leaves the vector empty. Must not block.
    fn deliver(&mut self, effects: &mut Vec<M::Effect>);

    /// `machine` has been rebuilt, and nothing has been decided on it yet. All of it is durable.
    fn restored(&mut self, _machine: &M) {}

    /// `event` is about to be applied to `machine`. Like the three below, for those who publish
    /// what a machine knows: nothing may be told to the world before it is durable.
    fn applying(&mut self, _machine: &M, _event: &M::Event) {}

    /// `event` has been applied to `machine`.
    fn applied(&mut self, _machine: &M, _event: &M::Event) {}

    /// Everything applied so far has its place in the journal, up to `position`.
    fn journalled(&mut self, _position: Position) {}

    /// Everything up to `durable` is on disk. Sure to be told only while it
    /// [awaits](Deliver::awaits) something: only then is the shard woken for it.
    fn durable(&mut self, _durable: Position) {}

    /// Whether it holds something until that is durable. Asked after each turn.
    fn awaits(&self) -> bool {
        false
    }
}

/// For machines that have no effects.
pub struct NoEffects;

impl<M: Machine> Deliver<M> for NoEffects {
    fn deliver(&mut self, effects: &mut Vec<M::Effect>) {
        effects.clear();
    }
}
