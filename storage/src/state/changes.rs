//! Changes of rows: those not yet durable, which readers must see, and how each lies in the log. It
//! neither writes nor reads a file.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use crc32c::crc32c;

use super::rows::{HERE_BYTES_MAX, Kept};
use crate::{Position, Table, journal::Place};

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

/// A record of the log, as read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    kind: u8,
    number: u32,
    pub(crate) table: Table,
    pub(crate) key: &'a [u8],
    /// All of it, or a part.
    pub(crate) value: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads what [`encode`] has given; `None` if it is too short.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let number = u32::from_le_bytes([header[2], header[3], header[4], header[5]]);
        let length = u32::from_le_bytes([header[6], header[7], header[8], header[9]]);
        let (key, value) = rest.split_at_checked(length as usize)?;
        Some(Self { kind: header[0], number, table: Table(header[1]), key, value })
    }

    /// Whether it is part `number` of a value, counted from 0; the last part ends it.
    pub(crate) fn is_part(&self, number: u32) -> bool {
        self.number == number && matches!(self.kind, PART | PUT)
    }

    /// Whether a value ends with it.
    pub(crate) fn ends_value(&self) -> bool {
        self.kind == PUT
    }
}

/// What a row's value takes of the log, in bytes: its records, without their frames.
pub(crate) fn bytes_in_log(key: &[u8], kept: &Kept) -> u64 {
    (HEADER + key.len()) as u64 + kept.length()
}

/// A change that the log tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told<'a> {
    pub(crate) table: Table,
    pub(crate) key: &'a [u8],
    /// Where the row's value is now; `None`: the row goes.
    pub(crate) kept: Option<Kept>,
}

/// From records back to changes.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// Of the value that has begun, if any part has come.
    first: Position,
    count: u32,
    length: u64,
}

impl Decoder {
    /// The change that the record `bytes`, which is at `place`, completes. `None` for a part, and
    /// for the end of a value whose beginning was cut off or trimmed away: it has been written
    /// again since, or never counted.
    pub(crate) fn take<'a>(
        &mut self,
        position: Position,
        bytes: &'a [u8],
        place: Place,
    ) -> Option<Told<'a>> {
        let record = Record::read(bytes)?;
        let mut begun = std::mem::take(self);
        if record.number == 0 {
            begun = Self::default();
        }
        let (table, key) = (record.table, record.key);
        match record.kind {
            DELETE => Some(Told { table, key, kept: None }),
            PART | PUT if record.number != begun.count => None,
            PART => {
                let first = if begun.count == 0 { position } else { begun.first };
                let (count, length) = (begun.count + 1, begun.length + record.value.len() as u64);
                *self = Self { first, count, length };
                None
            }
            PUT => {
                let kept = match record.value {
                    value if begun.count > 0 => {
                        let length = begun.length + value.len() as u64;
                        Kept::Parts { first: begun.first, length }
                    }
                    value if value.len() <= HERE_BYTES_MAX => Kept::Here(value.to_vec()),
                    value => {
                        let place = place.without(bytes.len() - value.len());
                        Kept::Record { place, crc: crc32c(value) }
                    }
                };
                Some(Told { table, key, kept: Some(kept) })
            }
            _ => None,
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

    /// What is told of each record, as if they lay one after the other.
    fn told(decoder: &mut Decoder, records: &[Vec<u8>]) -> Vec<(Vec<u8>, Option<Kept>)> {
        let (mut offset, mut found) = (0, Vec::new());
        for (record, position) in records.iter().zip(1..) {
            let place = Place { segment: 1, offset, length: record.len() as u32 };
            offset += place.length;
            let told = decoder.take(Position(position), record, place);
            found.extend(told.map(|told| (told.key.to_vec(), told.kept)));
        }
        found
    }

    #[test]
    fn records_have_their_bytes_and_read_back() {
        assert_eq!(records(&put(b"k", b"v")), [b"\0\x07\0\0\0\0\x01\0\0\0kv"]);
        let gone = Change { value: None, ..put(b"k", b"") };
        assert_eq!(records(&gone), [b"\x01\x07\0\0\0\0\x01\0\0\0k"]);
        let mut decoder = Decoder::default();
        let here = |value: &[u8]| Kept::Here(value.to_vec());
        let parts = Kept::Parts { first: Position(1), length: 12 };
        for (change, kept) in [
            (put(b"", b""), Some(here(b""))),
            (put(b"k", b"0123"), Some(here(b"0123"))),
            (put(b"k", b"0123456789ab"), Some(parts)),
            (gone, None),
        ] {
            assert_eq!(told(&mut decoder, &records(&change)), [(change.key, kept)]);
        }
    }

    #[test]
    fn a_larger_value_stays_where_it_is() {
        let (mut record, value) = (Vec::new(), [7; HERE_BYTES_MAX + 1]);
        encode(&put(b"key", &value), 100, |bytes| record = bytes);
        let read = Record::read(&record).unwrap();
        assert_eq!((read.table, read.key, read.value), (Table(7), &b"key"[..], &value[..]));
        assert!(read.is_part(0) && read.ends_value() && !read.is_part(1));
        let length = value.len() as u32;
        let place = Place { segment: 1, offset: HEADER as u32 + 3, length };
        let kept = Kept::Record { place, crc: crc32c(&value) };
        assert_eq!(bytes_in_log(b"key", &kept), record.len() as u64);
        assert_eq!(told(&mut Decoder::default(), &[record]), [(b"key".to_vec(), Some(kept))]);
    }

    #[test]
    fn a_value_that_was_cut_off_never_counts() {
        let (cut, whole) = (records(&put(b"k", b"0123456789ab")), records(&put(b"k", b"x")));
        let mut decoder = Decoder::default();
        assert_eq!(told(&mut decoder, &cut[..1]), []);
        assert_eq!(told(&mut decoder, &whole), [(b"k".to_vec(), Some(Kept::Here(b"x".to_vec())))]);
        assert_eq!(told(&mut decoder, &cut[1..]), [], "its beginning is missing");
        assert_eq!(told(&mut decoder, &[b"short".to_vec()]), []);
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
