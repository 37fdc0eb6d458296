//! Names and numbers as text, and places in lists.

use std::{fmt::Display, str::FromStr};

use tidegate::{
    Currency, Cursor, EventId, EventKind, HoldId, Location, OrderId, Provider, Sku, UserId,
};

use crate::Target;

/// Every name and number that a caller may say.
pub const IDS: Target = Target {
    name: "ids",
    run: |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        number::<OrderId>(text);
        number::<HoldId>(text);
        name::<Sku>(text);
        name::<UserId>(text);
        name::<Location>(text);
        name::<Provider>(text);
        name::<EventId>(text);
        let _ = Currency::new(text);
        name::<EventKind>(text);
    },
    seeds: |seeds| {
        let answers = seeds.answers.lines().filter_map(|line| line.strip_prefix("order "));
        let ids = answers.filter_map(|line| line.split('\t').next()).take(3);
        ids.chain(["mug", "EUR", "main", "order.placed"]).map(|id| id.into()).collect()
    },
};

/// A place in the events.
pub const EVENT_CURSOR: Target = Target {
    name: "event-cursor",
    run: |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        if let Ok(cursor) = text.parse::<Cursor>() {
            assert_eq!(cursor.to_string().parse::<Cursor>().ok(), Some(cursor));
        }
    },
    seeds: |_| ["0", "17", "17.2", "18446744073709551615.9"].map(Vec::from).to_vec(),
};

/// A place in a user's orders.
pub const USER_CURSOR: Target = Target {
    name: "user-cursor",
    run: |bytes| {
        if let Ok(text) = std::str::from_utf8(bytes) {
            tidegate::fuzz::user_cursor(text);
        }
    },
    seeds: |_| vec![b"1000001944a4b0f800000000000000007".to_vec()],
};

fn name<T: FromStr + Display>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        assert_eq!(read.to_string(), text);
    }
}

/// Numbers may be written in more than one way.
fn number<T: FromStr + Display + PartialEq>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        assert!(read.to_string().parse::<T>().is_ok_and(|again| again == read));
    }
}
