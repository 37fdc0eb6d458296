//! Which stock an event touches, so that the shell can tell fronts what is sold out. It
//! deliberately does not say what is left: the shell asks after the event is applied.

use std::slice;

use super::{OpAction, Stock, StockEvent, StockLine};
use crate::{HoldId, Location, Sku};

/// What an event may do to the units that can be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touch {
    /// They can only become fewer.
    Lowers,
    /// They may become more.
    Raises,
}

/// Told of each place that an event touches: the SKU, the location (`None` for every location of
/// the SKU), and in which direction.
pub type Touched<'a> = dyn FnMut(&Sku, Option<&Location>, Touch) + 'a;

impl Stock {
    /// Tells `tell` of the places where `event` changes what can be reserved. Asked **before** the
    /// event is applied it knows all; afterwards not those that a release frees, since applying it
    /// forgets what the order held.
    pub fn touched(&self, event: &StockEvent, tell: &mut Touched<'_>) {
        match event {
            StockEvent::Defined { sku, .. } => tell(sku, None, Touch::Raises),
            StockEvent::Adjusted { sku, location, delta, .. } => {
                let touch = if *delta < 0 { Touch::Lowers } else { Touch::Raises };
                tell(sku, Some(location), touch);
            }
            StockEvent::HoldPlaced { line, .. } => all(slice::from_ref(line), Touch::Lowers, tell),
            StockEvent::HoldReleased { hold, .. } => self.freed(&[*hold], tell),
            StockEvent::Ticked { expired, .. } => self.freed(expired, tell),
            StockEvent::OpApplied { op, .. } => match &op.action {
                OpAction::Reserve { lines, .. } => all(lines, Touch::Lowers, tell),
                OpAction::Release => {
                    if let Some(hold) = self.order_holds.get(op.order) {
                        all(&hold.lines, Touch::Raises, tell);
                    }
                }
                OpAction::Deallocate { lines, .. }
                | OpAction::Return { lines, restock: true, .. } => all(lines, Touch::Raises, tell),
                // A ship takes a unit from on_hand and from allocated: the difference stays.
                OpAction::Allocate | OpAction::Ship { .. } | OpAction::Return { .. } => {}
            },
            StockEvent::HoldExtended { .. }
            | StockEvent::HoldConfirmed { .. }
            | StockEvent::HoldShipped { .. }
            | StockEvent::OpRefused { .. } => {}
        }
    }

    fn freed(&self, holds: &[HoldId], tell: &mut Touched<'_>) {
        for hold in holds.iter().filter_map(|hold| self.holds.get(*hold)) {
            all(slice::from_ref(&hold.line), Touch::Raises, tell);
        }
    }
}

fn all(lines: &[StockLine], touch: Touch, tell: &mut Touched<'_>) {
    lines.iter().for_each(|line| tell(&line.sku, Some(&line.location), touch));
}
