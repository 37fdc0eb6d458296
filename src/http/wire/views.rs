//! Sales over time, views, and an order with its SKUs, as they are written.

use serde::Serialize;
use tidegate::{OrderDetail, RebuildProgress, SalesPage, SalesPeriod, SalesStep, ViewReport};
use utoipa::ToSchema;

use super::{orders::OrderBody, skus::Item, spoken, time::Time};

spoken! {
    /// How long a period is. Periods begin on the full hour, or at midnight, in UTC.
    Step of SalesStep as SalesStep { Hour, Day }
}

/// Periods in which something happened to a SKU, oldest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct Sales {
    periods: Vec<Period>,
    /// `from_ms` of the next page; null at the end.
    next_from_ms: Option<u64>,
}

/// A period of a SKU.
#[derive(Serialize, ToSchema)]
#[schema(as = SalesPeriod)]
pub(crate) struct Period {
    begin: Time,
    /// Units of confirmed orders that were placed in it.
    sold_units: u64,
    /// Their amount, in minor units.
    sold_minor: u64,
    /// Units that came back in it.
    returned_units: u64,
    /// Their value, in minor units.
    returned_minor: u64,
    /// The stock at its end over all locations, or now; null if it did not change in it, or is not
    /// known any more.
    stock: Option<PeriodStock>,
}

/// The stock of a SKU at the end of a period, over all locations.
#[derive(Serialize, ToSchema)]
pub(crate) struct PeriodStock {
    /// Units in the warehouse.
    on_hand: u64,
    /// Units held for unpaid orders and holds.
    held: u64,
    /// Units sold and not yet shipped.
    allocated: u64,
}

impl From<SalesPage> for Sales {
    fn from(page: SalesPage) -> Self {
        let periods = page.periods.into_iter().map(Period::from).collect();
        Self { periods, next_from_ms: page.next.map(|next| next.0) }
    }
}

impl Sales {
    /// Whether there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.periods.is_empty()
    }
}

impl From<SalesPeriod> for Period {
    fn from(period: SalesPeriod) -> Self {
        let SalesPeriod { begin, figures } = period;
        let stock = figures.level.map(|level| PeriodStock {
            on_hand: level.on_hand,
            held: level.held,
            allocated: level.allocated,
        });
        Self {
            begin: Time(begin),
            sold_units: figures.sold_units,
            sold_minor: figures.sold_minor,
            returned_units: figures.returned_units,
            returned_minor: figures.returned_minor,
            stock,
        }
    }
}

/// An order with the SKUs in it, as they are now.
#[derive(Serialize, ToSchema)]
#[schema(as = OrderDetail)]
pub(crate) struct Detail {
    order: OrderBody,
    /// Each SKU of its lines.
    items: Vec<Item>,
}

impl From<OrderDetail> for Detail {
    fn from(detail: OrderDetail) -> Self {
        let OrderDetail { order, place, items } = detail;
        let items = items.into_iter().map(Item::from).collect();
        Self { order: OrderBody::from(order).at(place), items }
    }
}

/// Every view.
#[derive(Serialize, ToSchema)]
pub(crate) struct Views {
    pub(crate) views: Vec<ViewBody>,
}

/// How a view is doing.
#[derive(Serialize, ToSchema)]
#[schema(as = View)]
pub(crate) struct ViewBody {
    name: String,
    version: u64,
    /// `building`, `following`, `stopped` or `closed`.
    condition: String,
    /// Whether new rows are being built.
    rebuilding: bool,
    /// It holds everything up to this position.
    position: u64,
    /// Records on disk that it does not have yet.
    lag_records: u64,
    /// How long ago it had everything, in milliseconds; 0 if it has.
    lag_ms: u64,
    rows: u64,
    /// How often it was built since the server was started.
    builds: u64,
    /// How often it has stopped since then, or a rebuild has failed.
    failures: u64,
    /// How far new rows are; null if none are being built.
    progress: Option<Progress>,
}

/// How far the new rows of a view are.
#[derive(Serialize, ToSchema)]
#[schema(as = ViewProgress)]
pub(crate) struct Progress {
    /// Parts of what the store holds that they have; 0 if they begin with the whole journal.
    loaded: u64,
    /// They hold everything up to this position, if it is not 0.
    position: u64,
    /// Where they have to get.
    target: u64,
}

impl From<RebuildProgress> for Progress {
    fn from(progress: RebuildProgress) -> Self {
        let RebuildProgress { loaded, position, target } = progress;
        Self { loaded, position: position.0, target: target.0 }
    }
}

impl From<ViewReport> for ViewBody {
    fn from(report: ViewReport) -> Self {
        Self {
            name: report.name,
            version: report.version.into(),
            condition: report.condition.to_string(),
            rebuilding: report.rebuilding,
            position: report.position.0,
            lag_records: report.lag_records,
            lag_ms: report.lag_ms,
            rows: report.rows,
            builds: report.builds,
            failures: report.failures,
            progress: report.progress.map(Progress::from),
        }
    }
}
