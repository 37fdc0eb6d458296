//! sled's handle, so held that a panic of sled while it lets go of its file ends here: sled panics
//! when its last sync fails, and whoever drops a store must not. It adds nothing else.

use std::{
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
};

use tracing::error;

/// An open sled.
pub(super) struct Handle(Option<sled::Db>);

impl Handle {
    pub(super) fn new(db: sled::Db) -> Self {
        Self(Some(db))
    }
}

impl Deref for Handle {
    type Target = sled::Db;

    fn deref(&self) -> &sled::Db {
        match &self.0 {
            Some(db) => db,
            None => unreachable!("it is only let go of when it is dropped"),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let db = self.0.take();
        if catch_unwind(AssertUnwindSafe(move || drop(db))).is_err() {
            // What was flushed is there; what was not was never counted on.
            error!("sled has panicked while it closed; what was flushed before is on disk");
        }
    }
}
