//! What is done with a cart: its lines and its steps follow from its name alone, so whoever knows
//! the name knows what the store must hold after each step. It asks no store.

use crate::random::Random;
use tidegate::OrderState;

/// What is sold. The last two are scarce: they sell out, and come back with what is returned.
pub(crate) const SKUS: [&str; 8] = ["ale", "bun", "cup", "dip", "egg", "fig", "gem", "hat"];

/// How many of [`SKUS`], at the end, are scarce.
const SCARCE: usize = 2;

/// Units of each SKU at the beginning.
pub(crate) fn begin_units(sku: usize) -> i64 {
    if sku + SCARCE < SKUS.len() { 1_000_000_000 } else { 400 }
}

/// What a unit costs, in minor units.
pub(crate) const PRICE_MINOR: u64 = 100;

/// One request to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Adjust,
    Place,
    Pay,
    Cancel,
    Ship,
    TakeBack,
}

use Step::{Adjust, Cancel, Pay, Place, Ship, TakeBack};

/// The courses a cart may take. Some end at rest and are archived, some stay in memory, and some
/// are called back from the archive.
const COURSES: [&[Step]; 8] = [
    &[Place],
    &[Place, Pay],
    &[Place, Pay],
    &[Place, Pay, Ship],
    &[Place, Cancel],
    &[Place, Pay, Cancel],
    &[Place, Pay, Ship, TakeBack],
    &[Adjust],
];

/// What is done with one cart.
pub(crate) struct Plan {
    /// SKUs by their number, each once, with units.
    pub(crate) lines: Vec<(usize, u64)>,
    pub(crate) steps: &'static [Step],
}

/// Units of a SKU, as changes: the level that callers see, but signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Units {
    pub(crate) on_hand: i64,
    pub(crate) held: i64,
    pub(crate) allocated: i64,
}

impl Plan {
    pub(crate) fn of(name: &str) -> Self {
        let mut random = Random::of(name);
        let steps = COURSES[random.below(COURSES.len() as u64) as usize];
        let count = if steps[0] == Adjust { 1 } else { 1 + random.below(3) as usize };
        let first = random.below(SKUS.len() as u64) as usize;
        let lines = (0..count).map(|line| (first + line * 3) % SKUS.len());
        let lines = lines.map(|sku| (sku, 1 + random.below(3))).collect();
        Self { lines, steps }
    }

    pub(crate) fn total_minor(&self) -> u64 {
        self.lines.iter().map(|(_, units)| units * PRICE_MINOR).sum()
    }

    /// What the first `steps` steps do to the level of a line with `quantity` units.
    pub(crate) fn moves(&self, steps: usize, quantity: u64) -> Units {
        let (quantity, mut level) = (quantity as i64, Units::default());
        for step in &self.steps[..steps] {
            match step {
                Adjust | TakeBack => level.on_hand += quantity,
                Place => level.held += quantity,
                Pay => {
                    level.held -= quantity;
                    level.allocated += quantity;
                }
                Cancel => (level.held, level.allocated) = (0, 0),
                Ship => {
                    level.on_hand -= quantity;
                    level.allocated -= quantity;
                }
            }
        }
        level
    }

    /// How the order is after the first `steps` steps, which are at least one; `None` if this is no
    /// order.
    pub(crate) fn state(&self, steps: usize) -> Option<OrderState> {
        match self.steps[steps - 1] {
            Adjust => None,
            Place => Some(OrderState::AwaitingPayment),
            Pay => Some(OrderState::Confirmed),
            Cancel => Some(OrderState::Cancelled),
            Ship | TakeBack => Some(OrderState::Completed),
        }
    }

    /// Units of a line with `quantity` units that were shipped and that came back.
    pub(crate) fn shipped(&self, steps: usize, quantity: u64) -> (u64, u64) {
        let has = |step| if self.steps[..steps].contains(&step) { quantity } else { 0 };
        (has(Ship), has(TakeBack))
    }

    /// What was captured after the first `steps` steps.
    pub(crate) fn captured_minor(&self, steps: usize) -> u64 {
        if self.steps[..steps].contains(&Pay) { self.total_minor() } else { 0 }
    }
}
