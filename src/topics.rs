//! Topics, for publishers: checks and names what is published, finds the shard, and asks it.
//! Readers of a topic are in `consumers`; nothing here knows whether there are any.

use std::{
    collections::HashMap,
    future::IntoFuture,
    marker::PhantomData,
    pin::Pin,
    sync::{Arc, Weak},
};

use serde::Serialize;
use tidegate_actors::{
    ArbiterHandle, AskError, Clock, Group, Keyring,
    dispatch::{ConsumeError, Dispatcher, Whence},
    feed::{Feed, Letters, Tap},
};
use tidegate_machines::{
    self as machines, Consumers, ConsumersCommand, ConsumersReply, GroupId, GroupSummary,
    MessageKey, NewMessage, OutOfBounds, Payload, PublishReceipt, Schedule, ScheduleName,
    TopicName, Topics, TopicsCommand, TopicsRejection, TopicsReply, shard_of,
};
use tokio::sync::Mutex;

use crate::{consumers::OpenGroup, runtime::Parts};

/// Why a topic command got no good reply.
pub type TopicError = AskError<TopicsRejection>;

/// What topics and consumer groups of a store share.
#[derive(Clone)]
pub(crate) struct Post {
    pub(crate) inner: Arc<PostInner>,
}

pub(crate) struct PostInner {
    topics: Group<Topics>,
    pub(crate) consumers: Group<Consumers>,
    pub(crate) keys: Keyring,
    pub(crate) tap: Tap,
    pub(crate) clock: Arc<Clock>,
    pub(crate) arbiters: Vec<ArbiterHandle>,
    /// One dispatcher for each open group, as long as somebody has the group.
    pub(crate) open: Mutex<HashMap<GroupId, Weak<Dispatcher>>>,
}

impl Post {
    pub(crate) fn new(
        topics: Group<Topics>,
        consumers: Group<Consumers>,
        keys: Keyring,
        tap: Tap,
        parts: &Parts,
    ) -> Self {
        let (clock, arbiters) = (Arc::clone(&parts.clock), parts.arbiters.clone());
        let open = Mutex::default();
        Self { inner: Arc::new(PostInner { topics, consumers, keys, tap, clock, arbiters, open }) }
    }

    /// How many shards of topics there are.
    pub(crate) fn topic_shards(&self) -> u16 {
        self.inner.topics.len()
    }

    /// Every consumer group, by topic and name.
    pub(crate) async fn groups(&self) -> Result<Vec<(GroupId, GroupSummary)>, ConsumeError> {
        let (mut all, consumers) = (Vec::new(), &self.inner.consumers);
        for shard in 0..consumers.len() {
            match consumers.ask(shard, ConsumersCommand::Groups).await? {
                ConsumersReply::Groups(groups) => all.extend(groups),
                other => return Err(crate::consumers::unexpected(&other)),
            }
        }
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(all)
    }

    async fn ask(
        &self,
        topic: &TopicName,
        command: TopicsCommand,
    ) -> Result<TopicsReply, TopicError> {
        let topics = &self.inner.topics;
        topics.ask(shard_of(topic.as_str().as_bytes(), topics.len()), command).await
    }
}

/// A topic. Get it from [`crate::Tidegate::topic`]; cheap to clone.
pub struct Topic<T> {
    post: Post,
    name: TopicName,
    caller: Arc<str>,
    values: PhantomData<fn(T) -> T>,
}

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        let (post, name, caller) = (self.post.clone(), self.name.clone(), Arc::clone(&self.caller));
        Self { post, name, caller, values: PhantomData }
    }
}

impl<T> Topic<T> {
    pub(crate) fn new(post: Post, name: &str) -> Result<Self, OutOfBounds> {
        let name = TopicName::new(name)?;
        Ok(Self { post, name, caller: Arc::from(""), values: PhantomData })
    }

    /// The same, for another caller: idempotency keys of different callers never meet.
    #[must_use]
    pub fn for_caller(&self, caller: &str) -> Self {
        Self { caller: Arc::from(caller), ..self.clone() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &TopicName {
        &self.name
    }

    /// Begins to open the group `name` of consumers, which share the messages among them.
    pub fn group(&self, name: &str) -> OpenGroup<T> {
        OpenGroup::new(self.post.clone(), self.name.clone(), name)
    }

    /// The messages from `whence` on, for who reads without a group: all of them, in order. Only
    /// the reader knows how far it is ([`Feed::cursor`], or the id of the message seen last), and
    /// the journal is not kept for it: what is gone by then is said by the first [`Feed::next`].
    #[must_use]
    pub fn feed(&self, whence: Whence) -> Feed<Letters> {
        let (tap, of) = (&self.post.inner.tap, self.name.clone());
        let letters = Letters::of(of, self.post.topic_shards());
        match whence {
            Whence::Oldest => tap.all_letters(letters),
            Whence::Now => tap.letters(letters, tap.durable()),
            Whence::After(id) => tap.letters(letters, id),
        }
    }

    /// Every schedule, by name. Waits until what it shows is on disk.
    ///
    /// # Errors
    /// [`TopicError`].
    pub async fn schedules(&self) -> Result<Vec<(ScheduleName, Schedule)>, TopicError> {
        let command = TopicsCommand::Schedules { topic: self.name.clone() };
        match self.post.ask(&self.name, command).await? {
            TopicsReply::Schedules(schedules) => Ok(schedules),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends the schedule `name`. Waits for the disk.
    ///
    /// # Errors
    /// [`TopicError`]: there is none.
    pub async fn unschedule(&self, name: &str) -> Result<(), TopicError> {
        let name = ScheduleName::new(name).map_err(invalid)?;
        let command = TopicsCommand::Unschedule { topic: self.name.clone(), name };
        self.post.ask(&self.name, command).await.map(drop)
    }
}

impl<T: Serialize> Topic<T> {
    /// Publishes `value` when it is awaited: durably when that returns. Say more about it before.
    pub fn publish(&self, value: &T) -> Publish {
        Publish {
            post: self.post.clone(),
            topic: self.name.clone(),
            caller: Arc::clone(&self.caller),
            payload: payload(value),
            key: None,
            idempotency: None,
            delay_ms: 0,
        }
    }

    /// Publishes a value again and again. A schedule of the same name is replaced, and a run of it
    /// that is due then comes with the new value; the same one again changes nothing. Runs that
    /// were missed, because the store was closed, are made up for by one. Waits for the disk.
    ///
    /// # Errors
    /// [`TopicError`].
    pub async fn schedule(
        &self,
        name: &str,
        value: &T,
        schedule: NewSchedule,
    ) -> Result<(), TopicError> {
        let NewSchedule { every_ms, phase_ms, key } = schedule;
        let message = message(payload(value), key).map_err(invalid)?;
        let (topic, name) = (self.name.clone(), ScheduleName::new(name).map_err(invalid)?);
        let new = machines::NewSchedule { topic, name, message, every_ms, phase_ms };
        self.post.ask(&self.name, TopicsCommand::Schedule(new)).await.map(drop)
    }

    /// A value as a message of this topic.
    pub(crate) fn message(&self, value: &T, key: Option<&str>) -> Result<NewMessage, OutOfBounds> {
        message(payload(value), key.map(str::to_owned))
    }
}

/// When a schedule runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSchedule {
    every_ms: u64,
    phase_ms: u64,
    key: Option<String>,
}

impl NewSchedule {
    /// Every `every_ms` milliseconds, from 1 second to 366 days, counted from 1970.
    #[must_use]
    pub fn every_ms(every_ms: u64) -> Self {
        Self { every_ms, phase_ms: 0, key: None }
    }

    /// So much later each time, in milliseconds, less than `every_ms`.
    #[must_use]
    pub fn phase_ms(mut self, phase_ms: u64) -> Self {
        self.phase_ms = phase_ms;
        self
    }

    /// Its messages have this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }
}

/// A message to be published. Await it.
#[must_use = "nothing is published until it is awaited"]
pub struct Publish {
    post: Post,
    topic: TopicName,
    caller: Arc<str>,
    payload: Result<Payload, OutOfBounds>,
    key: Option<String>,
    idempotency: Option<String>,
    delay_ms: u64,
}

impl Publish {
    /// Messages of one key, of 1 to 255 visible ASCII characters, are consumed one after the other
    /// in the order of the topic.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same idempotency key with the same message gives the same receipt and publishes nothing
    /// again. Without one, what is asked again is published again.
    pub fn idempotency(mut self, key: impl Into<String>) -> Self {
        self.idempotency = Some(key.into());
        self
    }

    /// Publishes it so much later, in milliseconds, up to 366 days: within about 100 ms, and soon
    /// after the store is opened if it is closed then.
    pub fn delay_ms(mut self, delay_ms: u64) -> Self {
        self.delay_ms = delay_ms;
        self
    }

    async fn send(self) -> Result<PublishReceipt, TopicError> {
        let Self { post, topic, caller, payload, key, idempotency, delay_ms } = self;
        let message = message(payload, key).map_err(invalid)?;
        let keys = &post.inner.keys;
        let key = match idempotency {
            None => None,
            Some(key) => {
                // A key must meet its first use, so it is scoped to the topic, which has one shard.
                let key = keys.key(&caller, &format!("publish {topic}"), &key).map_err(invalid)?;
                Some((key, keys.fingerprint(&(&message, delay_ms))))
            }
        };
        let publish = machines::Publish { key, topic: topic.clone(), message, delay_ms };
        match post.ask(&topic, TopicsCommand::Publish(publish)).await? {
            TopicsReply::Published(receipt) => Ok(receipt),
            other => Err(unexpected(&other)),
        }
    }
}

impl IntoFuture for Publish {
    type Output = Result<PublishReceipt, TopicError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// As JSON, which clients in any language read.
fn payload<T: Serialize>(value: &T) -> Result<Payload, OutOfBounds> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| OutOfBounds::new("payload", "a value that JSON can express", error))?;
    Payload::new(bytes)
}

fn message(
    payload: Result<Payload, OutOfBounds>,
    key: Option<String>,
) -> Result<NewMessage, OutOfBounds> {
    let key = key.map(|key| MessageKey::new(&key)).transpose()?;
    Ok(NewMessage { key, payload: payload? })
}

fn invalid(error: OutOfBounds) -> TopicError {
    AskError::Rejected(TopicsRejection::Invalid(error))
}

/// The machine has answered another question: a bug, and never a lost command.
fn unexpected(reply: &TopicsReply) -> TopicError {
    AskError::Unavailable { why: format!("an answer of another kind: {reply:?}") }
}
