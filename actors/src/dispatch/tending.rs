//! What goes on in an open group by itself: its topic is read ahead, leases that are over are taken
//! back, and doubts are settled. Two tasks on an arbiter, which end with the store or with the last
//! handle of the group. They decide nothing about a message.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tidegate_machines::{ConsumersCommand, ConsumersRejection, LeaseToken, Letter, MessageId};

use super::{Asked, ConsumeError, Shared};
use crate::{error::AskError, feed::FeedError};

/// How often leases and waits are looked at.
const LOOK_AT_TIME: Duration = Duration::from_millis(50);

/// How often a reader for whom there is nothing looks around.
const LOOK_AROUND: Duration = Duration::from_millis(500);

/// How long a reader waits after the first error of the disk; doubled with each further one.
const READ_AGAIN: Duration = Duration::from_millis(100);

/// The longest such wait.
const READ_AGAIN_MAX: Duration = Duration::from_secs(10);

/// Records without a message of the topic that are worth a note of how far was read.
const PASS_RECORDS: u64 = 1_000;

/// Most leases taken back at one look.
const TAKE_BACK_MAX: usize = 256;

/// How long a lease that could not be taken back waits for the next try, in milliseconds.
const TAKE_BACK_AGAIN_MS: u64 = 1_000;

/// Why a message is tried again of which nothing was heard.
const RAN_OUT: &str = "its lease ran out before it was acknowledged";

pub(super) fn start(shared: &Arc<Shared>) {
    read(shared);
    let tended = Arc::clone(shared);
    spawn(shared, async move { tended.look_at_time().await });
}

/// Begins to read, from where the desk is.
pub(super) fn read(shared: &Arc<Shared>) {
    let reading = Reading { moved: shared.work().desk.moved(), shared: Arc::clone(shared) };
    spawn(shared, async move { reading.run().await });
}

fn spawn(shared: &Shared, task: impl Future<Output = ()> + Send + 'static) {
    if !shared.means.arbiter.spawn(task) {
        shared.end(None, AskError::Closing.into());
    }
}

/// A reader. However it ends, those who wait are told.
struct Reading {
    shared: Arc<Shared>,
    /// It reads for the desk of this move.
    moved: u64,
}

impl Drop for Reading {
    fn drop(&mut self) {
        let error =
            if std::thread::panicking() { ConsumeError::Failed } else { AskError::Closing.into() };
        self.shared.end(Some(self.moved), error);
    }
}

impl Reading {
    async fn run(self) {
        let shared = &self.shared;
        let after = shared.work().desk.begins_after();
        let mut feed = shared.means.tap.letters(shared.means.letters.clone(), after);
        let mut again = READ_AGAIN;
        loop {
            let room = shared.room.notified();
            match self.has_room() {
                None => return,
                Some(true) => {}
                Some(false) => {
                    // Whoever makes room says so; looking around is for the end of the store.
                    let _ = tokio::time::timeout(LOOK_AROUND, room).await;
                    continue;
                }
            }
            let letter = match tokio::time::timeout(LOOK_AROUND, feed.next()).await {
                Ok(Ok(letter)) => Some(letter),
                Ok(Err(FeedError::Storage(error))) => {
                    self.failing(FeedError::Storage(error));
                    tokio::time::sleep(again).await;
                    again = (2 * again).min(READ_AGAIN_MAX);
                    continue;
                }
                Ok(Err(error)) => return self.failed(error),
                Err(_) => None,
            };
            again = READ_AGAIN;
            let passing = self.note(letter, feed.cursor().into());
            shared.available.notify_waiters();
            if let Some((to, passing)) = passing
                && passing.await.is_ok()
            {
                self.known(to);
            }
        }
    }

    /// Whether there is room to read on; `None` if this reader is to end.
    fn has_room(&self) -> Option<bool> {
        let work = self.shared.work();
        let goes_on = !work.stopped && work.desk.moved() == self.moved;
        goes_on.then(|| work.desk.has_room())
    }

    /// Puts on the desk what was read. If there was nothing for long, that is noted, so that the
    /// journal isn't kept for it: up to which place, and the machine's answer to come.
    fn note(&self, letter: Option<Letter>, heard_to: MessageId) -> Option<(MessageId, Asked)> {
        let shared = &self.shared;
        let mut work = shared.work();
        if work.desk.moved() != self.moved {
            return None;
        }
        work.failing = None;
        if let Some(letter) = letter {
            work.desk.read(letter);
        }
        work.desk.heard(heard_to);
        let (after, to) = work.desk.can_pass(PASS_RECORDS)?;
        // Sent under the lock, so that no change of the group comes between.
        let pass = ConsumersCommand::Pass { of: shared.group.clone(), after, to };
        Some((to, Box::pin(shared.means.consumers.ask(shared.means.shard, pass))))
    }

    fn known(&self, to: MessageId) {
        let mut work = self.shared.work();
        if work.desk.moved() == self.moved {
            work.desk.known(to);
        }
    }

    /// The disk does not give what is there. It may yet.
    fn failing(&self, error: FeedError) {
        let of = &self.shared.means.of;
        tracing::warn!(%of, %error, "the topic can't be read; it is tried again");
        let mut work = self.shared.work();
        if work.desk.moved() == self.moved {
            work.failing = Some(error);
        }
        drop(work);
        self.shared.available.notify_waiters();
    }

    fn failed(&self, error: FeedError) {
        let of = self.shared.means.of.clone();
        let error = match error {
            FeedError::Trimmed { oldest, .. } => {
                self.shared.trimmed.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%of, %oldest, "messages that were not consumed are gone");
                ConsumeError::Trimmed { of, oldest }
            }
            FeedError::Closed => AskError::Closing.into(),
            error => {
                tracing::error!(%of, %error, "the topic can't be read");
                ConsumeError::Feed(error)
            }
        };
        self.shared.end(Some(self.moved), error);
    }
}

impl Shared {
    /// Takes back what is overdue, wakes those who wait for what was to wait, and settles doubts.
    async fn look_at_time(self: &Arc<Self>) {
        loop {
            // Either it is time, or there is a doubt.
            let _ = tokio::time::timeout(LOOK_AT_TIME, self.doubted.notified()).await;
            if self.work().stopped {
                return;
            }
            self.settle().await;
            for (id, token, asked) in self.take_back() {
                self.taken_back(id, token, asked).await;
            }
            self.available.notify_waiters();
        }
    }

    /// Tells the machine of all that is overdue, at once.
    fn take_back(&self) -> Vec<(MessageId, LeaseToken, Asked)> {
        let now = self.means.clock.now();
        let again_at = now.plus_ms(TAKE_BACK_AGAIN_MS);
        let overdue = self.work().desk.overdue(TAKE_BACK_MAX, now, again_at);
        let told = overdue.into_iter().map(|(letter, token)| {
            (letter.id, token, self.fail(letter, token, RAN_OUT.to_owned()))
        });
        told.collect()
    }

    async fn taken_back(&self, id: MessageId, token: LeaseToken, asked: Asked) {
        let of = &self.means.of;
        match asked.await {
            Ok(reply) => {
                tracing::debug!(%of, %id, %token, "a lease ran out");
                self.failed(id, token, &reply);
            }
            // Whoever told the machine has gone away before the desk was told.
            Err(AskError::Rejected(ConsumersRejection::Late { .. })) => self.doubt(),
            Err(error) => tracing::warn!(%of, %id, %error, "a lease is not taken back yet"),
        }
    }
}
