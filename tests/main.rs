//! Tidegate from outside: the library as a host uses it, and the program as a shell runs it. One
//! binary, so that it is linked once. What a single package promises is tested beside its code.

// All of this is test code: a failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]

mod client;
mod disks;
mod events;
mod groups;
mod handlers;
mod holds;
mod http;
mod http_access;
mod http_bad_input;
mod http_effects;
mod http_ends;
mod http_events;
mod http_intake;
mod http_kills;
mod http_metrics;
mod http_parse_only;
mod http_ready;
mod http_slow;
mod http_stream;
mod http_tls;
mod http_topics;
mod http_views;
mod import;
mod inspect;
mod intake;
mod kills;
mod lifecycle;
mod odd_ends;
mod opening;
mod orders;
mod postgres_failover;
mod postgres_serve;
mod postgres_sync;
mod pressure;
mod program;
mod queue;
mod random;
mod reads;
mod replay;
mod seed;
mod shop;
mod sold_out;
mod standing;
mod supervision;
mod tidy;
mod topics;
mod topics_program;
mod traces;
mod views;
mod views_sales;
mod webhooks;
