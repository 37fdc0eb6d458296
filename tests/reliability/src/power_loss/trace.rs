//! From the lines of strace to steps on a disk: follows names and descriptors, so that each step
//! names the file itself. A call on a store's file that it doesn't know is an error, not a guess.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use anyhow::{Context as _, Result, bail};

use super::{
    disk::{Change, NodeId, Step, TOP, sorted_names},
    lines::{Argument, Line, NEVER, Part},
};

/// The calls to record. Reads aren't needed, and `sync_file_range` promises nothing.
pub(crate) const CALLS: &str = "open,openat,openat2,creat,close,dup,dup2,dup3,fcntl,write,writev,\
    pwrite64,pwritev,pwritev2,lseek,truncate,ftruncate,fallocate,fsync,fdatasync,rename,renameat,\
    renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat,symlink,symlinkat,copy_file_range,\
    sendfile,splice";

/// An open file of the store, shared by its descriptors.
struct Open {
    node: NodeId,
    at: u64,
    path: String,
}

enum Descriptor {
    Store(usize),
    /// Where the process says what it has an answer to.
    Words,
}

/// Follows the calls of one process after the other on one folder.
pub(crate) struct Follower<'a> {
    top: &'a str,
    words: &'a str,
    /// Names as processes see them.
    folders: HashMap<NodeId, BTreeMap<String, NodeId>>,
    nodes: usize,
    opens: Vec<Open>,
    descriptors: HashMap<i64, Descriptor>,
    begun: HashMap<u32, (Line, Option<(usize, NodeId)>)>,
    calls: usize,
    pub(crate) steps: Vec<Step>,
}

impl<'a> Follower<'a> {
    /// On what is in the folder `start` when the first process begins. The processes know that
    /// folder as `top`, and write words to the file `words`.
    pub(crate) fn new(start: &Path, top: &'a str, words: &'a str) -> Result<Self> {
        let mut follower = Self {
            top,
            words,
            folders: HashMap::new(),
            nodes: 0,
            opens: Vec::new(),
            descriptors: HashMap::new(),
            begun: HashMap::new(),
            calls: 0,
            steps: Vec::new(),
        };
        follower.load(start)?;
        Ok(follower)
    }

    /// Numbers nodes as `Disk::of` does.
    fn load(&mut self, path: &Path) -> Result<NodeId> {
        let id = self.nodes;
        self.nodes += 1;
        if path.is_dir() {
            let mut names = BTreeMap::new();
            for name in sorted_names(path)? {
                names.insert(name.clone(), self.load(&path.join(name))?);
            }
            self.folders.insert(id, names);
        }
        Ok(id)
    }

    /// The process has ended, however it did.
    pub(crate) fn process_ends(&mut self) {
        self.descriptors.clear();
        self.begun.clear();
    }

    pub(crate) fn take(&mut self, line: Line) -> Result<()> {
        match line.part {
            Part::Whole => {
                let begun = self.begin(&line)?;
                self.end(&line, line.result, begun)
            }
            Part::Begin => {
                let begun = self.begin(&line)?;
                self.begun.insert(line.thread, (line, begun));
                Ok(())
            }
            Part::End => match self.begun.remove(&line.thread) {
                Some((first, begun)) => self.end(&first, line.result, begun),
                None => Ok(()),
            },
        }
    }

    /// What may reach the disk before the call returns.
    fn begin(&mut self, line: &Line) -> Result<Option<(usize, NodeId)>> {
        let synced = matches!(line.name.as_str(), "fsync" | "fdatasync");
        let written = matches!(line.name.as_str(), "write" | "pwrite64");
        if !synced && !written {
            return Ok(None);
        }
        let open = match self.descriptors.get(&number(line, 0)?) {
            Some(Descriptor::Store(open)) => *open,
            Some(Descriptor::Words) if written => {
                let text = String::from_utf8_lossy(bytes(line, 1)?).trim().to_owned();
                self.steps.push(Step::Word(text));
                return Ok(None);
            }
            _ => return Ok(None),
        };
        self.calls += 1;
        let (id, open) = (self.calls, &mut self.opens[open]);
        let node = open.node;
        if synced {
            let path = open.path.clone();
            self.steps.push(Step::SyncBegins { id, node, path });
            return Ok(Some((id, node)));
        }
        let bytes = bytes(line, 1)?;
        let at = if line.name == "write" {
            let at = open.at;
            open.at += bytes.len() as u64;
            at
        } else {
            number(line, 3)? as u64
        };
        let change = Change::Write { at, bytes: bytes.into() };
        self.steps.push(Step::Change { id, node, change, done: false });
        Ok(Some((id, node)))
    }

    fn end(&mut self, line: &Line, result: i64, begun: Option<(usize, NodeId)>) -> Result<()> {
        if result == NEVER {
            return Ok(());
        }
        if let Some((id, node)) = begun {
            if line.name.contains("sync") {
                if result == 0 {
                    self.steps.push(Step::SyncEnds { id, node });
                }
                return Ok(());
            }
            if result < 0 {
                // Killed meanwhile, or failed: how much of it reached the disk isn't known.
                return Ok(());
            }
            if result != bytes(line, 1)?.len() as i64 {
                bail!("a write that was cut short isn't understood: {result}");
            }
            self.steps.push(Step::Done { id, node });
            return Ok(());
        }
        if result < 0 {
            return Ok(());
        }
        match line.name.as_str() {
            "open" | "creat" => self.open(path(line, 0)?, word(line, 1), result),
            "openat" => self.open(&self.path_at(line, 0)?, word(line, 2), result),
            "close" => drop(self.descriptors.remove(&number(line, 0)?)),
            "fcntl" if !word(line, 1).starts_with("F_DUPFD") => {}
            "fcntl" | "dup" | "dup2" | "dup3" => self.duplicate(number(line, 0)?, result),
            "lseek" => {
                if let Some(Descriptor::Store(open)) = self.descriptors.get(&number(line, 0)?) {
                    self.opens[*open].at = result as u64;
                }
            }
            "ftruncate" => self.set_length(number(line, 0)?, number(line, 1)? as u64),
            "rename" => self.rename(path(line, 0)?, path(line, 1)?)?,
            "renameat" | "renameat2" => {
                self.rename(&self.path_at(line, 0)?, &self.path_at(line, 2)?)?;
            }
            "unlink" | "rmdir" => self.remove(path(line, 0)?),
            "unlinkat" => self.remove(&self.path_at(line, 0)?),
            "mkdir" => self.make_folder(path(line, 0)?),
            "mkdirat" => self.make_folder(&self.path_at(line, 0)?),
            "write" | "pwrite64" | "fsync" | "fdatasync" => {}
            _ => self.refuse(line)?,
        }
        Ok(())
    }

    /// The path whose folder is the argument `at`, and whose name the one after it.
    fn path_at(&self, line: &Line, at: usize) -> Result<String> {
        let path = path(line, at + 1)?;
        let folder = word(line, at).parse().ok().and_then(|folder| self.descriptors.get(&folder));
        Ok(match folder {
            Some(Descriptor::Store(open)) if !path.starts_with('/') => {
                format!("{}{}/{path}", self.top, self.opens[*open].path)
            }
            _ => path.to_owned(),
        })
    }

    /// A call that isn't followed must not be about the store.
    fn refuse(&self, line: &Line) -> Result<()> {
        for argument in &line.arguments {
            let ours = match argument {
                Argument::Bytes(path) => String::from_utf8_lossy(path).starts_with(self.top),
                Argument::Word(word) => {
                    let known = word.parse().ok().and_then(|number| self.descriptors.get(&number));
                    matches!(known, Some(Descriptor::Store(_)))
                }
            };
            if ours {
                bail!("{} on a file of the store isn't understood: {line:?}", line.name);
            }
        }
        Ok(())
    }

    /// Folder and name of a path inside the top folder.
    fn place(&self, path: &str) -> Option<(NodeId, String)> {
        let inside = path.strip_prefix(self.top)?.trim_matches('/');
        let (folders, name) = inside.rsplit_once('/').unwrap_or(("", inside));
        let mut folder = TOP;
        for part in folders.split('/').filter(|part| !part.is_empty()) {
            folder = *self.folders.get(&folder)?.get(part)?;
        }
        Some((folder, name.to_owned()))
    }

    fn open(&mut self, path: &str, flags: &str, descriptor: i64) {
        if path == self.words {
            self.descriptors.insert(descriptor, Descriptor::Words);
            return;
        }
        let Some((folder, name)) = self.place(path) else { return };
        let found = if name.is_empty() {
            Some(TOP)
        } else {
            self.folders.get(&folder).and_then(|names| names.get(&name)).copied()
        };
        let node = found.unwrap_or_else(|| self.make(folder, &name, false));
        self.opens.push(Open { node, at: 0, path: path[self.top.len()..].to_owned() });
        self.descriptors.insert(descriptor, Descriptor::Store(self.opens.len() - 1));
        if flags.contains("O_TRUNC") && found.is_some() {
            self.set_length(descriptor, 0);
        }
    }

    fn duplicate(&mut self, from: i64, to: i64) {
        if let Some(Descriptor::Store(open)) = self.descriptors.get(&from) {
            let open = *open;
            self.descriptors.insert(to, Descriptor::Store(open));
        }
    }

    fn set_length(&mut self, descriptor: i64, length: u64) {
        if let Some(Descriptor::Store(open)) = self.descriptors.get(&descriptor) {
            let node = self.opens[*open].node;
            self.change(node, Change::Length(length));
        }
    }

    fn make(&mut self, folder: NodeId, name: &str, is_folder: bool) -> NodeId {
        let node = self.nodes;
        self.nodes += 1;
        self.steps.push(Step::Born { node, folder: is_folder });
        if is_folder {
            self.folders.insert(node, BTreeMap::new());
        }
        self.folders.entry(folder).or_default().insert(name.to_owned(), node);
        self.change(folder, Change::Make { name: name.to_owned(), node });
        node
    }

    fn make_folder(&mut self, path: &str) {
        if let Some((folder, name)) = self.place(path) {
            self.make(folder, &name, true);
        }
    }

    fn rename(&mut self, from: &str, path_to: &str) -> Result<()> {
        let (Some((folder, from)), Some((other, to))) = (self.place(from), self.place(path_to))
        else {
            return Ok(());
        };
        if folder != other {
            bail!("a rename from folder to folder isn't understood: {from} to {to}");
        }
        let names = self.folders.entry(folder).or_default();
        let node = names.remove(&from).context("a rename of nothing")?;
        names.insert(to.clone(), node);
        for open in self.opens.iter_mut().filter(|open| open.node == node) {
            open.path = path_to[self.top.len()..].to_owned();
        }
        self.change(folder, Change::Rename { from, to, node });
        Ok(())
    }

    fn remove(&mut self, path: &str) {
        let Some((folder, name)) = self.place(path) else { return };
        if let Some(node) = self.folders.entry(folder).or_default().remove(&name) {
            self.change(folder, Change::Remove { name, node });
        }
    }

    fn change(&mut self, node: NodeId, change: Change) {
        self.calls += 1;
        self.steps.push(Step::Change { id: self.calls, node, change, done: true });
    }
}

fn number(line: &Line, at: usize) -> Result<i64> {
    Ok(word(line, at).parse()?)
}

fn word(line: &Line, at: usize) -> &str {
    match line.arguments.get(at) {
        Some(Argument::Word(word)) => word,
        _ => "",
    }
}

fn bytes(line: &Line, at: usize) -> Result<&[u8]> {
    match line.arguments.get(at) {
        Some(Argument::Bytes(bytes)) => Ok(bytes),
        other => bail!("{other:?} in place of bytes: {}", line.name),
    }
}

fn path(line: &Line, at: usize) -> Result<&str> {
    Ok(std::str::from_utf8(bytes(line, at)?)?)
}
