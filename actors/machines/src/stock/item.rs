//! One SKU of a stock shard: its options, its levels by location, its units by user. It
//! deliberately does not know why a level changes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::users::{Units, Users};
use crate::{Currency, Location, OutOfBounds, Sku, UserId, bounds};

/// Changes to the options of a SKU. An outer `None` leaves an option as it is; `Some(None)` clears
/// it. A SKU that is defined for the first time starts with every option cleared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkuPatch {
    /// Unit price in minor units.
    pub price_minor: Option<Option<u64>>,
    /// Currency of the price.
    pub currency: Option<Option<Currency>>,
    /// Most units for one user, across orders, unpaid holds included.
    pub limit_per_user: Option<Option<u32>>,
    /// Units that may be promised ahead of stock, at each location.
    pub backorder_limit: Option<u32>,
}

/// The options of a SKU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkuOptions {
    /// Unit price in minor units; an order line without an amount costs 0 without it.
    pub price_minor: Option<u64>,
    /// Currency of the price.
    pub currency: Option<Currency>,
    /// Most units for one user, across orders, unpaid holds included.
    pub limit_per_user: Option<u32>,
    /// Units that may be promised ahead of stock, at each location.
    pub backorder_limit: u32,
}

/// The stock of a SKU at one location.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// Units in the warehouse.
    pub on_hand: u64,
    /// Units held for unpaid orders and holds.
    pub held: u64,
    /// Units sold and not yet shipped.
    pub allocated: u64,
}

/// An item as callers see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ItemView {
    /// The SKU.
    pub sku: Sku,
    /// Its options.
    pub options: SkuOptions,
    /// Units of all locations.
    pub total: Level,
    /// `on_hand − held − allocated` of all locations; below 0 when sold ahead of stock.
    pub available: i64,
    /// Each location that ever had stock.
    pub locations: Vec<(Location, Level)>,
}

/// An item in the state of a stock shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) options: SkuOptions,
    pub(crate) levels: BTreeMap<Location, Level>,
    // Kept only while a limit is set; when one is set, it starts with the units held at that time.
    pub(crate) users: Users,
}

impl SkuPatch {
    /// Sets the unit price, in minor units.
    #[must_use]
    pub fn price_minor(self, price_minor: u64) -> Self {
        Self { price_minor: Some(Some(price_minor)), ..self }
    }

    /// Sets the currency of the price.
    #[must_use]
    pub fn currency(self, currency: Currency) -> Self {
        Self { currency: Some(Some(currency)), ..self }
    }

    /// Sets the most units for one user.
    #[must_use]
    pub fn limit_per_user(self, units: u32) -> Self {
        Self { limit_per_user: Some(Some(units)), ..self }
    }

    /// Sets the units that may be promised ahead of stock, at each location.
    #[must_use]
    pub fn backorder_limit(self, units: u32) -> Self {
        Self { backorder_limit: Some(units), ..self }
    }

    /// Checks the options against their bounds.
    pub(crate) fn check(&self) -> Result<(), OutOfBounds> {
        if let Some(Some(price_minor)) = self.price_minor {
            bounds::check_amount("price_minor", price_minor)?;
        }
        Ok(())
    }
}

impl SkuOptions {
    /// Sets what the patch gives.
    pub(crate) fn patch(&mut self, patch: &SkuPatch) {
        if let Some(price_minor) = patch.price_minor {
            self.price_minor = price_minor;
        }
        if let Some(currency) = &patch.currency {
            self.currency.clone_from(currency);
        }
        if let Some(limit_per_user) = patch.limit_per_user {
            self.limit_per_user = limit_per_user;
        }
        if let Some(backorder_limit) = patch.backorder_limit {
            self.backorder_limit = backorder_limit;
        }
    }
}

impl Level {
    /// Units promised: held or sold.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.held.saturating_add(self.allocated)
    }

    /// `on_hand − held − allocated`; below 0 when sold ahead of stock.
    #[must_use]
    pub fn available(&self) -> i64 {
        let available = i128::from(self.on_hand) - i128::from(self.committed());
        i64::try_from(available).unwrap_or(if available < 0 { i64::MIN } else { i64::MAX })
    }

    /// Units that can still be reserved, those ahead of stock included.
    #[must_use]
    pub fn sellable(&self, backorder_limit: u32) -> u64 {
        let most = self.on_hand.saturating_add(u64::from(backorder_limit));
        most.saturating_sub(self.committed())
    }
}

impl Item {
    pub(crate) fn level(&self, location: &Location) -> Level {
        self.levels.get(location).copied().unwrap_or_default()
    }

    pub(crate) fn sellable(&self, location: &Location) -> u64 {
        self.level(location).sellable(self.options.backorder_limit)
    }

    /// Counts towards the limit of a user, or gives back.
    pub(crate) fn count(&mut self, user: &UserId, change: impl FnOnce(&mut Units)) {
        if self.options.limit_per_user.is_some() {
            self.users.count(user, change);
        }
    }

    pub(crate) fn view(&self, sku: &Sku) -> ItemView {
        let mut total = Level::default();
        for level in self.levels.values() {
            total.on_hand = total.on_hand.saturating_add(level.on_hand);
            total.held = total.held.saturating_add(level.held);
            total.allocated = total.allocated.saturating_add(level.allocated);
        }
        ItemView {
            sku: sku.clone(),
            options: self.options.clone(),
            available: total.available(),
            total,
            locations: self.levels.iter().map(|(at, level)| (at.clone(), *level)).collect(),
        }
    }
}
