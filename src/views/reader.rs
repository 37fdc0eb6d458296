//! Reading a view, and asking for it to be rebuilt. Readers see whole batches, and never wait for
//! anything but the disk unless they ask to.

use std::{
    marker::PhantomData,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use tidegate_actors::codec;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    RebuildProgress, View, ViewCondition, ViewError, ViewReport,
    figures::{Shared, Told},
    kept::Generation,
    worker::{Ask, Asker},
};
use crate::{Position, StorageError};

/// Reads the view `V`. Get it from [`crate::Tidegate::view`]; cheap to clone.
pub struct ViewReader<V> {
    pub(super) door: ViewDoor,
    view: PhantomData<fn() -> V>,
}

impl<V> Clone for ViewReader<V> {
    fn clone(&self) -> Self {
        Self { door: self.door.clone(), view: PhantomData }
    }
}

/// Some rows of a view, in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewPage<R> {
    /// Keys and rows.
    pub rows: Vec<(Vec<u8>, R)>,
    /// The rows hold everything up to here.
    pub position: Position,
    /// The key after which there is more; `None` at the end.
    pub next: Option<Vec<u8>>,
}

impl<V: View> ViewReader<V> {
    pub(super) fn new(door: ViewDoor) -> Self {
        Self { door, view: PhantomData }
    }

    /// The row under `key`. Reads the disk.
    ///
    /// # Errors
    /// [`ViewError`]; a view that has stopped can be read.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<V::Row>, ViewError> {
        let key = key.as_ref().to_vec();
        let (row, _) = self.door.read(move |rows| rows.get(&key)).await?;
        row.map(|row| codec::decode(&row)).transpose().map_err(misread::<V>)
    }

    /// Up to `limit` rows whose keys begin with `prefix`, after the key `after` if given. All of
    /// them are of one position. Reads the disk.
    ///
    /// # Errors
    /// As [`ViewReader::get`].
    pub async fn scan(
        &self,
        prefix: impl AsRef<[u8]>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<ViewPage<V::Row>, ViewError> {
        let (prefix, after) = (prefix.as_ref().to_vec(), after.map(<[u8]>::to_vec));
        let one_more = limit.saturating_add(1);
        let scan = move |rows: &Generation| rows.scan(&prefix, after.as_deref(), one_more);
        let (mut found, position) = self.door.read(scan).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|(key, _)| key.clone());
        let decoded = found.into_iter().map(|(key, row)| Ok((key, codec::decode(&row)?)));
        let rows = decoded.collect::<Result<_, _>>().map_err(misread::<V>)?;
        Ok(ViewPage { rows, position, next })
    }

    /// Where it is: reads show everything up to here.
    #[must_use]
    pub fn position(&self) -> Position {
        self.door.shared.told.borrow().position
    }

    /// Waits until reads show everything up to `position`, for so long at most. With
    /// [`Tidegate::position`](crate::Tidegate::position) after a write it lets a caller read what
    /// it has written. A view that is built for the first time is waited for, too.
    ///
    /// # Errors
    /// [`ViewError::Late`], [`ViewError::Ahead`], [`ViewError::Stopped`], [`ViewError::Closed`].
    pub async fn at_least(&self, position: Position, wait: Duration) -> Result<(), ViewError> {
        self.door.at_least(position, wait).await
    }

    /// Builds its rows anew, beside those that are read until then. If that is under way already,
    /// nothing is begun. It goes on if what this gives is dropped, and over a restart; over a crash
    /// too, once [`Rebuild::noted`] has returned.
    #[must_use = "this tells when it is done"]
    pub fn rebuild(&self) -> Rebuild {
        self.door.rebuild()
    }

    /// Its figures.
    #[must_use]
    pub fn report(&self) -> ViewReport {
        self.door.shared.report()
    }
}

fn misread<V: View>(cause: codec::CodecError) -> ViewError {
    ViewError::Codec { name: V::NAME, cause }
}

/// A rebuild that was asked for.
pub struct Rebuild {
    progress: watch::Receiver<Option<RebuildProgress>>,
    noted: Noted,
    done: oneshot::Receiver<Result<Position, ViewError>>,
}

/// Whether it is on disk that new rows are wanted.
enum Noted {
    Asked(oneshot::Receiver<Result<(), ViewError>>),
    Told(Result<(), ViewError>),
}

impl Rebuild {
    /// How far it is; `None` before it has begun and when it is over.
    #[must_use]
    pub fn progress(&self) -> Option<RebuildProgress> {
        *self.progress.borrow()
    }

    /// Waits until it is on disk that new rows are wanted: from then on they will be there, over
    /// crashes too. May be dropped and called again at any time.
    ///
    /// # Errors
    /// It could not be noted, or [`ViewError::Closed`].
    pub async fn noted(&mut self) -> Result<(), ViewError> {
        if let Noted::Asked(noted) = &mut self.noted {
            self.noted = Noted::Told(noted.await.unwrap_or(Err(ViewError::Closed)));
        }
        match &self.noted {
            Noted::Told(told) => told.clone(),
            Noted::Asked(_) => Err(ViewError::Closed),
        }
    }

    /// Waits until the new rows are read, and gives their position: they hold all that was on disk
    /// when they were asked for. May be dropped and called again
    /// at any time until it has given it.
    ///
    /// # Errors
    /// [`ViewError::Stopped`] if they can't be built (those from before are still read), or
    /// [`ViewError::Closed`].
    pub async fn finished(&mut self) -> Result<Position, ViewError> {
        (&mut self.done).await.unwrap_or(Err(ViewError::Closed))
    }
}

/// What of a view does not depend on its type.
#[derive(Clone)]
pub(super) struct ViewDoor {
    pub(super) shared: Arc<Shared>,
    asks: mpsc::UnboundedSender<Ask>,
}

impl ViewDoor {
    pub(super) fn new(shared: Arc<Shared>, asks: mpsc::UnboundedSender<Ask>) -> Self {
        Self { shared, asks }
    }

    /// What `read` finds in the rows, and their position, off the host's runtime.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Generation) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<(T, Position), ViewError> {
        let shared = Arc::clone(&self.shared);
        let reading = tokio::task::spawn_blocking(move || {
            // No batch goes in meanwhile; who panicked while it held this was a reader.
            let served = shared.served.read().unwrap_or_else(PoisonError::into_inner);
            let Some(rows) = &*served else {
                let told = shared.told.borrow().clone();
                return Err(nothing_to_read(shared.name, told));
            };
            let position = shared.told.borrow().position;
            Ok((read(rows)?, position))
        });
        reading.await.unwrap_or(Err(ViewError::Closed))
    }

    pub(super) async fn at_least(&self, asked: Position, wait: Duration) -> Result<(), ViewError> {
        let name = self.shared.name;
        let durable = self.shared.events.durable();
        if asked > durable {
            return Err(ViewError::Ahead { asked, durable });
        }
        let mut told = self.shared.told.subscribe();
        let there = |told: &Told| {
            let ends =
                !matches!(told.condition, ViewCondition::Building | ViewCondition::Following);
            let readable = told.condition != ViewCondition::Building;
            ends || (readable && told.position >= asked)
        };
        let waited = tokio::time::timeout(wait, told.wait_for(there)).await;
        let Ok(found) = waited else {
            let reached = self.shared.told.borrow().position;
            return Err(ViewError::Late { name, asked, reached });
        };
        let Ok(found) = found else { return Err(ViewError::Closed) };
        if found.position >= asked && found.condition != ViewCondition::Closed {
            return Ok(());
        }
        Err(nothing_to_read(name, found.clone()))
    }

    pub(super) fn rebuild(&self) -> Rebuild {
        let (asker, done) = oneshot::channel();
        let (note, noted) = oneshot::channel();
        // Before it is asked: who looks from now on sees that it is not over.
        self.shared.asked.fetch_add(1, Ordering::SeqCst);
        if self.asks.send(Ask::Rebuild(Asker { noted: note, done: asker })).is_err() {
            // The worker has gone, and now the asker: the store is closed.
            self.shared.asked.fetch_sub(1, Ordering::SeqCst);
        }
        Rebuild { progress: self.shared.progress.subscribe(), noted: Noted::Asked(noted), done }
    }

    pub(super) fn close(&self, through: Position) {
        // If the worker has gone, it is closed.
        let _ = self.asks.send(Ask::Close(through));
    }
}

fn nothing_to_read(name: &'static str, told: Told) -> ViewError {
    match told.condition {
        ViewCondition::Building | ViewCondition::Following => ViewError::Building { name },
        ViewCondition::Stopped(why) => ViewError::Stopped { name, why },
        ViewCondition::Closed => ViewError::Closed,
    }
}
