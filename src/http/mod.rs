//! The HTTP interface: the store for any language. It uses the library as any host would and keeps
//! no state of its own but counters; `problem` and `refusals` say what can go wrong, `app` what
//! there is.

mod access;
mod app;
mod body;
mod caller;
mod connections;
mod figures;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod groups;
mod guard;
mod headers;
mod openapi;
mod position;
mod problem;
mod refusals;
mod routes;
mod server;
mod service;
mod subscription;
mod tls;
mod wire;

pub(crate) use server::Server;
pub(crate) use tls::check as check_tls;
