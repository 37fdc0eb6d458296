//! From a folder to sled's handle: what sled needs done before and after it opens, and when it must
//! not open at all. It knows no row.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::ErrorKind,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

use super::{
    log_check::{self, DATA_NAME},
    mark::{self, MARK_NAME, Mark},
};
use crate::{StorageError, disk};

type Result<T> = std::result::Result<T, StorageError>;

/// Opens sled, and gives what was marked before. A handle that was dropped a moment ago may still
/// hold its lock for a while: sled's threads let go of the file only when they have finished.
pub(super) fn open_patiently(
    folder: &Path,
    config: &sled::Config,
    lock_wait: Duration,
) -> Result<(sled::Db, Option<Mark>)> {
    let began = Instant::now();
    loop {
        let error = match check(folder).and_then(|mark| Ok((open(folder, config)?, mark))) {
            Ok(opened) => return Ok(opened),
            Err(error) => error,
        };
        if !matches!(error, StorageError::Locked { .. }) || began.elapsed() >= lock_wait {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn open(folder: &Path, config: &sled::Config) -> Result<sled::Db> {
    match catch_unwind(AssertUnwindSafe(|| config.open())) {
        Ok(opened) => opened.map_err(|error| refused(folder, &error)),
        Err(_) => Err(unusable(folder, "sled panicked while opening it")),
    }
}

/// Looks at sled's log before sled does, for sled would cut it at the first damage. Gives what was
/// marked; `None` if nothing was ever kept here.
fn check(folder: &Path) -> Result<Option<Mark>> {
    let path = folder.join(DATA_NAME);
    let marked = mark::read(folder)?;
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let gone = |_| StorageError::damaged(&path, 0, "it is gone");
            return marked.map_or(Ok(None), |mark| Err(gone(mark)));
        }
        Err(error) => return Err(StorageError::io("opening", &path, error)),
    };
    // sled's own lock: as long as somebody else has it, the log may change.
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(StorageError::Locked { path: folder.to_path_buf() });
        }
        Err(TryLockError::Error(error)) => {
            return Err(StorageError::io("locking", &path, error));
        }
    }
    let Some(mark) = marked else {
        return Err(unusable(folder, &format!("{MARK_NAME} is gone")));
    };
    let checked = log_check::check(folder, &file, mark);
    file.unlock().map_err(|error| StorageError::io("unlocking", &path, error))?;
    checked.map(|()| Some(mark))
}

/// Before sled looks at its folder.
pub(super) fn prepare_folder(folder: &Path) -> Result<()> {
    for (name, _) in disk::list(folder)? {
        // Left behind by a crash during an open; sled would take it for damage. It is a copy of
        // what the log says, so nothing is lost with it.
        if name.starts_with("snap.") && name.ends_with(".generating") {
            disk::remove(&folder.join(name))?;
        }
    }
    // Opening makes sled write a synced summary of its log. What the summary is made of must not be
    // younger on disk than the summary, even if the last process was killed.
    let data = folder.join(DATA_NAME);
    if data.exists() {
        sync_file(&data)?;
    }
    Ok(())
}

/// Makes durable what sled creates without syncing; returns our handle of its data file.
pub(super) fn sync_files(folder: &Path) -> Result<File> {
    sync_file(&folder.join("conf"))?;
    let data = sync_file(&folder.join(DATA_NAME))?;
    disk::sync_folder(folder)?;
    disk::sync_folder(&disk::parent_of(folder))?;
    Ok(data)
}

fn sync_file(path: &Path) -> Result<File> {
    let open = OpenOptions::new().read(true).write(true).open(path);
    let file = open.map_err(|error| StorageError::io("opening", path, error))?;
    file.sync_all().map_err(|error| StorageError::io("syncing", path, error))?;
    Ok(file)
}

fn refused(folder: &Path, error: &sled::Error) -> StorageError {
    let path = folder.to_path_buf();
    match error {
        sled::Error::Io(io) if io.to_string().contains("could not acquire lock") => {
            StorageError::Locked { path }
        }
        sled::Error::Io(io) if io.kind() != std::io::ErrorKind::Other => {
            StorageError::io("opening", folder, std::io::Error::new(io.kind(), io.to_string()))
        }
        other => unusable(folder, &other.to_string()),
    }
}

fn unusable(folder: &Path, what: &str) -> StorageError {
    StorageError::StateUnusable { path: folder.to_path_buf(), what: what.to_owned() }
}
