//! The limits of what can be asked, and the one error that says which limit was passed. It
//! deliberately holds no configuration: these bounds are part of the contract and the same in
//! every store.

use std::fmt;

use thiserror::Error;

/// Most bytes of a SKU, a user or a location.
pub const NAME_BYTES_MAX: usize = 64;
/// Most bytes of a payment provider's name and of its event id.
pub const PROVIDER_BYTES_MAX: usize = 255;
/// Most bytes of a payment provider's event id.
pub const EVENT_ID_BYTES_MAX: usize = 255;
/// Most characters of the reason of a stock movement.
pub const REASON_CHARS_MAX: usize = 200;
/// Most lines of one order, before lines of the same SKU and location are summed.
pub const LINES_MAX: usize = 256;
/// Most units of one line, and of the sum of the lines of the same SKU and location.
pub const QUANTITY_MAX: u64 = 1_000_000;
/// Largest amount in minor units: the largest whole number that JSON readers keep exactly.
pub const AMOUNT_MINOR_MAX: u64 = 9_007_199_254_740_991;
/// Largest single stock movement, in units, in either direction.
pub const DELTA_UNITS_MAX: u64 = 1_000_000_000_000;
/// Most units on hand at one location.
pub const ON_HAND_UNITS_MAX: u64 = 1_000_000_000_000_000;
/// Shortest time to live of a hold, in milliseconds.
pub const HOLD_MS_MIN: u64 = 1;
/// Longest time to live of a hold, in milliseconds: 30 days.
pub const HOLD_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1_000;
/// Shortest time that an idempotency key is remembered, in milliseconds: 24 hours.
pub const IDEMPOTENCY_RETENTION_MS_MIN: u64 = 24 * 60 * 60 * 1_000;
/// Most payments, fulfilments and returns (of each) of one order.
pub const ORDER_ENTRIES_MAX: usize = 100;
/// Most lines of all fulfilments and returns of one order together, so that an order stays far
/// below what one journal record may hold.
pub const ORDER_ENTRY_LINES_MAX: usize = 1_024;
/// Most holds or orders that one passing of time expires; the rest follow at once.
pub const EXPIRIES_PER_EVENT_MAX: usize = 1_000;
/// Most queued orders that one passing of time releases; the rest follow at once.
pub const RELEASES_PER_EVENT_MAX: usize = 1_000;
/// Most orders per second that an intake can be set to release.
pub const INTAKE_ORDERS_PER_SECOND_MAX: u32 = 1_000_000;
/// Longest time that an order may wait in the queue, in milliseconds: 30 days.
pub const INTAKE_DEADLINE_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1_000;
/// How long forgettable keys are gathered before an event forgets them, in milliseconds.
pub const FORGET_EVERY_MS: u64 = 1_000;
/// Most bytes of a message's payload.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 10;
/// Most bytes of a message's key, which orders it.
pub const MESSAGE_KEY_BYTES_MAX: usize = 255;
/// Longest delay of a message, in milliseconds: 366 days.
pub const DELAY_MS_MAX: u64 = 366 * 24 * 60 * 60 * 1_000;
/// Most delayed messages of one topic shard.
pub const DELAYED_MAX: usize = 100_000;
/// Most bytes of the payloads of the delayed messages of one topic shard.
pub const DELAYED_BYTES_MAX: usize = 64 << 20;
/// Shortest time between two runs of a schedule, in milliseconds.
pub const EVERY_MS_MIN: u64 = 1_000;
/// Longest time between two runs of a schedule, in milliseconds: 366 days.
pub const EVERY_MS_MAX: u64 = DELAY_MS_MAX;
/// Most schedules of one topic shard.
pub const SCHEDULES_MAX: usize = 1_000;
/// Most delayed and periodic messages that one passing of time publishes.
pub const DUE_PER_EVENT_MAX: usize = 256;
/// Bytes of payloads after which a passing of time publishes no further message.
pub const DUE_BYTES_PER_EVENT: usize = 64 << 10;
/// Most consumer groups of one shard.
pub const GROUPS_MAX: usize = 1_000;
/// Most messages of a group between the first that is not resolved and the last that was read.
pub const WINDOW_MAX: usize = 1_024;
/// Most dead letters of one group.
pub const DEAD_LETTERS_MAX: usize = 1_000;
/// Most bytes of the payloads of the dead letters of one group.
pub const DEAD_LETTER_BYTES_MAX: usize = 16 << 20;
/// Most bytes of the cause of a failure that are kept.
pub const CAUSE_BYTES_MAX: usize = 1_024;
/// Most effects that one message's outcome commits.
pub const FOLLOW_UPS_MAX: usize = 20;
/// Most bytes of the payloads of these effects together.
pub const FOLLOW_UP_BYTES_MAX: usize = 64 << 10;

/// Most effects of a consumer shard that are committed and not carried out yet.
pub const FOLLOW_UPS_OPEN_MAX: usize = 10_000;
/// Most bytes of the payloads of these effects together.
pub const FOLLOW_UPS_OPEN_BYTES_MAX: usize = 64 << 20;
/// Most effects that are committed after one that is not carried out yet: until it is, receivers
/// remember all of them.
pub const FOLLOW_UPS_AFTER_ONE_MAX: u64 = 1_000_000;

/// A value that is outside its bounds: which field, what is allowed, what was given.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field} must be {bound}; got {given}")]
pub struct OutOfBounds {
    /// The field, as the caller named it.
    pub field: &'static str,
    /// What is allowed, in words.
    pub bound: String,
    /// What was given, cut to a readable length.
    pub given: String,
}

impl OutOfBounds {
    /// Names the field, what is allowed and what was given.
    pub fn new(field: &'static str, bound: impl fmt::Display, given: impl fmt::Display) -> Self {
        const SHOWN_CHARS_MAX: usize = 80;
        let given: String = given.to_string().chars().take(SHOWN_CHARS_MAX).collect();
        Self { field, bound: bound.to_string(), given }
    }
}

/// Checks that `value` lies in `min..=max`.
pub(crate) fn check_range(
    field: &'static str,
    value: u64,
    min: u64,
    max: u64,
) -> Result<u64, OutOfBounds> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(OutOfBounds::new(field, format_args!("{min} to {max}"), value))
}

/// Checks an amount in minor units.
pub(crate) fn check_amount(field: &'static str, amount_minor: u64) -> Result<u64, OutOfBounds> {
    check_range(field, amount_minor, 0, AMOUNT_MINOR_MAX)
}

/// Checks the time to live of a hold.
pub(crate) fn check_hold_ms(field: &'static str, ms: u64) -> Result<u64, OutOfBounds> {
    check_range(field, ms, HOLD_MS_MIN, HOLD_MS_MAX)
}

/// Checks the quantity of a line.
pub(crate) fn check_quantity(quantity: u64) -> Result<u64, OutOfBounds> {
    check_range("quantity", quantity, 1, QUANTITY_MAX)
}
