//! The short forms of the tools that kill and that fail IO: few draws, a seed that is printed, and
//! the same code as the long forms. It runs the program, as a shell would.

// All of this is test code: a failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]

use std::process::Command;

/// Runs a tool, whose output is shown if it fails; gives what it printed.
fn held(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-reliability"));
    let output = command.args(arguments).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    print!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {}", output.status);
    said
}

#[test]
fn a_sale_that_is_killed_anywhere_keeps_what_it_answered() {
    let said = held(&["kills", "--rounds", "10"]);
    assert!(said.contains("kills: held"), "{said}");
}

#[test]
fn a_publisher_and_its_consumers_that_are_killed_do_everything_once() {
    let said = held(&["messages", "--rounds", "4"]);
    assert!(said.contains("messages: held"), "{said}");
    let said = held(&["messages", "--one-bad-among", "500"]);
    assert!(said.contains("messages: held"), "{said}");
}

#[test]
fn all_that_is_killed_together_comes_to_the_same_in_postgresql() {
    let said = held(&["everything", "--rounds", "3"]);
    let skipped = said.contains("everything: skipped");
    assert!(said.contains("everything: held") || skipped, "{said}");
}

#[test]
fn a_call_that_fails_once_costs_nothing_that_was_answered() {
    let said = held(&["io-faults", "--points", "5"]);
    assert!(said.contains("io-faults: held") || said.contains("io-faults: skipped"), "{said}");
}
