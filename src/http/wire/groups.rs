//! Consumer groups, as they are written: how far one is, and how it tries again.

use serde::{Deserialize, Serialize};
use tidegate::{
    GroupFigures, GroupId, GroupName, GroupSummary, MessageId, OutOfBounds, Retry as RetryOf,
    TopicName, Whence,
};
use utoipa::ToSchema;

use super::{object::Object, time::Time, whole::maybe};

/// The longest wait between two attempts that can be asked for, in milliseconds: a day.
const BACKOFF_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// A message's id; `17`, or `17.2` for the second message of a record that holds several. Exactly
/// what is documented: the library reads a little more.
pub(crate) fn read_id(field: &'static str, text: &str) -> Result<MessageId, OutOfBounds> {
    let (position, within) = text.split_once('.').unwrap_or((text, "0"));
    let fits = position.len() <= 19 && within.len() <= 9;
    let id = fits.then(|| text.parse().ok()).flatten();
    id.ok_or_else(|| {
        let bound = "a message's id, like 17 or 17.2";
        OutOfBounds::new(field, bound, format_args!("{text:?}"))
    })
}

/// Where a group begins or goes on.
fn read_whence(field: &'static str, text: &str) -> Result<Whence, OutOfBounds> {
    match text {
        "oldest" => Ok(Whence::Oldest),
        "now" => Ok(Whence::Now),
        id => read_id(field, id).map(Whence::After),
    }
}

/// A group to make or to change. What is absent stays as it is, or as a new group has it.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PutGroup)]
pub(crate) struct PutGroup {
    /// Where it begins if it is new: with the `oldest` message that is kept, with what is published
    /// from `now` on, or after the message with this id. Default: `now`.
    #[serde(default)]
    #[schema(pattern = r"^(oldest|now|[0-9]{1,19}(\.[0-9]{1,9})?)$")]
    begin: Option<String>,
    /// How often a message is tried. It replaces all that was said before.
    #[serde(default)]
    #[schema(value_type = Option<Retry>)]
    retry: Option<Object<Retry>>,
}

impl PutGroup {
    /// Where it begins, and how it tries again if that is said.
    pub(crate) fn check(self) -> Result<(Whence, Option<Retry>), OutOfBounds> {
        let begin = self.begin.as_deref().map(|begin| read_whence("begin", begin));
        let retry = self.retry.map(|Object(retry)| retry);
        retry.iter().try_for_each(|retry| retry.of().check())?;
        Ok((begin.transpose()?.unwrap_or(Whence::Now), retry))
    }
}

/// How often a message is tried, and how far apart, before it is a dead letter.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retry {
    /// Attempts in all. Default: 10.
    #[serde(default, deserialize_with = "maybe")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    attempts_max: Option<u32>,
    /// Longest wait after the first attempt, in milliseconds; doubled with each further one, up to
    /// `backoff_ms_max`. Default: 500.
    #[serde(default, deserialize_with = "maybe")]
    #[schema(minimum = 0, maximum = 86400000)]
    backoff_ms: Option<u64>,
    /// Longest wait after any attempt, in milliseconds. Default: 300000.
    #[serde(default, deserialize_with = "maybe")]
    #[schema(minimum = 0, maximum = 86400000)]
    backoff_ms_max: Option<u64>,
}

impl Retry {
    /// With what is left out as it is by default.
    pub(crate) fn of(&self) -> RetryOf {
        let usual = RetryOf::default();
        let backoff_ms_max = self.backoff_ms_max.unwrap_or(usual.backoff_ms_max);
        // Who only wants shorter waits says so with one of the two; one out of bounds stays so.
        let backoff_ms = match self.backoff_ms.unwrap_or(usual.backoff_ms) {
            first @ ..=BACKOFF_MS_MAX => first.min(backoff_ms_max),
            beyond => beyond,
        };
        let attempts_max = self.attempts_max.unwrap_or(usual.attempts_max);
        RetryOf { attempts_max, backoff_ms, backoff_ms_max }
    }
}

impl From<RetryOf> for Retry {
    fn from(retry: RetryOf) -> Self {
        let RetryOf { attempts_max, backoff_ms, backoff_ms_max } = retry;
        let (backoff_ms, backoff_ms_max) = (Some(backoff_ms), Some(backoff_ms_max));
        Self { attempts_max: Some(attempts_max), backoff_ms, backoff_ms_max }
    }
}

/// Where a group is to go on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seek {
    /// With the `oldest` message that is kept, with what is published from `now` on, or after the
    /// message with this id.
    #[schema(pattern = r"^(oldest|now|[0-9]{1,19}(\.[0-9]{1,9})?)$")]
    to: String,
}

impl Seek {
    pub(crate) fn to(&self) -> Result<Whence, OutOfBounds> {
        read_whence("to", &self.to)
    }
}

/// A consumer group.
#[derive(Serialize, ToSchema)]
#[schema(as = ConsumerGroup)]
pub(crate) struct Group {
    #[schema(value_type = String)]
    topic: TopicName,
    #[schema(value_type = String)]
    group: GroupName,
    /// Every message up to this id is done or dead.
    position: String,
    /// Whether nothing is handed out.
    paused: bool,
    /// Messages done, ever.
    done: u64,
    /// Messages that were given up.
    dead_letters: usize,
    /// What is to come, and what is in hands. Null for a group that the server has let go because
    /// nobody asked for it, and while it has not been asked for after a restart.
    open: Option<OpenGroup>,
}

/// What the server knows of a group that it has open.
#[derive(Serialize, ToSchema)]
pub(crate) struct OpenGroup {
    /// Messages that are published and neither done nor dead.
    lag: usize,
    /// Whether that is all of them: a group reads ahead 1,024 messages or 8 MiB.
    lag_is_exact: bool,
    /// When the first of them was published.
    oldest_at: Option<Time>,
    /// Those of them that somebody has.
    leased: usize,
    #[schema(value_type = Retry)]
    retry: Retry,
}

/// Groups, by topic and name.
#[derive(Serialize, ToSchema)]
#[schema(as = ConsumerGroups)]
pub(crate) struct GroupList {
    pub(crate) groups: Vec<Group>,
}

impl Group {
    pub(crate) fn new(of: GroupId, summary: GroupSummary, figures: Option<GroupFigures>) -> Self {
        let GroupSummary { cursor, dead, done, paused, .. } = summary;
        Self {
            topic: of.topic,
            group: of.group,
            position: cursor.to_string(),
            paused,
            done,
            dead_letters: dead,
            open: figures.map(OpenGroup::from),
        }
    }
}

impl From<GroupFigures> for OpenGroup {
    fn from(figures: GroupFigures) -> Self {
        Self {
            lag: figures.open,
            lag_is_exact: figures.reads_on,
            oldest_at: figures.oldest_at.map(Time),
            leased: figures.leased,
            retry: figures.retry.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_documented_and_no_others_are() {
        for text in ["0", "17", "17.2", "9999999999999999999.999999999"] {
            assert_eq!(read_id("id", text).unwrap().to_string(), text);
        }
        for text in ["", "1.", ".1", "+1", "1.2.3", "x", "00000000000000000001", "1.0000000001"] {
            assert!(read_id("id", text).is_err(), "{text:?}");
        }
    }
}
