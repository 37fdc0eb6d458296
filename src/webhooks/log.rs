//! The log of deliveries: the last attempts of each endpoint, kept in the store, so that they can
//! still be looked at after a restart. It is a record for people: after a crash its last lines may
//! be missing, and nothing is decided by it.

use std::sync::{Arc, Mutex, PoisonError};

use tidegate_storage::{State, StorageError, Table};

use super::Delivery;

const DELIVERIES: Table = Table(b'w');

/// Attempts that are kept of one endpoint.
const KEPT: u64 = 1_000;

/// Rows that are read at a time.
const PAGE: usize = 256;

/// The log of one endpoint.
pub(super) struct Log {
    state: Arc<dyn State>,
    prefix: Vec<u8>,
    next: Mutex<u64>,
}

impl Log {
    /// Finds where it ends. Blocks.
    pub(super) fn open(state: Arc<dyn State>, endpoint: &str) -> Result<Self, StorageError> {
        // A name has no NUL, so no log is found under another's prefix.
        let prefix = [endpoint.as_bytes(), &[0]].concat();
        let mut log = Self { state, prefix, next: Mutex::new(0) };
        let mut next = 0;
        log.each(|number, _| next = number + 1)?;
        log.next = Mutex::new(next);
        Ok(log)
    }

    /// Adds an attempt, and forgets the oldest. Blocks; does not wait for the disk.
    pub(super) fn add(&self, delivery: &Delivery) -> Result<(), StorageError> {
        let number = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            *next += 1;
            *next - 1
        };
        let row = serde_json::to_vec(delivery).unwrap_or_default();
        self.state.put(DELIVERIES, &self.key(number), &row)?;
        match number.checked_sub(KEPT) {
            Some(old) => self.state.delete(DELIVERIES, &self.key(old)),
            None => Ok(()),
        }
    }

    /// The last `limit` attempts, the latest first. Blocks.
    pub(super) fn last(&self, limit: usize) -> Result<Vec<Delivery>, StorageError> {
        let mut found = Vec::new();
        self.each(|_, row| found.extend(serde_json::from_slice(row).ok()))?;
        found.reverse();
        found.truncate(limit);
        Ok(found)
    }

    fn each(&self, mut row: impl FnMut(u64, &[u8])) -> Result<(), StorageError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.state.scan(DELIVERIES, &self.prefix, after.as_deref(), PAGE)?;
            for (key, value) in &page {
                if let Some(number) = key.strip_prefix(&*self.prefix)
                    && let Ok(number) = number.try_into()
                {
                    row(u64::from_be_bytes(number), value);
                }
            }
            match page.last() {
                Some((key, _)) => after = Some(key.clone()),
                None => return Ok(()),
            }
        }
    }

    fn key(&self, number: u64) -> Vec<u8> {
        [&*self.prefix, &number.to_be_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use tidegate_machines::Timestamp;
    use tidegate_storage::MemoryState;

    use super::*;

    #[test]
    fn the_last_are_kept_of_each_endpoint() {
        let state: Arc<dyn State> = Arc::new(MemoryState::new());
        let delivery = |number: u32| Delivery {
            at: Timestamp(number.into()),
            id: number.to_string(),
            kind: "order.placed".to_owned(),
            attempt: 1,
            status: Some(200),
            took_ms: 3,
            error: None,
        };
        let other = Log::open(Arc::clone(&state), "crm2").unwrap();
        other.add(&delivery(7)).unwrap();
        for part in 0..3 {
            // Each time it goes on where it ended.
            let log = Log::open(Arc::clone(&state), "crm").unwrap();
            for number in 0..500 {
                log.add(&delivery(part * 500 + number)).unwrap();
            }
        }
        let log = Log::open(state, "crm").unwrap();
        assert_eq!(log.last(2).unwrap(), [delivery(1_499), delivery(1_498)]);
        let all = log.last(9_999).unwrap();
        assert_eq!((all.len(), all.last()), (1_000, Some(&delivery(500))));
        assert_eq!(other.last(9).unwrap(), [delivery(7)]);
    }
}
