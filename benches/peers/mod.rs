//! The systems that take part, a file for each: how one is started with its best documented
//! settings, and how an order is placed in it. None of them counts or times anything.

pub(crate) mod batches;
pub(crate) mod http;
pub(crate) mod postgres;
pub(crate) mod redis;
pub(crate) mod sqlite;
pub(crate) mod tidegate;
pub(crate) mod tigerbeetle;
