//! What a consumer shard decides. It changes nothing.

use super::{
    Attempt, ConsumerGroup, Consumers, ConsumersEffect, ConsumersEvent, ConsumersRejection,
    ConsumersReply, DeadLetter, FollowUp, GroupId, Incarnation, LeaseToken, Letter, Retry, Take,
    group::{Entry, EntryState},
};
use crate::{
    Answer, Decision, MessageId, OpId, OutOfBounds, Timestamp, TopicName,
    bounds::{
        CAUSE_BYTES_MAX, DEAD_LETTER_BYTES_MAX, DEAD_LETTERS_MAX, FOLLOW_UP_BYTES_MAX,
        FOLLOW_UPS_AFTER_ONE_MAX, FOLLOW_UPS_MAX, FOLLOW_UPS_OPEN_BYTES_MAX, FOLLOW_UPS_OPEN_MAX,
        GROUPS_MAX, PAYLOAD_BYTES_MAX, WINDOW_MAX, check_range,
    },
};

type Decided = Result<Decision<Consumers>, ConsumersRejection>;

/// Why a message is given up whose attempts never ended.
const NO_END: &str = "its last attempt did not end before the process did";

impl Consumers {
    fn known(&self, of: &GroupId) -> Result<&ConsumerGroup, ConsumersRejection> {
        let unknown = || ConsumersRejection::UnknownGroup { of: of.clone() };
        self.groups.get(of).ok_or_else(unknown)
    }

    /// The group that an owner has in mind, and not a later one of the same name.
    pub(super) fn the(&self, of: &Incarnation) -> Result<&ConsumerGroup, ConsumersRejection> {
        let unknown = || ConsumersRejection::UnknownGroup { of: of.of.clone() };
        self.groups.get(&of.of).filter(|group| group.born == of.born).ok_or_else(unknown)
    }

    pub(super) fn decide_open(
        &self,
        of: &GroupId,
        after: Option<MessageId>,
        now: Timestamp,
    ) -> Decided {
        if let Some(group) = self.groups.get(of) {
            return Ok(Decision::reply(ConsumersReply::View(group.view().into())));
        }
        let after = after.ok_or_else(|| ConsumersRejection::UnknownGroup { of: of.clone() })?;
        if self.groups.len() >= GROUPS_MAX {
            return Err(ConsumersRejection::GroupsFull);
        }
        let view = ConsumerGroup::new(after, now, self.counted + 1).view();
        let event = ConsumersEvent::Opened { at: now, of: of.clone(), after };
        Ok(Decision::event(event).answered(Answer::Now(ConsumersReply::View(view.into()))))
    }

    pub(super) fn decide_take(&self, take: &Take, now: Timestamp) -> Decided {
        let Take { of, after, read, letters, retry } = take;
        let group = self.the(of)?;
        retry.check()?;
        if group.paused {
            return Err(ConsumersRejection::Paused);
        }
        let read = group.check_read(*after, read)?;
        let (mut taken, mut died, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for letter in letters {
            let fresh = Entry::default();
            let read_now = read.binary_search(&letter.id).is_ok();
            let entry = if read_now { Some(&fresh) } else { group.entry(letter.id) };
            let entry = entry.ok_or(ConsumersRejection::Moved)?;
            if entry.attempts < retry.attempts_max {
                let token = LeaseToken(self.counted + 1 + taken.len() as u64);
                taken.push(Attempt { id: letter.id, number: entry.attempts + 1, token });
                continue;
            }
            died.push(group.dead_letter(entry, letter, now));
            if !group.has_room_for(&died) {
                // Others may be had nonetheless.
                died.pop();
                kept.push(letter.id);
            } else if died.len() > 1 && payload_bytes(&died) > PAYLOAD_BYTES_MAX {
                // More than one event may hold; the rest follows at the next look.
                died.pop();
                break;
            }
        }
        let changes = !(read.is_empty() && taken.is_empty() && died.is_empty());
        let event = changes.then(|| ConsumersEvent::Taken {
            at: now,
            of: of.of.clone(),
            read: read.to_vec(),
            taken: taken.iter().map(|attempt| attempt.id).collect(),
            died: died.clone(),
        });
        let reply = ConsumersReply::Taken { taken, died, kept };
        Ok(Decision { event, ..Decision::reply(reply) })
    }

    pub(super) fn decide_done(
        &self,
        of: &GroupId,
        id: MessageId,
        token: LeaseToken,
        follow_ups: &[FollowUp],
        now: Timestamp,
    ) -> Decided {
        check_follow_ups(follow_ups)?;
        self.known(of)?.check_lease(id, token)?;
        self.check_room_for(follow_ups)?;
        // They get their numbers when the event is applied, in this order.
        let acked_below = self.outbox.acked_below();
        let effects = (self.outbox.next_id().0..).zip(follow_ups).map(|(op, follow_up)| {
            ConsumersEffect { op: OpId(op), acked_below, follow_up: follow_up.clone() }
        });
        let (of, follow_ups) = (of.clone(), follow_ups.to_vec());
        let event = ConsumersEvent::Done { at: now, of, id, follow_ups };
        Ok(done(event).with_effects(effects))
    }

    pub(super) fn decide_fail(
        &self,
        of: &GroupId,
        letter: &Letter,
        token: LeaseToken,
        cause: &str,
        retry: &Retry,
        now: Timestamp,
    ) -> Decided {
        retry.check()?;
        let group = self.known(of)?;
        let attempt = group.check_lease(letter.id, token)?.attempts;
        let cause = shortened(cause);
        if attempt < retry.attempts_max {
            let (id, not_before) = (letter.id, retry.not_before(letter.id, attempt, now));
            let of = of.clone();
            let event = ConsumersEvent::Failed { at: now, of, id, not_before, cause };
            let reply = ConsumersReply::Failed(not_before);
            return Ok(Decision::event(event).answered(Answer::Now(reply)));
        }
        let letter = letter.clone();
        let dead = DeadLetter { letter, attempts: attempt, cause, died_at: now };
        if !group.has_room_for(std::slice::from_ref(&dead)) {
            return Err(ConsumersRejection::DeadLettersFull);
        }
        let reply = ConsumersReply::Died(dead.clone().into());
        let event = ConsumersEvent::Died { of: of.clone(), dead };
        Ok(Decision::event(event).answered(Answer::Now(reply)))
    }

    pub(super) fn decide_pass(
        &self,
        of: &Incarnation,
        after: MessageId,
        to: MessageId,
        now: Timestamp,
    ) -> Decided {
        let read_to = self.the(of)?.read_to;
        if after > read_to {
            // Nobody knows what is between.
            return Err(ConsumersRejection::Moved);
        }
        if to <= read_to {
            return Ok(Decision::reply(ConsumersReply::Done));
        }
        Ok(done(ConsumersEvent::Passed { at: now, of: of.of.clone(), to }))
    }

    pub(super) fn decide_seek(&self, of: &Incarnation, to: MessageId, now: Timestamp) -> Decided {
        self.the(of)?;
        Ok(done(ConsumersEvent::Sought { at: now, of: of.of.clone(), to }))
    }

    pub(super) fn decide_pause(&self, of: &Incarnation, paused: bool, now: Timestamp) -> Decided {
        if self.the(of)?.paused == paused {
            return Ok(Decision::reply(ConsumersReply::Done));
        }
        Ok(done(ConsumersEvent::Paused { at: now, of: of.of.clone(), paused }))
    }

    pub(super) fn decide_replay(&self, of: &Incarnation, id: MessageId, now: Timestamp) -> Decided {
        let group = self.the(of)?;
        if group.again.contains_key(&id) {
            return Ok(Decision::reply(ConsumersReply::Done));
        }
        if !group.dead.contains_key(&id) {
            return Err(ConsumersRejection::UnknownDeadLetter { id });
        }
        if group.is_to_come(id) {
            return Err(ConsumersRejection::StillToCome { id });
        }
        Ok(done(ConsumersEvent::Replayed { at: now, of: of.of.clone(), id }))
    }

    pub(super) fn decide_discard(
        &self,
        of: &Incarnation,
        id: MessageId,
        now: Timestamp,
    ) -> Decided {
        if !self.the(of)?.dead.contains_key(&id) {
            return Err(ConsumersRejection::UnknownDeadLetter { id });
        }
        Ok(done(ConsumersEvent::Discarded { at: now, of: of.of.clone(), id }))
    }

    pub(super) fn decide_remove(&self, of: &Incarnation) -> Decided {
        self.the(of)?;
        Ok(done(ConsumersEvent::Removed { of: of.of.clone() }))
    }

    fn check_room_for(&self, follow_ups: &[FollowUp]) -> Result<(), ConsumersRejection> {
        if follow_ups.is_empty() {
            return Ok(());
        }
        let open = self.outbox.iter().map(|(_, follow_up)| follow_up).chain(follow_ups);
        let bytes: usize = open.map(FollowUp::payload_bytes).sum();
        let count = self.outbox.len() + follow_ups.len();
        let after_one = self.outbox.next_id().0 - self.outbox.acked_below().0;
        let too_many = count > FOLLOW_UPS_OPEN_MAX || after_one > FOLLOW_UPS_AFTER_ONE_MAX;
        if too_many || bytes > FOLLOW_UPS_OPEN_BYTES_MAX {
            return Err(ConsumersRejection::FollowUpsFull);
        }
        Ok(())
    }

    pub(super) fn decide_answered(&self, op: OpId) -> Decision<Self> {
        match self.outbox.get(op) {
            Some(_) => Decision::event(ConsumersEvent::Answered { op }),
            None => Decision::nothing(),
        }
    }
}

impl ConsumerGroup {
    /// Messages enter the window in their order, each once, and none is left out. What of `read` is
    /// new: another attempt may have told some of it before.
    fn check_read<'a>(
        &self,
        after: MessageId,
        read: &'a [MessageId],
    ) -> Result<&'a [MessageId], ConsumersRejection> {
        let rising = read.is_sorted_by(|one, next| one < next);
        if !rising || after > self.read_to {
            return Err(ConsumersRejection::Moved);
        }
        let new = &read[read.partition_point(|id| *id <= self.read_to)..];
        let window = (self.window.len() + new.len()) as u64;
        check_range("messages read ahead", window, 0, WINDOW_MAX as u64)?;
        Ok(new)
    }

    /// The message as it is in the hands of who has `token`.
    fn check_lease(&self, id: MessageId, token: LeaseToken) -> Result<&Entry, ConsumersRejection> {
        let current = self.entry(id).filter(|entry| entry.state == EntryState::Taken { token });
        current.ok_or(ConsumersRejection::Late { id, token })
    }

    fn has_room_for(&self, died: &[DeadLetter]) -> bool {
        // One that is tried again has its room.
        let new = || died.iter().filter(|dead| !self.again.contains_key(&dead.letter.id));
        let (kept, kept_bytes) = self.kept();
        let (count, bytes) = (kept + new().count(), kept_bytes + payload_bytes(new()));
        new().count() == 0 || (count <= DEAD_LETTERS_MAX && bytes <= DEAD_LETTER_BYTES_MAX)
    }

    fn dead_letter(&self, entry: &Entry, letter: &Letter, now: Timestamp) -> DeadLetter {
        let cause = match &entry.state {
            EntryState::Failed { cause, .. } => cause.clone(),
            EntryState::New | EntryState::Taken { .. } | EntryState::Resolved => NO_END.to_owned(),
        };
        DeadLetter { letter: letter.clone(), attempts: entry.attempts, cause, died_at: now }
    }
}

fn done(event: ConsumersEvent) -> Decision<Consumers> {
    Decision::event(event).answered(Answer::Now(ConsumersReply::Done))
}

fn payload_bytes<'a>(dead: impl IntoIterator<Item = &'a DeadLetter>) -> usize {
    dead.into_iter().map(|dead| dead.letter.payload.bytes().len()).sum()
}

fn check_follow_ups(follow_ups: &[FollowUp]) -> Result<(), OutOfBounds> {
    check_range("effects", follow_ups.len() as u64, 0, FOLLOW_UPS_MAX as u64)?;
    let bytes: usize = follow_ups.iter().map(FollowUp::payload_bytes).sum();
    check_range("bytes of effects", bytes as u64, 0, FOLLOW_UP_BYTES_MAX as u64)?;
    let built_in = |follow_up: &FollowUp| match follow_up {
        FollowUp::Publish { topic, .. } => topic.is_events(),
        FollowUp::Cancel { .. } => false,
    };
    if follow_ups.iter().any(built_in) {
        let bound = format_args!("another than {:?}, which is built in", TopicName::EVENTS);
        return Err(OutOfBounds::new("topic", bound, TopicName::EVENTS));
    }
    Ok(())
}

/// Cut to its bound, at a character's edge.
fn shortened(cause: &str) -> String {
    let mut end = cause.len().min(CAUSE_BYTES_MAX);
    while !cause.is_char_boundary(end) {
        end -= 1;
    }
    cause[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OrderId, consumer::ConsumersConfig};

    #[test]
    fn one_effect_that_waits_for_ever_stops_others_some_time() {
        let mut consumers = Consumers::new(ConsumersConfig { shard: 0, idle_ms_max: 1 });
        let cancel = FollowUp::Cancel { order: OrderId(1) };
        let waits = consumers.outbox.open(cancel.clone());
        for _ in 1..FOLLOW_UPS_AFTER_ONE_MAX {
            let done = consumers.outbox.open(cancel.clone());
            consumers.outbox.close(done);
        }
        let more = [cancel.clone()];
        assert_eq!(consumers.check_room_for(&more), Ok(()));
        consumers.outbox.open(cancel);
        assert_eq!(consumers.check_room_for(&more), Err(ConsumersRejection::FollowUpsFull));
        assert_eq!(consumers.check_room_for(&[]), Ok(()));
        consumers.outbox.close(waits);
        assert_eq!(consumers.check_room_for(&more), Ok(()));
    }
}
