//! What a seed decides before anything happens: how large the store is, how much is asked of it,
//! and how much goes wrong. Nothing here happens.

use crate::random::Random;
use tidegate_machines::{IntakeConfig, bounds::IDEMPOTENCY_RETENTION_MS_MIN};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub(super) stock_shards: u16,
    pub(super) order_shards: u16,
    pub(super) users: usize,
    pub(super) in_flight_max: usize,
    pub(super) batch_bytes_max: usize,
    pub(super) retention_ms: u64,
    pub(super) keys_max: usize,
    /// Days that are simulated; all keys are forgotten between two.
    pub(super) days: u32,
    /// Steps of each day.
    pub(super) steps: u64,
    /// How likely each kind of step is.
    pub(super) weights: Weights,
    /// Answers that are lost on their way, in a thousand.
    pub(super) lost_per_mille: u64,
    /// How orders that do not wait for their answer are taken in.
    pub(super) intake: Option<IntakeConfig>,
}

/// How likely each kind of step is, among each other.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    pub(super) ask: u64,
    pub(super) deliver: u64,
    pub(super) turn: u64,
    pub(super) sync: u64,
    pub(super) word: u64,
    pub(super) hear: u64,
    pub(super) time: u64,
    pub(super) tick: u64,
    pub(super) project: u64,
    pub(super) snapshot: u64,
    pub(super) rebuild: u64,
    pub(super) fault: u64,
}

impl Profile {
    /// What `random` makes of it.
    pub(super) fn draw(random: &mut Random) -> Self {
        let calm = random.per_mille(100);
        let tight = random.per_mille(60);
        let days = if random.per_mille(150) { 2 } else { 1 };
        Self {
            stock_shards: random.between(1, 4) as u16,
            order_shards: random.between(1, 4) as u16,
            users: random.between(2, 9) as usize,
            in_flight_max: if random.per_mille(200) { random.between(1, 6) as usize } else { 256 },
            batch_bytes_max: if random.per_mille(300) { 300 } else { 128 << 10 },
            retention_ms: IDEMPOTENCY_RETENTION_MS_MIN,
            keys_max: if tight { random.between(40, 120) as usize } else { 1_000_000 },
            days,
            steps: random.between(2_000, 8_000) / u64::from(days),
            weights: Weights {
                ask: random.between(60, 200),
                deliver: random.between(60, 300),
                turn: random.between(30, 150),
                sync: random.between(5, 80),
                word: random.between(40, 150),
                hear: random.between(10, 80),
                time: random.between(2, 40),
                tick: random.between(2, 40),
                project: random.between(1, 30),
                snapshot: random.between(0, 4),
                rebuild: random.between(5, 60),
                fault: if calm { 0 } else { random.between(1, 8) },
            },
            lost_per_mille: if calm { 0 } else { random.between(0, 120) },
            intake: None,
        }
    }

    /// The same, with an intake for every fourth seed. It has luck of its own, so that the others
    /// mean what they meant before there was one.
    pub(super) fn with_intake(mut self, seed: u64) -> Self {
        let mut random = Random::new(!seed);
        self.intake = seed.is_multiple_of(4).then(|| IntakeConfig {
            orders_per_second: random.between(1, 40) as u32,
            shards: self.order_shards,
            queued_max: random.between(2, 30),
            deadline_ms: random.between(100, 60_000),
        });
        self
    }
}
