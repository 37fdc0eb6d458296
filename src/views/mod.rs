//! Views: read models that follow the durable events of a store, as rows in its own state. Here is
//! what a view is and what it is told; how it is kept up to date is in `worker`. A view decides
//! nothing, and nothing that decides reads one.

mod build;
mod cut;
mod error;
mod figures;
mod fold;
mod gate;
mod kept;
mod periods;
mod reader;
mod rows;
mod sales;
mod set;
mod worker;

use serde::{Serialize, de::DeserializeOwned};

pub use error::{ViewError, ViewFault};
pub use figures::{RebuildProgress, ViewCondition, ViewReport};
pub use periods::{SalesPage, SalesPeriod, SalesStep};
pub use reader::{Rebuild, ViewPage, ViewReader};
pub use rows::{ROW_BYTES_MAX, ROW_KEY_BYTES_MAX, Rows};
pub use sales::{Sales, SalesHour, SalesRow, SoldOrder};
pub(crate) use set::{AddView, Views};
pub use set::{StoredView, stored_views};
pub(crate) use worker::Source;

use crate::{Event, HeldLine, Hold, ItemView, Order, OrderId, Timestamp, UserId};

/// A read model: what each event makes of some rows. It must follow from the events alone, in
/// their order: no clock, no randomness, nothing that it remembers beside its rows. Then it can be
/// built again at any time, and comes to the same.
///
/// Each event is applied exactly once in effect, over crashes too: the rows and how far they are
/// change together. A view that returns an error or panics stops there, with a warning; the rows
/// that it has can still be read, and nothing else is touched.
pub trait View: Send + Sync + 'static {
    /// Its name, 1 to 64 visible ASCII characters. No two views of a store have the same.
    const NAME: &'static str;

    /// To be raised whenever [`View::apply`] or the row changes: then it is built again.
    const VERSION: u32;

    /// What is kept under each key. Stored with bincode: see
    /// [`Durable`](crate::machine::Durable) for what that asks of a type.
    type Row: Serialize + DeserializeOwned + Send + 'static;

    /// Applies one event. Runs on the view's own thread; one that does not return holds up its
    /// readers and closing.
    ///
    /// # Errors
    /// Any; the view then stops before the record of this event.
    fn apply(&self, event: &Event, rows: &mut Rows<'_, Self::Row>) -> Result<(), ViewFault>;

    /// Takes in a part of what the store holds. All parts are of one position, `at` is when that
    /// was; the events after it follow. Called instead of applying events when the journal no
    /// longer holds all of them: SKUs first, then holds, orders, and what orders hold.
    ///
    /// # Errors
    /// Any; the default is that this view needs the whole journal.
    fn load(
        &self,
        fact: &Fact,
        at: Timestamp,
        rows: &mut Rows<'_, Self::Row>,
    ) -> Result<(), ViewFault> {
        let _ = (fact, at, rows);
        Err(ViewFault::new("the journal was trimmed, and this view can't begin without all of it"))
    }
}

/// A part of what a store holds at a position.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fact {
    /// A SKU with its options and levels.
    Sku(ItemView),
    /// A standalone hold that is remembered.
    Hold(Hold),
    /// An order, in memory or in the archive.
    Order(Box<Order>),
    /// What an order holds at a stock shard, as the event `stock.held` told it.
    Held {
        /// The order.
        order: OrderId,
        /// The stock shard.
        stock_shard: u16,
        /// For whom.
        user: UserId,
        /// What. Unit prices are given as long as the order may not have them.
        lines: Vec<HeldLine>,
    },
}
