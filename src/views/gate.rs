//! What an open store says of its views. It only finds them; reading is the reader's.

use super::{Rebuild, View, ViewReader};
use crate::{Position, Tidegate};

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
}
