//! The event feed: durable events of the default machines, from any retained place on, to any
//! number of subscribers. Each reads the journal's files for itself, page by page on a blocking
//! thread, and is told when there is more; a slow one holds up nobody but itself. It deliberately
//! keeps no list of who has seen what: a subscriber keeps its own cursor.

mod event;
mod publish;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tidegate_machines::Timestamp;
use tidegate_storage::{Journal, Position, Reader, StorageError};
use tokio::{sync::watch, task::JoinHandle};

pub use event::{Cursor, Event, EventData, EventKind, HeldLine, PlacedLine, Reason, SetOptions};

use crate::codec::CodecError;

/// Events read ahead of a subscriber. One record may add up to 2,000 more.
const PAGE_EVENTS: usize = 256;

/// Bytes of records looked at for one page, so that a filter that lets little pass still gives its
/// thread back.
const PAGE_BYTES: usize = 1 << 20;

/// How long a feed that has caught up waits for company after it was told of something new: it
/// bounds what very many feeds cost, however often the store commits.
const GATHER: Duration = Duration::from_millis(10);

/// Why a feed gave no event.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// Events after the asked place are no longer kept: the subscriber was away or slow for too
    /// long, and must read what it wants to know anew.
    #[error("events from position {asked} on are no longer kept; the oldest kept is {oldest}")]
    Trimmed {
        /// The first position that was to be read.
        asked: Position,
        /// The oldest position that can be read.
        oldest: Position,
    },
    /// The place was never reached: the cursor is another store's.
    #[error("position {asked} is ahead of this store, which ends at {durable}")]
    Ahead {
        /// The position of the cursor.
        asked: Position,
        /// The last position of this store.
        durable: Position,
    },
    /// The store is closed or its journal has failed, and everything in it was given.
    #[error("the store is closed or has failed; there are no more events")]
    Closed,
    /// The journal can't be read.
    #[error(transparent)]
    Storage(StorageError),
    /// A record that this program can't understand.
    #[error("position {position}: {cause}")]
    Codec {
        /// The record.
        position: Position,
        /// What is wrong with it.
        cause: CodecError,
    },
}

/// Where feeds come from. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    journal: Arc<dyn Journal>,
    durable: watch::Receiver<Position>,
    kinds: Kinds,
}

/// Which kinds are wanted, one bit each.
#[derive(Clone, Copy)]
struct Kinds(u64);

impl Kinds {
    fn bit(kind: EventKind) -> u64 {
        1 << kind as u64
    }

    fn has(self, kind: EventKind) -> bool {
        self.0 & Self::bit(kind) != 0
    }
}

impl Events {
    /// The events in `journal`.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>) -> Self {
        let (told, durable) = watch::channel(Position::ZERO);
        let watch = told.clone();
        journal.watch(Box::new(move |position| {
            watch.send_replace(position);
        }));
        // After the watch was set, so that nothing falls between the two.
        let now = journal.durable();
        told.send_if_modified(|known| {
            let later = now > *known;
            *known = now.max(*known);
            later
        });
        Self { journal, durable, kinds: Kinds(u64::MAX) }
    }

    /// Only these kinds.
    #[must_use]
    pub fn only(mut self, kinds: impl IntoIterator<Item = EventKind>) -> Self {
        self.kinds = Kinds(kinds.into_iter().map(Kinds::bit).fold(0, |all, bit| all | bit));
        self
    }

    /// Events after `cursor`: of the event seen last, or of [`Feed::cursor`], or any position. That
    /// it is no longer retained is said by the first [`Feed::next`].
    pub fn after(&self, cursor: impl Into<Cursor>) -> Feed {
        self.feed(Start::After(cursor.into()))
    }

    /// All events that are retained.
    #[must_use]
    pub fn from_oldest(&self) -> Feed {
        self.feed(Start::Oldest)
    }

    /// Events that become durable from now on.
    #[must_use]
    pub fn from_now(&self) -> Feed {
        self.after(self.journal.durable())
    }

    /// The last position that is on disk, where a feed that has given everything is.
    #[must_use]
    pub fn durable(&self) -> Position {
        *self.durable.borrow()
    }

    /// Waits until everything up to `position` is on disk, or there is no more to come.
    pub async fn reached(&self, position: Position) {
        let mut durable = self.durable.clone();
        // An error is that there is no more.
        let _ = durable.wait_for(|durable| *durable >= position).await;
    }

    /// Waits until the store is closed or its journal has failed.
    pub async fn closed(&self) {
        let mut durable = self.durable.clone();
        while durable.changed().await.is_ok() {
            tokio::time::sleep(GATHER).await;
        }
    }

    fn feed(&self, start: Start) -> Feed {
        Feed {
            durable: self.durable.clone(),
            page: VecDeque::new(),
            place: match start {
                Start::After(cursor) => cursor,
                Start::Oldest => Cursor::default(),
            },
            page_end: Cursor::default(),
            reading: None,
            source: Some(Source {
                journal: Arc::clone(&self.journal),
                kinds: self.kinds,
                start,
                reader: None,
            }),
        }
    }
}

#[derive(Clone, Copy)]
enum Start {
    After(Cursor),
    Oldest,
}

/// One subscriber's way through the events.
pub struct Feed {
    durable: watch::Receiver<Position>,
    page: VecDeque<Event>,
    /// After what was given last, and what did not pass the filter right behind it.
    place: Cursor,
    /// The place once all of the page is given.
    page_end: Cursor,
    /// At home while nothing is being read.
    source: Option<Source>,
    reading: Option<JoinHandle<(Source, Result<Page, FeedError>)>>,
}

impl Feed {
    /// Finds the place where to begin, if that is not done yet: so that one that can't be read is
    /// refused now and not in the middle of things. Waits for no event. May be dropped and called
    /// again at any time. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`FeedError`], [`FeedError::Trimmed`] and [`FeedError::Ahead`] among them.
    pub async fn open(&mut self) -> Result<(), FeedError> {
        let opened = self.source.as_ref().is_some_and(|source| source.reader.is_some());
        if opened || !self.page.is_empty() {
            return Ok(());
        }
        self.read().await
    }

    /// The next event, once there is one. May be dropped and called again at any time without
    /// losing one. Needs a tokio runtime with time.
    ///
    /// # Errors
    /// [`FeedError`]; called again it tries again.
    pub async fn next(&mut self) -> Result<Event, FeedError> {
        loop {
            if let Some(event) = self.page.pop_front() {
                let last = self.page.is_empty();
                self.place = if last { self.page_end } else { event.cursor() };
                return Ok(event);
            }
            if self.reading.is_none() {
                let known = self.source.as_ref().and_then(Source::caught_up_at);
                self.wait(known).await?;
            }
            self.read().await?;
        }
    }

    /// Reads a page, or goes on with one that is being read.
    async fn read(&mut self) -> Result<(), FeedError> {
        if self.reading.is_none() {
            let Some(mut source) = self.source.take() else { return Err(FeedError::Closed) };
            self.reading = Some(tokio::task::spawn_blocking(move || {
                let page = source.read();
                (source, page)
            }));
        }
        // It stays where it is until it has ended: this may be dropped while it waits.
        let Some(reading) = &mut self.reading else { return Err(FeedError::Closed) };
        let read = reading.await;
        self.reading = None;
        // The runtime is going down, or reading panicked: either way there is no more.
        let Ok((source, page)) = read else { return Err(FeedError::Closed) };
        self.source = Some(source);
        let Page { events, begin, end } = match page {
            // A closed store may be open elsewhere by now: what is read there means nothing.
            Err(FeedError::Storage(_)) if self.durable.has_changed().is_err() => {
                return Err(FeedError::Closed);
            }
            page => page?,
        };
        self.page = events.into();
        self.place = if self.page.is_empty() { end } else { begin };
        self.page_end = end;
        Ok(())
    }

    /// The place up to which everything was given, or did not pass the filter: where another feed
    /// goes on.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.place
    }

    /// Waits until something after `known` is durable; not at all for `None`.
    async fn wait(&mut self, known: Option<Position>) -> Result<(), FeedError> {
        let Some(known) = known else { return Ok(()) };
        if *self.durable.borrow_and_update() > known {
            return Ok(());
        }
        while *self.durable.borrow_and_update() <= known {
            if self.durable.changed().await.is_err() && *self.durable.borrow() <= known {
                return Err(FeedError::Closed);
            }
        }
        tokio::time::sleep(GATHER).await;
        Ok(())
    }
}

/// What was read at once.
struct Page {
    events: Vec<Event>,
    /// Where it was begun.
    begin: Cursor,
    /// Up to where everything was looked at.
    end: Cursor,
}

/// What goes to a blocking thread and comes back.
struct Source {
    journal: Arc<dyn Journal>,
    kinds: Kinds,
    /// Where to begin, or to begin again after an error.
    start: Start,
    reader: Option<Box<dyn Reader>>,
}

impl Source {
    /// The position that this has read up to, if it knows; `None` before the first page.
    fn caught_up_at(&self) -> Option<Position> {
        match (&self.reader, self.start) {
            (Some(_), Start::After(place)) => Some(place.position),
            _ => None,
        }
    }

    /// Reads a page; blocks.
    fn read(&mut self) -> Result<Page, FeedError> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.open()?,
        };
        let Start::After(place) = self.start else { return Err(FeedError::Closed) };
        let mut page = Page { events: Vec::new(), begin: place, end: place };
        let read = self.read_from(&mut *reader, &mut page);
        match read {
            // What was read before the error is given first; then it is met again.
            Err(error) if page.events.is_empty() => return Err(error),
            Err(_) => {}
            Ok(()) => self.reader = Some(reader),
        }
        self.start = Start::After(page.end);
        Ok(page)
    }

    fn open(&mut self) -> Result<Box<dyn Reader>, FeedError> {
        loop {
            let after = match self.start {
                Start::After(cursor) => {
                    let (asked, durable) = (cursor.position, self.journal.durable());
                    if asked > durable {
                        return Err(FeedError::Ahead { asked, durable });
                    }
                    // A record that was given in part is read again.
                    let again = u64::from(cursor.within.is_some());
                    Position(asked.0.saturating_sub(again))
                }
                Start::Oldest => Position(self.journal.oldest().0.saturating_sub(1)),
            };
            match self.journal.follow(after) {
                // Trimmed in this very moment; there is a newer oldest.
                Err(StorageError::Trimmed { .. }) if matches!(self.start, Start::Oldest) => {}
                Err(error) => return Err(error.into()),
                Ok(reader) => {
                    if let Start::Oldest = self.start {
                        self.start = Start::After(after.into());
                    }
                    return Ok(reader);
                }
            }
        }
    }

    fn read_from(&self, reader: &mut dyn Reader, page: &mut Page) -> Result<(), FeedError> {
        let Page { events, end, .. } = page;
        let (mut told, mut bytes) = (Vec::new(), 0);
        while events.len() < PAGE_EVENTS && bytes < PAGE_BYTES {
            let Some(entry) = reader.next()? else { break };
            let position = entry.position;
            let seen = end.within.filter(|_| end.position == position).unwrap_or(0);
            bytes += entry.bytes.len();
            publish::publish(entry.stream, Timestamp(entry.stamp), entry.bytes, &mut told)
                .map_err(|cause| FeedError::Codec { position, cause })?;
            let all = told.len() as u32;
            for (number, (at, data)) in (1..).zip(told.drain(..)) {
                let within = (number < all).then_some(number);
                if number > seen && self.kinds.has(data.kind()) {
                    let cursor = Cursor { position, within };
                    events.push(Event { position, at, data, cursor });
                }
            }
            *end = position.into();
        }
        Ok(())
    }
}

impl From<StorageError> for FeedError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Trimmed { asked, oldest } => Self::Trimmed { asked, oldest },
            error => Self::Storage(error),
        }
    }
}
