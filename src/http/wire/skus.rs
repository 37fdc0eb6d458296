//! SKUs and their stock, as they are written.

use serde::{Deserialize, Serialize};
use tidegate::{
    Adjustment, Currency, ItemView, Level, Location, OutOfBounds, Sku, SkuPatch, StockReceipt,
    bounds,
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, OneOfBuilder, RefOr, Schema, schema::Type},
};

use super::{
    present,
    time::Time,
    whole::{self, whole},
};

/// Options of a SKU. What is absent stays as it is; null clears it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SkuOptions {
    /// Unit price in minor units.
    #[serde(default, deserialize_with = "whole::present")]
    #[schema(value_type = Option<u64>, maximum = 9007199254740991u64, minimum = 0)]
    price_minor: Option<Option<u64>>,
    /// Currency of the price, ISO 4217.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, pattern = "^[A-Z]{3}$", example = "EUR")]
    currency: Option<Option<String>>,
    /// Most units for one user, across orders, unpaid ones and holds included.
    #[serde(default, deserialize_with = "whole::present")]
    #[schema(value_type = Option<u64>, maximum = 4294967295u64, minimum = 0)]
    limit_per_user: Option<Option<u32>>,
    /// Units that may be promised ahead of stock, at each location; cleared it is 0.
    #[serde(default, deserialize_with = "whole::present")]
    #[schema(value_type = Option<u64>, maximum = 4294967295u64, minimum = 0)]
    backorder_limit: Option<Option<u32>>,
}

impl SkuOptions {
    pub(crate) fn check(self) -> Result<SkuPatch, OutOfBounds> {
        let currency = match self.currency {
            Some(Some(currency)) => Some(Some(Currency::new(&currency)?)),
            Some(None) => Some(None),
            None => None,
        };
        Ok(SkuPatch {
            price_minor: self.price_minor,
            currency,
            limit_per_user: self.limit_per_user,
            backorder_limit: self.backorder_limit.map(Option::unwrap_or_default),
        })
    }
}

/// A SKU with its options and its stock over all locations.
#[derive(Serialize, ToSchema)]
pub(crate) struct Item {
    #[schema(value_type = String)]
    sku: Sku,
    /// Unit price in minor units.
    price_minor: Option<u64>,
    /// Currency of the price.
    #[schema(value_type = Option<String>)]
    currency: Option<Currency>,
    /// Most units for one user.
    #[schema(value_type = Option<u64>)]
    limit_per_user: Option<u32>,
    /// Units that may be promised ahead of stock, at each location.
    #[schema(value_type = u64)]
    backorder_limit: u32,
    /// Units in the warehouse.
    on_hand: u64,
    /// Units held for unpaid orders and holds.
    held: u64,
    /// Units sold and not yet shipped.
    allocated: u64,
    /// `on_hand − held − allocated`; below 0 when sold ahead of stock.
    available: i64,
    /// Each location that ever had stock.
    locations: Vec<LocationStock>,
}

/// The stock of a SKU at one location.
#[derive(Serialize, ToSchema)]
pub(crate) struct LocationStock {
    #[schema(value_type = String)]
    location: Location,
    on_hand: u64,
    held: u64,
    allocated: u64,
    available: i64,
}

impl From<ItemView> for Item {
    fn from(item: ItemView) -> Self {
        let Level { on_hand, held, allocated } = item.total;
        let at = |(location, level): (Location, Level)| LocationStock {
            location,
            on_hand: level.on_hand,
            held: level.held,
            allocated: level.allocated,
            available: level.available(),
        };
        Self {
            sku: item.sku,
            price_minor: item.options.price_minor,
            currency: item.options.currency,
            limit_per_user: item.options.limit_per_user,
            backorder_limit: item.options.backorder_limit,
            on_hand,
            held,
            allocated,
            available: item.available,
            locations: item.locations.into_iter().map(at).collect(),
        }
    }
}

/// Units in or out, as documented: this is one of the few types with a hole in it.
struct Delta;

impl PartialSchema for Delta {
    fn schema() -> RefOr<Schema> {
        const UNITS_MAX: u64 = bounds::DELTA_UNITS_MAX;
        let units = |least: f64, most: f64| {
            let units = ObjectBuilder::new().schema_type(Type::Integer);
            units.minimum(Some(least)).maximum(Some(most))
        };
        let (out, into) = (units(-(UNITS_MAX as f64), -1.0), units(1.0, UNITS_MAX as f64));
        OneOfBuilder::new().item(out).item(into).into()
    }
}

impl ToSchema for Delta {}

/// A movement of stock.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Movement {
    /// Units in (positive) or out (negative); not 0.
    #[serde(deserialize_with = "whole")]
    #[schema(value_type = Delta)]
    delta: i64,
    /// Why, for whoever reads the journal: one line, without control characters.
    #[schema(max_length = 200, pattern = "^[^\\u0000-\\u001F\\u007F-\\u009F]*$")]
    reason: String,
    /// Where. Default: `main`.
    #[serde(default)]
    #[schema(pattern = "^[!-~]{1,64}$")]
    location: Option<String>,
}

impl Movement {
    pub(crate) fn of(self, sku: String) -> Adjustment {
        let adjustment = Adjustment::new(sku, self.delta, self.reason);
        self.location.into_iter().fold(adjustment, Adjustment::at)
    }
}

/// The stock of a SKU at a location after a movement.
#[derive(Serialize, ToSchema)]
#[schema(as = StockReceipt)]
pub(crate) struct Receipt {
    #[schema(value_type = String)]
    sku: Sku,
    #[schema(value_type = String)]
    location: Location,
    /// Units in the warehouse.
    on_hand: u64,
    /// Units held for unpaid orders and holds.
    held: u64,
    /// Units sold and not yet shipped.
    allocated: u64,
    /// `on_hand − held − allocated`; below 0 when sold ahead of stock.
    available: i64,
    /// When the movement was made, or first asked for.
    at: Time,
}

impl From<StockReceipt> for Receipt {
    fn from(receipt: StockReceipt) -> Self {
        Self {
            sku: receipt.sku,
            location: receipt.location,
            on_hand: receipt.on_hand,
            held: receipt.held,
            allocated: receipt.allocated,
            available: receipt.available,
            at: Time(receipt.at),
        }
    }
}
