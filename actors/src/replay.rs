//! One reading of the journal for all shards that are rebuilt together: each record is read and
//! checked once, and handed to the shard whose stream it is of. Shards apply at the same time, each
//! on its own thread. It knows no machine, and decodes nothing.

use std::{collections::HashMap, sync::Arc, sync::mpsc};

use tidegate_machines::Timestamp;
use tidegate_storage::{Entry, Journal, Opening, OpeningStep, Position, StorageError, StreamId};

use crate::{clock::Clock, error::RestoreError, group::Shards};

/// Records are handed over together until they take this much, in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// Room for as many records is made at once.
const RECORDS_USUAL: usize = PIECE_BYTES / 64;

/// Pieces that may wait for a shard. When there are more, the reading waits: memory stays bounded.
const PIECES_MAX: usize = 8;

/// More shards than this read the journal by themselves. Each has a thread while it is rebuilt, of
/// which an arbiter has 512: those that wait for a reading must not keep its last seat from being
/// taken.
const SEATS_MAX: usize = 256;

/// Records of which it is told together that they are read.
const COUNTED_AT_ONCE: u64 = 4_096;

/// Rebuilds every shard of `groups` from what is stored, all at the same time, then drives their
/// open effects again. Tells `opening` how far it is. Waits until all are ready or have failed.
///
/// # Errors
/// The first shard that can't be rebuilt.
pub async fn restore(
    groups: &[Arc<dyn Shards>],
    journal: Arc<dyn Journal>,
    clock: Arc<Clock>,
    opening: Arc<Opening>,
) -> Result<(), RestoreError> {
    let mut replay = Replay::default();
    let waits: Vec<_> = groups.iter().flat_map(|group| group.restore(&mut replay)).collect();
    opening.begin(OpeningStep::Loading, waits.len() as u64);
    let reading = tokio::task::spawn_blocking(move || replay.run(&*journal, &clock, &opening));
    let mut outcome = Ok(());
    for wait in waits {
        outcome = outcome.and(wait.await.unwrap_or(Err(StorageError::Closed.into())));
    }
    // A panic of the reading has failed every shard that waited for it.
    let _ = reading.await;
    outcome
}

/// A reading that is yet to begin.
pub struct Replay {
    joined: mpsc::Receiver<Listener>,
    join: mpsc::Sender<Listener>,
    seats: usize,
}

/// Who hears the records of one stream.
struct Listener {
    stream: StreamId,
    /// It has everything up to here.
    after: Position,
    to: mpsc::SyncSender<Handed>,
    piece: Piece,
    /// It could not go on.
    gone: bool,
}

/// What a shard is handed.
#[derive(Debug)]
pub(crate) enum Handed {
    /// The next records of its stream.
    Records(Piece),
    /// There are no more. The whole journal was read up to this position.
    End(Position),
    /// The journal can't be read on.
    Failed(StorageError),
}

/// Some records of one stream, in order.
#[derive(Debug)]
pub(crate) struct Piece {
    stream: StreamId,
    bytes: Vec<u8>,
    /// Position, stamp, and where the record ends in `bytes`.
    records: Vec<(Position, u64, usize)>,
}

/// The right of one shard to hear its stream. The reading begins when every seat is taken or
/// dropped.
pub struct Seat {
    stream: StreamId,
    join: mpsc::Sender<Listener>,
}

impl Default for Replay {
    fn default() -> Self {
        let (join, joined) = mpsc::channel();
        Self { joined, join, seats: 0 }
    }
}

impl Replay {
    /// A seat for the shard that `stream` is of, if there is one left.
    #[must_use]
    pub fn seat(&mut self, stream: StreamId) -> Option<Seat> {
        self.seats += 1;
        (self.seats <= SEATS_MAX).then(|| Seat { stream, join: self.join.clone() })
    }

    /// Reads, once it is known from where on each shard needs its records, and tells `opening` how
    /// far it is. Blocks until all is handed over; returns early if nobody listens any more.
    pub fn run(self, journal: &dyn Journal, clock: &Clock, opening: &Opening) {
        let Self { joined, join, .. } = self;
        // What is left of it is with the seats.
        drop(join);
        let mut listeners: Vec<Listener> = joined.iter().inspect(|_| opening.add(1)).collect();
        let result = hand_out(&mut listeners, journal, clock, opening);
        for mut listener in listeners {
            listener.hand_over();
            let last = match &result {
                Ok(position) => Handed::End(*position),
                Err(error) => Handed::Failed(error.clone()),
            };
            // Whoever has gone away needs nothing.
            let _ = listener.to.send(last);
        }
    }
}

impl Seat {
    /// Takes the seat: gives what the stream has after `after`, piece by piece. If it ends with
    /// neither [`Handed::End`] nor [`Handed::Failed`], the reading has been given up.
    pub(crate) fn take(self, after: Position) -> mpsc::Receiver<Handed> {
        let (to, handed) = mpsc::sync_channel(PIECES_MAX);
        let piece = Piece::of(self.stream);
        // If the reading has been given up, `handed` says so.
        let _ = self.join.send(Listener { stream: self.stream, after, to, piece, gone: false });
        handed
    }
}

/// Hands every record that somebody needs to them; gives the last position.
fn hand_out(
    listeners: &mut [Listener],
    journal: &dyn Journal,
    clock: &Clock,
    opening: &Opening,
) -> Result<Position, StorageError> {
    let Some(after) = listeners.iter().map(|listener| listener.after).min() else {
        return Ok(Position::ZERO);
    };
    let places: HashMap<StreamId, usize> =
        listeners.iter().enumerate().map(|(place, listener)| (listener.stream, place)).collect();
    opening.begin(OpeningStep::Applying, journal.durable().0.saturating_sub(after.0));
    let mut reader = journal.read(after)?;
    let (mut position, mut stamp, mut told) = (after, 0, after);
    // Neighbours are mostly of one stream.
    let mut latest: Option<(StreamId, Option<usize>)> = None;
    while let Some(entry) = reader.next()? {
        position = entry.position;
        if position.0 - told.0 >= COUNTED_AT_ONCE {
            opening.add(position.0 - told.0);
            told = position;
        }
        stamp = stamp.max(entry.stamp);
        let place = match latest {
            Some((stream, place)) if stream == entry.stream => place,
            _ => places.get(&entry.stream).copied(),
        };
        latest = Some((entry.stream, place));
        let Some(place) = place else { continue };
        if listeners[place].take(entry) && listeners.iter().all(|listener| listener.gone) {
            return Err(StorageError::Closed);
        }
    }
    opening.add(position.0 - told.0);
    // Before anybody goes on: no stamp may come that is older than a stored one.
    clock.observe(Timestamp(stamp));
    Ok(position)
}

impl Listener {
    /// Takes a record in; whether the shard was found gone just now.
    fn take(&mut self, entry: Entry<'_>) -> bool {
        if self.gone || entry.position <= self.after {
            return false;
        }
        self.piece.push(entry);
        if self.piece.bytes.len() >= PIECE_BYTES {
            self.hand_over();
        }
        self.gone
    }

    /// Waits while it has enough.
    fn hand_over(&mut self) {
        let piece = std::mem::replace(&mut self.piece, Piece::of(self.stream));
        self.gone = self.to.send(Handed::Records(piece)).is_err();
    }
}

impl Piece {
    fn of(stream: StreamId) -> Self {
        // With room for one more record of the usual size, so that it need not grow.
        let bytes = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 8);
        Self { stream, bytes, records: Vec::with_capacity(RECORDS_USUAL) }
    }

    fn push(&mut self, entry: Entry<'_>) {
        self.bytes.extend_from_slice(entry.bytes);
        self.records.push((entry.position, entry.stamp, self.bytes.len()));
    }

    /// The records.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut start = 0;
        self.records.iter().map(move |&(position, stamp, end)| {
            let bytes = &self.bytes[start..end];
            start = end;
            Entry { position, stream: self.stream, stamp, bytes }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tidegate_storage::{Batch, MemoryJournal, Urgency};

    use super::*;
    use crate::ManualTime;

    const STREAMS: u32 = 3;

    /// A journal of records of three streams by turns; record *n* has stamp *n* and many bytes.
    fn journal(records: u32) -> MemoryJournal {
        let journal = MemoryJournal::new();
        for number in 1..=records {
            let mut batch = Batch::new(StreamId(number % STREAMS), number.into());
            let record = number.to_le_bytes().repeat(2_500);
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(&record);
                Ok::<_, ()>(())
            };
            batch.push(write).unwrap();
            journal.append(batch, Urgency::Now, Box::new(drop)).unwrap();
        }
        journal
    }

    fn clock() -> Clock {
        Clock::new(ManualTime::at_ms(1))
    }

    /// The positions that a seat is handed, and how that ends.
    fn hear(seat: Seat, after: Position) -> (Vec<u64>, Option<Handed>) {
        let mut heard = Vec::new();
        for handed in seat.take(after) {
            let Handed::Records(piece) = handed else { return (heard, Some(handed)) };
            for entry in piece.entries() {
                let number = u32::from_le_bytes(*entry.bytes.first_chunk().unwrap());
                assert_eq!((entry.position.0, entry.stamp), (number.into(), number.into()));
                assert_eq!((entry.stream, entry.bytes.len()), (piece.stream, 10_000));
                heard.push(entry.position.0);
            }
        }
        (heard, None)
    }

    /// Some hundred pieces: more than may wait.
    const RECORDS: u32 = 3_000;

    #[test]
    fn each_hears_its_own_stream_from_its_place_on() {
        let (journal, clock, mut replay) = (journal(RECORDS), clock(), Replay::default());
        let seats: Vec<_> =
            (0..STREAMS).map(|stream| replay.seat(StreamId(stream)).unwrap()).collect();
        drop(replay.seat(StreamId(7)));
        thread::scope(|scope| {
            scope.spawn(|| replay.run(&journal, &clock, &Opening::default()));
            for (stream, seat) in (0u64..).zip(seats) {
                scope.spawn(move || {
                    let after = 1_000 * stream;
                    let (heard, end) = hear(seat, Position(after));
                    let own = (after + 1..=RECORDS.into()).filter(|n| n % 3 == stream);
                    assert_eq!(heard, own.collect::<Vec<_>>());
                    assert!(matches!(end, Some(Handed::End(Position(last))) if last == 3_000));
                });
            }
        });
        assert_eq!(clock.now(), Timestamp(RECORDS.into()), "no stamp is older than a stored one");
    }

    #[test]
    fn one_that_goes_away_keeps_nobody_waiting() {
        let (journal, clock, mut replay) = (journal(RECORDS), clock(), Replay::default());
        let [leaves, stays] = [1, 2].map(|stream| replay.seat(StreamId(stream)).unwrap());
        thread::scope(|scope| {
            scope.spawn(|| drop(leaves.take(Position::ZERO).recv()));
            scope.spawn(|| {
                let (heard, end) = hear(stays, Position::ZERO);
                assert_eq!(heard.len(), 1_000);
                assert!(matches!(end, Some(Handed::End(_))));
            });
            replay.run(&journal, &clock, &Opening::default());
        });
        let mut replay = Replay::default();
        drop(replay.seat(StreamId(1)).unwrap().take(Position::ZERO));
        replay.run(&journal, &clock, &Opening::default());
    }

    #[test]
    fn what_cannot_be_read_or_is_given_up_has_no_good_end() {
        let (journal, mut replay) = (journal(9), Replay::default());
        journal.trim(Position(5)).unwrap();
        let [one, other] = [1, 2].map(|stream| replay.seat(StreamId(stream)).unwrap());
        thread::scope(|scope| {
            for (seat, after) in [(one, 0), (other, 7)] {
                scope.spawn(move || {
                    let (heard, end) = hear(seat, Position(after));
                    let trimmed = Some(Handed::Failed(StorageError::Trimmed {
                        asked: Position(1),
                        oldest: Position(6),
                    }));
                    assert_eq!((heard.len(), format!("{end:?}")), (0, format!("{trimmed:?}")));
                });
            }
            replay.run(&journal, &clock(), &Opening::default());
        });
        let mut replay = Replay::default();
        let seat = replay.seat(StreamId(1)).unwrap();
        drop(replay);
        assert!(matches!(hear(seat, Position::ZERO), (heard, None) if heard.is_empty()));
    }
}
