//! A state that can be closed while others still hold it: the folder is free again at once, not
//! when the last reader has gone. It keeps nothing itself.

use std::sync::{Arc, PoisonError, RwLock};

use crate::{Row, State, StorageError, Table};

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
