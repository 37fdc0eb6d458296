//! The locks and atomics of what is synchronised by hand here: those of `std`, or loom's where its
//! model checker tries every order of events (`just loom`). It adds nothing to them.
//!
//! Loom takes sequentially consistent operations for weaker ones than they are. So nothing checked
//! by it may rest on the order of two atomics: what belongs together is in one.

/// Read by very many threads at a time, and written seldom: who reads takes one of several locks,
/// who writes takes all of them.
#[cfg(not(all(test, tidegate_loom)))]
pub(crate) use crossbeam_utils::sync::ShardedLock as ReadMostlyLock;
#[cfg(all(test, tidegate_loom))]
pub(crate) use loom::sync::{
    Mutex, MutexGuard, RwLock, RwLock as ReadMostlyLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize},
};
#[cfg(not(all(test, tidegate_loom)))]
pub(crate) use std::sync::{
    Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize},
};
