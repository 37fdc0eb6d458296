//! From a folder to sled's handle, and what its refusals mean. It knows no row.

use std::{
    fs::{File, OpenOptions},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

use crate::{StorageError, disk};

type Result<T> = std::result::Result<T, StorageError>;

/// sled's data file.
pub(super) const DATA_NAME: &str = "db";

/// Opens sled. A handle that was dropped a moment ago may still hold its lock for a while: sled's
/// threads let go of the file only when they have finished.
pub(super) fn open_patiently(
    folder: &Path,
    config: &sled::Config,
    lock_wait: Duration,
) -> Result<sled::Db> {
    let began = Instant::now();
    loop {
        let error = match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(error)) => refused(folder, &error),
            Err(_) => {
                let what = "sled panicked while opening it".to_owned();
                let path = folder.to_path_buf();
                return Err(StorageError::StateUnusable { path, what });
            }
        };
        if !matches!(error, StorageError::Locked { .. }) || began.elapsed() >= lock_wait {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until sled, whose handle is dropped, has let go of its files, and makes all of them
/// durable.
pub(super) fn sync_closed(folder: &Path, lock_wait: Duration) -> Result<()> {
    // sled's threads write until they have let go of the file.
    let data = sync_file(&folder.join(DATA_NAME))?;
    let began = Instant::now();
    while data.try_lock().is_err() {
        if began.elapsed() >= lock_wait {
            return Err(StorageError::Locked { path: folder.to_path_buf() });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    for (name, _) in disk::list(folder)? {
        let path = folder.join(name);
        if path.is_file() {
            sync_file(&path)?;
        }
    }
    disk::sync_folder(folder)
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
        other => StorageError::StateUnusable { path, what: other.to_string() },
    }
}
