//! A sale that can be cut short anywhere and checked afterwards: what is sold follows from the
//! names of its carts, a process of its own sells and tells what it was answered, and a check
//! compares the store with that. It decides nothing about when and how a sale is cut short.

pub(crate) mod check;
pub(crate) mod ledger;
pub(crate) mod life;
pub(crate) mod plan;
pub(crate) mod sell;
mod step;

use std::{fs, path::Path};

use tidegate::{Builder, Tidegate};

/// A store in which little work goes a long way: small segments and frequent snapshots, so that
/// rolls, trims, snapshots and the archive all happen within a second. Nothing is kept for
/// subscribers, so that the journal is trimmed as early as it may be.
pub(crate) fn store(folder: &Path) -> Builder {
    Tidegate::builder(folder)
        .segment_bytes(1 << 20)
        .snapshot_every_bytes(256 << 10)
        .events_retained_bytes(0)
        .stock_shards(2)
        .order_shards(2)
        .arbiters(2)
}

/// Copies a folder with all that is in it; one that is absent makes an empty one.
pub(crate) fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    if !from.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
