//! The simulated store's journal: the one in memory, which makes durable what it is asked for when
//! the simulation says so. It waits for nobody: there is no other thread that could help.

use std::sync::Arc;

use tidegate_storage::{
    Batch, Done, Journal, JournalStats, MemoryJournal, Position, Reader, StorageError, Urgency,
    Watch,
};

type Result<T> = std::result::Result<T, StorageError>;

/// See the module.
pub(super) struct HandDriven(pub(super) Arc<MemoryJournal>);

impl Journal for HandDriven {
    fn append(&self, batch: Batch, urgency: Urgency, done: Done) -> Result<Position> {
        self.0.append(batch, urgency, done)
    }

    fn batch_bytes_max(&self) -> usize {
        self.0.batch_bytes_max()
    }

    fn appended(&self) -> Position {
        self.0.appended()
    }

    fn durable(&self) -> Position {
        self.0.durable()
    }

    fn wait_durable(&self, position: Position) -> Result<()> {
        if self.0.durable() < position {
            self.0.commit();
        }
        self.0.wait_durable(position)
    }

    fn watch(&self, watch: Watch) {
        self.0.watch(watch);
    }

    fn oldest(&self) -> Position {
        self.0.oldest()
    }

    fn read(&self, after: Position) -> Result<Box<dyn Reader>> {
        self.0.read(after)
    }

    fn follow(&self, after: Position) -> Result<Box<dyn Reader>> {
        self.0.follow(after)
    }

    fn before_last(&self, bytes: u64) -> Position {
        self.0.before_last(bytes)
    }

    fn trim(&self, through: Position) -> Result<()> {
        self.0.trim(through)
    }

    fn stats(&self) -> JournalStats {
        self.0.stats()
    }

    fn close(&self) -> Result<()> {
        self.0.close()
    }
}
