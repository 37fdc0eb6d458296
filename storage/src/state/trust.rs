//! Whether an index may be used as it is: only if it was closed in order, not opened since, and
//! every byte of it is what it was then. sled mends what a killed process leaves, but has been seen
//! to mend it badly; and of damage it may take the first for the end of its log. It understands
//! nothing of sled's files.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::Read,
    path::Path,
};

use crc32c::crc32c_append;
use tracing::{info, warn};

use crate::{StorageError, disk};

type Result<T> = std::result::Result<T, StorageError>;

const NAME: &str = "index.closed";
/// The first line: how rows lie in the index. One of an earlier form is made again.
const FORM: &str = "places 1";
const UNFINISHED_NAME: &str = "index.closed.tmp";
const CHUNK_BYTES: usize = 1 << 20;

/// Whether the `index` of the state in `folder` may be used. Reads all of it: a disk that can't be
/// read is noticed here, and not by sled.
pub(crate) fn is_given(folder: &Path, index: &Path) -> bool {
    let Ok(noted) = fs::read_to_string(folder.join(NAME)) else {
        if index.exists() {
            info!("the state's index was not closed in order; it is made again");
        }
        return false;
    };
    match describe(index) {
        Ok(found) if found == noted => true,
        Ok(_) if !noted.starts_with(FORM) => {
            info!("the state's index is of an earlier form; it is made again");
            false
        }
        Ok(_) => {
            let path = index.display();
            warn!(%path, "the state's index is not what it was; it is made again");
            false
        }
        Err(error) => {
            warn!(%error, "the state's index can't be read; it is made again");
            false
        }
    }
}

/// The `index` was closed, and all of it synced.
pub(crate) fn give(folder: &Path, index: &Path) -> Result<()> {
    let text = describe(index)?;
    disk::write_whole(&folder.join(NAME), &folder.join(UNFINISHED_NAME), text.as_bytes())
}

/// Before the index is opened.
pub(crate) fn withdraw(folder: &Path) -> Result<()> {
    let path = folder.join(NAME);
    if path.exists() {
        disk::remove(&path)?;
    }
    disk::sync_folder(folder)
}

/// The form of the `index`, and a line for each file: its checksum, length and name.
fn describe(index: &Path) -> Result<String> {
    let (mut text, mut left) = (format!("{FORM}\n"), vec![index.to_path_buf()]);
    while let Some(folder) = left.pop() {
        for (name, _) in disk::list(&folder)? {
            let path = folder.join(name);
            if path.is_dir() {
                left.push(path);
                continue;
            }
            let (crc, length) = sum(&path)?;
            let name = path.strip_prefix(index).unwrap_or(&path).display();
            // Writing to a text can't fail.
            let _ = writeln!(text, "{crc:08x} {length} {name}");
        }
    }
    Ok(text)
}

fn sum(path: &Path) -> Result<(u32, u64)> {
    let read = || -> std::io::Result<(u32, u64)> {
        let (mut file, mut buffer) = (File::open(path)?, vec![0; CHUNK_BYTES]);
        let (mut crc, mut length) = (0, 0);
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok((crc, length)),
                bytes => {
                    crc = crc32c_append(crc, &buffer[..bytes]);
                    length += bytes as u64;
                }
            }
        }
    };
    read().map_err(|error| StorageError::io("reading", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_given_until_withdrawn_or_anything_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, index) = (folder.path(), folder.path().join("index"));
        fs::create_dir_all(index.join("blobs")).unwrap();
        fs::write(index.join("db"), vec![7; 3 << 20]).unwrap();
        assert!(!is_given(folder, &index));
        give(folder, &index).unwrap();
        assert!(is_given(folder, &index));
        withdraw(folder).unwrap();
        withdraw(folder).unwrap();
        assert!(!is_given(folder, &index));
        let changes: [&dyn Fn(); 6] = [
            &|| fs::write(folder.join(NAME), b"").unwrap(),
            &|| fs::write(index.join("db"), vec![7; (3 << 20) - 1]).unwrap(),
            &|| fs::write(index.join("db"), [vec![7; (3 << 20) - 1], vec![6]].concat()).unwrap(),
            &|| fs::write(index.join("more"), b"").unwrap(),
            &|| fs::rename(index.join("db"), index.join("bd")).unwrap(),
            &|| fs::remove_dir_all(&index).unwrap(),
        ];
        for change in changes {
            give(folder, &index).unwrap();
            change();
            assert!(!is_given(folder, &index));
        }
    }
}
