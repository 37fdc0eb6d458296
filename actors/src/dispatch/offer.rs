//! How messages reach a consumer: offered by the desk, taken by the machine, and then the
//! consumer's for a time. A consumer may go away at any moment; it deliberately costs an attempt at
//! most.

use std::{pin::pin, sync::atomic::Ordering, time::Duration};

use tidegate_machines::{
    Attempt, Consumers, ConsumersCommand, ConsumersRejection, ConsumersReply, MessageId, Take,
    Timestamp,
};
use tokio::time::{Instant, sleep};

use super::{
    Asked, ConsumeError, Dispatcher, LEASE_MESSAGES_MAX, LEASE_MS_MAX, Lease, Means, Shared, check,
    desk::Offer, unexpected,
};
use crate::{error::AskError, group::Outcome};

/// How long a caller waits after it was offered something and got nothing.
const TAKE_AGAIN: Duration = Duration::from_millis(5);

/// How long a message that should be given up and can't be is not offered, in milliseconds: others
/// may be had meanwhile.
const KEPT_MS: u64 = 1_000;

impl Dispatcher {
    /// Up to `max` messages, each in the caller's hands for `lease_ms` from now. Waits for the
    /// first up to `wait`; the answer is empty if there is none by then. Waits for the disk: an
    /// attempt is counted before anybody can begin it. Dropped while it waits, it costs what it
    /// was about to give an attempt at most. Needs a tokio runtime with time.
    ///
    /// # Errors
    /// [`ConsumeError`]; [`ConsumersRejection::DeadLettersFull`] if there is nothing but messages
    /// that should be given up and can't be, or if nothing else was found for a second.
    pub async fn lease(
        &self,
        max: usize,
        wait: Duration,
        lease_ms: u64,
    ) -> Result<Vec<Lease>, ConsumeError> {
        let ended = async {
            // The shortest sleep takes a millisecond.
            if !wait.is_zero() {
                sleep(wait).await;
            }
        };
        self.lease_until(max, ended, lease_ms).await
    }

    /// The same, but waits for the first one until `ended`. What was about to be handed out by then
    /// still is.
    ///
    /// # Errors
    /// As for [`Dispatcher::lease`].
    pub async fn lease_until(
        &self,
        max: usize,
        ended: impl Future<Output = ()>,
        lease_ms: u64,
    ) -> Result<Vec<Lease>, ConsumeError> {
        check("max", max as u64, LEASE_MESSAGES_MAX as u64)?;
        check("lease_ms", lease_ms, LEASE_MS_MAX)?;
        let (mut ended, mut kept_since) = (pin!(ended), None);
        loop {
            // Before the look at the desk: what is put there after it ends the wait below.
            let woken = pin!(self.shared.available.notified());
            let Some((offered, asked)) = self.shared.offer(max)? else {
                if kept_since.is_some() {
                    return Err(ConsumersRejection::DeadLettersFull.into());
                }
                tokio::select! {
                    biased;
                    // What has come in the last moment is there for the next call.
                    () = &mut ended => return Ok(Vec::new()),
                    () = woken => {}
                }
                continue;
            };
            match offered.lease(asked.await, lease_ms)? {
                Handed::Leases(leases) => return Ok(leases),
                // Those are not offered again for a while. If that is over before all others
                // were, it would have no end.
                Handed::Kept => {
                    let since = kept_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= Duration::from_millis(KEPT_MS) {
                        return Err(ConsumersRejection::DeadLettersFull.into());
                    }
                }
                // It has woken all who wait, this caller too.
                Handed::Nothing => tokio::select! {
                    biased;
                    () = &mut ended => return Ok(Vec::new()),
                    () = sleep(TAKE_AGAIN) => {}
                },
            }
        }
    }
}

/// What became of an offer.
enum Handed {
    Leases(Vec<Lease>),
    /// All or some should have been given up and can't be.
    Kept,
    /// All of it was given up, or the group is being changed.
    Nothing,
}

/// What is offered to a caller who may go away: then it is withdrawn.
struct Offered<'a> {
    shared: &'a Shared,
    moved: u64,
    ids: Vec<MessageId>,
    known_to: Option<MessageId>,
}

impl Offered<'_> {
    /// What the machine let this caller have.
    fn lease(self, taken: Outcome<Consumers>, lease_ms: u64) -> Result<Handed, ConsumeError> {
        let (taken, died, kept) = match taken {
            Ok(ConsumersReply::Taken { taken, died, kept }) => (taken, died, kept),
            Ok(other) => return Err(unexpected(&other)),
            // It is being changed just now, or was: there is nothing to have at the moment.
            Err(AskError::Rejected(ConsumersRejection::Moved | ConsumersRejection::Paused)) => {
                self.shared.doubt();
                return Ok(Handed::Nothing);
            }
            Err(error) => {
                if let AskError::Rejected(ConsumersRejection::UnknownGroup { .. }) = error {
                    self.shared.gone();
                }
                return Err(error.into());
            }
        };
        for dead in &died {
            self.shared.tell_of(dead);
            // They are off the desk when it has learnt of that.
            self.shared.doubt();
        }
        let now = self.shared.means.clock.now();
        let until = now.plus_ms(lease_ms);
        let mut work = self.shared.work();
        if work.desk.moved() != self.moved {
            // The group was moved after all of this was taken, which is forgotten.
            return Ok(Handed::Nothing);
        }
        if let Some(known_to) = self.known_to {
            work.desk.known(known_to);
        }
        kept.iter().for_each(|id| work.desk.withdraw(*id, now.plus_ms(KEPT_MS)));
        let leases = taken.into_iter().filter_map(|Attempt { id, number, token }| {
            let letter = work.desk.lease(id, token, until)?;
            self.shared.retries.fetch_add(u64::from(number > 1), Ordering::Relaxed);
            Some(Lease { letter, attempt: number, token, until })
        });
        let leases: Vec<_> = leases.collect();
        Ok(match (leases.is_empty(), kept.is_empty()) {
            (false, _) => Handed::Leases(leases),
            (true, false) => Handed::Kept,
            (true, true) => Handed::Nothing,
        })
    }
}

impl Drop for Offered<'_> {
    fn drop(&mut self) {
        let mut work = self.shared.work();
        if work.desk.moved() == self.moved {
            self.ids.iter().for_each(|id| work.desk.withdraw(*id, Timestamp(0)));
        }
        drop(work);
        self.shared.available.notify_waiters();
    }
}

impl Shared {
    /// Asks the machine for attempts of what is free, if anything is.
    fn offer(&self, max: usize) -> Result<Option<(Offered<'_>, Asked)>, ConsumeError> {
        let Means { consumers, shard, clock, .. } = &self.means;
        let mut work = self.work();
        if let Some(error) = &work.ended {
            return Err(error.clone());
        }
        let Some(Offer { after, read, letters }) = work.desk.offer(max, clock.now()) else {
            let failing = work.failing.clone().map(ConsumeError::Feed);
            return failing.map_or(Ok(None), Err);
        };
        let ids = letters.iter().map(|letter| letter.id).collect();
        let (moved, known_to) = (work.desk.moved(), read.last().copied());
        let offered = Offered { shared: self, moved, ids, known_to };
        let take = Take { of: self.group.clone(), after, read, letters, retry: work.retry };
        // Sent under the lock, so that the machine meets the attempts in the desk's order.
        let asked = consumers.ask(*shard, ConsumersCommand::Take(take));
        Ok(Some((offered, Box::pin(asked))))
    }
}
