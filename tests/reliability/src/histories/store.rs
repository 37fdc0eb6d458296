//! The store that histories are made on, and how callers reach it while it is closed, dropped and
//! opened again under them. It records nothing.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use tidegate::{AskError, OrdersClient, StockClient, Tidegate, machine::Group};
use tokio::sync::watch;

use super::register::{REGISTERS, Register};

/// How long a caller waits for the store to come back before it asks again anyway.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How often a caller asks again: a guard against hanging.
const TRIES_MAX: usize = 2_000;

/// Panics of one register between two openings: one more within a minute, and it stays down.
const PANICS_MAX: u64 = 5;

/// What callers ask. It is not the store itself, so that dropping the store ends it.
#[derive(Clone)]
pub(crate) struct Handles {
    pub(crate) stock: StockClient,
    pub(crate) orders: OrdersClient,
    pub(crate) registers: Group<Register>,
    /// How often each register may still be made to panic, so that none stays down.
    panics: Arc<Vec<AtomicU64>>,
}

impl Handles {
    /// Whether register `shard` may be made to panic once more.
    pub(crate) fn may_panic(&self, shard: u16) -> bool {
        let left = &self.panics[usize::from(shard)];
        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }
}

/// The open store.
pub(crate) struct Store {
    folder: PathBuf,
    gate: Tidegate,
    handles: watch::Sender<Handles>,
    moments: Arc<AtomicU64>,
}

impl Store {
    pub(crate) async fn open(folder: &Path) -> anyhow::Result<Self> {
        let (gate, handles) = open(folder).await?;
        let (handles, _) = watch::channel(handles);
        Ok(Self { folder: folder.to_owned(), gate, handles, moments: Arc::default() })
    }

    pub(crate) fn caller(&self, client: usize) -> Caller {
        Caller { client, handles: self.handles.subscribe(), moments: Arc::clone(&self.moments) }
    }

    /// Ends the store under its callers, in order or as if the host had let go of it, and opens it
    /// again.
    pub(crate) async fn again(self, in_order: bool) -> anyhow::Result<Self> {
        let Self { folder, gate, handles, moments } = self;
        if in_order {
            gate.close().await.context("closing under callers")?;
        }
        tokio::task::spawn_blocking(move || drop(gate)).await?;
        let (gate, fresh) = open(&folder).await.context("opening again")?;
        handles.send_replace(fresh);
        Ok(Self { folder, gate, handles, moments })
    }

    pub(crate) async fn close(self) -> anyhow::Result<()> {
        self.gate.close().await.context("closing")
    }
}

async fn open(folder: &Path) -> anyhow::Result<(Tidegate, Handles)> {
    let builder = Tidegate::builder(folder).segment_bytes(1 << 20);
    let builder = builder.stock_shards(3).order_shards(2).arbiters(2);
    let gate = builder.machine(REGISTERS, |_| Register::default()).open().await?;
    let registers = gate.shards_of::<Register>().context("the registers are there")?;
    let panics = Arc::new((0..REGISTERS).map(|_| AtomicU64::new(PANICS_MAX)).collect());
    let (stock, orders) = (gate.stock().clone(), gate.orders().clone());
    let handles = Handles { stock, orders, registers, panics };
    Ok((gate, handles))
}

/// One client's way to the store.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) client: usize,
    handles: watch::Receiver<Handles>,
    /// Counts moments: what began at a later one than something has ended began after it.
    moments: Arc<AtomicU64>,
}

/// A call that was answered, by whatever the rules allow.
pub(crate) struct Answered<T> {
    pub(crate) began: u64,
    pub(crate) ended: u64,
    pub(crate) answer: T,
}

/// Why a call got no answer.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Nothing has changed, so it is no part of the history.
    Unchanged,
    /// It may be done, or be done later.
    Unknown,
    /// This must not happen, and why.
    Wrong(String),
}

/// Tells answers and refusals by the rules from everything else.
pub(crate) fn sorted<T, R: Display>(
    outcome: Result<T, AskError<R>>,
) -> Result<Result<T, R>, Failed> {
    match outcome {
        Ok(answer) => Ok(Ok(answer)),
        Err(AskError::Rejected(no)) => Ok(Err(no)),
        Err(AskError::Closing | AskError::Overloaded { .. }) => Err(Failed::Unchanged),
        Err(AskError::Unavailable { .. }) => Err(Failed::Unknown),
        Err(other) => Err(Failed::Wrong(other.to_string())),
    }
}

impl Caller {
    fn moment(&self) -> u64 {
        self.moments.fetch_add(1, Ordering::SeqCst)
    }

    /// Asks until there is an answer. Each time that the outcome is not known, `lost` is told when
    /// that call began; the call after it is a new one.
    pub(crate) async fn call<T, F: Future<Output = Result<T, Failed>>>(
        &mut self,
        ask: impl Fn(Handles) -> F,
        mut lost: impl FnMut(u64),
    ) -> anyhow::Result<Answered<T>> {
        for _ in 0..TRIES_MAX {
            let handles = self.handles.borrow_and_update().clone();
            let began = self.moment();
            let answer = ask(handles).await;
            let ended = self.moment();
            match answer {
                Ok(answer) => return Ok(Answered { began, ended, answer }),
                Err(Failed::Unchanged) => {}
                Err(Failed::Unknown) => lost(began),
                Err(Failed::Wrong(why)) => anyhow::bail!("this must not be answered: {why}"),
            }
            // Either it is open again by then, or asking again will tell.
            let _ = tokio::time::timeout(LOOK_AGAIN, self.handles.changed()).await;
        }
        anyhow::bail!("the store did not come back")
    }

    /// What to ask just now, for what is expected to fail.
    pub(crate) fn handles(&self) -> Handles {
        self.handles.borrow().clone()
    }
}
