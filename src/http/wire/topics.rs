//! Messages to publish and schedules, as they are written. Payloads pass as the text that they
//! came in: nothing in them is looked at but that every client can read them.

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use tidegate::{
    MessageKey, NewSchedule, OutOfBounds, PublishReceipt, Schedule as ScheduleOf, ScheduleName,
    TopicName,
    bounds::{EVERY_MS_MAX, EVERY_MS_MIN},
};
use utoipa::ToSchema;

use super::{
    time::Time,
    whole::{maybe, whole},
    within,
};

/// Any JSON, as the text that it was sent as.
pub(crate) type Json = Box<RawValue>;

/// A message to be published.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewMessage)]
pub(crate) struct NewMessage {
    /// What it says: any JSON of up to 65,536 bytes, kept as it was sent.
    #[schema(value_type = Value)]
    payload: Json,
    /// Messages of one key are consumed one after the other. Default: nothing orders it.
    #[serde(default)]
    #[schema(pattern = "^[!-~]{1,255}$")]
    pub(crate) key: Option<String>,
    /// Publishes it so much later, in milliseconds. Default: 0.
    #[serde(default, deserialize_with = "maybe")]
    #[schema(minimum = 0, maximum = 31622400000u64)]
    pub(crate) delay_ms: Option<u64>,
}

impl NewMessage {
    /// Its payload, checked.
    pub(crate) fn payload(&self) -> Result<&Json, OutOfBounds> {
        sound(&self.payload)
    }
}

/// One reader that can't read a message would take all others of its answer for unreadable too.
pub(super) fn sound(payload: &Json) -> Result<&Json, OutOfBounds> {
    let read = serde_json::from_str::<Value>(payload.get());
    let bound = "JSON that any client can read";
    read.map(|_| payload).map_err(|error| OutOfBounds::new("payload", bound, error))
}

/// What a publisher is told.
#[derive(Serialize, ToSchema)]
#[schema(as = PublishReceipt)]
pub(crate) struct Published {
    #[schema(value_type = String)]
    topic: TopicName,
    /// Its number: no two messages of a topic have the same. Its consumers see it too.
    number: u64,
    /// When it was taken, durably.
    taken_at: Time,
    /// When it is published: later than that if it is delayed.
    due_at: Time,
}

impl From<PublishReceipt> for Published {
    fn from(receipt: PublishReceipt) -> Self {
        let PublishReceipt { topic, number, at, due } = receipt;
        Self { topic, number, taken_at: Time(at), due_at: Time(due) }
    }
}

/// A message to be published again and again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSchedule)]
pub(crate) struct PutSchedule {
    /// What each message says: any JSON of up to 65,536 bytes.
    #[schema(value_type = Value)]
    payload: Json,
    /// The key of each message.
    #[serde(default)]
    #[schema(pattern = "^[!-~]{1,255}$")]
    key: Option<String>,
    /// Time between two runs, in milliseconds.
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1000, maximum = 31622400000u64)]
    every_ms: u64,
    /// Runs are so much later than the multiples of `every_ms` since 1970, in milliseconds; a phase
    /// of `every_ms` or more is as good as what it leaves when divided by that. Default: 0.
    #[serde(default, deserialize_with = "maybe")]
    #[schema(minimum = 0, maximum = 31622399999u64)]
    phase_ms: Option<u64>,
}

impl PutSchedule {
    /// What is published, and when.
    pub(crate) fn check(&self) -> Result<(&Json, NewSchedule), OutOfBounds> {
        let every_ms = within("every_ms", self.every_ms, EVERY_MS_MIN, EVERY_MS_MAX)?;
        let phase_ms = within("phase_ms", self.phase_ms.unwrap_or(0), 0, EVERY_MS_MAX - 1)?;
        let schedule = NewSchedule::every_ms(every_ms).phase_ms(phase_ms % every_ms);
        let schedule = self.key.iter().fold(schedule, NewSchedule::key);
        Ok((sound(&self.payload)?, schedule))
    }
}

/// A schedule.
#[derive(Serialize, ToSchema)]
pub(crate) struct Schedule {
    #[schema(value_type = String)]
    name: ScheduleName,
    #[schema(value_type = Value)]
    payload: Json,
    #[schema(value_type = Option<String>)]
    key: Option<MessageKey>,
    every_ms: u64,
    phase_ms: u64,
    /// When it runs next.
    next_at: Time,
}

/// All schedules of a topic, by name.
#[derive(Serialize, ToSchema)]
pub(crate) struct Schedules {
    pub(crate) schedules: Vec<Schedule>,
}

impl Schedule {
    /// What is no JSON was not published here; `None` then.
    pub(crate) fn of((name, schedule): (ScheduleName, ScheduleOf)) -> Option<Self> {
        let ScheduleOf { message, every_ms, phase_ms, next } = schedule;
        let payload = serde_json::from_slice(message.payload.bytes()).ok()?;
        Some(Self { name, payload, key: message.key, every_ms, phase_ms, next_at: Time(next) })
    }
}
