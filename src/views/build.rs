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
        let journal = &*self.source.everything.journal;
        match fold.hold(journal) {
            Ok(()) => {
                fold.note()?;
                return Ok(fold);
            }
            Err(Halt::Trimmed) => {}
            Err(halt) => return Err(halt),
        }
        let cut = Cut::take(&self.source.everything).await?;
        let target = cut.position;
        fold.load(cut, journal, |loaded| {
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
            fold.hold(&*self.source.everything.journal)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Adjustment, Events, Sales, SkuPatch, Tidegate, views::kept::Kept};

    fn fold(gate: &Tidegate) -> Fold<Sales> {
        let kept = Kept::new(gate.state(), "sales");
        let events: &Events = gate.events();
        let shared = Shared::new("sales", 1, kept.clone(), events.clone());
        Fold::empty(&Arc::new(Sales), &Arc::new(shared), kept.generation(0))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_journal_is_kept_from_where_new_rows_are_until_they_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let builder = Tidegate::builder(folder.path()).segment_bytes(1 << 20);
        let gate = builder.open().await.unwrap();
        gate.stock().define("a", SkuPatch::default()).await.unwrap();
        let (journal, reason) = (gate.journal(), "x".repeat(200));
        let written = async |run: &str| {
            let before = journal.stats().bytes;
            let mut number = 0;
            while journal.stats().bytes < before + (2 << 20) {
                let mut all = tokio::task::JoinSet::new();
                for _ in 0..500 {
                    number += 1;
                    let (gate, key) = (gate.clone(), format!("{run}-{number}"));
                    let more = Adjustment::new("a", 1, reason.clone());
                    all.spawn(async move { gate.stock().adjust(more, &key).await.unwrap() });
                }
                all.join_all().await;
            }
        };
        let mut fold = fold(&gate);
        fold.hold(&*journal).unwrap();
        written("one").await;
        journal.trim(journal.durable()).unwrap();
        assert_eq!(journal.oldest(), Position(1));

        fold.position = journal.durable();
        fold.hold(&*journal).unwrap();
        written("two").await;
        journal.trim(journal.durable()).unwrap();
        assert!((2..=fold.position.0 + 1).contains(&journal.oldest().0));

        fold.serve();
        journal.trim(journal.durable()).unwrap();
        assert!(journal.oldest() > fold.position);
    }
}
