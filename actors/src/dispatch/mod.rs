//! The dispatcher of a consumer group: reads its topic ahead, hands messages out for a time, and
//! takes back what was not resolved by then. It deliberately keeps nothing that must survive: the
//! consumer machine does, and is asked before a message is handed out and when it is resolved.

mod desk;
mod tending;

use std::{
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tidegate_machines::{
    Attempt, Consumers, ConsumersCommand, ConsumersRejection, ConsumersReply, FollowUp, GroupId,
    GroupView, Incarnation, LeaseToken, Letter, MessageId, Retry, Take, bounds::OutOfBounds,
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
use desk::{Desk, Offer};

/// Most messages handed out by one call.
pub const LEASE_MESSAGES_MAX: usize = 256;

/// Longest lease, in milliseconds: 12 hours.
pub const LEASE_MS_MAX: u64 = 12 * 60 * 60 * 1_000;

/// How long a caller waits after it was offered something and got nothing.
const TAKE_AGAIN: Duration = Duration::from_millis(5);

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
    /// The topic can't be read.
    #[error(transparent)]
    Feed(FeedError),
    /// The dispatcher has failed, which is a bug: the log has the panic. Open the group again.
    #[error("the dispatcher of the group has failed; see the log, then open the group again")]
    Failed,
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
}

/// See the module. One for each open group of a store, however many consumers share it.
pub struct Dispatcher {
    shared: Arc<Shared>,
}

struct Shared {
    means: Means,
    /// The group, and no later one of its name.
    group: Incarnation,
    desk: Mutex<Work>,
    /// There may be something to hand out.
    available: Notify,
    /// There may be room to read on.
    room: Notify,
    trimmed: AtomicU64,
}

struct Work {
    desk: Desk,
    /// Counts up with each move of the group: a reader of an older one ends.
    generation: u64,
    /// Why nothing more is read.
    ended: Option<ConsumeError>,
    /// The store or the last handle has gone.
    stopped: bool,
}

impl Dispatcher {
    /// Opens the group, which begins at `whence` if it is new, and begins to read. Waits for the
    /// disk.
    ///
    /// # Errors
    /// [`ConsumeError::Ask`].
    pub async fn open(means: Means, whence: Whence) -> Result<Self, ConsumeError> {
        means.retry.check().map_err(invalid)?;
        let after = place(&means.tap, whence);
        let command = ConsumersCommand::Open { of: means.of.clone(), after };
        let view = match means.consumers.ask(means.shard, command).await? {
            ConsumersReply::View(view) => *view,
            other => return Err(unexpected(&other)),
        };
        let group = Incarnation { of: means.of.clone(), born: view.born };
        let work = Work { desk: Desk::new(view), generation: 0, ended: None, stopped: false };
        let shared = Arc::new(Shared {
            means,
            group,
            desk: Mutex::new(work),
            available: Notify::new(),
            room: Notify::new(),
            trimmed: AtomicU64::new(0),
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

    /// Up to `max` messages, each in the caller's hands for `lease_ms` from now. Waits for the
    /// first up to `wait`; the answer is empty if there is none by then. Waits for the disk: an
    /// attempt is counted before anybody can begin it. Dropped while it waits, it costs what it
    /// was about to give an attempt at most. Needs a tokio runtime with time.
    ///
    /// # Errors
    /// [`ConsumeError`].
    pub async fn lease(
        &self,
        max: usize,
        wait: Duration,
        lease_ms: u64,
    ) -> Result<Vec<Lease>, ConsumeError> {
        check("max", max as u64, LEASE_MESSAGES_MAX as u64)?;
        check("lease_ms", lease_ms, LEASE_MS_MAX)?;
        let begun = Instant::now();
        loop {
            let woken = pin!(self.shared.available.notified());
            if let Some((offer, taking)) = self.shared.take(max)? {
                let leases = offer.lease(taking.await, lease_ms)?;
                if !leases.is_empty() {
                    return Ok(leases);
                }
                // All of it was given up, or the group is being moved.
                tokio::time::sleep(TAKE_AGAIN).await;
                if begun.elapsed() < wait {
                    continue;
                }
                return Ok(Vec::new());
            }
            let left = wait.saturating_sub(begun.elapsed());
            if left.is_zero() || tokio::time::timeout(left, woken).await.is_err() {
                // What has come in the last moment is there for the next call.
                return Ok(Vec::new());
            }
        }
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
        let of = self.of().clone();
        self.shared.ask(ConsumersCommand::Done { of, id, token, follow_ups }).await?;
        self.shared.resolved(id);
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
        self.shared.fail(letter, token, cause.to_owned()).await
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

    /// Goes on at `whence`, forward or back. What is in somebody's hands then is acknowledged too
    /// late. Waits for the disk.
    ///
    /// # Errors
    /// [`ConsumeError::Ask`].
    pub async fn seek(&self, whence: Whence) -> Result<(), ConsumeError> {
        let shared = &self.shared;
        let to = place(&shared.means.tap, whence);
        shared.work().desk.set_moving(true);
        let of = self.group().clone();
        let moved = async {
            shared.ask(ConsumersCommand::Seek { of, to }).await?;
            self.view().await
        };
        let view = moved.await.inspect_err(|_| shared.work().desk.set_moving(false))?;
        {
            let mut work = shared.work();
            work.desk = Desk::new(view);
            work.generation += 1;
            work.ended = None;
        }
        tending::read(shared);
        Ok(())
    }

    /// Hands nothing out until it is resumed, over a restart as well. Waits for the disk.
    ///
    /// # Errors
    /// [`ConsumeError::Ask`].
    pub async fn pause(&self, paused: bool) -> Result<(), ConsumeError> {
        let of = self.group().clone();
        self.shared.ask(ConsumersCommand::Pause { of, paused }).await?;
        self.shared.work().desk.set_paused(paused);
        self.shared.available.notify_waiters();
        Ok(())
    }

    /// Tries a dead letter again, from its first attempt on, before later messages of its key.
    /// Waits for the disk.
    ///
    /// # Errors
    /// [`ConsumeError::Ask`]: it is none.
    pub async fn replay(&self, id: MessageId) -> Result<(), ConsumeError> {
        let of = self.group().clone();
        self.shared.ask(ConsumersCommand::Replay { of, id }).await?;
        for (pending, letter) in self.view().await?.again {
            if pending.id == id {
                self.shared.work().desk.add_again(letter, pending.not_before);
            }
        }
        self.shared.available.notify_waiters();
        Ok(())
    }

    /// Forgets the group with its dead letters: nothing is handed out any more. Waits for the disk.
    ///
    /// # Errors
    /// [`ConsumeError::Ask`].
    pub async fn remove(&self) -> Result<(), ConsumeError> {
        let of = self.of().clone();
        self.shared.ask(ConsumersCommand::Remove { of: self.group().clone() }).await?;
        self.shared.end(None, ConsumersRejection::UnknownGroup { of }.into());
        Ok(())
    }

    /// How far the group is, as far as that is on disk.
    ///
    /// # Errors
    /// [`ConsumeError::Ask`].
    pub async fn view(&self) -> Result<GroupView, ConsumeError> {
        match self.shared.ask(ConsumersCommand::View { of: self.group().clone() }).await? {
            ConsumersReply::View(view) => Ok(*view),
            other => Err(unexpected(&other)),
        }
    }

    /// Messages at hand that are not resolved; those of them that somebody has; how often messages
    /// were found to be no longer kept.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, u64) {
        let (open, leased) = self.shared.work().desk.counts();
        (open, leased, self.shared.trimmed.load(Ordering::Relaxed))
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.shared.work().stopped = true;
        self.shared.room.notify_waiters();
    }
}

/// The machine's answer to come.
type Asked = Pin<Box<dyn Future<Output = Outcome<Consumers>> + Send>>;

/// What is offered to a caller who may go away: then it is withdrawn.
struct Offered<'a> {
    shared: &'a Shared,
    generation: u64,
    ids: Vec<MessageId>,
    known_to: Option<MessageId>,
}

impl Offered<'_> {
    /// What the machine let this caller have.
    fn lease(self, taken: Outcome<Consumers>, lease_ms: u64) -> Result<Vec<Lease>, ConsumeError> {
        let (taken, died) = match taken {
            Ok(ConsumersReply::Taken { taken, died }) => (taken, died),
            Ok(other) => return Err(unexpected(&other)),
            // It is being moved, or was paused just now: there is nothing to have at the moment.
            Err(AskError::Rejected(ConsumersRejection::Moved | ConsumersRejection::Paused)) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error.into()),
        };
        for id in &died {
            tracing::warn!(of = %self.shared.means.of, %id, "given up: its attempts never ended");
            self.shared.resolved(*id);
        }
        let until = self.shared.means.clock.now().plus_ms(lease_ms);
        let mut work = self.shared.work();
        if work.generation != self.generation {
            // The group was moved after all of this was taken, which is forgotten.
            return Ok(Vec::new());
        }
        if let Some(known_to) = self.known_to {
            work.desk.known(known_to);
        }
        let leases = taken.into_iter().filter_map(|Attempt { id, number, token }| {
            let letter = work.desk.lease(id, token, until)?;
            Some(Lease { letter, attempt: number, token })
        });
        Ok(leases.collect())
    }
}

impl Drop for Offered<'_> {
    fn drop(&mut self) {
        let mut work = self.shared.work();
        if work.generation == self.generation {
            self.ids.iter().for_each(|id| work.desk.withdraw(*id));
        }
        drop(work);
        self.shared.available.notify_waiters();
    }
}

impl Shared {
    fn work(&self) -> MutexGuard<'_, Work> {
        // No user code runs under this lock, so its content is whole even after a panic.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the machine for attempts of what is free, if anything is.
    fn take(&self, max: usize) -> Result<Option<(Offered<'_>, Asked)>, ConsumeError> {
        let Means { consumers, shard, retry, clock, .. } = &self.means;
        let mut work = self.work();
        if let Some(error) = &work.ended {
            return Err(error.clone());
        }
        let Some(Offer { after, read, letters }) = work.desk.offer(max, clock.now()) else {
            return Ok(None);
        };
        let ids = letters.iter().map(|letter| letter.id).collect();
        let (generation, known_to) = (work.generation, read.last().copied());
        let offered = Offered { shared: self, generation, ids, known_to };
        let take = Take { of: self.group.clone(), after, read, letters, retry: *retry };
        // Sent under the lock, so that the machine meets the attempts in the desk's order.
        let taking = consumers.ask(*shard, ConsumersCommand::Take(take));
        Ok(Some((offered, Box::pin(taking))))
    }

    async fn ask(&self, command: ConsumersCommand) -> Result<ConsumersReply, ConsumeError> {
        Ok(self.means.consumers.ask(self.means.shard, command).await?)
    }

    async fn fail(
        &self,
        letter: Letter,
        token: LeaseToken,
        cause: String,
    ) -> Result<(), ConsumeError> {
        let (of, retry, id) = (self.means.of.clone(), self.means.retry, letter.id);
        let command = ConsumersCommand::Fail { of, letter, token, cause, retry };
        match self.ask(command).await? {
            ConsumersReply::Failed(Some(not_before)) => {
                self.work().desk.failed(id, token, not_before);
                self.available.notify_waiters();
            }
            _ => self.resolved(id),
        }
        Ok(())
    }

    fn resolved(&self, id: MessageId) {
        self.work().desk.resolve(id);
        self.room.notify_waiters();
        self.available.notify_waiters();
    }
}

fn place(tap: &Tap, whence: Whence) -> MessageId {
    match whence {
        Whence::Oldest => tap.oldest().into(),
        Whence::Now => MessageId::after(tap.durable().0),
        Whence::After(id) => id,
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
