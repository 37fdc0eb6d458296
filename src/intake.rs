//! Asynchronous intake, as a host sets it: how fast queued orders are released, how many may wait,
//! and how long. What it leads to is decided by the order machine.

use tidegate_machines::{
    IntakeConfig,
    bounds::{INTAKE_DEADLINE_MS_MAX, INTAKE_ORDERS_PER_SECOND_MAX},
};

/// How orders that do not wait for their answer are taken in, see
/// [`Builder::intake`](crate::Builder::intake).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intake {
    /// Orders that the store releases in a second, over all its order shards; 1 to 1,000,000.
    pub orders_per_second: u32,
    /// Most orders that wait, about 1 KB of memory each; one more is refused. Each order shard has
    /// its share of it, so a queue can be full a little earlier. At least 1.
    pub queued_max: u64,
    /// How long an order may wait before it is rejected, in milliseconds; 1 to 30 days.
    pub deadline_ms: u64,
}

impl Intake {
    /// So many orders in a second; up to 100,000 wait, for up to 10 minutes.
    #[must_use]
    pub fn per_second(orders: u32) -> Self {
        Self { orders_per_second: orders, queued_max: 100_000, deadline_ms: 10 * 60 * 1_000 }
    }

    /// What each of `shards` order shards is told.
    pub(crate) fn share(self, shards: u16) -> IntakeConfig {
        let shards = shards.max(1);
        IntakeConfig {
            orders_per_second: self.orders_per_second.clamp(1, INTAKE_ORDERS_PER_SECOND_MAX),
            shards,
            queued_max: self.queued_max.max(1).div_ceil(shards.into()),
            deadline_ms: self.deadline_ms.clamp(1, INTAKE_DEADLINE_MS_MAX),
        }
    }
}
