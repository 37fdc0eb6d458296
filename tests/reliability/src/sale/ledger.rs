//! What a seller was asked to do and was told: the memory of the clients, outside the process that
//! is mistreated. It holds what the store must hold, and never looks at the store.

use std::collections::HashMap;

use anyhow::{Context, bail};
use tidegate::OrderId;

use super::plan::{Plan, SKUS, Units, begin_units};

/// One settled cart in this many is kept, to be looked at again later.
const KEPT_ONE_IN: u64 = 32;

/// What is known of a cart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cart {
    /// Steps that were asked for.
    pub(crate) asked: usize,
    /// Steps that were answered. At most one less.
    pub(crate) answered: usize,
    /// Once placed.
    pub(crate) order: Option<OrderId>,
    /// It was refused for want of stock.
    pub(crate) refused: bool,
}

impl Cart {
    /// Steps that have changed the store.
    pub(crate) fn steps(&self) -> usize {
        if self.refused { 0 } else { self.answered }
    }
}

/// All carts, and the sum of what they did.
#[derive(Clone, Default)]
pub(crate) struct Ledger {
    /// Carts whose state is not added up yet, by name.
    pub(crate) open: HashMap<String, Cart>,
    /// Some of those that were settled.
    pub(crate) kept: Vec<(String, Cart)>,
    moved: [Units; SKUS.len()],
    settled: u64,
    /// Answers noted.
    pub(crate) answers: u64,
}

/// What a line of a seller says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// A step was asked for, or answered.
    Step,
    /// The store is open.
    Ready,
    /// It begins to close.
    Closing,
    /// It has closed without an error.
    Closed,
    /// Storage has failed, as the seller was told.
    Failed(String),
    /// What must not happen.
    Wrong(String),
}

impl Ledger {
    /// Takes note of one line of a seller.
    ///
    /// # Errors
    /// It is no such line.
    pub(crate) fn note(&mut self, line: &str) -> anyhow::Result<Note> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "ready" => return Ok(Note::Ready),
            "closing" => return Ok(Note::Closing),
            "closed" => return Ok(Note::Closed),
            "failed" => return Ok(Note::Failed(rest.to_owned())),
            "wrong" => return Ok(Note::Wrong(rest.to_owned())),
            _ => {}
        }
        let parts: Vec<&str> = rest.split(' ').collect();
        match (word, parts.as_slice()) {
            ("ask", [name, step]) => {
                let cart = self.open.entry((*name).to_owned()).or_default();
                cart.asked = step.parse::<usize>().context("a step")? + 1;
            }
            ("answer", [name, step, order]) => {
                let cart = self.open.get_mut(*name).context("an answer to no question")?;
                cart.answered = step.parse::<usize>().context("a step")? + 1;
                cart.order = order.parse().ok().or(cart.order);
                self.answers += 1;
            }
            ("refused", [name]) => {
                let cart = self.open.get_mut(*name).context("an answer to no question")?;
                (cart.answered, cart.refused) = (1, true);
                self.answers += 1;
            }
            _ => bail!("a seller said {line:?}"),
        }
        Ok(Note::Step)
    }

    /// How many carts there were.
    pub(crate) fn carts(&self) -> u64 {
        self.settled + self.open.len() as u64
    }

    /// What the store must have of each SKU, if every cart is as far as its answers say.
    pub(crate) fn levels(&self) -> [Units; SKUS.len()] {
        let mut levels = self.moved;
        for (sku, level) in levels.iter_mut().enumerate() {
            level.on_hand += begin_units(sku);
        }
        for (name, cart) in &self.open {
            add(&mut levels, &Plan::of(name), cart.steps());
        }
        levels
    }

    /// Adds up what was checked, and keeps a few of the carts.
    pub(crate) fn settle(&mut self) {
        for (name, cart) in self.open.drain() {
            add(&mut self.moved, &Plan::of(&name), cart.steps());
            self.settled += 1;
            if self.settled.is_multiple_of(KEPT_ONE_IN) {
                self.kept.push((name, cart));
            }
        }
    }
}

fn add(levels: &mut [Units], plan: &Plan, steps: usize) {
    for (sku, quantity) in &plan.lines {
        let moves = plan.moves(steps, *quantity);
        let level = &mut levels[*sku];
        level.on_hand += moves.on_hand;
        level.held += moves.held;
        level.allocated += moves.allocated;
    }
}
