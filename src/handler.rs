//! Handlers: code that is given the messages of a group one by one, by a number of workers. It only
//! uses what any consumer can; retries and dead letters are the group's business.

use std::{
    any::Any,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;
use tidegate_actors::{AskError, dispatch::ConsumeError};
use tidegate_machines::{ConsumersRejection, MessageId, MessageKey, Timestamp};
use tokio::{sync::watch, task::JoinHandle};

use crate::consumers::{ConsumerGroup, Leased};

/// How long a worker rests when the group hands nothing out because of an error.
const REST: Duration = Duration::from_secs(1);

/// How long a worker waits before it tells an outcome again; doubled each time, up to [`REST`].
const TELL_AGAIN: Duration = Duration::from_millis(10);

/// For how long it does: a store that has failed must not keep it.
const TELL_FOR: Duration = Duration::from_secs(30);

/// A message as a handler gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<T> {
    /// Its id, which never changes: a good idempotency key for whatever it leads to.
    pub id: MessageId,
    /// When it was published.
    pub at: Timestamp,
    /// What orders it.
    pub key: Option<MessageKey>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// What it says.
    pub value: T,
}

/// Why a handler has failed, in words. Any error turns into it.
#[derive(Debug)]
pub struct HandlerError(String);

impl HandlerError {
    /// For this reason, of which 1,024 bytes are kept.
    pub fn new(cause: impl fmt::Display) -> Self {
        Self(cause.to_string())
    }
}

impl<E: std::error::Error> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

/// Code that handles messages. A message is handled at least once, and again if the handler fails,
/// panics or the process ends: let what it does be known by [`Message::id`].
pub trait Handler<T>: Send + Sync + 'static {
    /// Handles one message.
    ///
    /// # Errors
    /// Any; the message is tried again later, and given up after its last attempt.
    fn handle(&self, message: &Message<T>)
    -> impl Future<Output = Result<(), HandlerError>> + Send;
}

/// Workers that run a handler. Dropped, they stop like [`Workers::stop`], but nobody waits.
#[must_use = "the workers stop when this is dropped"]
pub struct Workers {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Takes no more messages, and waits until those at hand are handled.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        for task in self.tasks.drain(..) {
            if let Err(error) = task.await {
                tracing::error!(%error, "a worker of a consumer group has failed");
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> ConsumerGroup<T> {
    /// Has `workers` tasks (at least one) of the present tokio runtime run `handler`, each with one
    /// message at a time and `handle_for` (1 ms to 12 hours) for each: a handler that takes longer
    /// is dropped where it waits, and has failed. They end when they are stopped or the store is
    /// closed.
    pub fn run(&self, workers: usize, handle_for: Duration, handler: impl Handler<T>) -> Workers {
        let (stop, stopped) = watch::channel(false);
        let handler = Arc::new(handler);
        let worker = |_| {
            let (group, handler, stopped) = (self.clone(), Arc::clone(&handler), stopped.clone());
            tokio::spawn(async move { work(&group, &handler, handle_for, stopped).await })
        };
        Workers { tasks: (0..workers.max(1)).map(worker).collect(), stop }
    }
}

async fn work<T, H>(
    group: &ConsumerGroup<T>,
    handler: &Arc<H>,
    handle_for: Duration,
    mut stopped: watch::Receiver<bool>,
) where
    T: DeserializeOwned + Send + Sync + 'static,
    H: Handler<T>,
{
    while !*stopped.borrow() {
        // Whoever could stop it is gone: as good as stopping it.
        let ended = async { drop(stopped.wait_for(|stopped| *stopped).await) };
        match group.lease_until(1, ended, handle_for).await {
            Ok(leases) => {
                for leased in leases {
                    handle(&leased, handler, handle_for).await;
                }
            }
            Err(ConsumeError::Ask(AskError::Closing) | ConsumeError::Failed) => return,
            Err(ConsumeError::Ask(AskError::Rejected(ConsumersRejection::UnknownGroup {
                ..
            }))) => return,
            Err(error) => {
                tracing::error!(group = %group.id(), %error, "no messages");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Has one message handled, and says how that went.
async fn handle<T, H>(leased: &Leased<T>, handler: &Arc<H>, handle_for: Duration)
where
    T: DeserializeOwned + Send + Sync + 'static,
    H: Handler<T>,
{
    let outcome = attempt(leased, handler, handle_for).await;
    match tell(leased, &outcome).await {
        Ok(()) | Err(ConsumeError::Ask(AskError::Closing)) => {}
        Err(ConsumeError::Ask(AskError::Rejected(late @ ConsumersRejection::Late { .. }))) => {
            tracing::warn!(%late, "a message took longer than its lease");
        }
        Err(error) => tracing::error!(%error, "a message's outcome could not be told"),
    }
}

/// Says how it went, again and again while the group's shard has too much to do or its answer is
/// not known: it says itself when the lease is over.
pub(crate) async fn tell<T>(
    leased: &Leased<T>,
    outcome: &Result<(), HandlerError>,
) -> Result<(), ConsumeError> {
    let (begun, mut wait) = (Instant::now(), TELL_AGAIN);
    loop {
        let told = match outcome {
            Ok(()) => leased.ack().await,
            Err(HandlerError(cause)) => leased.fail(cause).await,
        };
        match told {
            Err(ConsumeError::Ask(AskError::Overloaded { .. } | AskError::Unavailable { .. }))
                if begun.elapsed() < TELL_FOR => {}
            told => return told,
        }
        tokio::time::sleep(wait).await;
        wait = (2 * wait).min(REST);
    }
}

/// In a task of its own, where a panic ends.
async fn attempt<T, H>(
    leased: &Leased<T>,
    handler: &Arc<H>,
    handle_for: Duration,
) -> Result<(), HandlerError>
where
    T: DeserializeOwned + Send + Sync + 'static,
    H: Handler<T>,
{
    let value = leased.value().map_err(HandlerError::from)?;
    let letter = leased.letter();
    let (id, at, key) = (letter.id, letter.at, letter.key.clone());
    let message = Message { id, at, key, attempt: leased.attempt(), value };
    let handler = Arc::clone(handler);
    let mut task = tokio::spawn(async move { handler.handle(&message).await });
    match tokio::time::timeout(handle_for, &mut task).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) if error.is_panic() => {
            let text = panic_text(&*error.into_panic());
            Err(HandlerError::new(format_args!("the handler panicked: {text}")))
        }
        Ok(Err(error)) => Err(error.into()),
        Err(_) => {
            // It may not notice at once; nobody else gets the message before it is gone, or its
            // lease is over.
            task.abort();
            let _ = task.await;
            Err(HandlerError::new(format_args!("the handler took longer than {handle_for:?}")))
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".to_owned())
}
