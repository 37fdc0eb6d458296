//! What goes on in an open group by itself: its topic is read ahead, leases that are over are taken
//! back, and doubts are settled. Two tasks on an arbiter, which end with the store or with the last
//! handle of the group. Each sleeps until it is woken or something has its time; they decide
//! nothing about a message.

use std::{
    future::pending,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tidegate_machines::{ConsumersCommand, ConsumersRejection, LeaseToken, MessageId, Timestamp};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Asked, ConsumeError, Shared, desk::NEVER};
use crate::{
    error::AskError,
    feed::{Feed, FeedError, Letters},
};

/// How soon a doubt that could not be settled is looked at again.
const DOUBT_AGAIN: Duration = Duration::from_millis(50);

/// The longest sleep while something has its time: the store's clock may jump ahead.
const CLOCK_LOOK: Duration = Duration::from_secs(1);

/// How long a note of how far was read waits for company.
const PASS_AFTER: Duration = Duration::from_millis(500);

/// How long a reader waits after the first error of the disk; doubled with each further one.
const READ_AGAIN: Duration = Duration::from_millis(100);

/// The longest such wait.
const READ_AGAIN_MAX: Duration = Duration::from_secs(10);

/// Records without a message of the topic that are worth a note of how far was read.
pub(super) const PASS_RECORDS: u64 = 1_000;

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

/// What a reader has before it.
struct Ahead {
    /// Whether there is room to read on.
    has_room: bool,
    /// Whether how far was read is worth a note.
    worth_a_note: bool,
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
        let (mut again, mut pass_at) = (READ_AGAIN, None);
        loop {
            // Before the look at the desk: what happens after it ends the wait below.
            let (room, woken) = (shared.room.notified(), shared.reader.notified());
            let Some(Ahead { has_room, worth_a_note }) = self.ahead() else { return };
            if !has_room {
                room.await;
                continue;
            }
            if worth_a_note {
                pass_at.get_or_insert_with(|| Instant::now() + PASS_AFTER);
            }
            let looked = tokio::select! {
                biased;
                () = woken => continue,
                () = at(pass_at) => {
                    self.pass().await;
                    pass_at = None;
                    continue;
                }
                looked = feed.look() => looked,
            };
            match looked {
                Ok(()) => {}
                Err(FeedError::Storage(error)) => {
                    self.failing(FeedError::Storage(error));
                    sleep(again).await;
                    again = (2 * again).min(READ_AGAIN_MAX);
                    continue;
                }
                Err(error) => return self.failed(error),
            }
            again = READ_AGAIN;
            self.take_in(&mut feed);
        }
    }

    /// How it goes on; `None` if this reader is to end.
    fn ahead(&self) -> Option<Ahead> {
        let work = self.shared.work();
        let goes_on = !work.stopped && work.desk.moved() == self.moved;
        goes_on.then(|| Ahead {
            has_room: work.desk.has_room(),
            worth_a_note: work.desk.can_pass(PASS_RECORDS).is_some(),
        })
    }

    /// Puts what was read on the desk, as far as there is room, and wakes those who wait for it:
    /// once, so that they have all of it to share.
    fn take_in(&self, feed: &mut Feed<Letters>) {
        let mut work = self.shared.work();
        if work.desk.moved() != self.moved {
            return;
        }
        work.failing = None;
        let mut came = false;
        while work.desk.has_room()
            && let Some(letter) = feed.at_hand()
        {
            work.desk.read(letter);
            came = true;
        }
        work.desk.heard(feed.cursor().into());
        drop(work);
        if came {
            self.shared.available.notify_waiters();
        }
    }

    /// There was nothing for long, which is noted, so that the journal isn't kept for it.
    async fn pass(&self) {
        let Some((to, passing)) = self.note() else { return };
        if passing.await.is_ok() {
            self.known(to);
        }
    }

    /// Up to which place, and the machine's answer to come.
    fn note(&self) -> Option<(MessageId, Asked)> {
        let shared = &self.shared;
        let work = shared.work();
        if work.desk.moved() != self.moved {
            return None;
        }
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

/// Waits until then, or for ever.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

impl Shared {
    /// Takes back what is overdue, wakes those who wait for what was to wait, and settles doubts.
    /// Looks when the first of that is due, or when it is woken.
    async fn look_at_time(self: &Arc<Self>) {
        while !self.work().stopped {
            self.settle().await;
            let now = self.means.clock.now();
            for (id, token, asked) in self.take_back(now) {
                self.taken_back(id, token, asked).await;
            }
            self.available.notify_waiters();
            // A word from here on is kept until it is waited for.
            match self.sleeps_for(now) {
                Some(time) => drop(timeout(time, self.look.notified()).await),
                None => self.look.notified().await,
            }
        }
    }

    /// How long nothing is due that is known now; `None` if nothing ever is.
    fn sleeps_for(&self, now: Timestamp) -> Option<Duration> {
        let mut work = self.work();
        let due = work.desk.next_due(now);
        work.looks_at = due;
        let left = Duration::from_millis(due.0.saturating_sub(self.means.clock.now().0));
        let left = (due != NEVER).then(|| left.min(CLOCK_LOOK));
        let doubt = work.in_doubt.then_some(DOUBT_AGAIN);
        left.into_iter().chain(doubt).min()
    }

    /// Tells the machine of all that is overdue, at once.
    fn take_back(&self, now: Timestamp) -> Vec<(MessageId, LeaseToken, Asked)> {
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
