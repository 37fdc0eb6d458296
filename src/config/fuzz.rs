//! The configuration's part of the fuzzers' doors: a file, a network, a role. No part of the
//! interface.

use super::{Config, Flags};

/// A configuration file.
pub fn config(text: &str) {
    let none: [(std::ffi::OsString, std::ffi::OsString); 0] = [];
    let _ = Config::from_parts(Some(("fuzz.toml", text)), none, &Flags::default());
}

/// Lists of networks and keys, as a file has them.
pub fn access(list: &str) {
    let list: Vec<_> = list.split(',').map(|item| format!("{item:?}")).collect();
    config(&format!("[access]\nallow = [{0}]\ndeny = [{0}]\n", list.join(",")));
}

/// The configuration that comes with the program, as a seed.
#[must_use]
pub fn config_defaults() -> &'static str {
    super::DEFAULTS
}
