//! What is recorded: stores that begin, sell, roll and recycle, snapshot, trim, archive, close and
//! recover. Small ones, so that thousands of images can be opened. It runs nothing.

use std::path::PathBuf;

use super::work::{End, Work};

/// A story of one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// A store is created, closed, opened, killed and opened again.
    Start,
    /// Large orders: segments roll and are recycled, snapshots and trims follow each other.
    Surge,
    /// Many small orders through the archive, and back for shipping.
    Archive,
    /// Machines so large that a snapshot takes many blocks, one snapshot after the other.
    Snapshots,
    /// One row written over and over, so that the state's log is cleaned and trimmed.
    Marks,
    /// The recovery of a store that has lost power during a surge, and what comes after.
    Recovery,
}

impl Scenario {
    pub(crate) const ALL: [Self; 6] =
        [Self::Start, Self::Surge, Self::Archive, Self::Snapshots, Self::Marks, Self::Recovery];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Surge => "surge",
            Self::Archive => "archive",
            Self::Snapshots => "snapshots",
            Self::Marks => "marks",
            Self::Recovery => "recovery",
        }
    }

    /// Its processes, one after the other.
    pub(crate) fn runs(self) -> Vec<Work> {
        let run =
            |first, rounds, orders, lines, pause_ms, snapshot_every, at_rest, marks, end| Work {
                store: PathBuf::new(),
                words: PathBuf::new(),
                first,
                rounds,
                orders,
                lines,
                pause_ms,
                snapshot_every,
                at_rest,
                marks,
                end,
            };
        let never = 1 << 40;
        match self {
            Self::Start => vec![
                run(0, 1, 6, 3, 0, never, 7, 2, End::Close),
                run(100, 1, 6, 3, 150, never, 7, 2, End::Kill),
                run(200, 1, 6, 3, 0, never, 7, 2, End::Drop),
                run(300, 1, 2, 3, 0, never, 7, 2, End::Close),
            ],
            Self::Surge => vec![
                run(0, 14, 16, 100, 200, 400_000, 7, 2, End::Kill),
                run(1_000, 3, 16, 100, 200, 400_000, 7, 2, End::Close),
            ],
            Self::Archive => vec![run(0, 14, 40, 12, 250, 1, 7, 2, End::Drop)],
            Self::Snapshots => vec![
                run(0, 10, 64, 60, 400, 1, 1, 2, End::Kill),
                run(1_000, 1, 8, 60, 0, 1, 1, 2, End::Close),
            ],
            Self::Marks => vec![
                run(0, 16, 4, 3, 0, never, 7, 500, End::Kill),
                run(1_000, 1, 4, 3, 0, never, 7, 100, End::Close),
            ],
            Self::Recovery => vec![
                run(10_000, 1, 8, 100, 150, 1, 7, 2, End::Kill),
                run(11_000, 2, 8, 100, 150, 1, 7, 2, End::Close),
            ],
        }
    }
}
