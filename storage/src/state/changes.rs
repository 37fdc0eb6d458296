//! Changes of rows: those not yet durable, which readers must see, and how each lies in the log. It
//! neither writes nor reads a file.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use crate::Table;

/// A row that gets a value, or loses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) table: Table,
    pub(crate) key: Vec<u8>,
    /// `None`: the row goes.
    pub(crate) value: Option<Arc<[u8]>>,
}

/// The number of a row's newest change, and the value that it gives.
type Newest = (u64, Option<Arc<[u8]>>);

/// What was asked for and is not in the index yet.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// In the order in which they were asked for; the log keeps it.
    queue: Vec<Change>,
    bytes: usize,
    /// The newest of each row, also while its change is on its way to the index.
    rows: BTreeMap<(u8, Vec<u8>), Newest>,
    number: u64,
}

impl Pending {
    pub(crate) fn push(&mut self, change: Change) {
        self.number += 1;
        self.bytes += change.key.len() + change.value.as_ref().map_or(0, |value| value.len());
        let row = (change.table.0, change.key.clone());
        self.rows.insert(row, (self.number, change.value.clone()));
        self.queue.push(change);
    }

    /// Bytes of what is queued.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What the row holds after its newest change; `None` if there is none here.
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Option<Option<Arc<[u8]>>> {
        self.rows.get(&(table.0, key.to_vec())).map(|(_, value)| value.clone())
    }

    /// The newest change of each row of `table` with `prefix`, after `after`.
    pub(crate) fn range<'a>(
        &'a self,
        table: Table,
        prefix: &'a [u8],
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded((table.0, after.to_vec())),
            _ => Bound::Included((table.0, prefix.to_vec())),
        };
        let rows = self.rows.range((from, Bound::Unbounded));
        rows.take_while(move |((found, key), _)| *found == table.0 && key.starts_with(prefix))
            .map(|((_, key), (_, value))| (key.as_slice(), value.as_deref()))
    }

    /// Takes the queue, and the number of its last change. Readers still see all of it.
    pub(crate) fn take(&mut self) -> (Vec<Change>, u64) {
        self.bytes = 0;
        (std::mem::take(&mut self.queue), self.number)
    }

    /// The changes up to `number` are in the index: readers find them there.
    pub(crate) fn forget(&mut self, number: u64) {
        self.rows.retain(|_, (newest, _)| *newest > number);
    }
}

const PUT: u8 = 0;
const DELETE: u8 = 1;
const PART: u8 = 2;
/// Kind, table, number, length of the key.
const HEADER: usize = 10;

/// The records of `change`, none with more than about `bytes_max` of value. A large value goes in
/// parts, of which the last makes it count.
pub(crate) fn encode(change: &Change, bytes_max: usize, mut take: impl FnMut(Vec<u8>)) {
    let record = |kind: u8, number: u32, value: &[u8]| {
        let mut bytes = Vec::with_capacity(HEADER + change.key.len() + value.len());
        bytes.extend_from_slice(&[kind, change.table.0]);
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&(change.key.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&change.key);
        bytes.extend_from_slice(value);
        bytes
    };
    let Some(value) = &change.value else {
        return take(record(DELETE, 0, &[]));
    };
    let (mut rest, mut number) = (&value[..], 0);
    while rest.len() > bytes_max {
        let (part, more) = rest.split_at(bytes_max);
        take(record(PART, number, part));
        (rest, number) = (more, number + 1);
    }
    take(record(PUT, number, rest));
}

/// From records back to changes.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    parts: Vec<u8>,
    count: u32,
}

impl Decoder {
    /// The change that `record` completes. `None` for a part, and for the end of a value whose
    /// beginning was cut off or trimmed away: it has been written again since, or never counted.
    pub(crate) fn take(&mut self, record: &[u8]) -> Option<Change> {
        let (header, rest) = record.split_at_checked(HEADER)?;
        let number = u32::from_le_bytes([header[2], header[3], header[4], header[5]]);
        let length = u32::from_le_bytes([header[6], header[7], header[8], header[9]]);
        let (key, value) = rest.split_at_checked(length as usize)?;
        if number == 0 {
            (self.parts, self.count) = (Vec::new(), 0);
        }
        let fits = number == self.count;
        let (table, key) = (Table(header[1]), key.to_vec());
        match header[0] {
            PART if fits => {
                self.parts.extend_from_slice(value);
                self.count += 1;
                None
            }
            PUT if fits => {
                let mut whole = std::mem::take(&mut self.parts);
                self.count = 0;
                whole.extend_from_slice(value);
                Some(Change { table, key, value: Some(whole.into()) })
            }
            DELETE => Some(Change { table, key, value: None }),
            _ => {
                (self.parts, self.count) = (Vec::new(), 0);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &[u8], value: &[u8]) -> Change {
        Change { table: Table(7), key: key.to_vec(), value: Some(value.into()) }
    }

    fn records(change: &Change) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        encode(change, 4, |record| records.push(record));
        records
    }

    #[test]
    fn records_have_their_bytes_and_read_back() {
        assert_eq!(records(&put(b"k", b"v")), [b"\0\x07\0\0\0\0\x01\0\0\0kv"]);
        let gone = Change { value: None, ..put(b"k", b"") };
        assert_eq!(records(&gone), [b"\x01\x07\0\0\0\0\x01\0\0\0k"]);
        let mut decoder = Decoder::default();
        for change in [put(b"", b""), put(b"k", b"0123"), put(b"k", b"0123456789ab"), gone] {
            let read: Vec<_> =
                records(&change).iter().filter_map(|record| decoder.take(record)).collect();
            assert_eq!(read, [change]);
        }
    }

    #[test]
    fn a_value_that_was_cut_off_never_counts() {
        let (cut, whole) = (records(&put(b"k", b"0123456789ab")), put(b"k", b"x"));
        let mut decoder = Decoder::default();
        assert_eq!(decoder.take(&cut[0]), None);
        assert_eq!(decoder.take(&records(&whole)[0]), Some(whole));
        assert_eq!(decoder.take(&cut[1]), None);
        assert_eq!(decoder.take(&cut[2]), None, "its beginning is missing");
        assert_eq!(decoder.take(b"short"), None);
    }

    #[test]
    fn what_is_on_its_way_is_seen_until_it_has_arrived() {
        let mut pending = Pending::default();
        pending.push(put(b"a", b"1"));
        pending.push(put(b"b", b"2"));
        let (changes, number) = pending.take();
        pending.push(put(b"b", b"3"));
        assert_eq!((changes.len(), pending.bytes()), (2, 2));
        assert_eq!(pending.get(Table(7), b"a"), Some(Some(b"1"[..].into())));
        pending.forget(number);
        assert_eq!(pending.get(Table(7), b"a"), None);
        let left: Vec<_> = pending.range(Table(7), b"", None).collect();
        assert_eq!(left, [(&b"b"[..], Some(&b"3"[..]))]);
    }
}
