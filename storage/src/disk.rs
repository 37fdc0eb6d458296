//! Durable file operations that every part of storage uses: `std` leaves folder syncs to the
//! caller. It never decides what a failure means; it only names it.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::StorageError;

type Result<T> = std::result::Result<T, StorageError>;

/// A folder that is open: for whoever must not find that there is no file descriptor left when what
/// he changed in it is to be made durable.
pub(crate) struct Folder<'a> {
    path: &'a Path,
    file: File,
}

impl<'a> Folder<'a> {
    pub(crate) fn open(path: &'a Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| StorageError::io("opening", path, error))?;
        Ok(Self { path, file })
    }

    /// Makes creations, renames and removals in it durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| StorageError::io("syncing", self.path, error))
    }
}

/// Makes creations, renames and removals inside `folder` durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    Folder::open(folder)?.sync()
}

/// Creates `folder` and what is missing above it, each made durable in its parent.
pub(crate) fn create_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = parent_of(folder);
    create_folder(&parent)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(StorageError::io("creating", folder, error))
        }
        _ => {
            sync_folder(folder)?;
            sync_folder(&parent)
        }
    }
}

/// The folder that holds `path`; the current one for a bare name.
pub(crate) fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        Some(_) => PathBuf::from("."),
        None => PathBuf::from("/"),
    }
}

/// Replaces `path` in one step that survives a crash: it holds the old bytes or the new ones.
pub(crate) fn write_whole(path: &Path, temporary: &Path, bytes: &[u8]) -> Result<()> {
    File::create(temporary)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .map_err(|error| StorageError::io("writing", temporary, error))?;
    rename(temporary, path)?;
    sync_folder(&parent_of(path))
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|error| StorageError::io("renaming", from, error))
}

/// Removes a file that somebody may still have open: its room on the disk is free at once.
pub(crate) fn discard(path: &Path) -> Result<()> {
    let file = File::options().write(true).open(path);
    file.and_then(|file| file.set_len(0))
        .map_err(|error| StorageError::io("emptying", path, error))?;
    remove(path)
}

pub(crate) fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(|error| StorageError::io("removing", path, error))
}

/// Copies the files of `from`, and of the folders in it, to the new folder `to`; gives their bytes.
/// Nothing is made durable.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<u64> {
    fs::create_dir(to).map_err(|error| StorageError::io("creating", to, error))?;
    let mut bytes = 0;
    for (name, _) in list(from)? {
        let (from, to) = (from.join(&name), to.join(&name));
        bytes += if from.is_dir() {
            copy_folder(&from, &to)?
        } else {
            fs::copy(&from, &to).map_err(|error| StorageError::io("copying to", &to, error))?
        };
    }
    Ok(bytes)
}

/// The names in `folder`, with lengths, sorted. Names that are not UTF-8 are kept lossily: no file
/// of ours has one.
pub(crate) fn list(folder: &Path) -> Result<Vec<(String, u64)>> {
    let read = || -> std::io::Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let length = entry.metadata()?.len();
            found.push((entry.file_name().to_string_lossy().into_owned(), length));
        }
        found.sort();
        Ok(found)
    };
    read().map_err(|error| StorageError::io("listing", folder, error))
}

/// Locks; a panic of another holder does not matter, because no holder leaves the value half
/// changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
