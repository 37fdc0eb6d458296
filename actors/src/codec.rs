//! Bytes of what is stored: events in the journal, machines in snapshots, rows in the state.
//! Every payload begins with its version. It checks form only; checksums are storage's work.

use std::{fmt::Display, io::Write};

use serde::{Serialize, de::DeserializeOwned};

/// The only version so far. A later one is a new number, and this one stays readable.
const V1: u8 = 1;

/// No value takes more memory than this for each byte that it is written in, so a damaged length
/// can't ask for more. A number of 16 bytes may be written in one.
const BYTES_PER_BYTE_MAX: usize = 32;

/// Why stored bytes can't be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Written by a newer Tidegate.
    #[error(
        "payload version {found} is newer than this program, which knows {V1}; use the newer one"
    )]
    Newer {
        /// The version found.
        found: u8,
    },
    /// Not what this version writes.
    #[error("payload can't be decoded: {0}")]
    Malformed(String),
}

/// Appends `value` to `out`.
///
/// # Errors
/// The value can't be expressed (which no type of Tidegate's own does).
pub fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    write(value, out)
}

/// Writes `value` to `out`, in very small parts.
///
/// # Errors
/// As for [`encode`], or what `out` says.
pub fn write<T: Serialize>(value: &T, out: &mut impl Write) -> Result<(), CodecError> {
    let malformed = |error: &dyn Display| CodecError::Malformed(error.to_string());
    out.write_all(&[V1]).map_err(|error| malformed(&error))?;
    bincode::serde::encode_into_std_write(value, out, bincode::config::standard())
        .map(|_| ())
        .map_err(|error| malformed(&error))
}

/// Reads an event, a row or a snapshot, all of `bytes`. However large it is, what could be written
/// can be read.
///
/// # Errors
/// [`CodecError`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    // Limits are types to bincode: the next one that is large enough is taken.
    match bytes.len().saturating_add(1 << 10).saturating_mul(BYTES_PER_BYTE_MAX) {
        0..0x1_0000 => decode_limited::<T, 0x1_0000>(bytes),
        0x1_0000..0x10_0000 => decode_limited::<T, 0x10_0000>(bytes),
        0x10_0000..0x400_0000 => decode_limited::<T, 0x400_0000>(bytes),
        0x400_0000..0x1_0000_0000 => decode_limited::<T, 0x1_0000_0000>(bytes),
        _ => decode_limited::<T, { usize::MAX }>(bytes),
    }
}

fn decode_limited<T: DeserializeOwned, const LIMIT: usize>(bytes: &[u8]) -> Result<T, CodecError> {
    let malformed = |what: &str| CodecError::Malformed(what.to_owned());
    let (&version, payload) = bytes.split_first().ok_or_else(|| malformed("it is empty"))?;
    match version {
        V1 => {}
        0 => return Err(malformed("it has version 0")),
        found => return Err(CodecError::Newer { found }),
    }
    let config = bincode::config::standard().with_limit::<LIMIT>();
    let (value, used) = bincode::serde::decode_from_slice(payload, config)
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if used != payload.len() {
        return Err(malformed("bytes are left over"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut bytes = Vec::new();
        encode(&("a", 300u64, Some(true)), &mut bytes).unwrap();
        assert_eq!(bytes, [1, 1, b'a', 251, 44, 1, 1, 1], "the format on disk has changed");
        assert_eq!(
            decode::<(String, u64, Option<bool>)>(&bytes),
            Ok(("a".into(), 300, Some(true)))
        );
    }

    #[test]
    fn what_is_much_smaller_than_in_memory_is_read_back() {
        // Each number takes a byte here, and counts as eight in bincode's limit.
        let many = vec![7_u64; 9 << 20];
        let mut bytes = Vec::new();
        encode(&many, &mut bytes).unwrap();
        assert!(decode::<Vec<u64>>(&bytes).unwrap() == many);
    }

    #[test]
    fn bad_bytes_are_named() {
        assert!(matches!(decode::<u64>(&[]), Err(CodecError::Malformed(_))));
        assert!(matches!(decode::<u64>(&[0, 1]), Err(CodecError::Malformed(_))));
        assert_eq!(decode::<u64>(&[2, 1]), Err(CodecError::Newer { found: 2 }));
        assert!(matches!(decode::<u64>(&[1, 1, 1]), Err(CodecError::Malformed(_))));
        // Four GiB for a text of no bytes: refused before any of it is asked for.
        let text = [1, 253, 0, 0, 0, 0, 1, 0, 0, 0];
        let refused = decode::<String>(&text).unwrap_err();
        assert!(refused.to_string().contains("Limit"), "{refused}");
        let huge = [1, 253, 255, 255, 255, 255, 255, 255, 255, 127];
        assert!(matches!(decode::<Vec<u8>>(&huge), Err(CodecError::Malformed(_))));
    }
}
