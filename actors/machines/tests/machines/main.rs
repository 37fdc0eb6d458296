//! The machines, tested from outside: single rules as one-line scenarios, all of them together in a
//! simulated network. It deliberately uses nothing that users of the crate do not have.

// The configured exception reaches test functions only, not what they call.
#![allow(clippy::unwrap_used)]

mod consumers;
mod intake;
mod network;
mod orders;
mod rules;
mod scenario;
mod simulation;
mod stock;
mod topics;
