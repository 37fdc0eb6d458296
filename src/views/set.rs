//! All views of a store: started with it, found by type or by name, and ended before it. Also what
//! a closed store tells of its views. It reads no row.

use std::{
    any::Any,
    path::Path,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{mpsc, watch};

use super::{
    Rebuild, View, ViewReader, ViewReport,
    figures::Shared,
    kept::Kept,
    reader::ViewDoor,
    worker::{Source, Worker, on_thread},
};
use crate::{OpenError, Position, runtime::AtRest};

/// How long closing waits for views to take in what has happened; the rest follows at the next
/// open.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Longest name of a view.
const NAME_BYTES_MAX: usize = 64;

type Start = Box<dyn FnOnce(&Source) -> Result<RunningView, OpenError> + Send>;

/// A view that is to be started.
pub(crate) struct AddView {
    name: &'static str,
    start: Start,
}

impl AddView {
    pub(crate) fn new<V: View>(view: V) -> Self {
        Self { name: V::NAME, start: Box::new(|source| RunningView::start(view, source)) }
    }
}

/// A view that runs.
pub(crate) struct RunningView {
    door: ViewDoor,
    reader: Box<dyn Any + Send + Sync>,
    stop: watch::Sender<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Whether all may have their names.
fn check_names(views: &[AddView]) -> Result<(), OpenError> {
    for (number, AddView { name, .. }) in views.iter().enumerate() {
        let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
        if !fits || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(OpenError::ViewName { name });
        }
        if views[..number].iter().any(|other| other.name == *name) {
            return Err(OpenError::ViewTaken { name });
        }
    }
    Ok(())
}

impl RunningView {
    /// Starts `view` on a thread of its own.
    fn start<V: View>(view: V, source: &Source) -> Result<Self, OpenError> {
        let kept = Kept::new(Arc::clone(&source.everything.state), V::NAME);
        let shared = Shared::new(V::NAME, V::VERSION, kept, source.events.clone());
        let shared = Arc::new(shared);
        let (asker, asks) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let worker = Worker::new(view, Arc::clone(&shared), source.clone(), asks, stopped);
        let thread = on_thread("tidegate-view", worker.run())?;
        let door = ViewDoor::new(shared, asker);
        let reader = Box::new(ViewReader::<V>::new(door.clone()));
        Ok(Self { door, reader, stop, thread: Mutex::new(Some(thread)) })
    }

    fn end(&self) {
        self.ask_to_end();
        self.join();
    }

    fn ask_to_end(&self) {
        self.door.shared.ending.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
    }

    fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(view = self.door.shared.name, "a view's thread has panicked");
        }
    }
}

/// See the module. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Views(Arc<[RunningView]>);

impl Views {
    /// Starts all of them, or none: one of a name that is taken would change the rows of the other.
    pub(crate) fn start(views: Vec<AddView>, source: &Source) -> Result<Self, OpenError> {
        check_names(&views)?;
        let mut running: Vec<RunningView> = Vec::with_capacity(views.len());
        for view in views {
            match (view.start)(source) {
                Ok(view) => running.push(view),
                Err(error) => {
                    running.iter().for_each(RunningView::end);
                    return Err(error);
                }
            }
        }
        Ok(Self(running.into()))
    }

    pub(crate) fn reader<V: View>(&self) -> Option<ViewReader<V>> {
        self.0.iter().find_map(|view| view.reader.downcast_ref::<ViewReader<V>>()).cloned()
    }

    pub(crate) fn rebuild(&self, name: &str) -> Option<Rebuild> {
        let view = self.0.iter().find(|view| view.door.shared.name == name);
        view.map(|view| view.door.rebuild())
    }

    pub(crate) fn report(&self) -> Vec<ViewReport> {
        self.0.iter().map(|view| view.door.shared.report()).collect()
    }

    /// Lets all of them take in what has happened up to `through`, and ends them.
    pub(crate) async fn close(&self, through: Position) {
        self.0.iter().for_each(|view| view.door.close(through));
        let closed = async {
            for view in &*self.0 {
                let mut told = view.door.shared.told.subscribe();
                let closed = super::ViewCondition::Closed;
                // An error can't be: the sender is right here.
                let _ = told.wait_for(|told| told.condition == closed).await;
            }
        };
        if tokio::time::timeout(CLOSE_WAIT, closed).await.is_err() {
            tracing::warn!("closing before every view has everything; the next open goes on");
        }
    }

    /// Ends them where they are, and waits until they have ended. Blocks shortly.
    pub(crate) fn stop(&self) {
        self.0.iter().for_each(RunningView::ask_to_end);
        self.0.iter().for_each(RunningView::join);
    }
}

/// What a closed store has of a view.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct StoredView {
    /// Its name.
    pub name: String,
    /// The version that made its rows; `None` if there are none that can be read.
    pub version: Option<u32>,
    /// The position up to which its rows hold everything.
    pub position: u64,
    /// Its rows.
    pub rows: u64,
    /// Whether new rows were being built.
    pub rebuilding: bool,
    /// The last position of the store.
    pub durable: u64,
}

/// The views that the store in `dir` has, which must be there and not open elsewhere. Blocks.
///
/// # Errors
/// The store can't be opened, or what it says of its views can't be understood.
pub fn stored_views(dir: impl AsRef<Path>) -> Result<Vec<StoredView>, OpenError> {
    let store = AtRest::open(dir.as_ref())?;
    let durable = store.journal.durable().0;
    let views = Kept::all(&store.state)?;
    let stored = views.into_iter().map(|kept| {
        let unread =
            |halt| OpenError::View { name: kept.name().to_owned(), what: format!("{halt:?}") };
        let head = kept.head().map_err(unread)?;
        let note = head.serving.map(|number| kept.generation(number).note()).transpose();
        let note = note.map_err(unread)?.flatten();
        Ok(StoredView {
            name: kept.name().to_owned(),
            version: note.as_ref().map(|note| note.version),
            position: note.as_ref().and_then(|note| note.position).unwrap_or(0),
            rows: note.as_ref().map_or(0, |note| note.rows),
            rebuilding: head.building.is_some(),
            durable,
        })
    });
    stored.collect()
}
