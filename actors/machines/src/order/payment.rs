//! Payments of an order, and what they come to. It deliberately never talks to a provider.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Order, OrderState, Rereserve};
use crate::{EventId, Provider, Timestamp};

/// One payment event, as the provider told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// The provider.
    pub provider: Provider,
    /// The provider's id of the event.
    pub event_id: EventId,
    /// What happened.
    pub kind: PaymentKind,
    /// How much, in minor units.
    pub amount_minor: u64,
    /// When it was told.
    pub at: Timestamp,
}

/// What happened to a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentKind {
    /// The money is set aside.
    Authorized,
    /// The money has come in.
    Captured,
    /// An attempt failed.
    Failed,
    /// The money went back.
    Refunded,
}

/// What the payments of an order come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentStatus {
    /// Nothing has come in.
    Unpaid,
    /// Nothing has come in, but something is set aside.
    Authorized,
    /// Less than the total has come in.
    PartiallyPaid,
    /// The total has come in.
    Paid,
    /// More has come in than the shop may keep.
    RefundDue,
    /// Some has gone back, and no more is due.
    PartiallyRefunded,
    /// All that came in has gone back.
    Refunded,
}

/// What the payments of an order sum up to. Amounts are in minor units.
#[derive(Clone, Copy, Debug)]
pub struct PaymentSums {
    /// What became of the order.
    pub state: OrderState,
    /// Its total, as soon as it is known.
    pub total_minor: Option<u64>,
    /// Whether anything was ever set aside.
    pub authorized: bool,
    /// What has come in.
    pub captured_minor: u64,
    /// What has gone back.
    pub refunded_minor: u64,
    /// What must go back, of what has come in.
    pub refund_due_minor: u64,
}

impl PaymentStatus {
    /// What these sums come to.
    #[must_use]
    pub fn of(sums: &PaymentSums) -> Self {
        let PaymentSums { captured_minor: captured, refunded_minor: refunded, .. } = *sums;
        let sold = matches!(sums.state, OrderState::Confirmed | OrderState::Completed);
        if sums.refund_due_minor > 0 {
            Self::RefundDue
        } else if refunded > 0 && captured > 0 {
            if refunded >= captured { Self::Refunded } else { Self::PartiallyRefunded }
        } else if sold || (captured > 0 && sums.total_minor.is_some_and(|total| captured >= total))
        {
            Self::Paid
        } else if captured > 0 {
            Self::PartiallyPaid
        } else if sums.authorized {
            Self::Authorized
        } else {
            Self::Unpaid
        }
    }
}

impl fmt::Display for PaymentStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unpaid => "unpaid",
            Self::Authorized => "authorized",
            Self::PartiallyPaid => "partially_paid",
            Self::Paid => "paid",
            Self::RefundDue => "refund_due",
            Self::PartiallyRefunded => "partially_refunded",
            Self::Refunded => "refunded",
        })
    }
}

impl Order {
    /// What has come in and must go back, in minor units.
    #[must_use]
    pub fn refund_due_minor(&self) -> u64 {
        let mine = self.history.captured_minor.saturating_sub(self.history.refunded_minor);
        mine.saturating_sub(self.keepable_minor())
    }

    // While it is open whether the order comes about, nothing is due yet.
    fn keepable_minor(&self) -> u64 {
        match self.state {
            OrderState::Queued | OrderState::AwaitingPayment => u64::MAX,
            OrderState::Expired if self.rereserve == Rereserve::Trying => u64::MAX,
            OrderState::Confirmed | OrderState::Completed => {
                self.total_minor.saturating_sub(self.returned_minor())
            }
            OrderState::Rejected | OrderState::Cancelled | OrderState::Expired => 0,
        }
    }

    /// The value of all units that came back, in minor units.
    #[must_use]
    pub fn returned_minor(&self) -> u64 {
        self.lines.iter().map(super::OrderLine::returned_minor).sum()
    }

    /// What the payments come to.
    #[must_use]
    pub fn payment_status(&self) -> PaymentStatus {
        let authorized = |payment: &Payment| payment.kind == PaymentKind::Authorized;
        // Until it is accepted, stock has not said what lines without an amount cost.
        let accepted = self.expires_at.is_some();
        let priced = self.lines.iter().all(|line| line.amount_minor.is_some());
        PaymentStatus::of(&PaymentSums {
            state: self.state,
            total_minor: (accepted || priced).then_some(self.total_minor),
            authorized: self.history.payments.iter().any(authorized),
            captured_minor: self.history.captured_minor,
            refunded_minor: self.history.refunded_minor,
            refund_due_minor: self.refund_due_minor(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: PaymentSums = PaymentSums {
        state: OrderState::Queued,
        total_minor: None,
        authorized: false,
        captured_minor: 0,
        refunded_minor: 0,
        refund_due_minor: 0,
    };

    #[test]
    fn an_order_without_a_total_is_never_paid() {
        let captured = PaymentSums { captured_minor: 500, ..NOTHING };
        assert_eq!(PaymentStatus::of(&captured), PaymentStatus::PartiallyPaid);
        let accepted =
            PaymentSums { state: OrderState::AwaitingPayment, total_minor: Some(500), ..captured };
        assert_eq!(PaymentStatus::of(&accepted), PaymentStatus::Paid);
        let more = PaymentSums { total_minor: Some(501), ..accepted };
        assert_eq!(PaymentStatus::of(&more), PaymentStatus::PartiallyPaid);
    }

    #[test]
    fn nothing_that_came_in_is_paid_only_once_the_order_is_sold() {
        let free = PaymentSums { total_minor: Some(0), ..NOTHING };
        assert_eq!(PaymentStatus::of(&free), PaymentStatus::Unpaid);
        let authorized = PaymentSums { authorized: true, ..free };
        assert_eq!(PaymentStatus::of(&authorized), PaymentStatus::Authorized);
        let sold = PaymentSums { state: OrderState::Confirmed, ..free };
        assert_eq!(PaymentStatus::of(&sold), PaymentStatus::Paid);
    }

    #[test]
    fn what_went_back_counts_before_what_came_in() {
        let paid = PaymentSums { captured_minor: 10, total_minor: Some(10), ..NOTHING };
        let part = PaymentSums { refunded_minor: 4, ..paid };
        assert_eq!(PaymentStatus::of(&part), PaymentStatus::PartiallyRefunded);
        let all = PaymentSums { refunded_minor: 10, ..paid };
        assert_eq!(PaymentStatus::of(&all), PaymentStatus::Refunded);
        let due = PaymentSums { refund_due_minor: 1, ..part };
        assert_eq!(PaymentStatus::of(&due), PaymentStatus::RefundDue);
    }
}
