//! The worker of one view, on a thread of its own: follows the events, has new rows built on a
//! second thread when they are asked for, and changes over to them. It holds up nobody but the
//! readers who wait for it.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use tidegate_actors::{Group, feed::Feed};
use tidegate_machines::{Orders, Stock};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    RebuildProgress, View, ViewCondition, ViewError,
    build::Build,
    cut::Everything,
    error::Halt,
    figures::Shared,
    fold::Fold,
    kept::{Generation, Head, Note},
};
use crate::{Event, Events, Position, runtime::Parts};

/// How long a worker that has old rows to delete waits for events before it deletes some.
const SWEEP_EVERY: Duration = Duration::from_millis(1);

/// What is asked of a worker.
pub(super) enum Ask {
    /// Build the rows anew.
    Rebuild(Asker),
    /// Take in everything up to there, and end.
    Close(Position),
}

/// Who has asked for new rows.
pub(super) struct Asker {
    /// Told when it is on disk that they are wanted.
    pub(super) noted: oneshot::Sender<Result<(), ViewError>>,
    /// Told when they are read, and where they are then.
    pub(super) done: oneshot::Sender<Result<Position, ViewError>>,
}

/// What views follow.
#[derive(Clone)]
pub(crate) struct Source {
    pub(super) events: Events,
    pub(super) everything: Everything,
}

impl Source {
    pub(crate) fn new(
        events: &Events,
        (orders, stock): (&Group<Orders>, &Group<Stock>),
        parts: &Parts,
    ) -> Self {
        let everything = Everything {
            orders: orders.clone(),
            stock: stock.clone(),
            journal: Arc::clone(&parts.journal),
            state: Arc::clone(&parts.state),
            clock: Arc::clone(&parts.clock),
        };
        Self { events: events.clone(), everything }
    }
}

/// New rows on their way.
type Built<V> = oneshot::Receiver<Result<Fold<V>, Halt>>;

/// See the module.
pub(super) struct Worker<V> {
    view: Arc<V>,
    shared: Arc<Shared>,
    source: Source,
    asks: mpsc::UnboundedReceiver<Ask>,
    stop: watch::Receiver<bool>,
    /// Tells who builds that nobody wants the rows any more.
    quit: watch::Sender<bool>,
    /// What follows the events now.
    following: Option<(Fold<V>, Feed)>,
    /// The rows that are read, while new ones take in the last events before they replace them.
    replaced: Option<Fold<V>>,
    /// Where new rows must be before they are read: where the store was when they were asked for.
    needed: Position,
    building: Option<(Built<V>, thread::JoinHandle<()>)>,
    /// Told when new rows are read.
    waiting: Vec<oneshot::Sender<Result<Position, ViewError>>>,
    /// Rows that nobody reads any more.
    leftovers: Vec<Generation>,
    /// Where to end.
    end: Option<Position>,
}

/// What comes next.
enum Next<V> {
    Stop,
    Asked(Option<Ask>),
    Built(Result<Fold<V>, Halt>),
    Page(Result<(Vec<Event>, Position), Halt>),
    Sweep,
}

impl<V: View> Worker<V> {
    pub(super) fn new(
        view: V,
        shared: Arc<Shared>,
        source: Source,
        asks: mpsc::UnboundedReceiver<Ask>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            view: Arc::new(view),
            shared,
            source,
            asks,
            stop,
            quit: watch::Sender::new(false),
            following: None,
            replaced: None,
            needed: Position::ZERO,
            building: None,
            waiting: Vec::new(),
            leftovers: Vec::new(),
            end: None,
        }
    }

    /// Works until it is stopped or the store is closed.
    pub(super) async fn run(mut self) {
        if let Err(halt) = self.begin() {
            self.halted(halt);
        }
        while !self.is_over() {
            match self.next().await {
                Next::Stop | Next::Asked(None) => break,
                Next::Asked(Some(Ask::Close(through))) => self.end = Some(through),
                Next::Asked(Some(Ask::Rebuild(asker))) => self.rebuild(asker),
                Next::Built(built) => self.built(built),
                Next::Page(Ok((events, through))) => self.take(&events, through),
                Next::Page(Err(halt)) => self.halted(halt),
                Next::Sweep => self.sweep(),
            }
        }
        self.shared.set_condition(ViewCondition::Closed);
        // What was built by now is used or deleted at the next open.
        self.quit.send_replace(true);
        if let Some((_, thread)) = self.building.take() {
            // A panic of it is no news to anybody now.
            let _ = thread.join();
        }
    }

    fn is_over(&self) -> bool {
        let closed = self.shared.told.borrow().condition == ViewCondition::Closed;
        let there = |end| self.following.as_ref().is_none_or(|(fold, _)| fold.position >= end);
        closed || self.end.is_some_and(there)
    }

    async fn next(&mut self) -> Next<V> {
        let Self { asks, stop, following, building, leftovers, .. } = self;
        let sweep = async {
            if leftovers.is_empty() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(SWEEP_EVERY).await;
        };
        let built = async {
            match building {
                Some((built, _)) => built.await.unwrap_or_else(|_| {
                    Err(Halt::Fault("the thread that builds it has panicked".to_owned()))
                }),
                None => std::future::pending().await,
            }
        };
        let page = async {
            match following {
                Some((_, feed)) => feed.page().await.map_err(Halt::from),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => Next::Stop,
            ask = asks.recv() => Next::Asked(ask),
            built = built => Next::Built(built),
            page = page => Next::Page(page),
            () = sweep => Next::Sweep,
        }
    }

    /// Finds out what there is from before.
    fn begin(&mut self) -> Result<(), Halt> {
        let head = self.shared.kept.head()?;
        let of = |number: Option<u32>| -> Result<Option<(Generation, Note)>, Halt> {
            let generation = number.map(|number| self.shared.kept.generation(number));
            let Some(generation) = generation else { return Ok(None) };
            let note = generation.note()?;
            // Rows of another version can't be understood; those half loaded are of no use.
            let fits = note.filter(|note| note.version == V::VERSION && note.position.is_some());
            Ok(fits.map(|note| (generation, note)))
        };
        let (serving, begun) = (of(head.serving)?, of(head.building)?);
        let used: Vec<u32> =
            [&serving, &begun].into_iter().flatten().map(|(it, _)| it.number).collect();
        let all = self.shared.kept.generations()?;
        self.leftovers = all.into_iter().filter(|it| !used.contains(&it.number)).collect();
        let rebuild = head.building.is_some() || serving.is_none();
        // A crash may have left rows of the next number: they are deleted under that number.
        let next = self.leftovers.iter().map(|left| left.number + 1).fold(head.next, u32::max);
        let named = Head { next, ..head.clone() }.naming(serving.is_some(), begun.is_some());
        if named != head {
            self.shared.kept.set_head(&named)?;
        }
        if let Some((generation, note)) = serving {
            let mut fold = Fold::resumed(&self.view, &self.shared, generation, &note)?;
            fold.serve();
            self.follow(fold);
        }
        if rebuild {
            let resumed = begun.map(|(generation, note)| {
                Fold::resumed(&self.view, &self.shared, generation, &note)
            });
            self.build(resumed.transpose()?);
        }
        Ok(())
    }

    fn follow(&mut self, fold: Fold<V>) {
        let feed = self.source.events.after(fold.position).patient();
        self.following = Some((fold, feed));
    }

    /// Applies a page, and changes over to new rows once they are as far as what was read.
    fn take(&mut self, events: &[Event], through: Position) {
        let Some((fold, _)) = &mut self.following else { return };
        self.shared.came();
        if let Err(halt) = fold.apply(events, through) {
            return self.halted(halt);
        }
        self.change_over();
    }

    fn change_over(&mut self) {
        let enough = self.shared.told.borrow().position.max(self.needed);
        let Some((fold, _)) = &mut self.following else { return };
        if fold.serves || fold.position < enough {
            return;
        }
        let changed = self.shared.kept.head().and_then(|head| {
            let serving = Some(fold.generation.number);
            self.shared.kept.set_head(&Head { serving, building: None, ..head })?;
            Ok(head.serving)
        });
        match changed {
            Ok(old) => {
                fold.serve();
                let position = fold.position;
                self.replaced = None;
                self.leftovers.extend(old.map(|old| self.shared.kept.generation(old)));
                self.shared.count().builds += 1;
                self.shared.progress.send_replace(None);
                tracing::info!(view = V::NAME, %position, "the view was built");
                for asker in self.waiting.drain(..) {
                    // Whoever asked may have gone.
                    let _ = asker.send(Ok(position));
                }
            }
            Err(halt) => self.halted(halt),
        }
    }

    fn rebuild(&mut self, Asker { noted, done }: Asker) {
        let handed_over = self.following.as_ref().is_some_and(|(fold, _)| !fold.serves);
        let under_way = self.building.is_some() || handed_over;
        // Those that are on their way are found at the next open, or begun again.
        let kept = &self.shared.kept;
        let written = if under_way { kept.flush() } else { kept.want_new() };
        let written = written.map_err(|halt| halt.of(V::NAME));
        // Whoever asked may have gone.
        let _ = noted.send(written.clone());
        self.waiting.retain(|done| !done.is_closed());
        match written {
            Ok(()) => {
                self.waiting.push(done);
                self.needed = self.source.events.durable();
                if !under_way {
                    self.build(None);
                }
            }
            Err(error) => drop(done.send(Err(error))),
        }
        // After there is a progress to be seen, or none any more.
        self.shared.asked.fetch_sub(1, Ordering::SeqCst);
    }

    /// Begins to build new rows, or goes on with those that a crash has interrupted.
    fn build(&mut self, resumed: Option<Fold<V>>) {
        self.needed = self.source.events.durable();
        let (done, built) = oneshot::channel();
        let progress = RebuildProgress::default();
        self.shared.progress.send_replace(Some(progress));
        let job = Build {
            view: Arc::clone(&self.view),
            shared: Arc::clone(&self.shared),
            source: self.source.clone(),
            quit: self.quit.subscribe(),
        };
        let thread = on_thread("tidegate-view-build", async move {
            let result = job.run(resumed).await;
            // The worker may have ended meanwhile.
            let _ = done.send(result);
        });
        match thread {
            Ok(thread) => self.building = Some((built, thread)),
            Err(error) => self.not_built(format!("no thread: {error}")),
        }
    }

    fn built(&mut self, built: Result<Fold<V>, Halt>) {
        if let Some((_, thread)) = self.building.take() {
            // It has sent what it had.
            let _ = thread.join();
        }
        match built {
            Ok(fold) => {
                self.replaced = self.following.take().map(|(fold, _)| fold);
                self.follow(fold);
                self.change_over();
            }
            // It is found, or begun again, at the next open.
            Err(Halt::Closed) => self.waiting.clear(),
            Err(Halt::Fault(why)) => self.not_built(why),
            Err(Halt::Trimmed) => {
                self.not_built("the journal was trimmed while it was built".to_owned());
            }
        }
    }

    /// There will be no new rows; those that are followed, if any, are as good as before.
    fn not_built(&mut self, why: String) {
        tracing::warn!(view = V::NAME, %why, "a view could not be built");
        let why: Arc<str> = why.into();
        self.give_up(&why);
        if self.following.is_none() {
            self.shared.set_condition(ViewCondition::Stopped(why));
        }
    }

    /// Tells who waits that there will be no new rows.
    fn give_up(&mut self, why: &Arc<str>) {
        self.shared.count().failures += 1;
        self.shared.progress.send_replace(None);
        for asker in self.waiting.drain(..) {
            // Whoever asked may have gone.
            let _ = asker.send(Err(ViewError::Stopped { name: V::NAME, why: Arc::clone(why) }));
        }
        let forgotten = self.shared.kept.head().and_then(|head| {
            let left = head.building.map(|number| self.shared.kept.generation(number));
            self.shared.kept.set_head(&Head { building: None, ..head })?;
            Ok(left)
        });
        if let Ok(left) = forgotten {
            self.leftovers.extend(left);
        }
    }

    /// Following has come to an end, or to a pause until there are new rows.
    fn halted(&mut self, halt: Halt) {
        // It may be behind from now on, for good.
        self.shared.came();
        let was_new = self.following.take().is_some_and(|(fold, _)| !fold.serves);
        if let Some(replaced) = self.replaced.take() {
            // They have no part in what has befallen the new ones.
            self.follow(replaced);
        }
        match halt {
            Halt::Closed => self.shared.set_condition(ViewCondition::Closed),
            Halt::Trimmed if self.building.is_some() => {}
            Halt::Trimmed => {
                tracing::warn!(view = V::NAME, "the journal was trimmed before the view had it");
                self.build(None);
            }
            Halt::Fault(why) if was_new => self.not_built(why),
            Halt::Fault(why) => {
                tracing::warn!(view = V::NAME, %why, "a view has stopped; all else goes on");
                self.shared.count().failures += 1;
                self.shared.set_condition(ViewCondition::Stopped(why.into()));
            }
        }
    }

    /// Deletes some of what nobody reads.
    fn sweep(&mut self) {
        let Some(generation) = self.leftovers.last() else { return };
        match generation.drop_some() {
            Ok(false) => {}
            Ok(true) => drop(self.leftovers.pop()),
            Err(error) => {
                // Found again at the next open.
                self.leftovers.clear();
                if !matches!(error, crate::StorageError::Closed) {
                    tracing::warn!(view = V::NAME, %error, "old rows of a view are still there");
                }
            }
        }
    }
}

/// Runs `work` on a thread of its own, with a runtime of its own.
pub(super) fn on_thread(
    name: &str,
    work: impl Future<Output = ()> + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(work))
}
