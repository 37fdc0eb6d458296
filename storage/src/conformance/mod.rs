//! The one suite that every engine passes: what the traits promise, as functions over a factory.
//! Each panics where an engine breaks a promise. It measures no time and knows no engine.

mod journal;
mod state;

use std::sync::Arc;

pub use journal::journal;
pub use state::state;

use crate::{Batch, Journal, Position, Reader, State, StreamId, Urgency};

/// Makes journals for the suite. Segments should be small, so that trimming has something to trim.
pub trait JournalFactory {
    /// The engine.
    type Engine: Journal;

    /// A new, empty journal.
    fn fresh(&mut self) -> Arc<Self::Engine>;

    /// The journal that the next process finds where `journal` was.
    fn reopen(&mut self, journal: Arc<Self::Engine>) -> Arc<Self::Engine>;

    /// Makes the next commit of `journal` fail. `false` if the engine has no such switch.
    fn fail_next_sync(&mut self, _journal: &Self::Engine) -> bool {
        false
    }
}

/// Makes states for the suite.
pub trait StateFactory {
    /// The engine.
    type Engine: State;

    /// A new, empty state.
    fn fresh(&mut self) -> Arc<Self::Engine>;

    /// The state that the next process finds where `state` was.
    fn reopen(&mut self, state: Arc<Self::Engine>) -> Arc<Self::Engine>;
}
/// A batch of `records`.
#[must_use]
pub fn batch(stream: u32, stamp: u64, records: &[&[u8]]) -> Batch {
    let mut batch = Batch::new(StreamId(stream), stamp);
    for record in records {
        let Ok(()) = batch.push::<std::convert::Infallible>(|out| {
            out.extend_from_slice(record);
            Ok(())
        });
    }
    batch
}

/// Appends and waits until it is durable.
pub fn commit(journal: &dyn Journal, batch: Batch) -> Position {
    let position = journal.append(batch, Urgency::Now, Box::new(drop)).expect("append");
    journal.wait_durable(position).expect("durable");
    position
}

/// All that `reader` still gives, each with its position.
pub fn rest(reader: &mut dyn Reader) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some(entry) = reader.next().expect("readable") {
        found.push((entry.position.0, entry.bytes.to_vec()));
    }
    found
}
