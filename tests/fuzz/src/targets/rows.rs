//! What stands in the small files and in sled: manifest, mark, rows, heads of snapshots, messages.

use tidegate_storage::fuzz;

use crate::Target;

/// The manifest.
pub const MANIFEST: Target = Target {
    name: "manifest",
    run: fuzz::manifest,
    seeds: |seeds| vec![fuzz::manifest_of(&seeds.manifest), fuzz::manifest_of(b"")],
};

/// A record of the state's mark.
pub const MARK: Target = Target {
    name: "mark",
    run: fuzz::mark,
    seeds: |_| vec![fuzz::mark_of(0, 0), fuzz::mark_of(7, 1 << 40)],
};

/// A row of the state.
pub const ROW: Target = Target {
    name: "row",
    run: fuzz::row,
    seeds: |_| vec![fuzz::row_of(b"a value"), fuzz::row_of(b""), fuzz::pieces_of(9, 9_000)],
};

/// The head of a snapshot.
pub const SNAPSHOT_HEAD: Target = Target {
    name: "snapshot-head",
    run: fuzz::snapshot_head,
    seeds: |_| vec![fuzz::snapshot_head_of(17, 1 << 20)],
};

/// Messages of sled's log.
pub const SLED_MESSAGE: Target = Target {
    name: "sled-message",
    run: fuzz::sled_message,
    seeds: |_| vec![fuzz::sled_message_of(0, b"body"), fuzz::sled_message_of(70_000, &[7; 300])],
};
