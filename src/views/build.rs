//! Builds a generation of a view's rows, beside the one that is read: from the journal if that is
//! whole, else from what the store holds now; then from the events, up to where they are. It
//! changes nothing over; that is the worker's.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    RebuildProgress, View,
    cut::Cut,
    error::Halt,
    figures::Shared,
    fold::Fold,
    kept::{Head, Note},
    worker::Source,
};
use crate::Position;

/// How often it begins anew because the journal was trimmed under it.
const TRIES_MAX: usize = 5;

/// So few records behind, new rows are handed over: their worker does the rest.
const NEAR_RECORDS: u64 = 4_096;

/// See the module.
pub(super) struct Build<V> {
    pub(super) view: Arc<V>,
    pub(super) shared: Arc<Shared>,
    pub(super) source: Source,
    /// Whether nobody wants the rows any more.
    pub(super) quit: watch::Receiver<bool>,
}

impl<V: View> Build<V> {
    /// Builds, or goes on with what was begun in an earlier life of the store.
    pub(super) async fn run(self, begun: Option<Fold<V>>) -> Result<Fold<V>, Halt> {
        let mut quit = self.quit.clone();
        tokio::select! {
            // An error is that the worker has gone.
            _ = quit.wait_for(|quit| *quit) => Err(Halt::Closed),
            built = self.build(begun) => built,
        }
    }

    async fn build(&self, mut begun: Option<Fold<V>>) -> Result<Fold<V>, Halt> {
        for _ in 0..TRIES_MAX {
            let fold = match begun.take() {
                Some(fold) => Ok(fold),
                None => self.begin().await,
            };
            let built = match fold {
                Ok(fold) => self.catch_up(fold).await,
                Err(halt) => Err(halt),
            };
            match built {
                Err(Halt::Trimmed) => {}
                built => return built,
            }
        }
        Err(Halt::Trimmed)
    }

    async fn begin(&self) -> Result<Fold<V>, Halt> {
        let kept = &self.shared.kept;
        let head = kept.head()?;
        let generation = kept.generation(head.next);
        // Before there is a row, so that all rows are found again.
        generation.set_note(&Note::new(V::VERSION, None, 0))?;
        let (building, next) = (Some(head.next), head.next + 1);
        kept.set_head(&Head { building, next, ..head })?;
        if let Some(old) = head.building {
            let old = kept.generation(old);
            while !old.drop_some()? {
                self.wanted()?;
            }
        }
        let mut fold = Fold::empty(&self.view, &self.shared, generation);
        if self.source.everything.journal.oldest() <= Position::ZERO.next() {
            fold.note()?;
            return Ok(fold);
        }
        let cut = Cut::take(&self.source.everything).await?;
        let target = cut.position;
        fold.load(cut, |loaded| {
            self.tell(RebuildProgress { loaded, position: Position::ZERO, target });
            self.wanted()
        })?;
        Ok(fold)
    }

    /// Brings the rows to where the events are, or near.
    async fn catch_up(&self, mut fold: Fold<V>) -> Result<Fold<V>, Halt> {
        let mut feed = self.source.events.after(fold.position);
        let loaded = self.shared.progress.borrow().map_or(0, |progress| progress.loaded);
        loop {
            let (position, target) = (fold.position, self.source.events.durable());
            self.tell(RebuildProgress { loaded, position, target });
            if position.0 + NEAR_RECORDS > target.0 {
                return Ok(fold);
            }
            let (events, through) = feed.page().await?;
            fold.apply(&events, through)?;
        }
    }

    fn tell(&self, progress: RebuildProgress) {
        self.shared.progress.send_replace(Some(progress));
    }

    fn wanted(&self) -> Result<(), Halt> {
        if *self.quit.borrow() { Err(Halt::Closed) } else { Ok(()) }
    }
}
