//! What an open store says of its views. It only finds them; reading is the reader's.

use super::{Rebuild, SalesPage, SalesStep, View, ViewError, ViewReader, periods};
use crate::{Position, Sku, Tidegate, Timestamp};

impl Tidegate {
    /// Reads the view `V`; `None` if it was not added with [`Builder::view`](crate::Builder::view).
    #[must_use]
    pub fn view<V: View>(&self) -> Option<ViewReader<V>> {
        self.views().reader()
    }

    /// Builds the view of this name anew ([`ViewReader::rebuild`]); `None` if there is none.
    #[must_use]
    pub fn rebuild_view(&self, name: &str) -> Option<Rebuild> {
        self.views().rebuild(name)
    }

    /// A position that everything answered so far is at or before: what a caller has written shows
    /// in a view that has reached it ([`ViewReader::at_least`]).
    #[must_use]
    pub fn position(&self) -> Position {
        self.events().durable()
    }

    /// Sales and stock of `sku` over time, from the view [`Sales`](crate::Sales): up to `limit`
    /// periods in which something happened, oldest first, of those that begin at `from` or later
    /// and before `to`. Reads the disk. `None` if the view was not added.
    ///
    /// # Errors
    /// [`ViewError`].
    pub async fn sales(
        &self,
        sku: &Sku,
        (from, to): (Timestamp, Timestamp),
        step: SalesStep,
        limit: usize,
    ) -> Option<Result<SalesPage, ViewError>> {
        let reader = self.view()?;
        Some(periods::read(&reader, sku, (from, to), step, limit).await)
    }
}
