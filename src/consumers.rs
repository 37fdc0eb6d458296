//! Consumer groups, for consumers: messages to have for a time, and what becomes of them. Who may
//! have which is the dispatcher's business; how far a group is, the consumer machine's.

use std::{
    marker::PhantomData,
    sync::{Arc, Weak},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use tidegate_actors::{
    AskError,
    dispatch::{ConsumeError, Dispatcher, GroupFigures, Lease, Means, Whence},
    feed::Letters,
};
use tidegate_machines::{
    ConsumersCommand, ConsumersRejection, ConsumersReply, DeadLetter, FollowUp, GroupId, GroupName,
    GroupView, LeaseToken, Letter, MessageId, OrderId, OutOfBounds, Retry, Timestamp, TopicName,
    shard_of,
};

use crate::topics::{Post, Topic};

/// A group to be opened.
#[must_use = "it is opened by `open`"]
pub struct OpenGroup<T> {
    post: Post,
    topic: TopicName,
    name: String,
    whence: Option<Whence>,
    retry: Retry,
    values: PhantomData<fn() -> T>,
}

impl<T> OpenGroup<T> {
    pub(crate) fn new(post: Post, topic: TopicName, name: &str) -> Self {
        let (name, retry) = (name.to_owned(), Retry::default());
        Self { post, topic, name, whence: Some(Whence::Now), retry, values: PhantomData }
    }

    /// Where the group begins if it is new. Default: with what is published from now on. One that
    /// is there already goes on where it is.
    pub fn begin(mut self, whence: Whence) -> Self {
        self.whence = Some(whence);
        self
    }

    /// Makes no group: it must be there.
    pub fn only_known(mut self) -> Self {
        self.whence = None;
        self
    }

    /// How often a message is tried, and how far apart. Default: 10 times, half a second to 5
    /// minutes. While the group is open, what it was opened with first holds, or what
    /// [`ConsumerGroup::set_retry`] said since.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Opens it. All who open it share it. Waits for the disk.
    ///
    /// # Errors
    /// [`ConsumeError`]; [`FeedError::Ahead`](crate::FeedError::Ahead) if the journal was never
    /// where it is to begin.
    pub async fn open(self) -> Result<ConsumerGroup<T>, ConsumeError> {
        let Self { post, topic, name, whence, retry, .. } = self;
        let group = GroupName::new(&name).map_err(invalid)?;
        let of = GroupId { topic: topic.clone(), group };
        // Held until it is open, so that a group never has two dispatchers.
        let mut open = post.inner.open.lock().await;
        let running = open.get(&of).and_then(Weak::upgrade).filter(|one| !one.is_over());
        let dispatcher = match running {
            Some(running) => running,
            None => {
                let (consumers, arbiters) = (&post.inner.consumers, &post.inner.arbiters);
                let shard = shard_of(of.to_string().as_bytes(), consumers.len());
                let means = Means {
                    consumers: consumers.clone(),
                    shard,
                    of: of.clone(),
                    letters: Letters::of(topic, post.topic_shards()),
                    tap: post.inner.tap.clone(),
                    clock: Arc::clone(&post.inner.clock),
                    retry,
                    arbiter: arbiters[usize::from(shard) % arbiters.len()].clone(),
                };
                Arc::new(Dispatcher::open(means, whence).await?)
            }
        };
        open.retain(|_, one| one.strong_count() > 0);
        open.insert(of, Arc::downgrade(&dispatcher));
        drop(open);
        Ok(ConsumerGroup { post, dispatcher, values: PhantomData })
    }
}

/// An open group of consumers of one topic. Cheap to clone.
pub struct ConsumerGroup<T> {
    post: Post,
    dispatcher: Arc<Dispatcher>,
    values: PhantomData<fn() -> T>,
}

impl<T> Clone for ConsumerGroup<T> {
    fn clone(&self) -> Self {
        let (post, dispatcher) = (self.post.clone(), Arc::clone(&self.dispatcher));
        Self { post, dispatcher, values: PhantomData }
    }
}

impl<T> ConsumerGroup<T> {
    /// The topic and the group.
    #[must_use]
    pub fn id(&self) -> &GroupId {
        self.dispatcher.of()
    }

    /// Up to `max` messages (1 to 256), in the caller's hands for `lease_for` (1 ms to 12 hours):
    /// nobody else gets them, nor any other message of their keys, until they are resolved or that
    /// time is over. Waits up to `wait` for the first; there may be none by then. Each attempt is
    /// on disk before anybody has the message. Needs a tokio runtime with time.
    ///
    /// # Errors
    /// [`ConsumeError`]: [`ConsumeError::Trimmed`] if messages are gone that were not consumed,
    /// `DeadLettersFull` if a message should be given up and can't be kept.
    pub async fn lease(
        &self,
        max: usize,
        wait: Duration,
        lease_for: Duration,
    ) -> Result<Vec<Leased<T>>, ConsumeError> {
        Ok(self.leased(self.dispatcher.lease(max, wait, ms(lease_for)).await?))
    }

    /// The same, but waits for the first one until `ended`: for a consumer that is to stop, say.
    /// What was about to be handed out by then still is, so no attempt is lost to it.
    ///
    /// # Errors
    /// As for [`ConsumerGroup::lease`].
    pub async fn lease_until(
        &self,
        max: usize,
        ended: impl Future<Output = ()>,
        lease_for: Duration,
    ) -> Result<Vec<Leased<T>>, ConsumeError> {
        let leases = self.dispatcher.lease_until(max, ended, ms(lease_for)).await?;
        Ok(self.leased(leases))
    }

    fn leased(&self, leases: Vec<Lease>) -> Vec<Leased<T>> {
        leases.into_iter().map(|lease| Leased { group: self.clone(), lease }).collect()
    }

    /// [`Leased::ack_with`], for who only knows the message's id and the lease's token.
    ///
    /// # Errors
    /// As there.
    pub async fn ack(
        &self,
        id: MessageId,
        token: LeaseToken,
        effects: Effects,
    ) -> Result<(), ConsumeError> {
        let follow_ups: Result<Vec<_>, _> = effects.0.into_iter().collect();
        self.dispatcher.done(id, token, follow_ups.map_err(invalid)?).await
    }

    /// [`Leased::fail`], likewise.
    ///
    /// # Errors
    /// As there.
    pub async fn fail(
        &self,
        id: MessageId,
        token: LeaseToken,
        cause: &str,
    ) -> Result<(), ConsumeError> {
        self.dispatcher.fail(id, token, cause).await
    }

    /// [`Leased::extend`], likewise.
    ///
    /// # Errors
    /// As there.
    pub fn extend(
        &self,
        id: MessageId,
        token: LeaseToken,
        lease_for: Duration,
    ) -> Result<(), ConsumeError> {
        self.dispatcher.extend(id, token, ms(lease_for))
    }

    /// How far the group is, as far as that is on disk.
    ///
    /// # Errors
    /// [`ConsumeError`].
    pub async fn view(&self) -> Result<GroupView, ConsumeError> {
        self.dispatcher.view().await
    }

    /// Goes on elsewhere, forward or back. An attempt that is under way then is acknowledged too
    /// late. This and what follows here happens to its end, even if nobody waits for it; several
    /// happen one after the other. Waits for the disk.
    ///
    /// # Errors
    /// [`ConsumeError`]; [`FeedError::Ahead`](crate::FeedError::Ahead) if the journal was never
    /// there.
    pub async fn seek(&self, whence: Whence) -> Result<(), ConsumeError> {
        self.dispatcher.seek(whence).await
    }

    /// Hands nothing out until [`ConsumerGroup::resume`], over a restart as well. Waits for the
    /// disk.
    ///
    /// # Errors
    /// [`ConsumeError`].
    pub async fn pause(&self) -> Result<(), ConsumeError> {
        self.dispatcher.pause(true).await
    }

    /// Ends a pause. Waits for the disk.
    ///
    /// # Errors
    /// [`ConsumeError`].
    pub async fn resume(&self) -> Result<(), ConsumeError> {
        self.dispatcher.pause(false).await
    }

    /// Up to `limit` (1 to 100) dead letters, in order, after `after` if it is given.
    ///
    /// # Errors
    /// [`ConsumeError`].
    pub async fn dead_letters(
        &self,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, ConsumeError> {
        let (of, after) = (self.dispatcher.group().clone(), after.unwrap_or_default());
        match self.ask(ConsumersCommand::DeadLetters { of, after, limit }).await? {
            ConsumersReply::DeadLetters(dead) => Ok(dead),
            other => Err(unexpected(&other)),
        }
    }

    /// A dead letter; `None` if the message is none.
    ///
    /// # Errors
    /// [`ConsumeError`].
    pub async fn dead_letter(&self, id: MessageId) -> Result<Option<DeadLetter>, ConsumeError> {
        let after = match id.within {
            Some(0) => MessageId::after(id.position.saturating_sub(1)),
            Some(within) => MessageId { within: Some(within - 1), ..id },
            None => MessageId { within: Some(u32::MAX - 1), ..id },
        };
        let dead = self.dead_letters(Some(after), 1).await?;
        Ok(dead.into_iter().find(|dead| dead.letter.id == id))
    }

    /// Tries a dead letter again, from the first attempt on and before what is still to come of its
    /// key. Waits for the disk.
    ///
    /// # Errors
    /// [`ConsumeError`]: it is none.
    pub async fn replay(&self, id: MessageId) -> Result<(), ConsumeError> {
        self.dispatcher.replay(id).await
    }

    /// Forgets a dead letter. Waits for the disk.
    ///
    /// # Errors
    /// [`ConsumeError`]: it is none.
    pub async fn discard(&self, id: MessageId) -> Result<(), ConsumeError> {
        self.ask(ConsumersCommand::Discard { of: self.dispatcher.group().clone(), id })
            .await
            .map(drop)
    }

    /// Forgets the group with its dead letters: whoever has it open gets nothing any more, and can
    /// do nothing to a later group of the same name. Waits for the disk.
    ///
    /// # Errors
    /// [`ConsumeError`].
    pub async fn remove(&self) -> Result<(), ConsumeError> {
        self.dispatcher.remove().await
    }

    /// Messages at hand that are not resolved; those of them that somebody has; how often messages
    /// were found to be no longer kept, since it was opened.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, u64) {
        let GroupFigures { open, leased, trimmed, .. } = self.figures();
        (open, leased, trimmed)
    }

    /// How the open group stands, as the present process knows it. Waits for nothing.
    #[must_use]
    pub fn figures(&self) -> GroupFigures {
        self.dispatcher.figures()
    }

    /// Whether it will never hand out anything again: it was removed, has failed, or the store is
    /// closed. Opened anew, it may.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.dispatcher.is_over()
    }

    /// From now on messages are tried so often, and so far apart, for all who have the group open.
    /// Not kept over a restart. Waits for nothing.
    ///
    /// # Errors
    /// A value out of bounds.
    pub fn set_retry(&self, retry: Retry) -> Result<(), ConsumeError> {
        self.dispatcher.set_retry(retry)
    }

    async fn ask(&self, command: ConsumersCommand) -> Result<ConsumersReply, ConsumeError> {
        let consumers = &self.post.inner.consumers;
        let shard = shard_of(self.id().to_string().as_bytes(), consumers.len());
        Ok(consumers.ask(shard, command).await?)
    }
}

/// A message in the caller's hands. Dropped, it comes back when its time is over.
#[must_use = "it comes again unless it is acknowledged"]
pub struct Leased<T> {
    group: ConsumerGroup<T>,
    lease: Lease,
}

impl<T> Leased<T> {
    /// The message: its id, its key, its bytes. The id never changes, so it is a good idempotency
    /// key for whatever the message leads to.
    #[must_use]
    pub fn letter(&self) -> &Letter {
        &self.lease.letter
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.lease.letter.id
    }

    /// Which attempt this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.lease.attempt
    }

    /// When the lease ends, unless it is extended.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        self.lease.until
    }

    /// Names this lease, with the message's id: for who acknowledges from elsewhere. No other lease
    /// of the group ever has it, nor of a later group of the same name.
    #[must_use]
    pub fn token(&self) -> LeaseToken {
        self.lease.token
    }

    /// What it says.
    ///
    /// # Errors
    /// It is no `T` as JSON.
    pub fn value(&self) -> Result<T, serde_json::Error>
    where
        T: DeserializeOwned,
    {
        serde_json::from_slice(self.lease.letter.payload.bytes())
    }

    /// It is done, durably when this returns.
    ///
    /// # Errors
    /// [`ConsumersRejection::Late`] if its time is over; then it is done, or will be, by somebody
    /// else.
    pub async fn ack(&self) -> Result<(), ConsumeError> {
        self.ack_with(Effects::new()).await
    }

    /// It is done, and `effects` follow: either both are on disk when this returns, or nothing of
    /// it has happened. They are carried out once, soon after, however often the process ends.
    ///
    /// # Errors
    /// As for [`Leased::ack`]; a value out of bounds; [`ConsumersRejection::FollowUpsFull`] if too
    /// much of what was committed so waits to be carried out: then try again a little later.
    pub async fn ack_with(&self, effects: Effects) -> Result<(), ConsumeError> {
        self.group.ack(self.id(), self.token(), effects).await
    }

    /// The attempt has failed because of `cause`, of which 1,024 bytes are kept. The message is
    /// tried again later; after its last attempt it is a dead letter. Waits for the disk.
    ///
    /// # Errors
    /// [`ConsumersRejection::Late`] if its time is over.
    pub async fn fail(&self, cause: &str) -> Result<(), ConsumeError> {
        self.group.fail(self.id(), self.token(), cause).await
    }

    /// It stays in the caller's hands for `lease_for` from now.
    ///
    /// # Errors
    /// [`ConsumersRejection::Late`] if its time is over.
    pub fn extend(&self, lease_for: Duration) -> Result<(), ConsumeError> {
        self.group.extend(self.id(), self.token(), lease_for)
    }
}

/// What follows from a message within Tidegate, and commits with its acknowledgement. Up to 20.
#[derive(Default)]
pub struct Effects(Vec<Result<FollowUp, OutOfBounds>>);

impl Effects {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Publishes `value` with `key`, if there is one. All payloads together may have 64 KiB.
    #[must_use]
    pub fn publish<T: Serialize>(mut self, topic: &Topic<T>, value: &T, key: Option<&str>) -> Self {
        let message = topic.message(value, key);
        let topic = topic.name().clone();
        self.0.push(message.map(|message| FollowUp::Publish { topic, message }));
        self
    }

    /// Cancels an order. If it can't be cancelled any more, nothing happens but a line in the log.
    #[must_use]
    pub fn cancel(mut self, order: OrderId) -> Self {
        self.0.push(Ok(FollowUp::Cancel { order }));
        self
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn invalid(error: OutOfBounds) -> ConsumeError {
    ConsumersRejection::Invalid(error).into()
}

/// The machine has answered another question: a bug, and never a lost command.
pub(crate) fn unexpected(reply: &ConsumersReply) -> ConsumeError {
    AskError::Unavailable { why: format!("an answer of another kind: {reply:?}") }.into()
}
