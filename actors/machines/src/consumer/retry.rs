//! How long a message that failed waits for its next attempt. It draws no luck: the jitter follows
//! from the message, so that a replay decides the same.

use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::{
    MessageId, Timestamp,
    bounds::{OutOfBounds, check_range},
};

/// How often a message is tried, and how far apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Attempts before it is given up, from 1 to 1,000.
    pub attempts_max: u32,
    /// Longest wait after the first attempt, in milliseconds; doubled with each further one.
    pub backoff_ms: u64,
    /// Longest wait after any attempt, in milliseconds; up to 1 day.
    pub backoff_ms_max: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts_max: 10, backoff_ms: 500, backoff_ms_max: 5 * 60 * 1_000 }
    }
}

impl Retry {
    /// Checks its bounds.
    ///
    /// # Errors
    /// Which bound was passed.
    pub fn check(&self) -> Result<(), OutOfBounds> {
        const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
        check_range("attempts_max", self.attempts_max.into(), 1, 1_000)?;
        check_range("backoff_ms_max", self.backoff_ms_max, 0, DAY_MS)?;
        check_range("backoff_ms", self.backoff_ms, 0, self.backoff_ms_max).map(drop)
    }

    /// When a message that failed at `now`, for the `attempt`th time (from 1), is tried again:
    /// after half of the longest wait to all of it.
    #[must_use]
    pub fn not_before(&self, id: MessageId, attempt: u32, now: Timestamp) -> Timestamp {
        let doubled = self.backoff_ms.saturating_mul(1 << attempt.saturating_sub(1).min(40));
        let longest_ms = doubled.min(self.backoff_ms_max);
        let mut hasher = SipHasher13::new_with_keys(0x7265_7472, 0x7977_6169);
        hasher.write_u64(id.position);
        hasher.write_u32(id.within.unwrap_or(0));
        hasher.write_u32(attempt);
        let half_ms = longest_ms / 2;
        now.plus_ms(half_ms + hasher.finish() % (longest_ms - half_ms + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound_and_differ() {
        let retry = Retry { attempts_max: 9, backoff_ms: 1_000, backoff_ms_max: 8_000 };
        let waits = |position| {
            (1..=60).map(move |attempt| {
                let id = MessageId::after(position);
                (attempt, retry.not_before(id, attempt, Timestamp(0)).0)
            })
        };
        for (attempt, wait) in waits(7) {
            let longest = (1_000_u64 << (attempt - 1).min(3)).min(8_000);
            assert!((longest / 2..=longest).contains(&wait), "{attempt}: {wait}");
        }
        assert!(waits(7).eq(waits(7)) && !waits(7).eq(waits(8)));
        let at_once = Retry { backoff_ms: 0, ..retry };
        assert_eq!(at_once.not_before(MessageId::after(1), 3, Timestamp(5)), Timestamp(5));
    }
}
