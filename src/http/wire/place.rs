//! What is asked of a new order, one or many, and what is answered. It looks up no price: what
//! stock has priced is not known here.

use serde::{Deserialize, Serialize};
use tidegate::{Location, NewOrder, Order, OutOfBounds, Receipt, Sku, UserId, bounds};
use utoipa::ToSchema;

use super::{
    held_ms,
    object::Object,
    orders::{FulfilmentState, Line, OrderBody, PaymentState, Place},
    time::Time,
    whole::{maybe, whole},
};
use crate::http::problem::{Problem, ProblemBody, ProblemType};

/// An order to be placed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewOrder)]
pub(crate) struct PlaceOrder {
    /// Who buys.
    #[schema(pattern = "^[!-~]{1,64}$")]
    user: String,
    /// What; lines of the same SKU and location are summed. All of them are held, or none.
    #[schema(value_type = Vec<NewLine>, min_items = 1, max_items = 256)]
    lines: Vec<Object<NewLine>>,
    /// How long the stock is held for payment, in seconds. Default: 900.
    #[serde(default, deserialize_with = "maybe")]
    #[schema(minimum = 1, maximum = 2592000)]
    hold_seconds: Option<u64>,
}

/// A line of an order to be placed.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewLine {
    #[schema(pattern = "^[!-~]{1,64}$")]
    sku: String,
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 1000000)]
    quantity: u64,
    /// Default: `main`.
    #[serde(default)]
    #[schema(pattern = "^[!-~]{1,64}$")]
    location: Option<String>,
    /// Unit price in minor units. Default: the price of the SKU.
    #[serde(default, deserialize_with = "maybe")]
    #[schema(minimum = 0, maximum = 9007199254740991u64)]
    price_minor: Option<u64>,
}

/// Orders to be placed, each by itself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewOrders)]
pub(crate) struct PlaceOrders {
    #[schema(value_type = Vec<KeyedOrder>, min_items = 1, max_items = 1000)]
    pub(crate) orders: Vec<Object<KeyedOrder>>,
}

/// An order of a batch.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyedOrder {
    /// What the `Idempotency-Key` header is for a single order.
    #[schema(pattern = "^[!-~]{1,255}$")]
    pub(crate) idempotency_key: String,
    #[schema(pattern = "^[!-~]{1,64}$")]
    user: String,
    #[schema(value_type = Vec<NewLine>, min_items = 1, max_items = 256)]
    lines: Vec<Object<NewLine>>,
    #[serde(default, deserialize_with = "maybe")]
    #[schema(minimum = 1, maximum = 2592000)]
    hold_seconds: Option<u64>,
}

impl KeyedOrder {
    /// Its key, checked, and the order.
    pub(crate) fn split(self) -> Result<(String, PlaceOrder), OutOfBounds> {
        let Self { idempotency_key: key, user, lines, hold_seconds } = self;
        let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
        if !visible || !(1..=255).contains(&key.len()) {
            let bound = "1 to 255 visible ASCII characters";
            return Err(OutOfBounds::new("idempotency_key", bound, format_args!("{key:?}")));
        }
        Ok((key, PlaceOrder { user, lines, hold_seconds }))
    }
}

/// What became of the orders of a batch, in its order.
#[derive(Serialize, ToSchema)]
pub(crate) struct Outcomes {
    pub(crate) outcomes: Vec<OrderOutcome>,
}

/// What became of one order of a batch.
#[derive(Serialize, ToSchema)]
pub(crate) struct OrderOutcome {
    /// What the status would have been for the order alone.
    pub(crate) status: u16,
    /// The order, if it was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) order: Option<OrderBody>,
    /// Why it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) problem: Option<ProblemBody>,
}

/// An order that was asked for, checked; it becomes the answer once there is a receipt.
pub(crate) struct Asked {
    user: UserId,
    lines: Vec<Line>,
}

impl PlaceOrder {
    /// What to ask the store, and what to answer when it has accepted.
    pub(crate) fn check(self, lines_max: usize) -> Result<(NewOrder, Asked), Problem> {
        if !(1..=lines_max).contains(&self.lines.len()) {
            let bound = format_args!("1 to {lines_max} lines");
            return Err(OutOfBounds::new("lines", bound, self.lines.len()).into());
        }
        let hold_ms = held_ms("hold_seconds", self.hold_seconds)?;
        let mut asked = Asked { user: UserId::new(&self.user)?, lines: Vec::new() };
        let mut order = NewOrder::new(self.user).hold_ms(hold_ms);
        asked.lines.reserve(self.lines.len());
        for Object(line) in self.lines {
            let amount_minor = amount(&line)?;
            asked.add(&line, amount_minor)?;
            let NewLine { sku, quantity, location, .. } = line;
            order = match amount_minor {
                Some(amount_minor) => order.line_for(sku, quantity, amount_minor),
                None => order.line(sku, quantity),
            };
            order = location.into_iter().fold(order, NewOrder::at);
        }
        asked.check_total()?;
        Ok((order, asked))
    }
}

/// What the line comes to, if it says its price.
fn amount(line: &NewLine) -> Result<Option<u64>, Problem> {
    let Some(price_minor) = line.price_minor else { return Ok(None) };
    if price_minor > bounds::AMOUNT_MINOR_MAX {
        let bound = format_args!("0 to {}", bounds::AMOUNT_MINOR_MAX);
        return Err(OutOfBounds::new("price_minor", bound, price_minor).into());
    }
    let amount_minor = price_minor.checked_mul(line.quantity);
    let amount_minor = amount_minor.filter(|amount| *amount <= bounds::AMOUNT_MINOR_MAX);
    amount_minor.map(Some).ok_or_else(|| too_large("price_minor"))
}

fn too_large(field: &'static str) -> Problem {
    let detail = format!("the amount is above {} minor units", bounds::AMOUNT_MINOR_MAX);
    Problem::new(ProblemType::AmountTooLarge, detail).field(field)
}

impl Asked {
    /// Lines of the same SKU and location are one, as they are in the order.
    fn add(&mut self, line: &NewLine, amount_minor: Option<u64>) -> Result<(), Problem> {
        let location = line.location.as_deref();
        let location = location.map_or_else(|| Ok(Location::default()), Location::new)?;
        let (sku, quantity) = (Sku::new(&line.sku)?, line.quantity);
        if !(1..=bounds::QUANTITY_MAX).contains(&quantity) {
            let bound = format_args!("1 to {}", bounds::QUANTITY_MAX);
            return Err(OutOfBounds::new("quantity", bound, quantity).into());
        }
        let same = |it: &&mut Line| it.sku == sku && it.location == location;
        if let Some(known) = self.lines.iter_mut().find(same) {
            known.quantity = known.quantity.saturating_add(quantity);
            if known.quantity > bounds::QUANTITY_MAX {
                let detail = format!("at most {} units of {sku} together", bounds::QUANTITY_MAX);
                return Err(Problem::new(ProblemType::TooManyUnits, detail).field("quantity"));
            }
            known.amount_minor =
                known.amount_minor.zip(amount_minor).map(|(one, other)| one.saturating_add(other));
        } else {
            let (shipped, returned) = (0, 0);
            self.lines.push(Line { sku, location, quantity, amount_minor, shipped, returned });
        }
        Ok(())
    }

    /// Whether what is known of the amounts can be summed.
    fn check_total(&self) -> Result<(), Problem> {
        let amounts = self.lines.iter().filter_map(|line| line.amount_minor);
        let total = amounts.fold(0_u64, u64::saturating_add);
        if total > bounds::AMOUNT_MINOR_MAX { Err(too_large("lines")) } else { Ok(()) }
    }

    /// Whether an amount is missing that no receipt tells.
    pub(crate) fn lacks_amounts(&self) -> bool {
        self.lines.len() > 1 && self.lines.iter().any(|line| line.amount_minor.is_none())
    }

    /// Takes the amounts over from the order itself; they never change.
    pub(crate) fn take_amounts(&mut self, order: &Order) {
        for line in &mut self.lines {
            let priced = order.line(&line.sku, &line.location);
            line.amount_minor = priced.and_then(|priced| priced.amount_minor);
        }
    }

    /// The answer: the same whenever it is asked for with the same key.
    pub(crate) fn answer(mut self, receipt: &Receipt) -> OrderBody {
        if let ([line], Some(_)) = (&mut *self.lines, receipt.expires_at) {
            line.amount_minor = Some(receipt.total_minor);
        }
        OrderBody {
            id: receipt.id.to_string(),
            user: self.user,
            state: receipt.state.into(),
            lines: self.lines,
            total_minor: receipt.total_minor,
            placed_at: Time(receipt.placed_at),
            changed_at: Time(receipt.placed_at),
            expires_at: receipt.expires_at.map(Time),
            payment_status: PaymentState::Unpaid,
            fulfilment_status: FulfilmentState::Unfulfilled,
            captured_minor: 0,
            refunded_minor: 0,
            refund_due_minor: 0,
            payments: Vec::new(),
            fulfilments: Vec::new(),
            returns: Vec::new(),
            rejection: None,
            queue: receipt.queue.as_deref().copied().map(Place::from),
        }
    }
}
