//! Who kills PostgreSQL, at moments of its own: a thread that knows nothing of the store.

use std::{
    fmt,
    ops::Add,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::anyhow;
use tidegate_postgres_tests::Database;

use crate::random::Random;

/// What was done to a database.
#[derive(Clone, Copy, Default)]
pub(super) struct Meddled {
    /// Its first process was killed.
    killed: u64,
    /// All of it was stopped at once.
    stopped: u64,
    /// It was to be written anew, and killed soon after.
    reloads: u64,
}

impl Add for Meddled {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            killed: self.killed + other.killed,
            stopped: self.stopped + other.stopped,
            reloads: self.reloads + other.reloads,
        }
    }
}

impl fmt::Display for Meddled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { killed, stopped, reloads } = self;
        write!(
            f,
            "PostgreSQL killed {killed} times and stopped at once {stopped} times, {reloads} of \
             these soon after it was to be written anew"
        )
    }
}

/// A thread that kills a database and starts it again.
pub(super) struct Meddler {
    end: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<(Database, Meddled)>>,
}

impl Meddler {
    pub(super) fn start(mut database: Database, mut random: Random, reloads: bool) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let mut meddled = Meddled::default();
            let pause = |up_to, random: &mut Random| {
                thread::sleep(Duration::from_millis(random.between(1, up_to)));
            };
            loop {
                pause(1_200, &mut random);
                if ended.load(Ordering::Relaxed) {
                    return Ok((database, meddled));
                }
                if reloads && random.percent(40) {
                    // It may have no tables yet.
                    let anew = "update tidegate.sync set position = null";
                    let told = async { database.client().await.batch_execute(anew).await };
                    meddled.reloads += u64::from(runtime.block_on(told).is_ok());
                    pause(400, &mut random);
                }
                if random.percent(50) {
                    database.kill();
                    meddled.killed += 1;
                } else {
                    database.stop_at_once();
                    meddled.stopped += 1;
                }
                pause(300, &mut random);
                runtime.block_on(database.run());
            }
        });
        Self { end, thread }
    }

    /// Lets it be; the database runs then.
    pub(super) fn end(self) -> anyhow::Result<(Database, Meddled)> {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("PostgreSQL's killer panicked, see above"))?
    }
}
