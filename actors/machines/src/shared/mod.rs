//! What a machine keeps in great numbers: maps whose clones share all that has not changed since,
//! so that a copy for a snapshot costs a shard next to nothing. A large one never moves all that it
//! has in order to grow. They deliberately know nothing of orders and stock.

mod calendar;
mod paged;
mod parted;

pub(crate) use calendar::Calendar;
pub(crate) use paged::{Number, Paged};
pub(crate) use parted::{Parted, PartedMap, Secret};
