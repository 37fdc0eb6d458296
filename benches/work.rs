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
    /// For as many SKUs as is said, alike.
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
}

const ZIPF_SKUS: usize = 1_000;

/// What timed orders are for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    pub(crate) skew: Skew,
    /// SKUs of [`Skew::Spread`].
    pub(crate) spread_skus: usize,
    /// Share of orders that repeat an earlier one with its key.
    pub(crate) repeat_percent: u32,
    /// Share of orders for what is sold out.
    pub(crate) refused_percent: u32,
}

impl Mix {
    /// Nothing is repeated, nothing refused.
    pub(crate) fn plain(skew: Skew, spread_skus: usize) -> Self {
        Self { skew, spread_skus, repeat_percent: 0, refused_percent: 0 }
    }

    fn skus(self) -> usize {
        match self.skew {
            Skew::Hot => 1,
            Skew::Zipf => ZIPF_SKUS,
            Skew::Spread => self.spread_skus.max(1),
        }
    }
}

/// How far back a repeated key may lie, in orders.
const REPEAT_REACH: u64 = 1_000;
const USERS: u64 = 1_000_000;

/// More than a round can sell, and more than a user can buy in one.
const UNITS_AMPLE: u64 = 1_000_000_000;
const LIMIT_AMPLE: u32 = 1_000;

/// What a shop begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goods<'a> {
    /// Units of each SKU.
    pub(crate) stock: &'a [u64],
    /// Units of a SKU that one user may have at most.
    pub(crate) limit: u32,
}

impl<'a> Goods<'a> {
    /// So much that no user meets the limit.
    pub(crate) fn ample(stock: &'a [u64]) -> Self {
        Self { stock, limit: LIMIT_AMPLE }
    }
}

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
    /// The user would have more units of this SKU than one may.
    LimitReached,
    /// The key was used for another request.
    Conflict,
}

/// A sequence of orders without an end, and the stock at its beginning.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    seed: u64,
    /// Units of each SKU. The last one is sold out from the beginning.
    stock: Vec<u64>,
    /// Units of a SKU that one user may have at most.
    limit: u32,
    users: u64,
    /// For each SKU but the last, the share of orders that are for it or one before it.
    shares: Vec<f64>,
    quantity_max: u64,
    repeat_percent: u32,
    conflict_percent: u32,
    refused_percent: u32,
}

impl Work {
    /// Timed work: units of all but one SKU without end, and a limit that nobody meets, so that
    /// each outcome is known beforehand whoever is first.
    pub(crate) fn ample(seed: u64, mix: Mix) -> Self {
        let weights = (1..=mix.skus()).map(|rank| match mix.skew {
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
            limit: LIMIT_AMPLE,
            users: USERS,
            quantity_max: 3,
            repeat_percent: mix.repeat_percent,
            conflict_percent: 0,
            refused_percent: mix.refused_percent,
        }
    }

    /// Work that sells out, of few users with a small limit, with repeats and reused keys: for one
    /// order at a time.
    pub(crate) fn in_turn(seed: u64) -> Self {
        let mix = Mix { skew: Skew::Hot, spread_skus: 1, repeat_percent: 30, refused_percent: 5 };
        Self {
            stock: vec![60, 0, 25, 40, 0],
            shares: vec![0.4, 0.5, 0.75, 1.0],
            limit: 6,
            users: 12,
            conflict_percent: 30,
            ..Self::ample(seed, mix)
        }
    }

    /// Work that sells out, for many orders at a time: single units, so that in the end as much is
    /// left whoever was first. Of the third SKU there is enough for what its users may have.
    pub(crate) fn racing(seed: u64) -> Self {
        let mix = Mix { skew: Skew::Hot, spread_skus: 1, repeat_percent: 10, refused_percent: 5 };
        Self {
            stock: vec![500, 200, 100_000, 0],
            shares: vec![0.5, 0.75, 1.0],
            limit: 30,
            users: 20,
            quantity_max: 1,
            ..Self::ample(seed, mix)
        }
    }

    /// The same without a limit, for who has none.
    pub(crate) fn unlimited(self) -> Self {
        Self { limit: u32::MAX, ..self }
    }

    pub(crate) fn stock(&self) -> &[u64] {
        &self.stock
    }

    pub(crate) fn goods(&self) -> Goods<'_> {
        Goods { stock: &self.stock, limit: self.limit }
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
        Order {
            key: n,
            user: luck.u64(..self.users),
            sku,
            quantity: luck.u64(1..=self.quantity_max),
        }
    }

    /// What the first `count` orders lead to, one after the other.
    pub(crate) fn model(&self, count: u64) -> Model {
        let mut model = Model { left: self.stock.clone(), ..Model::default() };
        let mut bought: HashMap<(usize, u64), u64> = HashMap::new();
        for n in 0..count {
            let order = self.order(n);
            let has = bought.entry((order.sku, order.user)).or_default();
            let over = *has + order.quantity > u64::from(self.limit);
            let kind = match model.accepted.get(&order.key) {
                Some(known) if *known == order => Kind::Accepted,
                Some(_) => Kind::Conflict,
                None if model.left[order.sku] < order.quantity && over => Kind::Refused,
                None if model.left[order.sku] < order.quantity => Kind::SoldOut,
                None if over => Kind::LimitReached,
                None => {
                    model.left[order.sku] -= order.quantity;
                    *has += order.quantity;
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
    LimitReached,
    /// Sold out, and over the limit: either may be said.
    Refused,
    Conflict,
}

impl Kind {
    pub(crate) fn allows(self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Accepted(_) => self == Self::Accepted,
            Outcome::SoldOut => matches!(self, Self::SoldOut | Self::Refused),
            Outcome::LimitReached => matches!(self, Self::LimitReached | Self::Refused),
            Outcome::Conflict => self == Self::Conflict,
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

    fn mix(skew: Skew, repeat_percent: u32, refused_percent: u32) -> Mix {
        Mix { skew, spread_skus: 1_000, repeat_percent, refused_percent }
    }

    #[test]
    fn the_same_seed_is_the_same_work_and_another_is_not() {
        let of = |seed| -> Vec<Order> {
            let work = Work::ample(seed, mix(Skew::Zipf, 5, 10));
            (0..500).map(|n| work.order(n)).collect()
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn a_repeat_asks_for_what_its_key_asked_for() {
        let work = Work::ample(3, mix(Skew::Spread, 30, 10));
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
            let work = Work::ample(1, mix(skew, 0, 0));
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
        for kind in [Kind::Accepted, Kind::SoldOut, Kind::LimitReached, Kind::Conflict] {
            assert!(model.kinds.iter().filter(|other| **other == kind).count() > 10, "{kind:?}");
        }
        assert!(model.left[0] < 60);
    }

    #[test]
    fn racing_work_leaves_the_same_whoever_is_first() {
        let model = Work::racing(1).model(4_000);
        assert_eq!(model.left[..2], [0, 0]);
        assert_eq!(model.left[3], 0);
        let limited = model.kinds.iter().filter(|kind| **kind == Kind::LimitReached);
        assert!(limited.count() > 100);
        assert!(model.left[2] > 0);
    }
}
