//! How far an import is, as it is noted in the store before and after each chunk of lines. It
//! applies no line.

use std::path::Path;

use anyhow::bail;
use serde::{Deserialize, Serialize};
use tidegate::{Timestamp, bounds};

const HOUR_MS: u64 = 60 * 60 * 1_000;

/// How long after their begin lines can be taken up again: the store then remembers for at least an
/// hour more which of them it has.
const TAKEN_UP_MS_MAX: u64 = bounds::IDEMPOTENCY_RETENTION_MS_MIN - HOUR_MS;

/// See the module.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Every line up to this one is done.
    pub(super) line: u64,
    pub(super) imported: u64,
    pub(super) bad: u64,
    /// What may be done of the lines behind it.
    #[serde(default)]
    begun: Option<Begun>,
}

/// Lines that were begun.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Begun {
    /// The last of them.
    line: u64,
    /// When the first of them was, however often they were taken up since.
    at_ms: u64,
}

impl Progress {
    /// That what was begun can be taken up again.
    pub(super) fn check(&self, file: &Path, now: Timestamp) -> anyhow::Result<()> {
        let Some(Begun { line: last, at_ms }) = self.begun else { return Ok(()) };
        let age_ms = now.0.saturating_sub(at_ms);
        if age_ms <= TAKEN_UP_MS_MAX {
            return Ok(());
        }
        bail!(
            "lines {} to {last} of {} were begun {} hours ago and not finished, too long ago to \
             know which of them were applied; nothing was imported now. Compare the stock of their \
             SKUs, write a file of those that are missing and of all lines after {last}, and \
             import that",
            // The first line is the header.
            self.line.max(1) + 1,
            file.display(),
            age_ms / HOUR_MS,
        )
    }

    /// The lines up to `last` are about to be applied.
    pub(super) fn begin(&mut self, last: u64, now: Timestamp) {
        let at_ms = self.begun.map_or(now.0, |begun| begun.at_ms);
        self.begun = Some(Begun { line: last, at_ms });
    }

    /// The lines up to `last` are done.
    pub(super) fn end(&mut self, last: u64, imported: u64, bad: u64) {
        *self = Self {
            line: last,
            imported: self.imported + imported,
            bad: self.bad + bad,
            begun: None,
        };
    }
}
