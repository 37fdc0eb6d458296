//! The file that makes a folder a store. Its payload belongs to the layers above and is opaque
//! here. It is written once, when all else is in place, and never changed.

use std::{fs, io::ErrorKind, path::Path};

use crc32c::crc32c;

use crate::{StorageError, disk};

type Result<T> = std::result::Result<T, StorageError>;

/// The manifest's name in a store's folder.
pub(crate) const MANIFEST_NAME: &str = "tidegate.store";
/// Its name until it is whole.
pub(crate) const UNFINISHED_NAME: &str = "tidegate.store.tmp";

const MAGIC: &[u8; 8] = b"TIDEGATE";
const FORMAT_VERSION: u32 = 1;
const HEADER: usize = 20;

/// The payload of the manifest in `folder`; `None` if there is no manifest.
pub(crate) fn read(folder: &Path) -> Result<Option<Vec<u8>>> {
    let path = folder.join(MANIFEST_NAME);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StorageError::io("reading", &path, error)),
    };
    decode(&path, &bytes).map(Some)
}

/// Writes the manifest of a new store.
pub(crate) fn write(folder: &Path, payload: &[u8]) -> Result<()> {
    let path = folder.join(MANIFEST_NAME);
    disk::write_whole(&path, &folder.join(UNFINISHED_NAME), &encode(payload))
}

/// All numbers are little endian, in this order: magic 8 bytes, format version u32, length u32, crc
/// u32 of all else, payload.
pub(crate) fn encode(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    let crc = crc32c(&bytes);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes
}

pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Vec<u8>> {
    let bad = |what: &str| StorageError::damaged(path, 0, what);
    let Some((header, payload)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(bad("it is shorter than a manifest"));
    };
    if &header[..8] != MAGIC {
        return Err(bad("it does not begin like a manifest"));
    }
    let number = |at: usize| {
        let word = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        u32::from_le_bytes(word)
    };
    let (found, supported) = (number(8), FORMAT_VERSION);
    if found > supported {
        return Err(StorageError::NewerFormat { path: path.to_path_buf(), found, supported });
    }
    let mut blank = bytes.to_vec();
    blank[16..20].fill(0);
    if number(12) as usize != payload.len() || number(16) != crc32c(&blank) {
        return Err(bad("its checksum is wrong"));
    }
    if found < supported {
        return Err(bad("it is of a format that there never was"));
    }
    Ok(payload.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_and_names_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(MANIFEST_NAME);
        assert_eq!(read(folder.path()).unwrap(), None);
        write(folder.path(), b"shards=4").unwrap();
        assert_eq!(read(folder.path()).unwrap().unwrap(), b"shards=4");

        let good = fs::read(&path).unwrap();
        assert_eq!(good[..16], *b"TIDEGATE\x01\0\0\0\x08\0\0\0");
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&path, &bytes).is_err(), "bit {bit}");
        }
        for length in 0..good.len() {
            assert!(decode(&path, &good[..length]).is_err(), "{length} bytes");
        }
        let mut never = good.clone();
        never[8] = 0;
        never[16..20].fill(0);
        let crc = crc32c(&never);
        never[16..20].copy_from_slice(&crc.to_le_bytes());
        let never = decode(&path, &never).unwrap_err().to_string();
        assert!(never.contains("there never was"), "{never}");
        let mut newer = good;
        newer[8] = 9;
        let newer = decode(&path, &newer);
        assert!(matches!(newer, Err(StorageError::NewerFormat { found: 9, supported: 1, .. })));
    }
}
