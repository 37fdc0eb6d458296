//! Which stock an event touches, so that the shell can tell fronts what is sold out. It
//! deliberately does not say what is left: the shell asks after the event is applied.

use super::{OpAction, Stock, StockEvent, StockLine};
use crate::{Location, Sku};

/// What an event may do to the units that can be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touch {
    /// They can only become fewer.
    Lowers,
    /// They may become more.
    Raises,
}

/// A place that an event touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// The SKU.
    pub sku: Sku,
    /// Where; `None` for every location of the SKU.
    pub location: Option<Location>,
    /// In which direction.
    pub touch: Touch,
}

impl Stock {
    /// The places where `event` changes what can be reserved. To be asked **before** the event is
    /// applied: a release names its order, and applying it forgets what the order held.
    #[must_use]
    pub fn touched(&self, event: &StockEvent) -> Vec<Touched> {
        match event {
            StockEvent::Defined { sku, .. } => {
                vec![Touched { sku: sku.clone(), location: None, touch: Touch::Raises }]
            }
            StockEvent::Adjusted { sku, location, delta, .. } => {
                let touch = if *delta < 0 { Touch::Lowers } else { Touch::Raises };
                let location = Some(location.clone());
                vec![Touched { sku: sku.clone(), location, touch }]
            }
            StockEvent::HoldPlaced { line, .. } => vec![touched(line, Touch::Lowers)],
            StockEvent::HoldReleased { hold, .. } => self.freed(std::slice::from_ref(hold)),
            StockEvent::Ticked { expired, .. } => self.freed(expired),
            StockEvent::OpApplied { op, .. } => match &op.action {
                OpAction::Reserve { lines, .. } => all(lines, Touch::Lowers),
                OpAction::Release => {
                    let hold = self.order_holds.get(&op.order);
                    hold.map(|hold| all(&hold.lines, Touch::Raises)).unwrap_or_default()
                }
                OpAction::Deallocate { lines, .. }
                | OpAction::Return { lines, restock: true, .. } => all(lines, Touch::Raises),
                // A ship takes a unit from on_hand and from allocated: the difference stays.
                OpAction::Allocate | OpAction::Ship { .. } | OpAction::Return { .. } => Vec::new(),
            },
            StockEvent::HoldExtended { .. }
            | StockEvent::HoldConfirmed { .. }
            | StockEvent::HoldShipped { .. }
            | StockEvent::OpRefused { .. } => Vec::new(),
        }
    }

    fn freed(&self, holds: &[crate::HoldId]) -> Vec<Touched> {
        let known = holds.iter().filter_map(|hold| self.holds.get(hold));
        known.map(|hold| touched(&hold.line, Touch::Raises)).collect()
    }
}

fn touched(line: &StockLine, touch: Touch) -> Touched {
    Touched { sku: line.sku.clone(), location: Some(line.location.clone()), touch }
}

fn all(lines: &[StockLine], touch: Touch) -> Vec<Touched> {
    lines.iter().map(|line| touched(line, touch)).collect()
}
