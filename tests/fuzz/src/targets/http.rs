//! What a client sends: bodies and headers.

use crate::Target;

/// Bodies. The first byte says which kind it is read as.
pub const BODY: Target = Target {
    name: "body",
    run: |bytes| {
        if let Some((kind, body)) = bytes.split_first() {
            tidegate::fuzz::body(*kind, body);
        }
    },
    seeds: |_| {
        let bodies = [
            r#"{"user":"u","lines":[{"sku":"a","quantity":1,"price_minor":5}],"hold_seconds":9}"#,
            r#"{"orders":[{"key":"k","user":"u","lines":[{"sku":"a","quantity":1.0}]}]}"#,
            r#"{"provider":"p","event_id":"e","kind":"captured","amount_minor":100}"#,
            r#"{"lines":[{"sku":"a","quantity":1}]}"#,
            r#"{"lines":[{"sku":"a","quantity":1,"location":"n"}],"restock":true}"#,
            r#"{"user":"u","sku":"a","quantity":2,"ttl_seconds":60}"#,
            r#"{"ttl_seconds":60}"#,
            r#"{"price_minor":100,"currency":"EUR","limit_per_user":null,"backorder_limit":3}"#,
            r#"{"delta":-5,"reason":"count","location":"n"}"#,
            r#"{"payload":{"a":[1.50,null]},"key":"k","delay_ms":5}"#,
            r#"{"payload":1,"every_ms":1000,"phase_ms":7}"#,
            r#"{"begin":"17.2","retry":{"attempts_max":3,"backoff_ms":0}}"#,
            r#"{"to":"oldest"}"#,
            r#"{"max":9,"wait_ms":30000,"lease_ms":1}"#,
            r#"{"messages":[{"id":"17","lease":"3"}],"cause":"c"}"#,
            r#"{"messages":[{"id":"17.2","lease":"3"}],"lease_ms":9}"#,
        ];
        let with_kind = |(kind, body): (u8, &str)| [&[kind], body.as_bytes()].concat();
        (0..).zip(bodies).map(with_kind).collect()
    },
};

/// A header's value.
pub const HEADERS: Target = Target {
    name: "headers",
    run: tidegate::fuzz::headers,
    seeds: |_| {
        let values = ["key-1", "Bearer abc", "respond-async, wait=5", "\"v1\", W/\"x\"", "*"];
        values.iter().chain(&["application/json; charset=utf-8"]).map(|v| (*v).into()).collect()
    },
};
