//! What operators look at while a store is open. It shows; it changes nothing.

pub mod groups;
pub mod metrics;
pub mod page;
