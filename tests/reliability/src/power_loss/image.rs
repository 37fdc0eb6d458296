//! What a power loss leaves: everything that was synced, and of the rest what a seed says. The
//! worst that a disk may do is in here, and nothing that it may not.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
};

use anyhow::Result;

use super::disk::{CallId, Change, Disk, Node, NodeId, Pending, TOP, apply_names};
use crate::random::Random;

const PAGE: usize = 4_096;

/// How the unsynced is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing that wasn't synced is there.
    Unsynced,
    /// Nothing is lost: the process was killed, and the system lives on.
    Killed,
    /// What was asked for first is there, then one torn write, then nothing.
    Tail,
    /// What was asked for last is there, what came before is lost.
    Late,
    /// Each block is as it was at some moment since the last sync.
    Blocks,
    /// Each file and folder has a way of its own.
    Mixed,
}

/// The way of one file or folder.
#[derive(Clone, Copy)]
enum Way {
    Nothing,
    All,
    /// All before this call, and a part of it.
    Until(CallId),
    From(CallId),
    Blocks,
}

struct Chooser {
    loss: Loss,
    way: Way,
    block: usize,
    luck: Random,
}

/// Writes to the new folder `to` what is left of `disk`.
pub(crate) fn write(disk: &Disk, luck: &mut Random, to: &Path) -> Result<Loss> {
    let mut chooser = Chooser::new(disk, luck);
    chooser.folder(disk, TOP, to)?;
    Ok(chooser.loss)
}

impl Chooser {
    fn new(disk: &Disk, luck: &mut Random) -> Self {
        let ids = || disk.nodes.iter().flat_map(|node| &node.pending).map(|pending| pending.id);
        let (first, last) = (ids().min().unwrap_or(0), ids().max().unwrap_or(0));
        let bound = first + luck.below((last - first + 2) as u64) as CallId;
        let (loss, way) = match luck.below(20) {
            0 | 1 => (Loss::Unsynced, Way::Nothing),
            2 => (Loss::Killed, Way::All),
            3..6 => (Loss::Tail, Way::Until(bound)),
            6..9 => (Loss::Late, Way::From(bound)),
            9..15 => (Loss::Blocks, Way::Blocks),
            _ => (Loss::Mixed, Way::Blocks),
        };
        let block = if luck.percent(50) { 512 } else { PAGE };
        Self { loss, way, block, luck: Random::part(luck.number(), 0) }
    }

    fn way_of(&mut self, pending: &[Pending]) -> Way {
        let (Loss::Mixed, Some(any)) = (self.loss, self.any_of(pending)) else {
            return self.way;
        };
        match self.luck.below(5) {
            0 => Way::Nothing,
            1 => Way::All,
            2 => Way::Until(any),
            3 => Way::From(any),
            _ => Way::Blocks,
        }
    }

    fn any_of(&mut self, pending: &[Pending]) -> Option<CallId> {
        let any = self.luck.below(pending.len().max(1) as u64) as usize;
        pending.get(any).map(|pending| pending.id)
    }

    fn folder(&mut self, disk: &Disk, node: NodeId, to: &Path) -> Result<()> {
        fs::create_dir(to)?;
        for (name, node) in self.names(&disk.nodes[node]) {
            let path = to.join(name);
            if disk.nodes[node].folder {
                self.folder(disk, node, &path)?;
            } else {
                write_sparse(&path, &self.bytes(&disk.nodes[node]))?;
            }
        }
        Ok(())
    }

    fn names(&mut self, folder: &Node) -> BTreeMap<String, NodeId> {
        let (way, mut names) = (self.way_of(&folder.pending), folder.names.clone());
        for pending in &folder.pending {
            let kept = match way {
                Way::Nothing => false,
                Way::All => true,
                Way::Until(bound) => pending.id < bound,
                Way::From(bound) => pending.id >= bound,
                Way::Blocks => self.luck.percent(50),
            };
            if kept {
                apply_names(&mut names, &pending.change);
            }
        }
        names
    }

    fn bytes(&mut self, file: &Node) -> Vec<u8> {
        let pending = &file.pending;
        let way = self.way_of(pending);
        let length_until = self.length_until(way, pending);
        let blocks = self.blocks_until(way, pending);
        let (mut bytes, mut length) = (file.bytes.clone(), file.bytes.len());
        for Pending { id, change, .. } in pending {
            match change {
                Change::Write { at, bytes: new } => {
                    let mut new = &new[..];
                    if matches!(way, Way::Until(bound) if bound == *id) {
                        let sectors = self.luck.below(new.len() as u64 / 512 + 1) as usize;
                        new = &new[..sectors * 512];
                    }
                    self.write_blocks(&mut bytes, *at as usize, new, |block| {
                        blocks.get(&block).is_none_or(|until| id <= until)
                    });
                    if *id <= length_until {
                        length = length.max(*at as usize + new.len());
                    }
                }
                Change::Length(new) if *id <= length_until => {
                    bytes.truncate(*new as usize);
                    length = *new as usize;
                }
                _ => {}
            }
        }
        bytes.resize(length, 0);
        bytes
    }

    /// The last change whose length is on disk.
    fn length_until(&mut self, way: Way, pending: &[Pending]) -> CallId {
        match way {
            Way::Nothing => 0,
            Way::All => CallId::MAX,
            Way::Until(bound) => bound,
            Way::From(_) | Way::Blocks => match self.luck.below(3) {
                0 => 0,
                1 => CallId::MAX,
                _ => self.any_of(pending).unwrap_or(0),
            },
        }
    }

    /// The last change that each block has seen.
    fn blocks_until(&mut self, way: Way, pending: &[Pending]) -> HashMap<usize, CallId> {
        let mut until = HashMap::new();
        for Pending { id, change, .. } in pending {
            let Change::Write { at, bytes } = change else { continue };
            let (first, end) = (*at as usize / self.block, *at as usize + bytes.len());
            for block in first..end.div_ceil(self.block) {
                // Of each block, the last change.
                until.insert(block, *id);
            }
        }
        let mut blocks: Vec<_> = until.keys().copied().collect();
        // The same order with the same seed.
        blocks.sort_unstable();
        for block in blocks {
            let last = until[&block];
            let seen = match way {
                Way::Nothing => 0,
                Way::All => CallId::MAX,
                Way::Until(bound) => bound,
                Way::From(bound) if last >= bound => CallId::MAX,
                Way::From(_) => 0,
                Way::Blocks => match self.luck.below(5) {
                    0 | 1 => 0,
                    2 | 3 => CallId::MAX,
                    _ => self.any_of(pending).unwrap_or(0),
                },
            };
            until.insert(block, seen);
        }
        until
    }

    fn write_blocks(
        &self,
        bytes: &mut Vec<u8>,
        at: usize,
        new: &[u8],
        kept: impl Fn(usize) -> bool,
    ) {
        let mut done = 0;
        while done < new.len() {
            let from = at + done;
            let part = (self.block - from % self.block).min(new.len() - done);
            if kept(from / self.block) {
                if bytes.len() < from + part {
                    bytes.resize(from + part, 0);
                }
                bytes[from..from + part].copy_from_slice(&new[done..done + part]);
            }
            done += part;
        }
    }
}

fn write_sparse(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = File::create(path)?;
    file.set_len(bytes.len() as u64)?;
    for (number, page) in bytes.chunks(PAGE).enumerate() {
        if page.iter().any(|byte| *byte != 0) {
            file.write_all_at(page, (number * PAGE) as u64)?;
        }
    }
    Ok(())
}
