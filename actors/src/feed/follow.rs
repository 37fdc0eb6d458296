//! One reader's way through the journal: page by page, from any retained place on. What it takes
//! from a record is a [`Pick`]'s business; it deliberately knows neither events nor topics.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use tidegate_storage::{Entry, Journal, Position, Reader, StorageError};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    Cursor, FeedError, Wanted,
    pace::{GATHER, Pace},
};
use crate::codec::CodecError;

/// Items read ahead of a subscriber. One record may add up to 2,000 more.
const PAGE_ITEMS: usize = 256;

/// Bytes of records looked at for one page, so that a filter that lets little pass still gives its
/// thread back.
const PAGE_BYTES: usize = 1 << 20;

/// What a feed takes from the records of the journal.
pub trait Pick: Clone + Send + 'static {
    /// What it makes of them.
    type Item: Send + 'static;

    /// Appends what `entry` tells, in order, each with the place right after it: that of the last
    /// thing that the record tells is the record itself.
    ///
    /// # Errors
    /// A record that this program can't understand.
    fn pick(
        &self,
        entry: &Entry<'_>,
        out: &mut Vec<(Cursor, Self::Item)>,
    ) -> Result<(), CodecError>;
}

/// A journal with the word on what of it is durable. Cheap to clone; feeds of any kind share one.
#[derive(Clone)]
pub struct Tap {
    pub(super) journal: Arc<dyn Journal>,
    durable: watch::Receiver<Position>,
    pace: Arc<Pace>,
}

impl Tap {
    /// On `journal`.
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
        Self { journal, durable, pace: Arc::new(Pace::new()) }
    }

    /// The last position that is on disk.
    #[must_use]
    pub fn durable(&self) -> Position {
        self.journal.durable()
    }

    /// The place before the oldest record that is kept.
    #[must_use]
    pub fn oldest(&self) -> Cursor {
        Position(self.journal.oldest().0.saturating_sub(1)).into()
    }

    /// Waits until everything up to `position` is on disk, or there is no more to come.
    pub(super) async fn reached(&self, position: Position) {
        let mut durable = self.durable.clone();
        // An error is that there is no more.
        let _ = durable.wait_for(|durable| *durable >= position).await;
    }

    /// Waits until the store is closed or its journal has failed.
    pub(super) async fn closed(&self) {
        let mut durable = self.durable.clone();
        while durable.changed().await.is_ok() {
            tokio::time::sleep(GATHER).await;
        }
    }

    pub(super) fn feed<P: Pick>(&self, pick: P, start: Start) -> Feed<P> {
        Feed {
            durable: self.durable.clone(),
            page: VecDeque::new(),
            place: match start {
                Start::After(cursor) => cursor,
                Start::Oldest => Cursor::default(),
            },
            page_end: Cursor::default(),
            behind: false,
            patient: false,
            pace: Arc::clone(&self.pace),
            look_at: None,
            reading: None,
            source: Some(Source { journal: Arc::clone(&self.journal), pick, start, reader: None }),
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Start {
    After(Cursor),
    Oldest,
}

/// One subscriber's way through the journal.
pub struct Feed<P: Pick = Wanted> {
    durable: watch::Receiver<Position>,
    page: VecDeque<(Cursor, P::Item)>,
    /// After what was given last, and what did not pass the filter right behind it.
    place: Cursor,
    /// The place once all of the page is given.
    page_end: Cursor,
    /// The last page was full: there may be more already.
    behind: bool,
    patient: bool,
    pace: Arc<Pace>,
    /// When it may look, once it knows of something new.
    look_at: Option<Instant>,
    /// At home while nothing is being read.
    source: Option<Source<P>>,
    reading: Option<JoinHandle<Read<P>>>,
}

impl<P: Pick> Feed<P> {
    /// Waits some 10 ms for company each time that there is something new: for whoever writes what
    /// he is told, page by page, and would write the same rows again and again.
    #[must_use]
    pub fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

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

    /// The next item, once there is one. May be dropped and called again at any time without
    /// losing one. Needs a tokio runtime with time.
    ///
    /// # Errors
    /// [`FeedError`]; called again it tries again.
    pub async fn next(&mut self) -> Result<P::Item, FeedError> {
        loop {
            if let Some(item) = self.at_hand() {
                return Ok(item);
            }
            self.look().await?;
        }
    }

    /// All items of the next records and the position of the last of these, for whoever takes in
    /// whole records. Records that tell nothing move the position as well, so there may be no item.
    /// Waits for the next record; gives what [`Feed::next`] has left over first. May be dropped and
    /// called again at any time. Needs a tokio runtime with time.
    ///
    /// # Errors
    /// [`FeedError`]; called again it tries again.
    pub async fn page(&mut self) -> Result<(Vec<P::Item>, Position), FeedError> {
        self.look().await?;
        self.place = self.page_end;
        let items = self.page.drain(..).map(|(_, item)| item).collect();
        Ok((items, self.place.position))
    }

    /// The next item of those that were read already.
    pub(crate) fn at_hand(&mut self) -> Option<P::Item> {
        let (cursor, item) = self.page.pop_front()?;
        self.place = if self.page.is_empty() { self.page_end } else { cursor };
        Some(item)
    }

    /// Waits for the next record and reads on, unless there is something at hand. There may be
    /// nothing at hand after it; [`Feed::cursor`] has moved on. May be dropped and called again at
    /// any time.
    pub(crate) async fn look(&mut self) -> Result<(), FeedError> {
        if !self.page.is_empty() {
            return Ok(());
        }
        if self.reading.is_none() {
            let known = self.source.as_ref().and_then(Source::caught_up_at);
            self.wait(known).await?;
        }
        self.read().await
    }

    /// Reads a page, or goes on with one that is being read.
    async fn read(&mut self) -> Result<(), FeedError> {
        if self.reading.is_none() {
            let Some(mut source) = self.source.take() else { return Err(FeedError::Closed) };
            self.look_at = None;
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
        let Page { items, begin, end, full } = match page {
            // A closed store may be open elsewhere by now: what is read there means nothing.
            Err(FeedError::Storage(_)) if self.durable.has_changed().is_err() => {
                return Err(FeedError::Closed);
            }
            page => page?,
        };
        self.page = items.into();
        self.place = if self.page.is_empty() { end } else { begin };
        (self.page_end, self.behind) = (end, full);
        Ok(())
    }

    /// The place up to which everything was given, or did not pass the filter: where another feed
    /// goes on.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.place
    }

    /// Waits until something after `known` is durable, and until it may look; not at all for
    /// `None`, nor for what it has left behind.
    async fn wait(&mut self, known: Option<Position>) -> Result<(), FeedError> {
        let Some(known) = known else { return Ok(()) };
        // What becomes durable after such a look ends the wait: nothing falls between the two.
        while *self.durable.borrow_and_update() <= known {
            if self.durable.changed().await.is_err() && *self.durable.borrow() <= known {
                return Err(FeedError::Closed);
            }
        }
        if self.behind {
            return Ok(());
        }
        let now = Instant::now();
        let (pace, patient) = (&self.pace, self.patient);
        let may = || if patient { now + GATHER } else { pace.look_at(now) };
        let look_at = *self.look_at.get_or_insert_with(may);
        // The shortest sleep takes a millisecond.
        if look_at > now {
            tokio::time::sleep_until(look_at.into()).await;
        }
        Ok(())
    }
}

/// What a blocking thread gives back.
type Read<P> = (Source<P>, Result<Page<<P as Pick>::Item>, FeedError>);

/// What was read at once.
struct Page<T> {
    items: Vec<(Cursor, T)>,
    /// Where it was begun.
    begin: Cursor,
    /// Up to where everything was looked at.
    end: Cursor,
    /// It ends because it is large, and not because there was nothing more.
    full: bool,
}

/// What goes to a blocking thread and comes back.
struct Source<P> {
    journal: Arc<dyn Journal>,
    pick: P,
    /// Where to begin, or to begin again after an error.
    start: Start,
    reader: Option<Box<dyn Reader>>,
}

impl<P: Pick> Source<P> {
    /// The position that this has read up to, if it knows; `None` before the first page.
    fn caught_up_at(&self) -> Option<Position> {
        match (&self.reader, self.start) {
            (Some(_), Start::After(place)) => Some(place.position),
            _ => None,
        }
    }

    /// Reads a page; blocks.
    fn read(&mut self) -> Result<Page<P::Item>, FeedError> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.open()?,
        };
        let Start::After(place) = self.start else { return Err(FeedError::Closed) };
        let mut page = Page { items: Vec::new(), begin: place, end: place, full: false };
        let read = self.read_from(&mut *reader, &mut page);
        match read {
            // What was read before the error is given first; then it is met again.
            Err(error) if page.items.is_empty() => return Err(error),
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

    fn read_from(
        &self,
        reader: &mut dyn Reader,
        page: &mut Page<P::Item>,
    ) -> Result<(), FeedError> {
        let Page { items, end, full, .. } = page;
        let (mut told, mut bytes) = (Vec::new(), 0);
        while items.len() < PAGE_ITEMS && bytes < PAGE_BYTES {
            let Some(entry) = reader.next()? else { return Ok(()) };
            let position = entry.position;
            let seen = end.within.filter(|_| end.position == position).unwrap_or(0);
            bytes += entry.bytes.len();
            let picked = self.pick.pick(&entry, &mut told);
            picked.map_err(|cause| FeedError::Codec { position, cause })?;
            let unseen = |cursor: Cursor| cursor.within.is_none_or(|number| number > seen);
            items.extend(told.drain(..).filter(|(cursor, _)| unseen(*cursor)));
            *end = position.into();
        }
        *full = true;
        Ok(())
    }
}
