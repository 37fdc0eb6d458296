//! Parts of Tidegate that touch the disk, measured by themselves: the journal beside a bare sync,
//! reads, recovery, snapshots. No other system is asked here.

pub(crate) mod journal;
pub(crate) mod reads;
pub(crate) mod recovery;
pub(crate) mod snapshots;
