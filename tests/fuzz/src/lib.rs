//! The targets of the fuzzers: one per decoder, each a function of any bytes that panics if the
//! decoder breaks a promise. It runs nothing itself; `main` and the test do.

#[path = "../../reliability/src/sample/mod.rs"]
#[allow(dead_code, reason = "the other tools need more of it")]
mod sample;
mod seeds;
mod targets;

pub use seeds::Seeds;
pub use targets::TARGETS;

/// A decoder under test.
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// Feeds it; panics if it breaks a promise.
    pub run: fn(&[u8]),
    /// Valid encodings to begin with.
    pub seeds: fn(&Seeds) -> Vec<Vec<u8>>,
}

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
