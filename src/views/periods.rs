//! Reading the view `sales`: its hours, put together to the periods that are asked for. It counts
//! nothing itself.

use super::{
    Sales, SalesHour, SalesRow, ViewError, ViewReader,
    sales::{HOUR_MS, hour_key, hours_key},
};
use crate::{Position, Sku, Timestamp};

/// Hours read together.
const PAGE_HOURS: usize = 512;

/// How long the periods of a report are. They begin on the full hour and at midnight, in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SalesStep {
    /// An hour.
    #[default]
    Hour,
    /// A day.
    Day,
}

impl SalesStep {
    fn hours(self) -> u64 {
        match self {
            Self::Hour => 1,
            Self::Day => 24,
        }
    }
}

/// A period in which something happened to a SKU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SalesPeriod {
    /// When it begins.
    pub begin: Timestamp,
    /// What happened in it.
    pub figures: SalesHour,
}

/// Some periods, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SalesPage {
    /// The periods.
    pub periods: Vec<SalesPeriod>,
    /// They hold everything up to here.
    pub position: Position,
    /// Where to go on; `None` at the end.
    pub next: Option<Timestamp>,
}

impl ViewReader<Sales> {
    /// Sales and stock of `sku` over time: up to `limit` periods in which something happened,
    /// oldest first, of those that begin at `from` or later and before `to`. Reads the disk.
    ///
    /// # Errors
    /// [`ViewError`]; a view that has stopped can be read.
    pub async fn periods(
        &self,
        sku: &Sku,
        (from, to): (Timestamp, Timestamp),
        step: SalesStep,
        limit: usize,
    ) -> Result<SalesPage, ViewError> {
        let hours = step.hours();
        let period_ms = hours * HOUR_MS;
        // Whole periods only: the first that begins at `from` or later.
        let first = from.0.div_ceil(period_ms).saturating_mul(hours);
        let prefix = hours_key(sku);
        let mut after = first.checked_sub(1).map(|before| hour_key(sku, before));
        let mut page = SalesPage { periods: Vec::new(), position: Position::ZERO, next: None };
        loop {
            let rows = self.scan(&prefix, after.as_deref(), PAGE_HOURS).await?;
            // The oldest of the positions: at least so much is in all of them.
            let known = page.periods.last().map(|_| page.position);
            page.position = known.unwrap_or(rows.position).min(rows.position);
            for (key, row) in rows.rows {
                let hour = key.last_chunk::<8>().map_or(0, |hour| u64::from_be_bytes(*hour));
                let SalesRow::Hour(figures) = row else { continue };
                let begin = Timestamp((hour / hours).saturating_mul(period_ms));
                if begin >= to {
                    return Ok(page);
                }
                if let Some(last) = page.periods.last_mut().filter(|last| last.begin == begin) {
                    add(&mut last.figures, &figures);
                } else if page.periods.len() == limit {
                    page.next = Some(begin);
                    return Ok(page);
                } else {
                    page.periods.push(SalesPeriod { begin, figures });
                }
            }
            match rows.next {
                Some(next) => after = Some(next),
                None => return Ok(page),
            }
        }
    }
}

/// A later hour of the same period.
fn add(sum: &mut SalesHour, hour: &SalesHour) {
    sum.sold_units = sum.sold_units.saturating_add(hour.sold_units);
    sum.sold_minor = sum.sold_minor.saturating_add(hour.sold_minor);
    sum.returned_units = sum.returned_units.saturating_add(hour.returned_units);
    sum.returned_minor = sum.returned_minor.saturating_add(hour.returned_minor);
    sum.level = hour.level.or(sum.level);
}
