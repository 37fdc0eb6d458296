//! A state that can be closed while others still hold it: the folder is free again at once, not
//! when the last reader has gone. It keeps nothing itself.

use std::sync::{Arc, PoisonError};

use crate::{Row, State, StorageError, Table, sync::RwLock};

/// A [`State`] until it is closed; then every call is [`StorageError::Closed`].
pub struct ClosableState {
    state: RwLock<Option<Arc<dyn State>>>,
}

impl ClosableState {
    /// Stands in front of `state`, which nobody else should hold.
    #[must_use]
    pub fn new(state: Arc<dyn State>) -> Self {
        Self { state: RwLock::new(Some(state)) }
    }

    /// Lets go of the state behind, once calls under way have ended. Doesn't flush.
    pub fn close(&self) {
        drop(self.state.write().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn with<T>(
        &self,
        call: impl FnOnce(&dyn State) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.as_ref().map_or(Err(StorageError::Closed), |state| call(&**state))
    }
}

impl State for ClosableState {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.with(|state| state.get(table, key))
    }

    fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StorageError> {
        self.with(|state| state.put(table, key, value))
    }

    fn delete(&self, table: Table, key: &[u8]) -> Result<(), StorageError> {
        self.with(|state| state.delete(table, key))
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StorageError> {
        self.with(|state| state.scan(table, prefix, after, limit))
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.with(State::flush)
    }

    fn disk_bytes(&self) -> u64 {
        self.with(|state| Ok(state.disk_bytes())).unwrap_or(0)
    }
}

/// Every order of events that loom can think of.
#[cfg(all(test, tidegate_loom))]
mod loom_tests {
    use super::*;
    use crate::MemoryState;

    #[test]
    fn loom_after_the_close_nobody_is_at_the_state() {
        loom::model(|| {
            let state: Arc<dyn State> = Arc::new(MemoryState::new());
            let closable = Arc::new(ClosableState::new(Arc::clone(&state)));
            let reader = loom::thread::spawn({
                let closable = Arc::clone(&closable);
                move || closable.get(Table(1), b"key")
            });
            closable.close();
            assert_eq!(Arc::strong_count(&state), 1, "somebody still holds it");
            assert!(matches!(closable.flush(), Err(StorageError::Closed)));
            assert!(matches!(reader.join().unwrap(), Ok(None) | Err(StorageError::Closed)));
        });
    }
}
