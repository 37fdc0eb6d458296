//! Hash maps written in the order of their keys, so that equal states have equal bytes. It
//! deliberately leaves the maps themselves as they are: speed in use, order only when written.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// For `#[serde(with = "canonical")]`: writes the entries in the order of their keys.
pub(crate) fn serialize<K, V, H, S>(
    map: &HashMap<K, V, H>,
    serializer: S,
) -> Result<S::Ok, S::Error>
where
    K: Serialize + Ord,
    V: Serialize,
    S: Serializer,
{
    serializer.collect_map(map.iter().collect::<BTreeMap<_, _>>())
}

/// For `#[serde(with = "canonical")]`: reads what [`serialize`] wrote.
pub(crate) fn deserialize<'de, K, V, H, D>(deserializer: D) -> Result<HashMap<K, V, H>, D::Error>
where
    H: BuildHasher + Default,
    K: Deserialize<'de> + Eq + Hash,
    V: Deserialize<'de>,
    D: Deserializer<'de>,
{
    HashMap::deserialize(deserializer)
}
