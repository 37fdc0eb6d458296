//! Moves orders at rest from memory to the state: writes their rows, makes them durable, and only
//! then tells the shard that it may forget them. It runs on a thread of its own, pulls what it can
//! carry, and never holds a shard up.

use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use tidegate_machines::{Order, OrderCommand, OrderId, Orders};
use tidegate_storage::State;
use tokio::sync::oneshot;

use crate::{
    archive::{self, ArchiveError},
    error::AskError,
    group::Reach,
    observe::ProjectorReport,
    shard::Look,
};

/// Orders fetched from the shards at a time: bounds the copies in memory.
const FETCH_ORDERS_MAX: usize = 1_024;

/// Rows written before they are made durable and forgotten in memory.
const FLUSH_ROWS_MAX: usize = 16_384;

/// Orders that a shard forgets by one event, which must stay far below the journal's bound.
const FORGET_ORDERS_MAX: usize = 1_024;

/// How long written rows wait for company before the flush.
const LINGER: Duration = Duration::from_millis(100);

/// How long a shard may take to hand over copies, before it is asked again later.
const FETCH_WAIT: Duration = Duration::from_secs(2);

enum Message {
    Archive(OrderId, u32),
    /// Write and flush everything told before, then answer.
    Drain(oneshot::Sender<()>),
    Stop,
}

#[derive(Default)]
struct Gauges {
    told: AtomicU64,
    taken: AtomicU64,
    rows: AtomicU64,
    flushes: AtomicU64,
    failed: AtomicU64,
}

impl Gauges {
    fn backlog(&self) -> u64 {
        // Taken first: of two that change meanwhile, told may only be too large.
        let taken = self.taken.load(Ordering::Relaxed);
        self.told.load(Ordering::Relaxed).saturating_sub(taken)
    }
}

/// Where orders at rest are reported.
#[derive(Clone)]
pub struct ProjectorHandle {
    messages: Sender<Message>,
    gauges: Arc<Gauges>,
}

impl ProjectorHandle {
    /// An error if so many orders at rest wait to be written that no more should be placed: what
    /// waits is in memory, and nothing else bounds it.
    ///
    /// # Errors
    /// [`AskError::Backlogged`]; [`AskError::Unavailable`] if it will not get better.
    pub fn admit<R>(&self, at_rest_max: u64) -> Result<(), AskError<R>> {
        if self.gauges.backlog() < at_rest_max {
            return Ok(());
        }
        if self.gauges.failed.load(Ordering::Relaxed) == 0 {
            return Err(AskError::Backlogged { at_rest_max });
        }
        Err(AskError::Unavailable {
            why: format!(
                "{at_rest_max} finished orders wait in memory and the state can't be written: see \
                 the log, mend the cause, and open the store again"
            ),
        })
    }

    pub(crate) fn archive(&self, order: OrderId, version: u32) {
        self.gauges.told.fetch_add(1, Ordering::Relaxed);
        // If the projector has gone, the order stays in memory and is reported again at the next
        // open.
        let _ = self.messages.send(Message::Archive(order, version));
    }
}

/// The projector's thread.
pub struct Projector {
    handle: ProjectorHandle,
    life: Mutex<Life>,
    state: Arc<dyn State>,
}

enum Life {
    New(Receiver<Message>),
    Running(thread::JoinHandle<()>),
    Over,
}

impl Projector {
    /// A projector that doesn't run yet, so that it can be wired to the shards.
    #[must_use]
    pub fn new(state: Arc<dyn State>) -> Self {
        let (messages, receiver) = mpsc::channel();
        let handle = ProjectorHandle { messages, gauges: Arc::default() };
        Self { handle, life: Mutex::new(Life::New(receiver)), state }
    }

    /// Where to report.
    #[must_use]
    pub fn handle(&self) -> ProjectorHandle {
        self.handle.clone()
    }

    /// Begins to work for the shards of `orders`, until [`Projector::stop`].
    ///
    /// # Errors
    /// The system can't start a thread, or it was started before.
    pub fn start(&self, orders: impl Reach<Orders> + 'static) -> io::Result<()> {
        let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        let work = self.begin(&mut life, orders)?;
        let thread = thread::Builder::new().name("tidegate-projector".into());
        *life = Life::Running(thread.spawn(move || work.run())?);
        Ok(())
    }

    /// The work of the thread, for whoever does it without one.
    ///
    /// # Errors
    /// It was started before.
    pub fn by_hand(&self, orders: impl Reach<Orders> + 'static) -> io::Result<Projection> {
        let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        self.begin(&mut life, orders)
    }

    fn begin(
        &self,
        life: &mut Life,
        orders: impl Reach<Orders> + 'static,
    ) -> io::Result<Projection> {
        let Life::New(messages) = std::mem::replace(life, Life::Over) else {
            return Err(io::Error::other("the projector was started before"));
        };
        Ok(Projection {
            messages,
            orders: Box::new(orders),
            state: Arc::clone(&self.state),
            gauges: Arc::clone(&self.handle.gauges),
            later: self.handle.messages.clone(),
            written: BTreeMap::new(),
            rows: 0,
            since: None,
            over: false,
        })
    }

    /// Stops after what it is just writing, and joins the thread. What it has not written stays in
    /// memory and in the journal. May be called twice.
    pub fn stop(&self) {
        let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        if let Life::Running(thread) = std::mem::replace(&mut *life, Life::Over) {
            // An error in sending means that it has ended by itself.
            let _ = self.handle.messages.send(Message::Stop);
            if thread.join().is_err() {
                tracing::error!("the projector's thread has panicked");
            }
        }
    }

    /// Waits until every order at rest that was reported before is in the state, durably, but for
    /// those of a shard that doesn't answer.
    pub async fn drain(&self) {
        let (sender, done) = oneshot::channel();
        if self.handle.messages.send(Message::Drain(sender)).is_ok() {
            // An error means that it has failed, which it has logged.
            let _ = done.await;
        }
    }

    /// Its figures.
    #[must_use]
    pub fn report(&self) -> ProjectorReport {
        let Gauges { rows, flushes, failed, .. } = &*self.handle.gauges;
        let get = |gauge: &AtomicU64| gauge.load(Ordering::Relaxed);
        ProjectorReport {
            backlog: self.handle.gauges.backlog(),
            rows: get(rows),
            flushes: get(flushes),
            failed: get(failed) > 0,
        }
    }
}

/// What the projector does, step by step.
pub struct Projection {
    messages: Receiver<Message>,
    orders: Box<dyn Reach<Orders>>,
    state: Arc<dyn State>,
    gauges: Arc<Gauges>,
    /// Where what can't be had now is put for later.
    later: Sender<Message>,
    /// Written and not yet durable, by shard.
    written: BTreeMap<u16, Vec<(OrderId, u32)>>,
    rows: usize,
    /// When the oldest of them was written.
    since: Option<Instant>,
    over: bool,
}

impl Projection {
    fn run(mut self) {
        let worked = catch_unwind(AssertUnwindSafe(|| self.work()));
        let worked = worked.map_err(|_| "it has panicked".to_owned());
        if let Err(error) = worked.and_then(|worked| worked.map_err(|error| error.to_string())) {
            // Nothing is lost: the orders stay in memory and in the journal.
            tracing::error!(%error, "the projector stopped; orders at rest stay in memory");
            self.gauges.failed.store(1, Ordering::Relaxed);
        }
    }

    fn work(&mut self) -> Result<(), ArchiveError> {
        while !self.over {
            let wait =
                self.since.map_or(Duration::MAX, |since| LINGER.saturating_sub(since.elapsed()));
            match self.messages.recv_timeout(wait) {
                Ok(first) => self.take(first)?,
                Err(RecvTimeoutError::Timeout) => self.flush()?,
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.rows >= FLUSH_ROWS_MAX
                || self.since.is_some_and(|since| since.elapsed() >= LINGER)
            {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes what is there, up to a bound, without waiting; whether there was anything.
    ///
    /// # Errors
    /// [`ArchiveError`]; then it must not go on.
    pub fn write(&mut self) -> Result<bool, ArchiveError> {
        let Ok(first) = self.messages.try_recv() else { return Ok(false) };
        self.take(first).map(|()| true)
    }

    /// Takes what is there, up to a bound, and writes it.
    fn take(&mut self, first: Message) -> Result<(), ArchiveError> {
        let mut wanted: BTreeMap<u16, Vec<(OrderId, u32)>> = BTreeMap::new();
        let more = std::iter::from_fn(|| self.messages.try_recv().ok());
        let mut drained = None;
        for message in std::iter::once(first).chain(more.take(FETCH_ORDERS_MAX)) {
            match message {
                Message::Archive(order, version) => {
                    wanted.entry(order.shard()).or_default().push((order, version));
                }
                Message::Drain(done) => {
                    drained = Some(done);
                    break;
                }
                Message::Stop => {
                    self.over = true;
                    break;
                }
            }
        }
        for (shard, orders) in wanted {
            let count = orders.len() as u64;
            let Some(copies) = self.fetch(shard, &orders) else {
                for (order, version) in orders {
                    // This thread has the other end.
                    let _ = self.later.send(Message::Archive(order, version));
                }
                continue;
            };
            for order in copies {
                archive::write(&*self.state, &order)?;
                self.written.entry(shard).or_default().push((order.id, order.version));
                self.rows += 1;
                self.since.get_or_insert_with(Instant::now);
                self.gauges.rows.fetch_add(1, Ordering::Relaxed);
            }
            self.gauges.taken.fetch_add(count, Ordering::Relaxed);
        }
        if let Some(done) = drained {
            self.flush()?;
            // Whoever waited may have gone.
            let _ = done.send(());
        }
        Ok(())
    }

    /// Copies of those orders that still are in the reported version. One that has changed since
    /// will be reported again when it comes to rest. The reported version is durable, so is the
    /// copy. `None` if the shard takes too long, and is to be asked again.
    fn fetch(&self, shard: u16, wanted: &[(OrderId, u32)]) -> Option<Vec<Order>> {
        let (sender, copies) = mpsc::channel();
        let wanted = wanted.to_vec();
        let look: Look<Orders> = Box::new(move |machine, _| {
            let same = wanted.into_iter().filter_map(|(id, version)| {
                machine.order(id).filter(|order| order.version == version).cloned()
            });
            // The projector waits, unless it has given this shard up.
            let _ = sender.send(same.collect());
        });
        self.orders.look(shard, look);
        match copies.recv_timeout(FETCH_WAIT) {
            Ok(copies) => Some(copies),
            Err(RecvTimeoutError::Timeout) => {
                tracing::warn!(shard, "an order shard is slow to hand orders at rest over");
                None
            }
            // It is down: they stay in memory and are reported again when the store is opened.
            Err(RecvTimeoutError::Disconnected) => Some(Vec::new()),
        }
    }

    /// Makes what was written durable, then lets the shards forget it. Waits for the disk.
    ///
    /// # Errors
    /// [`ArchiveError`]; then it must not go on.
    pub fn flush(&mut self) -> Result<(), ArchiveError> {
        self.since = None;
        if self.rows == 0 {
            return Ok(());
        }
        self.state.flush()?;
        self.gauges.flushes.fetch_add(1, Ordering::Relaxed);
        self.rows = 0;
        for (shard, orders) in std::mem::take(&mut self.written) {
            let forget = orders.chunks(FORGET_ORDERS_MAX);
            let forget = forget.map(|orders| OrderCommand::Forget { orders: orders.to_vec() });
            self.orders.tell(shard, &mut forget.collect());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tidegate_storage::MemoryState;

    use super::*;

    #[test]
    fn what_waits_is_bounded_and_a_failure_is_told_from_a_delay() {
        let projector = Projector::new(Arc::new(MemoryState::new()));
        let handle = projector.handle();
        let admitted = |max| handle.admit::<()>(max);
        assert!(admitted(1).is_ok());
        for number in 1..=3 {
            handle.archive(OrderId::new(0, number).expect("a number"), 1);
        }
        assert_eq!(projector.report().backlog, 3);
        assert!(admitted(4).is_ok());
        assert!(matches!(admitted(3), Err(AskError::Backlogged { at_rest_max: 3 })));
        handle.gauges.failed.store(1, Ordering::Relaxed);
        assert!(admitted(4).is_ok(), "selling goes on as long as there is room");
        assert!(matches!(admitted(3), Err(AskError::Unavailable { .. })));
    }
}
