//! The threads that the actors live on, apart from the host's own runtime: a host needs no actix.
//! It starts and joins threads; what runs on them is not its business.

use std::{io, sync::mpsc, thread};

use actix_rt::{Arbiter, System};

use tokio::sync::oneshot;

pub use actix_rt::ArbiterHandle;

/// A running set of arbiters. Stopped and joined when dropped.
pub struct Threads {
    arbiters: Vec<ArbiterHandle>,
    stop: Option<oneshot::Sender<()>>,
    system: Option<thread::JoinHandle<()>>,
}

impl Threads {
    /// Starts `count` arbiters (at least one), each with a thread and an event loop of its own.
    ///
    /// # Errors
    /// The system can't start a thread.
    pub fn start(count: usize) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (started, handles) = mpsc::channel();
        let run = move || {
            System::new().block_on(async move {
                let arbiters: Vec<_> = (0..count.max(1)).map(|_| Arbiter::new()).collect();
                let handles = arbiters.iter().map(Arbiter::handle).collect();
                if started.send(handles).is_ok() {
                    // A dropped sender says the same as a message.
                    let _ = stopped.await;
                }
                for arbiter in arbiters {
                    arbiter.stop();
                    if arbiter.join().is_err() {
                        tracing::error!("an arbiter's thread has panicked");
                    }
                }
            });
        };
        let system = thread::Builder::new().name("tidegate-system".into()).spawn(run)?;
        let arbiters: Vec<ArbiterHandle> = handles.recv().map_err(io::Error::other)?;
        Ok(Self { arbiters, stop: Some(stop), system: Some(system) })
    }

    /// Where actors can be started.
    #[must_use]
    pub fn arbiters(&self) -> &[ArbiterHandle] {
        &self.arbiters
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.system.take().is_some_and(|system| system.join().is_err()) {
            tracing::error!("the actors' system thread has panicked");
        }
    }
}
