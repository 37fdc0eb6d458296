//! The dispatcher of a consumer group: reads its topic ahead, hands messages out for a time, and
//! takes back what was not resolved by then. It deliberately keeps nothing that must survive: the
//! consumer machine does, and is asked before a message is handed out and when it is resolved.

mod change;
mod desk;
mod offer;
mod standing;
mod tending;
#[cfg(test)]
mod tests;
mod work;

use std::{
    pin::Pin,
    sync::{Arc, Mutex, atomic::AtomicU64},
};

use tidegate_machines::{
    Consumers, ConsumersCommand, ConsumersRejection, ConsumersReply, FollowUp, GroupId, GroupView,
    Incarnation, LeaseToken, Letter, MessageId, Retry, Timestamp, bounds::OutOfBounds,
};
use tidegate_storage::Position;
use tokio::sync::Notify;

use crate::{
    clock::Clock,
    error::AskError,
    feed::{FeedError, Letters, Tap},
    group::{Group, Outcome},
    threads::ArbiterHandle,
};
use desk::Desk;
pub use standing::GroupFigures;
use work::{AtWork, Work};

/// Most messages handed out by one call.
pub const LEASE_MESSAGES_MAX: usize = 256;

/// Longest lease, in milliseconds: 12 hours.
pub const LEASE_MS_MAX: u64 = 12 * 60 * 60 * 1_000;

/// Why a consumer got no message, or could not resolve one.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// The group's shard has refused it, or could not be asked.
    #[error(transparent)]
    Ask(#[from] AskError<ConsumersRejection>),
    /// The group was away or slow for too long: messages that it has not consumed are no longer
    /// kept. Nothing is handed out until it is told where to go on.
    #[error(
        "group {of} has not consumed messages that are no longer kept (the oldest kept position is \
         {oldest}); tell it where to go on with seek"
    )]
    Trimmed {
        /// The group.
        of: GroupId,
        /// The oldest position that is kept.
        oldest: Position,
    },
    /// The topic can't be read, or the place was never reached. What could not be read for now is
    /// tried again by itself.
    #[error(transparent)]
    Feed(FeedError),
    /// The dispatcher has failed, which is a bug: the log has the panic. Open the group again.
    #[error("the dispatcher of the group has failed; see the log, then open the group again")]
    Failed,
}

impl ConsumeError {
    /// The rejection by the group's shard, if it is one.
    #[must_use]
    pub fn rejection(&self) -> Option<&ConsumersRejection> {
        match self {
            Self::Ask(error) => error.rejection(),
            _ => None,
        }
    }
}

impl From<ConsumersRejection> for ConsumeError {
    fn from(rejection: ConsumersRejection) -> Self {
        Self::Ask(AskError::Rejected(rejection))
    }
}

/// Where a group begins or goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// With the oldest message that is kept.
    Oldest,
    /// With what is published from now on.
    Now,
    /// After a message or a place.
    After(MessageId),
}

/// What a dispatcher is made of.
pub struct Means {
    /// The consumer shards.
    pub consumers: Group<Consumers>,
    /// Which of them the group lives in.
    pub shard: u16,
    /// The group.
    pub of: GroupId,
    /// How its topic is read.
    pub letters: Letters,
    /// From where.
    pub tap: Tap,
    /// The store's clock.
    pub clock: Arc<Clock>,
    /// When a message is given up.
    pub retry: Retry,
    /// Where its tasks run.
    pub arbiter: ArbiterHandle,
}

/// A message in somebody's hands.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The message.
    pub letter: Letter,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// With the message's id it names the lease, and no other ever.
    pub token: LeaseToken,
    /// When it ends, unless it is extended.
    pub until: Timestamp,
}

/// See the module. One for each open group of a store, however many consumers share it.
pub struct Dispatcher {
    shared: Arc<Shared>,
}

struct Shared {
    means: Means,
    /// The group, and no later one of its name.
    group: Incarnation,
    work: Mutex<Work>,
    /// There may be something to hand out.
    available: Notify,
    /// There may be room to read on.
    room: Notify,
    /// The reader may be one too many, or have something to note.
    reader: Notify,
    /// The desk is in doubt, something on it is due sooner, or all is over.
    look: Notify,
    /// Held by who changes the group, or makes the desk agree with the machine: one at a time.
    changing: tokio::sync::Mutex<()>,
    trimmed: AtomicU64,
    retries: AtomicU64,
}

/// An answer of the machine to come. What is asked is on its way already.
type Asked = Pin<Box<dyn Future<Output = Outcome<Consumers>> + Send>>;

impl Dispatcher {
    /// Opens the group, which begins at `whence` if it is new, and begins to read. Without
    /// `whence` it must be there. Waits for the disk.
    ///
    /// # Errors
    /// [`ConsumeError::Ask`]; [`FeedError::Ahead`] if `whence` was never reached.
    pub async fn open(means: Means, whence: Option<Whence>) -> Result<Self, ConsumeError> {
        means.retry.check().map_err(invalid)?;
        let after = whence.map(|whence| place(&means.tap, whence)).transpose()?;
        let command = ConsumersCommand::Open { of: means.of.clone(), after };
        let view = match means.consumers.ask(means.shard, command).await? {
            ConsumersReply::View(view) => *view,
            other => return Err(unexpected(&other)),
        };
        let group = Incarnation { of: means.of.clone(), born: view.born };
        let work = Work::new(Desk::new(view), means.retry);
        let shared = Arc::new(Shared {
            means,
            group,
            work: Mutex::new(work),
            available: Notify::new(),
            room: Notify::new(),
            reader: Notify::new(),
            look: Notify::new(),
            changing: tokio::sync::Mutex::new(()),
            trimmed: AtomicU64::new(0),
            retries: AtomicU64::new(0),
        });
        tending::start(&shared);
        Ok(Self { shared })
    }

    /// The group.
    #[must_use]
    pub fn of(&self) -> &GroupId {
        &self.shared.means.of
    }

    /// The group, and no later one of its name.
    #[must_use]
    pub fn group(&self) -> &Incarnation {
        &self.shared.group
    }

    /// Whether it will never hand out anything again, whatever becomes of the group.
    #[must_use]
    pub fn is_over(&self) -> bool {
        // What can't be read is another matter: the group may be moved.
        matches!(self.shared.work().ended, Some(ConsumeError::Ask(_) | ConsumeError::Failed))
    }

    /// The message is done, together with `follow_ups`, durably when this returns.
    ///
    /// # Errors
    /// [`ConsumersRejection::Late`] if the attempt is over; then nothing of it has happened.
    pub async fn done(
        &self,
        id: MessageId,
        token: LeaseToken,
        follow_ups: Vec<FollowUp>,
    ) -> Result<(), ConsumeError> {
        let (of, unsure) = (self.of().clone(), Unsure(&self.shared));
        let done = self.shared.ask(ConsumersCommand::Done { of, id, token, follow_ups }).await;
        unsure.told(&done);
        done?;
        self.shared.resolved(id, token);
        Ok(())
    }

    /// The attempt has failed because of `cause`: the message is tried again later, or given up.
    ///
    /// # Errors
    /// [`ConsumersRejection::Late`] if the attempt is over already.
    pub async fn fail(
        &self,
        id: MessageId,
        token: LeaseToken,
        cause: &str,
    ) -> Result<(), ConsumeError> {
        let letter = self.shared.work().desk.leased(id, token);
        let letter = letter.ok_or(ConsumersRejection::Late { id, token })?;
        let unsure = Unsure(&self.shared);
        let failed = self.shared.fail(letter, token, cause.to_owned()).await;
        let failed = failed.map_err(ConsumeError::from);
        unsure.told(&failed);
        self.shared.failed(id, token, &failed?);
        Ok(())
    }

    /// The message stays in its holder's hands for `lease_ms` from now. Waits for nothing.
    ///
    /// # Errors
    /// [`ConsumersRejection::Late`] if the lease is over.
    pub fn extend(
        &self,
        id: MessageId,
        token: LeaseToken,
        lease_ms: u64,
    ) -> Result<(), ConsumeError> {
        check("lease_ms", lease_ms, LEASE_MS_MAX)?;
        let now = self.shared.means.clock.now();
        let extended = self.shared.work().desk.extend(id, token, (now, now.plus_ms(lease_ms)));
        extended.then_some(()).ok_or(ConsumersRejection::Late { id, token }.into())
    }

    /// How far the group is, as far as that is on disk.
    ///
    /// # Errors
    /// [`ConsumeError::Ask`].
    pub async fn view(&self) -> Result<GroupView, ConsumeError> {
        self.shared.view().await
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.shared.work().stopped = true;
        self.shared.wake_tending();
    }
}

impl Shared {
    fn work(&self) -> AtWork<'_> {
        AtWork::of(&self.work, &self.look)
    }

    async fn ask(&self, command: ConsumersCommand) -> Result<ConsumersReply, ConsumeError> {
        Ok(self.means.consumers.ask(self.means.shard, command).await?)
    }

    async fn view(&self) -> Result<GroupView, ConsumeError> {
        match self.ask(ConsumersCommand::View { of: self.group.clone() }).await? {
            ConsumersReply::View(view) => Ok(*view),
            other => Err(unexpected(&other)),
        }
    }

    /// Tells the machine that an attempt has failed.
    fn fail(&self, letter: Letter, token: LeaseToken, cause: String) -> Asked {
        let Means { consumers, shard, of, .. } = &self.means;
        let (of, retry) = (of.clone(), self.work().retry);
        let command = ConsumersCommand::Fail { of, letter, token, cause, retry };
        Box::pin(consumers.ask(*shard, command))
    }

    /// What the machine said to that.
    fn failed(&self, id: MessageId, token: LeaseToken, reply: &ConsumersReply) {
        match reply {
            ConsumersReply::Failed(not_before) => {
                self.work().desk.failed(id, token, *not_before);
                self.available.notify_waiters();
            }
            ConsumersReply::Died(dead) => {
                self.tell_of(dead);
                self.resolved(id, token);
            }
            _ => self.resolved(id, token),
        }
    }

    fn resolved(&self, id: MessageId, token: LeaseToken) {
        let (known, all_done) = {
            let mut work = self.work();
            let known = work.desk.resolve(id, token);
            (known, work.desk.can_pass(tending::PASS_RECORDS).is_some())
        };
        if !known {
            self.doubt();
        }
        if all_done {
            self.reader.notify_waiters();
        }
        self.room.notify_waiters();
        self.available.notify_waiters();
    }

    /// The desk is to be made to agree with the machine, soon.
    fn doubt(&self) {
        self.work().in_doubt = true;
        self.look.notify_one();
    }

    /// Nothing more is read or handed out until the group is moved: by the reader of the desk of
    /// `moved`, or by any.
    fn end(&self, moved: Option<u64>, error: ConsumeError) {
        let mut work = self.work();
        if moved.is_none_or(|moved| moved == work.desk.moved()) {
            work.ended.get_or_insert(error);
        }
        drop(work);
        self.available.notify_waiters();
    }

    /// The group was removed: nothing is left to do.
    fn gone(&self) {
        let of = self.means.of.clone();
        let mut work = self.work();
        work.stopped = true;
        work.ended = Some(ConsumersRejection::UnknownGroup { of }.into());
        drop(work);
        self.wake_tending();
        self.available.notify_waiters();
    }

    /// What goes on by itself is to end, or to see whether it is.
    fn wake_tending(&self) {
        self.room.notify_waiters();
        self.reader.notify_waiters();
        self.look.notify_one();
    }
}

/// # Errors
/// The place was never reached.
fn place(tap: &Tap, whence: Whence) -> Result<MessageId, ConsumeError> {
    let durable = tap.durable();
    match whence {
        Whence::Oldest => Ok(tap.oldest().into()),
        Whence::Now => Ok(MessageId::after(durable.0)),
        Whence::After(id) if id.position > durable.0 => {
            let asked = Position(id.position);
            Err(ConsumeError::Feed(FeedError::Ahead { asked, durable }))
        }
        Whence::After(id) => Ok(id),
    }
}

/// Somebody tells the machine what became of a lease. If he goes away before he is answered, or the
/// answer is not known, the desk asks: else its key would wait until the lease is over.
struct Unsure<'a>(&'a Shared);

impl Unsure<'_> {
    fn told(self, answer: &Result<ConsumersReply, ConsumeError>) {
        if !matches!(answer, Err(ConsumeError::Ask(AskError::Unavailable { .. }))) {
            std::mem::forget(self);
        }
    }
}

impl Drop for Unsure<'_> {
    fn drop(&mut self) {
        self.0.doubt();
    }
}

fn check(field: &'static str, given: u64, max: u64) -> Result<(), ConsumeError> {
    if (1..=max).contains(&given) {
        return Ok(());
    }
    Err(invalid(OutOfBounds::new(field, format_args!("1 to {max}"), given)))
}

fn invalid(error: OutOfBounds) -> ConsumeError {
    ConsumersRejection::Invalid(error).into()
}

/// The machine has answered another question: a bug, and never a lost command.
fn unexpected(reply: &ConsumersReply) -> ConsumeError {
    AskError::Unavailable { why: format!("an answer of another kind: {reply:?}") }.into()
}
