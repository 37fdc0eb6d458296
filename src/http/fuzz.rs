//! The HTTP interface's part of the fuzzers' doors: bodies and headers, without a server and
//! without a store. No part of the interface.

use std::net::{IpAddr, Ipv4Addr};

use actix_web::{FromRequest, HttpRequest, dev::Payload, test::TestRequest};
use serde::de::DeserializeOwned;

use super::{
    access::Access,
    body,
    headers::{IdempotencyKey, RespondAsync, read_cursor, tagged, write_cursor},
    wire::{acks, groups, holds, leases, orders, place, skus, topics},
};
use crate::config::{Config, Flags};

/// Every kind of body that a client can send.
pub fn body(kind: u8, bytes: &[u8]) {
    match kind % 16 {
        0 => with(bytes, |order: place::PlaceOrder| drop(order.check(256))),
        1 => with(bytes, |batch: place::PlaceOrders| {
            for order in batch.orders {
                if let Ok((_, order)) = order.0.split() {
                    drop(order.check(256));
                }
            }
        }),
        2 => with(bytes, |payment: orders::NewPayment| {
            drop(tidegate::PaymentEvent::from(payment));
        }),
        3 => with(bytes, |new: orders::NewFulfilment| drop(new.into_units())),
        4 => with(bytes, |new: orders::NewReturn| drop(new.into_units())),
        5 => with(bytes, |hold: holds::PlaceHold| drop(hold.check())),
        6 => with(bytes, |longer: holds::ExtendHold| drop(longer.ttl_ms())),
        7 => with(bytes, |patch: skus::SkuOptions| drop(patch.check())),
        8 => with(bytes, |change: skus::Movement| drop(change.of("sku".to_owned()))),
        9 => with(bytes, |message: topics::NewMessage| drop(message.payload().map(drop))),
        10 => with(bytes, |schedule: topics::PutSchedule| drop(schedule.check().map(drop))),
        11 => with(bytes, |group: groups::PutGroup| drop(group.check())),
        12 => with(bytes, |seek: groups::Seek| drop(seek.to())),
        13 => with(bytes, |wanted: leases::LeaseMessages| drop(wanted.check())),
        14 => with(bytes, |failed: leases::FailMessages| drop(failed.check())),
        _ => {
            with(bytes, |longer: leases::ExtendLeases| drop(longer.check()));
            with(bytes, |done: acks::AckMessages| drop(done.check()));
        }
    }
}

fn with<T: DeserializeOwned>(bytes: &[u8], then: impl FnOnce(T)) {
    if let Ok(read) = body::parse::<T>(bytes) {
        then(read);
    }
}

/// A value of each header that means something here.
pub fn headers(value: &[u8]) {
    let Ok(value) = actix_web::http::header::HeaderValue::from_bytes(value) else { return };
    let names =
        ["idempotency-key", "authorization", "prefer", "if-none-match", "content-type", "accept"];
    let request = names.iter().fold(TestRequest::default(), |request, name| {
        request.insert_header((*name, value.clone()))
    });
    let request = request.to_http_request();
    read::<IdempotencyKey>(&request);
    read::<RespondAsync>(&request);
    drop(tagged(&request, "v1".to_owned(), &1));
    drop(body::check_type(&request));
    let flags = Flags::default();
    if let Ok(config) = Config::load(&flags) {
        let access = Access::new(config.access, &config.rates);
        drop(access.identify(request.head(), IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
    drop(super::access::bearer(request.headers()));
}

fn read<T: FromRequest>(request: &HttpRequest) {
    drop(T::extract(request));
    let _ = T::from_request(request, &mut Payload::None);
}

/// A place in a user's list of orders.
///
/// # Panics
/// It is read, and written otherwise.
pub fn user_cursor(text: &str) {
    if let Ok(cursor) = read_cursor(text) {
        assert_eq!(write_cursor(cursor), text.to_ascii_lowercase());
    }
}
