//! Short lists that need no room of their own on the heap, read back with care. It deliberately
//! leaves the writing to serde: the bytes are those of any list.

use serde::{Deserialize, Deserializer};
use smallvec::{Array, SmallVec};
use thin_vec::ThinVec;

/// For `#[serde(deserialize_with)]`: reads a list without believing the length that stands before
/// it, as serde does for a `Vec`. `SmallVec` by itself would ask for all of that room first.
pub(crate) fn read<'de, A, D>(deserializer: D) -> Result<SmallVec<A>, D::Error>
where
    A: Array,
    A::Item: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Vec::deserialize(deserializer)?.into_iter().collect())
}

/// The same for a list that is nearly always empty.
pub(crate) fn read_thin<'de, T, D>(deserializer: D) -> Result<ThinVec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Vec::deserialize(deserializer)?.into_iter().collect())
}
