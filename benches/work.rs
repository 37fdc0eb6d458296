//! The work that every contender gets: which order is asked as the n-th, drawn from a seed, and
//! what a shop that does one order after the other would answer. It knows no contender, no clock.

use std::{collections::HashMap, hash::Hasher};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

/// How many different SKUs the orders are for, and how evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Skew {
    /// All for one SKU.
    Hot,
    /// For 1,000 SKUs, the k-th wanted 1/k as often as the first.
    Zipf,
    /// For 1,000 SKUs alike.
    Spread,
}

impl Skew {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Zipf => "zipf",
            Self::Spread => "spread",
        }
    }

    fn skus(self) -> usize {
        match self {
            Self::Hot => 1,
            Self::Zipf | Self::Spread => 1_000,
        }
    }
}

/// How far back a repeated key may lie, in orders.
const REPEAT_REACH: u64 = 1_000;
const USERS: u64 = 1_000_000;

/// More than a round can sell.
const UNITS_AMPLE: u64 = 1_000_000_000;

/// An order with one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// The number of the ask that had this idempotency key first.
    pub(crate) key: u64,
    pub(crate) user: u64,
    /// Its place in [`Work::stock`].
    pub(crate) sku: usize,
    pub(crate) quantity: u64,
}

impl Order {
    pub(crate) fn key_name(&self) -> String {
        format!("order-{}", self.key)
    }

    pub(crate) fn user_name(&self) -> String {
        format!("user-{}", self.user)
    }

    pub(crate) fn sku_name(&self) -> String {
        sku_name(self.sku)
    }
}

pub(crate) fn sku_name(sku: usize) -> String {
    format!("sku-{sku}")
}

/// What a contender may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Stock is taken, and the order has this number. The same key again gives the same number.
    Accepted(u64),
    SoldOut,
    /// The key was used for another request.
    Conflict,
}

/// A sequence of orders without an end, and the stock at its beginning.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    seed: u64,
    /// Units of each SKU. The last one is sold out from the beginning.
    stock: Vec<u64>,
    /// For each SKU but the last, the share of orders that are for it or one before it.
    shares: Vec<f64>,
    quantity_max: u64,
    repeat_percent: u32,
    conflict_percent: u32,
    refused_percent: u32,
}

impl Work {
    /// Timed work: units of all but one SKU without end, so that each outcome is known beforehand
    /// whoever is first.
    pub(crate) fn ample(seed: u64, skew: Skew, repeat: u32, refused: u32) -> Self {
        let weights = (1..=skew.skus()).map(|rank| match skew {
            Skew::Zipf => 1.0 / rank as f64,
            Skew::Hot | Skew::Spread => 1.0,
        });
        let weights: Vec<f64> = weights.collect();
        let total: f64 = weights.iter().sum();
        let mut so_far = 0.0;
        let shares = weights.iter().map(|weight| {
            so_far += weight / total;
            so_far
        });
        let mut stock = vec![UNITS_AMPLE; weights.len()];
        stock.push(0);
        Self {
            seed,
            shares: shares.collect(),
            stock,
            quantity_max: 3,
            repeat_percent: repeat,
            conflict_percent: 0,
            refused_percent: refused,
        }
    }

    /// Work that sells out, with repeats and reused keys: for one order at a time.
    pub(crate) fn in_turn(seed: u64) -> Self {
        let stock = vec![60, 0, 25, 40, 0];
        let shares = vec![0.4, 0.5, 0.75, 1.0];
        Self { stock, shares, conflict_percent: 30, ..Self::ample(seed, Skew::Hot, 30, 5) }
    }

    /// Work that sells out, for many orders at a time: single units, so that in the end as much is
    /// left whoever was first.
    pub(crate) fn racing(seed: u64) -> Self {
        let stock = vec![500, 200, 100_000, 0];
        let shares = vec![0.5, 0.75, 1.0];
        Self { stock, shares, quantity_max: 1, ..Self::ample(seed, Skew::Hot, 10, 5) }
    }

    pub(crate) fn stock(&self) -> &[u64] {
        &self.stock
    }

    /// The n-th order that is asked for.
    pub(crate) fn order(&self, n: u64) -> Order {
        let mut luck = fastrand::Rng::with_seed(hashed(&[self.seed, n]));
        if n > 0 && luck.u32(..100) < self.repeat_percent {
            let mut known = self.order(n - 1 - luck.u64(..n.min(REPEAT_REACH)));
            if luck.u32(..100) < self.conflict_percent {
                known.quantity += 1;
            }
            return known;
        }
        let sku = if luck.u32(..100) < self.refused_percent {
            self.stock.len() - 1
        } else {
            let drawn = luck.f64();
            self.shares.partition_point(|share| *share <= drawn).min(self.shares.len() - 1)
        };
        Order { key: n, user: luck.u64(..USERS), sku, quantity: luck.u64(1..=self.quantity_max) }
    }

    /// What the first `count` orders lead to, one after the other.
    pub(crate) fn model(&self, count: u64) -> Model {
        let mut model = Model { left: self.stock.clone(), ..Model::default() };
        for n in 0..count {
            let order = self.order(n);
            let kind = match model.accepted.get(&order.key) {
                Some(known) if *known == order => Kind::Accepted,
                Some(_) => Kind::Conflict,
                None if model.left[order.sku] < order.quantity => Kind::SoldOut,
                None => {
                    model.left[order.sku] -= order.quantity;
                    model.accepted.insert(order.key, order);
                    Kind::Accepted
                }
            };
            model.kinds.push(kind);
        }
        model
    }
}

/// An outcome without the number that a contender has chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Accepted,
    SoldOut,
    Conflict,
}

impl Outcome {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Accepted(_) => Kind::Accepted,
            Self::SoldOut => Kind::SoldOut,
            Self::Conflict => Kind::Conflict,
        }
    }
}

/// A shop that does one order after the other.
#[derive(Default)]
pub(crate) struct Model {
    /// The outcome of each ask.
    pub(crate) kinds: Vec<Kind>,
    /// The accepted orders by their keys.
    pub(crate) accepted: HashMap<u64, Order>,
    /// Units left of each SKU.
    pub(crate) left: Vec<u64>,
}

/// The hash that stands for a result: what is left, and the orders that were accepted.
pub(crate) fn result_hash<'a>(
    left: &[u64],
    accepted: impl IntoIterator<Item = &'a Order>,
) -> String {
    let mut orders: Vec<&Order> = accepted.into_iter().collect();
    orders.sort_by_key(|order| order.key);
    let numbers = orders.iter().flat_map(|o| [o.key, o.user, o.sku as u64, o.quantity]);
    let all: Vec<u64> = left.iter().copied().chain(numbers).collect();
    format!("{:016x}", hashed(&all))
}

pub(crate) fn hashed(numbers: &[u64]) -> u64 {
    let mut hasher = SipHasher13::new();
    numbers.iter().for_each(|number| hasher.write_u64(*number));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_work_and_another_is_not() {
        let of = |seed| -> Vec<Order> {
            let work = Work::ample(seed, Skew::Zipf, 5, 10);
            (0..500).map(|n| work.order(n)).collect()
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn a_repeat_asks_for_what_its_key_asked_for() {
        let work = Work::ample(3, Skew::Spread, 30, 10);
        let orders: Vec<Order> = (0..2_000).map(|n| work.order(n)).collect();
        let repeats = (0..).zip(&orders).filter(|(n, order)| order.key != *n);
        for (n, order) in repeats.clone() {
            assert!(order.key < n);
            assert_eq!(*order, orders[order.key as usize]);
        }
        assert!((400..800).contains(&repeats.count()));
    }

    #[test]
    fn a_skew_is_as_even_as_it_says() {
        let counts = |skew| {
            let work = Work::ample(1, skew, 0, 0);
            let mut counts = vec![0u64; work.stock().len()];
            (0..20_000).for_each(|n| counts[work.order(n).sku] += 1);
            counts
        };
        assert_eq!(counts(Skew::Hot), [20_000, 0]);
        let spread = counts(Skew::Spread);
        assert!(spread[..1_000].iter().all(|count| (1..60).contains(count)));
        // The first of 1,000 has 1/7.49 of all.
        assert!((2_300..3_000).contains(&counts(Skew::Zipf)[0]));
    }

    #[test]
    fn work_in_turn_has_every_outcome() {
        let model = Work::in_turn(1).model(300);
        for kind in [Kind::Accepted, Kind::SoldOut, Kind::Conflict] {
            assert!(model.kinds.iter().filter(|other| **other == kind).count() > 10, "{kind:?}");
        }
        assert!(model.left[0] < 60);
    }

    #[test]
    fn racing_work_leaves_the_same_whoever_is_first() {
        let model = Work::racing(1).model(4_000);
        assert_eq!(model.left[..2], [0, 0]);
        assert_eq!(model.left[3], 0);
    }
}
