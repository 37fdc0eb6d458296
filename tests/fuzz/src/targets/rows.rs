//! What stands in the small files and in the state: manifest, note of the log, changes, rows, heads
//! of snapshots.

use tidegate_storage::fuzz;

use crate::Target;

/// The manifest.
pub const MANIFEST: Target = Target {
    name: "manifest",
    run: fuzz::manifest,
    seeds: |seeds| vec![fuzz::manifest_of(&seeds.manifest), fuzz::manifest_of(b"")],
};

/// The note of what a journal must hold.
pub const BOUNDS: Target = Target {
    name: "bounds",
    run: fuzz::bounds,
    seeds: |_| vec![fuzz::bounds_of(1, 0), fuzz::bounds_of(7, 1 << 40)],
};

/// Records of the state's log.
pub const CHANGE: Target = Target {
    name: "change",
    run: fuzz::change,
    seeds: |_| vec![fuzz::change_of(b"key", Some(b"a value")), fuzz::change_of(b"key", None)],
};

/// A row of the state's index.
pub const ROW: Target =
    Target { name: "row", run: fuzz::row, seeds: |_| fuzz::rows_of(b"a value") };

/// The head of a snapshot.
pub const SNAPSHOT_HEAD: Target = Target {
    name: "snapshot-head",
    run: fuzz::snapshot_head,
    seeds: |_| vec![fuzz::snapshot_head_of(17, 1 << 20)],
};
