//! The locks of what is synchronised by hand here: those of `std`, or loom's where its model
//! checker tries every order of events (`just loom`). It adds nothing to them.

#[cfg(all(test, tidegate_loom))]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard, RwLock};
#[cfg(not(all(test, tidegate_loom)))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, RwLock};
