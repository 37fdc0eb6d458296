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

    /// Lets go of it. `false` if sled panicked, and so may not have ended in order.
    pub(super) fn close(mut self) -> bool {
        self.let_go()
    }

    fn let_go(&mut self) -> bool {
        let db = self.0.take();
        let ended = catch_unwind(AssertUnwindSafe(move || drop(db))).is_ok();
        if !ended {
            // What counts is in the state's log.
            error!("sled has panicked while it closed; the next open makes its files again");
        }
        ended
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
        self.let_go();
    }
}
