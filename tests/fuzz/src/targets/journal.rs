//! Frames, the batches in them, and whole segments.

use std::{cell::OnceCell, path::PathBuf};

use tempfile::TempDir;
use tidegate_storage::fuzz;

use crate::{Seeds, Target};

/// A frame, checksums and all.
pub const FRAME: Target = Target {
    name: "frame",
    run: fuzz::frame,
    seeds: |_| PAYLOADS.iter().map(|payload| fuzz::sealed_frame(payload)).collect(),
};

/// What is inside of a frame, under checksums that are right.
pub const PAYLOAD: Target = Target {
    name: "payload",
    run: |bytes| fuzz::frame(&fuzz::sealed_frame(bytes)),
    seeds: |_| PAYLOADS.iter().map(|payload| payload.to_vec()).collect(),
};

/// A journal of one segment.
pub const SEGMENT: Target = Target {
    name: "segment",
    run: |bytes| with_scratch(|scratch| fuzz::segment(&scratch, bytes)),
    seeds: |seeds: &Seeds| {
        let records = seeds.of_kind(1);
        let some: Vec<&[u8]> = records.iter().take(6).map(Vec::as_slice).collect();
        with_scratch(|scratch| {
            [0, 1, some.len()].iter().map(|n| fuzz::segment_of(&scratch, &some[..*n])).collect()
        })
    },
};

/// One batch with two records, one with one, one with none.
const PAYLOADS: [&[u8]; 3] = [
    b"\x07\0\0\0\x08\x07\x06\x05\x04\x03\x02\x01\x02\0\0\0\x0c\0\0\0\x04\0\0\0tide\0\0\0\0",
    b"\x07\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x05\0\0\0\x01\0\0\0x",
    b"",
];

thread_local! {
    static SCRATCH: OnceCell<TempDir> = const { OnceCell::new() };
}

/// A folder in memory, if the system has one: a segment is written and synced for every input.
fn with_scratch<T>(work: impl FnOnce(PathBuf) -> T) -> T {
    SCRATCH.with(|scratch| {
        let scratch = scratch.get_or_init(|| {
            let in_memory = tempfile::tempdir_in("/dev/shm");
            in_memory.or_else(|_| tempfile::tempdir()).expect("a scratch folder")
        });
        work(scratch.path().to_path_buf())
    })
}
