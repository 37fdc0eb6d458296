//! Time as data. The shell stamps it; a machine never asks a clock.

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, as stamped by the shell that decides a command.
///
/// A stamp never goes backwards within one store, not even over a restart with a clock set back.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The stamp `ms` milliseconds later; stays at the end of time instead of wrapping.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}
