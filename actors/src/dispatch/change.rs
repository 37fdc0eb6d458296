//! Changes of a group: where it is, whether it is paused, whether it is at all. One after the
//! other, and each to its end even if nobody waits for it any more; then the desk is made to agree
//! with the machine, which has the last word. It knows nothing of single leases.

use std::sync::Arc;

use tidegate_machines::{ConsumersCommand, ConsumersRejection, MessageId};
use tokio::sync::oneshot;

use super::{ConsumeError, Desk, Dispatcher, Shared, Whence, place, tending};
use crate::error::AskError;

impl Dispatcher {
    /// Goes on at `whence`, forward or back. What is in somebody's hands then is acknowledged too
    /// late. Waits for the disk.
    ///
    /// # Errors
    /// [`ConsumeError::Ask`]; [`FeedError::Ahead`](crate::feed::FeedError::Ahead) if `whence` was
    /// never reached.
    pub async fn seek(&self, whence: Whence) -> Result<(), ConsumeError> {
        let to = place(&self.shared.means.tap, whence)?;
        self.change(ConsumersCommand::Seek { of: self.group().clone(), to }).await
    }

    /// Hands nothing out until it is resumed, over a restart as well. Waits for the disk.
    ///
    /// # Errors
    /// [`ConsumeError::Ask`].
    pub async fn pause(&self, paused: bool) -> Result<(), ConsumeError> {
        self.change(ConsumersCommand::Pause { of: self.group().clone(), paused }).await
    }

    /// Tries a dead letter again, from its first attempt on, before later messages of its key.
    /// Waits for the disk.
    ///
    /// # Errors
    /// [`ConsumeError::Ask`]: it is none.
    pub async fn replay(&self, id: MessageId) -> Result<(), ConsumeError> {
        self.change(ConsumersCommand::Replay { of: self.group().clone(), id }).await
    }

    /// Forgets the group with its dead letters: nothing is handed out any more, and whoever has
    /// this dispatcher can do nothing to a later group of the same name. Waits for the disk.
    ///
    /// # Errors
    /// [`ConsumeError::Ask`].
    pub async fn remove(&self) -> Result<(), ConsumeError> {
        self.change(ConsumersCommand::Remove { of: self.group().clone() }).await
    }

    /// In a task of its own: who asked may go away at any time.
    async fn change(&self, command: ConsumersCommand) -> Result<(), ConsumeError> {
        let (told, answer) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        let changing = async move {
            // Nobody may want to know.
            let _ = told.send(shared.change(command).await);
        };
        if !self.shared.means.arbiter.spawn(changing) {
            return Err(AskError::Closing.into());
        }
        answer.await.unwrap_or_else(|_| Err(AskError::Closing.into()))
    }
}

impl Shared {
    async fn change(self: &Arc<Self>, command: ConsumersCommand) -> Result<(), ConsumeError> {
        let _alone = self.changing.lock().await;
        let removes = matches!(command, ConsumersCommand::Remove { .. });
        self.work().desk.set_changing(true);
        let changed = self.ask(command).await;
        match &changed {
            Ok(_) if removes => self.gone(),
            // Of an unknown outcome the machine knows.
            Ok(_) | Err(ConsumeError::Ask(AskError::Unavailable { .. })) => {
                self.agree().await;
                if self.work().in_doubt {
                    // Nothing is handed out until it agrees, and nobody else may come by.
                    self.look.notify_one();
                }
            }
            Err(error) => {
                if let Some(ConsumersRejection::UnknownGroup { .. }) = error.rejection() {
                    self.gone();
                }
                let mut work = self.work();
                // An earlier change may not have been learnt of yet.
                let in_doubt = work.in_doubt;
                work.desk.set_changing(in_doubt);
                drop(work);
                self.available.notify_waiters();
            }
        }
        changed.map(drop)
    }

    /// Makes the desk agree with the machine if it is in doubt, unless the group is being changed:
    /// that ends with the same.
    pub(super) async fn settle(self: &Arc<Self>) {
        let Ok(_alone) = self.changing.try_lock() else { return };
        let in_doubt = self.work().in_doubt;
        if in_doubt {
            self.agree().await;
        }
    }

    /// Asks the machine how the group is. A desk of an earlier move is of no use any more; another
    /// learns. If it can't be asked, the doubt stays. Only by who holds `changing`.
    async fn agree(self: &Arc<Self>) {
        let newest = {
            let mut work = self.work();
            work.in_doubt = false;
            work.desk.newest()
        };
        let view = match self.view().await {
            Ok(view) => view,
            Err(error) => return self.not_agreed(&error),
        };
        let moved = {
            let mut work = self.work();
            let moved = view.moved != work.desk.moved();
            if moved {
                work.desk = Desk::new(view);
                (work.ended, work.failing) = (None, None);
            } else {
                work.desk.agree(view, newest);
            }
            moved
        };
        if moved {
            tending::read(self);
        }
        self.wake_tending();
        self.available.notify_waiters();
    }

    fn not_agreed(&self, error: &ConsumeError) {
        if let Some(ConsumersRejection::UnknownGroup { .. }) = error.rejection() {
            return self.gone();
        }
        tracing::debug!(of = %self.means.of, %error, "a group can't be asked where it is yet");
        self.work().in_doubt = true;
    }
}
