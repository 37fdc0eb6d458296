//! What goes on in an open group by itself: its topic is read ahead, and leases that are over are
//! taken back. Two tasks on an arbiter, which end with the store or with the last handle of the
//! group. They decide nothing about a message.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tidegate_machines::{
    ConsumersCommand, ConsumersRejection, ConsumersReply, LeaseToken, Letter, MessageId,
};

use super::{Asked, ConsumeError, Shared};
use crate::{error::AskError, feed::FeedError};

/// How often leases and waits are looked at.
const LOOK_AT_TIME: Duration = Duration::from_millis(50);

/// How often a reader for whom there is nothing looks around.
const LOOK_AROUND: Duration = Duration::from_millis(500);

/// Records without a message of the topic that are worth a note of how far was read.
const PASS_RECORDS: u64 = 1_000;

/// How long a lease that could not be taken back waits for the next try, in milliseconds.
const TAKE_BACK_AGAIN_MS: u64 = 1_000;

pub(super) fn start(shared: &Arc<Shared>) {
    read(shared);
    let tended = Arc::clone(shared);
    spawn(shared, async move { tended.look_at_time().await });
}

/// Begins to read, from where the desk is.
pub(super) fn read(shared: &Arc<Shared>) {
    let reading = Reading { generation: shared.work().generation, shared: Arc::clone(shared) };
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
    generation: u64,
}

impl Drop for Reading {
    fn drop(&mut self) {
        let error =
            if std::thread::panicking() { ConsumeError::Failed } else { AskError::Closing.into() };
        self.shared.end(Some(self.generation), error);
    }
}

impl Reading {
    async fn run(self) {
        let shared = &self.shared;
        let after = shared.work().desk.begins_after();
        let mut feed = shared.means.tap.letters(shared.means.letters.clone(), after);
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
            let next = tokio::time::timeout(LOOK_AROUND, feed.next()).await;
            let letter = match next {
                Ok(Ok(letter)) => Some(letter),
                Ok(Err(error)) => return self.failed(error),
                Err(_) => None,
            };
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
        let goes_on = !work.stopped && work.generation == self.generation;
        goes_on.then(|| work.desk.has_room())
    }

    /// Puts on the desk what was read. If there was nothing for long, that is noted, so that the
    /// journal isn't kept for it: up to which place, and the machine's answer to come.
    fn note(&self, letter: Option<Letter>, heard_to: MessageId) -> Option<(MessageId, Asked)> {
        let shared = &self.shared;
        let mut work = shared.work();
        if work.generation != self.generation {
            return None;
        }
        if let Some(letter) = letter {
            work.desk.read(letter);
        }
        work.desk.heard(heard_to);
        let (after, to) = work.desk.can_pass(PASS_RECORDS)?;
        // Sent under the lock, so that no move of the group comes between.
        let pass = ConsumersCommand::Pass { of: shared.group.clone(), after, to };
        Some((to, Box::pin(shared.means.consumers.ask(shared.means.shard, pass))))
    }

    fn known(&self, to: MessageId) {
        let mut work = self.shared.work();
        if work.generation == self.generation {
            work.desk.known(to);
        }
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
        self.shared.end(Some(self.generation), error);
    }
}

impl Shared {
    /// Nothing more is read, by the reader of `generation` or by any.
    pub(super) fn end(&self, generation: Option<u64>, error: ConsumeError) {
        let mut work = self.work();
        if generation.is_none_or(|generation| generation == work.generation) {
            work.ended.get_or_insert(error);
        }
        drop(work);
        self.available.notify_waiters();
    }

    /// Takes back what is overdue, and wakes those who wait for what was to wait.
    async fn look_at_time(&self) {
        loop {
            tokio::time::sleep(LOOK_AT_TIME).await;
            let now = self.means.clock.now();
            let overdue = {
                let mut work = self.work();
                if work.stopped {
                    return;
                }
                work.desk.overdue(now, now.plus_ms(TAKE_BACK_AGAIN_MS))
            };
            for (letter, token) in overdue {
                self.take_back(letter, token).await;
            }
            self.available.notify_waiters();
        }
    }

    async fn take_back(&self, letter: Letter, token: LeaseToken) {
        let (of, id) = (&self.means.of, letter.id);
        let cause = "its lease ran out before it was acknowledged".to_owned();
        match self.fail(letter, token, cause).await {
            Ok(()) => tracing::debug!(%of, %id, %token, "a lease ran out"),
            // Whoever told the machine has gone away before the desk was told.
            Err(ConsumeError::Ask(AskError::Rejected(ConsumersRejection::Late { .. }))) => {
                self.learn(id, token).await;
            }
            Err(error) => tracing::warn!(%of, %id, %error, "a lease is not taken back yet"),
        }
    }

    /// Learns from the machine what has become of an attempt.
    async fn learn(&self, id: MessageId, token: LeaseToken) {
        let view = ConsumersCommand::View { of: self.group.clone() };
        let Ok(ConsumersReply::View(view)) = self.ask(view).await else { return };
        let again = view.again.into_iter().map(|(pending, _)| pending);
        match view.pending.into_iter().chain(again).find(|pending| pending.id == id) {
            Some(pending) => self.work().desk.failed(id, token, pending.not_before),
            None => self.resolved(id),
        }
    }
}
