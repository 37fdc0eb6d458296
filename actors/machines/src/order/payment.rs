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
        let mine = self.captured_minor.saturating_sub(self.refunded_minor);
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
        let sold = matches!(self.state, OrderState::Confirmed | OrderState::Completed);
        if self.refund_due_minor() > 0 {
            return PaymentStatus::RefundDue;
        }
        if self.refunded_minor > 0 && self.captured_minor > 0 {
            let all = self.refunded_minor >= self.captured_minor;
            return if all { PaymentStatus::Refunded } else { PaymentStatus::PartiallyRefunded };
        }
        if sold || (self.captured_minor > 0 && self.captured_minor >= self.total_minor) {
            return PaymentStatus::Paid;
        }
        if self.captured_minor > 0 {
            return PaymentStatus::PartiallyPaid;
        }
        if self.payments.iter().any(|payment| payment.kind == PaymentKind::Authorized) {
            return PaymentStatus::Authorized;
        }
        PaymentStatus::Unpaid
    }
}
