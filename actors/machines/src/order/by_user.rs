//! Which orders in memory are whose. It deliberately keeps no names: the orders have them.

use std::collections::BTreeSet;
use std::fmt;

use triomphe::Arc;

use super::Order;
use crate::shared::{Paged, Parted, Secret};
use crate::{OrderId, UserId};

type InMemory = Paged<OrderId, Arc<Order>>;

/// See the module. Equal if the same orders are of the same users.
#[derive(Clone, Default)]
pub(super) struct ByUser {
    users: Parted<Listed>,
    secret: Secret,
}

/// The orders of a user: almost always one, and then they need no set of their own. With a part of
/// the hash of the name, so that the table can grow without a look at the orders.
#[derive(Clone)]
enum Listed {
    One(u32, OrderId),
    #[expect(clippy::box_collection, reason = "rare, and the others are smaller for it")]
    Many(u32, Box<BTreeSet<OrderId>>),
}

impl Listed {
    fn mark(&self) -> u32 {
        match self {
            Self::One(mark, _) | Self::Many(mark, _) => *mark,
        }
    }

    fn contains(&self, order: OrderId) -> bool {
        match self {
            Self::One(_, only) => *only == order,
            Self::Many(_, orders) => orders.contains(&order),
        }
    }

    /// Newest first.
    fn iter(&self) -> impl Iterator<Item = OrderId> {
        let (one, many) = match self {
            Self::One(_, only) => (Some(*only), None),
            Self::Many(_, orders) => (None, Some(orders)),
        };
        one.into_iter().chain(many.into_iter().flat_map(|orders| orders.iter().rev().copied()))
    }

    fn is_of(&self, mark: u32, user: &UserId, orders: &InMemory) -> bool {
        let mine = |order| orders.get(order).is_some_and(|order| order.user == *user);
        self.mark() == mark && self.iter().next().is_some_and(mine)
    }
}

// The bits of a mark, spread over those that the table looks at.
fn hash(mark: u32) -> u64 {
    u64::from(mark).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl ByUser {
    fn mark(&self, user: &UserId) -> u32 {
        self.secret.hash(user) as u32
    }

    /// The orders of `user`, newest first. All that are listed must be in `orders`.
    pub(super) fn of(&self, user: &UserId, orders: &InMemory) -> impl Iterator<Item = OrderId> {
        let mark = self.mark(user);
        let listed = self.users.get(hash(mark), |listed| listed.is_of(mark, user, orders));
        listed.into_iter().flat_map(Listed::iter)
    }

    /// Lists an order. All others that are listed must be in `orders`.
    pub(super) fn insert(&mut self, order: OrderId, user: &UserId, orders: &InMemory) {
        let mark = self.mark(user);
        let listed = self.users.get_or_insert(
            hash(mark),
            |listed| listed.is_of(mark, user, orders),
            || Listed::One(mark, order),
            |listed| hash(listed.mark()),
        );
        match listed {
            // An order that is brought back may be listed already.
            Listed::One(_, only) if *only == order => {}
            Listed::One(_, only) => {
                *listed = Listed::Many(mark, Box::new([*only, order].into()));
            }
            Listed::Many(_, orders) => drop(orders.insert(order)),
        }
    }

    pub(super) fn remove(&mut self, order: OrderId, user: &UserId) {
        let hash = hash(self.mark(user));
        let Some(listed) = self.users.get_mut(hash, |listed| listed.contains(order)) else {
            return;
        };
        let Listed::Many(mark, orders) = listed else {
            self.users.remove(hash, |listed| listed.contains(order));
            return;
        };
        orders.remove(&order);
        if let (Some(first), 1) = (orders.first(), orders.len()) {
            *listed = Listed::One(*mark, *first);
        }
    }

    // The orders of each user, in no user's name.
    fn lists(&self) -> BTreeSet<Vec<OrderId>> {
        self.users.iter().map(|listed| listed.iter().collect()).collect()
    }
}

impl PartialEq for ByUser {
    fn eq(&self, other: &Self) -> bool {
        self.lists() == other.lists()
    }
}

impl Eq for ByUser {}

impl fmt::Debug for ByUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.lists()).finish()
    }
}
