//! What a topic shard decides. It changes nothing.

use super::{
    Due, NewSchedule, Origin, Publish, PublishReceipt, Topics, TopicsEffect, TopicsEvent,
    TopicsRejection, TopicsReply,
};
use crate::{
    Answer, Decision, Known, Message, NewMessage, ScheduleName, Timestamp, TopicName,
    bounds::{
        DELAY_MS_MAX, DELAYED_BYTES_MAX, DELAYED_MAX, DUE_BYTES_PER_EVENT, DUE_PER_EVENT_MAX,
        SCHEDULES_MAX, check_range,
    },
};

impl Topics {
    pub(super) fn decide_publish(
        &self,
        publish: &Publish,
        now: Timestamp,
    ) -> Result<Decision<Self>, TopicsRejection> {
        let Publish { key, topic, message, delay_ms } = publish;
        let origin = match key {
            None => Origin::Caller,
            Some((key, fingerprint)) => {
                if let Some(receipt) = self.memory.look_up(*key, *fingerprint)? {
                    return Ok(Decision::reply(TopicsReply::Published(receipt.clone())));
                }
                self.memory.check_room(self.config.idempotency_keys_max)?;
                Origin::Key { key: *key, fingerprint: *fingerprint }
            }
        };
        check_topic(topic)?;
        check_range("delay_ms", *delay_ms, 0, DELAY_MS_MAX)?;
        let due = now.plus_ms(*delay_ms);
        let receipt = PublishReceipt { topic: topic.clone(), number: self.next, at: now, due };
        let message = self.numbered(self.next, topic, message);
        let event = if *delay_ms == 0 {
            TopicsEvent::Published { at: now, origin, message }
        } else {
            let bytes = self.delayed_bytes + message.payload.bytes().len();
            if self.delayed.len() >= DELAYED_MAX || bytes > DELAYED_BYTES_MAX {
                return Err(TopicsRejection::DelayedFull);
            }
            TopicsEvent::Delayed { at: now, origin, due, message }
        };
        Ok(Decision::event(event).answered(Answer::Now(TopicsReply::Published(receipt))))
    }

    /// What a consumer shard wants published was checked before it was taken there.
    pub(super) fn decide_op(
        &self,
        origin: Origin,
        topic: &TopicName,
        message: &NewMessage,
        now: Timestamp,
    ) -> Decision<Self> {
        let Origin::Op { from, op, .. } = origin else { return Decision::nothing() };
        let told = TopicsEffect::Published { to: from, op };
        match self.inbox.look_up(from, op) {
            Known::Closed => Decision::nothing(),
            Known::Applied(()) => Decision::nothing().with_effect(told),
            Known::New => {
                let message = self.numbered(self.next, topic, message);
                Decision::event(TopicsEvent::Published { at: now, origin, message })
                    .with_effect(told)
            }
        }
    }

    pub(super) fn decide_schedule(
        &self,
        new: &NewSchedule,
        now: Timestamp,
    ) -> Result<Decision<Self>, TopicsRejection> {
        check_topic(&new.topic)?;
        new.check()?;
        let known = self.schedules.get(&(new.topic.clone(), new.name.clone()));
        if known.is_some_and(|known| {
            (&known.message, known.every_ms, known.phase_ms)
                == (&new.message, new.every_ms, new.phase_ms)
        }) {
            return Ok(Decision::reply(TopicsReply::Done));
        }
        if known.is_none() && self.schedules.len() >= SCHEDULES_MAX {
            return Err(TopicsRejection::SchedulesFull);
        }
        let event = TopicsEvent::Scheduled { at: now, schedule: new.clone() };
        Ok(Decision::event(event).answered(Answer::Now(TopicsReply::Done)))
    }

    pub(super) fn decide_unschedule(
        &self,
        topic: &TopicName,
        name: &ScheduleName,
    ) -> Result<Decision<Self>, TopicsRejection> {
        let (topic, name) = (topic.clone(), name.clone());
        if !self.schedules.contains_key(&(topic.clone(), name.clone())) {
            return Err(TopicsRejection::UnknownSchedule { topic, name });
        }
        let event = TopicsEvent::Unscheduled { topic, name };
        Ok(Decision::event(event).answered(Answer::Now(TopicsReply::Done)))
    }

    /// As much as one event may hold; the rest follows at the next look.
    pub(super) fn decide_tick(&self, now: Timestamp) -> Decision<Self> {
        let delayed = self.delayed.iter().take_while(|((due, _), _)| *due <= now);
        let delayed =
            delayed.map(|((due, _), message)| Due::Delayed { due: *due, message: message.clone() });
        let runs = self.schedules.iter().filter(|(_, schedule)| schedule.next <= now);
        let runs = (self.next..).zip(runs).map(|(number, ((topic, name), schedule))| {
            let message = self.numbered(number, topic, &schedule.message);
            Due::Run { name: name.clone(), message }
        });
        let (mut due, mut bytes) = (Vec::new(), 0);
        for one in delayed.chain(runs).take(DUE_PER_EVENT_MAX) {
            bytes += one.message().payload.bytes().len();
            due.push(one);
            if bytes >= DUE_BYTES_PER_EVENT {
                break;
            }
        }
        let forget_before = self.forget_before(now);
        if due.is_empty() && forget_before.is_none() {
            return Decision::nothing();
        }
        Decision::event(TopicsEvent::Ticked { at: now, forget_before, due })
    }

    fn numbered(&self, number: u64, topic: &TopicName, message: &NewMessage) -> Message {
        let NewMessage { key, payload } = message.clone();
        Message { topic: topic.clone(), number, key, payload }
    }
}

fn check_topic(topic: &TopicName) -> Result<(), TopicsRejection> {
    if topic.is_events() { Err(TopicsRejection::BuiltIn) } else { Ok(()) }
}
