//! A disk under a record of storage calls: what is surely on it, and what may be. It doesn't choose
//! what a power loss leaves; `image` does.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
    sync::Arc,
};

use anyhow::{Result, bail};

/// A file or a folder, by the order in which they came to be.
pub(crate) type NodeId = usize;
/// A change, or a sync, by its number in the record.
pub(crate) type CallId = usize;

/// The folder in which the store's folder lies.
pub(crate) const TOP: NodeId = 0;

/// What a call asks of the disk.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A name for a new file or folder.
    Make { name: String, node: NodeId },
    /// Within one folder.
    Rename { from: String, to: String, node: NodeId },
    /// A name that goes.
    Remove { name: String, node: NodeId },
    /// Bytes at an offset.
    Write { at: u64, bytes: Arc<[u8]> },
    /// A length that is set.
    Length(u64),
}

/// One step of a record. A power loss may come between any two.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// From here on a change of `node` may be on disk. `done`: its call has returned already.
    Change {
        id: CallId,
        node: NodeId,
        change: Change,
        done: bool,
    },
    /// The call of a change has returned: the next sync covers it.
    Done {
        id: CallId,
        node: NodeId,
    },
    SyncBegins {
        id: CallId,
        node: NodeId,
        path: String,
    },
    SyncEnds {
        id: CallId,
        node: NodeId,
    },
    /// What the process has said, for instance that it has an answer.
    Word(String),
    /// `node` is new; no name leads to it yet.
    Born {
        node: NodeId,
        folder: bool,
    },
}

/// A change that no sync has covered yet.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) id: CallId,
    pub(crate) change: Change,
    done: bool,
}

/// A file or a folder.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub(crate) folder: bool,
    /// Durable bytes of a file.
    pub(crate) bytes: Vec<u8>,
    /// Durable names in a folder.
    pub(crate) names: BTreeMap<String, NodeId>,
    pub(crate) pending: Vec<Pending>,
}

/// Which syncs are taken for lies: the negative controls.
pub(crate) type Lies = fn(&str) -> bool;

/// All files and folders, at one moment.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) nodes: Vec<Node>,
    /// What each sync under way covers.
    syncs: HashMap<CallId, Vec<CallId>>,
    lies: Lies,
}

impl Disk {
    /// A disk on which all that is in `folder` is durable.
    pub(crate) fn of(folder: &Path, lies: Lies) -> Result<Self> {
        let mut disk = Self { nodes: Vec::new(), syncs: HashMap::new(), lies };
        disk.load(folder)?;
        Ok(disk)
    }

    /// Numbers what lies at `path`, a folder before what is in it.
    fn load(&mut self, path: &Path) -> Result<NodeId> {
        let id = self.nodes.len();
        self.nodes.push(Node { folder: path.is_dir(), ..Node::default() });
        if !path.is_dir() {
            self.nodes[id].bytes = fs::read(path)?;
            return Ok(id);
        }
        for name in sorted_names(path)? {
            let node = self.load(&path.join(&name))?;
            self.nodes[id].names.insert(name, node);
        }
        Ok(id)
    }

    /// Takes one step of the record.
    pub(crate) fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Born { node, folder } => {
                if *node != self.nodes.len() {
                    bail!("nodes are born in order");
                }
                self.nodes.push(Node { folder: *folder, ..Node::default() });
            }
            Step::Change { id, node, change, done } => {
                let pending = Pending { id: *id, change: change.clone(), done: *done };
                self.nodes[*node].pending.push(pending);
            }
            Step::Done { id, node } => {
                let pending = self.nodes[*node].pending.iter_mut().find(|found| found.id == *id);
                if let Some(pending) = pending {
                    pending.done = true;
                }
            }
            Step::SyncBegins { id, node, path } => {
                let done = self.nodes[*node].pending.iter().filter(|pending| pending.done);
                let covered = done.map(|pending| pending.id).collect();
                self.syncs.insert(*id, if (self.lies)(path) { Vec::new() } else { covered });
            }
            Step::SyncEnds { id, node } => {
                let covered = self.syncs.remove(id).unwrap_or_default();
                self.nodes[*node].settle(&covered);
            }
            Step::Word(_) => {}
        }
        Ok(())
    }
}

impl Node {
    fn settle(&mut self, covered: &[CallId]) {
        for pending in std::mem::take(&mut self.pending) {
            if covered.contains(&pending.id) {
                apply_names(&mut self.names, &pending.change);
                apply_bytes(&mut self.bytes, &pending.change);
            } else {
                self.pending.push(pending);
            }
        }
    }
}

/// What a change does to the names of its folder.
pub(crate) fn apply_names(names: &mut BTreeMap<String, NodeId>, change: &Change) {
    let forget = |names: &mut BTreeMap<String, NodeId>, name: &str, node: NodeId| {
        // An earlier change may be lost: then the name still means something else.
        if names.get(name) == Some(&node) {
            names.remove(name);
        }
    };
    match change {
        Change::Make { name, node } => {
            names.insert(name.clone(), *node);
        }
        Change::Rename { from, to, node } => {
            forget(names, from, *node);
            names.insert(to.clone(), *node);
        }
        Change::Remove { name, node } => forget(names, name, *node),
        Change::Write { .. } | Change::Length(_) => {}
    }
}

fn apply_bytes(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { at, bytes: new } => {
            let (at, end) = (*at as usize, *at as usize + new.len());
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[at..end].copy_from_slice(new);
        }
        Change::Length(length) => bytes.resize(*length as usize, 0),
        Change::Make { .. } | Change::Rename { .. } | Change::Remove { .. } => {}
    }
}

/// The names in a folder, sorted.
pub(crate) fn sorted_names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
