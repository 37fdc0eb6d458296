//! The checker must notice shops that do it wrong, each in its own way. These shops are made up; no
//! real system is tried here.

use std::sync::Mutex;

use super::*;
use crate::{
    contender::Waiting,
    work::{Mix, Skew, hashed},
};

/// How a shop in memory goes wrong.
#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    None,
    /// Reads the stock, does something else, and writes what it had read less the order: GET and
    /// SET by themselves.
    GetThenSet,
    /// A repeat is a new order.
    ForgetsKeys,
    /// A repeat is the same order, but takes stock again.
    SellsTwice,
    /// Answers one order in a hundred without taking its stock.
    Loses,
    /// Takes the stock of one order in a hundred, and keeps no order.
    KeepsNoOrder,
    /// Some two orders get the same number.
    GivesNumbersTwice,
    /// Refuses one order in a hundred though there is stock.
    RefusesTooMuch,
    /// A key that was used for another request gets that one's answer.
    IgnoresRequests,
    /// A user may have any number of units.
    IgnoresLimits,
    /// Counts a user's units before it looks whether there are any.
    CountsRefused,
}

#[derive(Default)]
struct Books {
    left: Vec<u64>,
    orders: HashMap<u64, (Order, u64)>,
    bought: HashMap<(usize, u64), u64>,
}

struct Shop {
    flaw: Flaw,
    limit: u64,
    books: Mutex<Books>,
}

impl Shop {
    fn open(flaw: Flaw, work: &Work) -> Arc<dyn Contender> {
        let books = Books { left: work.stock().to_vec(), ..Books::default() };
        Arc::new(Self { flaw, limit: work.goods().limit.into(), books: Mutex::new(books) })
    }

    /// The known answer to `order`, or what is left for it and what its user has.
    fn look(&self, order: &Order) -> Result<Outcome, (u64, u64)> {
        let mut books = self.books.lock().unwrap();
        let units = books.left[order.sku];
        let has = books.bought.get(&(order.sku, order.user)).copied().unwrap_or_default();
        let left = (units, has);
        match books.orders.get(&order.key).cloned() {
            _ if self.flaw == Flaw::ForgetsKeys => Err(left),
            None => Err(left),
            Some((known, _)) if known != *order && self.flaw != Flaw::IgnoresRequests => {
                Ok(Outcome::Conflict)
            }
            Some((_, number)) => {
                if self.flaw == Flaw::SellsTwice {
                    books.left[order.sku] = units.saturating_sub(order.quantity);
                }
                Ok(Outcome::Accepted(number))
            }
        }
    }

    fn sell(&self, order: &Order, (left, has): (u64, u64)) -> Outcome {
        let mut books = self.books.lock().unwrap();
        if self.flaw != Flaw::IgnoresLimits && has + order.quantity > self.limit {
            return Outcome::LimitReached;
        }
        if self.flaw == Flaw::CountsRefused {
            books.bought.insert((order.sku, order.user), has + order.quantity);
        }
        let hundredth = order.key.is_multiple_of(100);
        if left < order.quantity || (hundredth && self.flaw == Flaw::RefusesTooMuch) {
            return Outcome::SoldOut;
        }
        let mut number = books.orders.len() as u64 + 1;
        if self.flaw == Flaw::ForgetsKeys {
            number = hashed(&books.left);
        }
        if self.flaw == Flaw::GivesNumbersTwice && hundredth {
            number = 1;
        }
        if self.flaw != Flaw::Loses || !hundredth {
            books.left[order.sku] = left - order.quantity;
            books.bought.insert((order.sku, order.user), has + order.quantity);
        }
        if self.flaw != Flaw::KeepsNoOrder || !hundredth {
            books.orders.insert(order.key, (order.clone(), number));
        }
        Outcome::Accepted(number)
    }
}

impl Contender for Shop {
    fn place<'a>(&'a self, order: &'a Order) -> Waiting<'a, Outcome> {
        Box::pin(async {
            match self.look(order) {
                Ok(known) => Ok(known),
                Err(left) => {
                    if self.flaw == Flaw::GetThenSet {
                        tokio::task::yield_now().await;
                    }
                    Ok(self.sell(order, left))
                }
            }
        })
    }

    fn left(&self, _skus: usize) -> Waiting<'_, Vec<u64>> {
        Box::pin(async { Ok(self.books.lock().unwrap().left.clone()) })
    }
}

/// What both proofs and a round of timed work find. One thread: who is first does not depend on
/// the machine.
fn found(flaw: Flaw) -> Vec<Found> {
    let mix = Mix { skew: Skew::Zipf, spread_skus: 1, repeat_percent: 5, refused_percent: 10 };
    let tries = [
        (Work::in_turn(1), (IN_TURN, 1), Race::Nothing),
        (Work::racing(1), (RACING, RACING_IN_FLIGHT), Race::LastUnits),
        (Work::ample(1, mix), (RACING, RACING_IN_FLIGHT), Race::Nothing),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let found = tries.map(|(work, load, race)| {
        let (shop, work) = (Shop::open(flaw, &work), Arc::new(work));
        runtime.block_on(examine(&shop, &work, load, race)).unwrap()
    });
    found.into()
}

fn faults(flaw: Flaw) -> String {
    let faults: Vec<String> = found(flaw).into_iter().flat_map(|found| found.faults).collect();
    faults.join("\n")
}

#[test]
fn a_shop_that_is_right_passes_and_has_the_same_hash_again() {
    assert_eq!(faults(Flaw::None), "");
    let hashes =
        || -> Vec<String> { found(Flaw::None).into_iter().map(|found| found.hash).collect() };
    assert_eq!(hashes(), hashes());
}

#[test]
fn get_and_set_by_themselves_sell_too_much_and_are_caught() {
    let faults = faults(Flaw::GetThenSet);
    assert!(faults.contains("is oversold") && faults.contains(" of at most "), "{faults}");
}

#[test]
fn every_other_flaw_is_caught_for_what_it_is() {
    for (flaw, says) in [
        (Flaw::ForgetsKeys, "was accepted as"),
        (Flaw::SellsTwice, " left of "),
        (Flaw::Loses, " left of "),
        (Flaw::KeepsNoOrder, "asked again: SoldOut"),
        (Flaw::GivesNumbersTwice, "two keys were accepted as"),
        (Flaw::RefusesTooMuch, "was refused, and"),
        (Flaw::IgnoresRequests, "not Conflict"),
        (Flaw::IgnoresLimits, " of at most "),
        (Flaw::CountsRefused, "was over the limit of a user who has"),
    ] {
        let faults = faults(flaw);
        assert!(faults.contains(says), "{says:?} is not among:\n{faults}");
    }
}
