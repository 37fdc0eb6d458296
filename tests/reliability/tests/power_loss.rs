//! The short form of `power-loss`: some hundred images, and that two omitted syncs are found. It
//! needs strace; `.ci/run` installs it, and elsewhere a line says that it was skipped.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output, Stdio};

fn strace() -> bool {
    let mut version = Command::new("strace");
    version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    let there = version.status().is_ok_and(|status| status.success());
    let required = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(there || !required, "strace must be installed where CI=true");
    if !there {
        println!("skipped: there is no strace here");
    }
    there
}

/// Runs the tool; the seed is in what it prints.
fn power_loss(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-reliability"));
    command.arg("power-loss").args(arguments).env("RUST_LOG", "off");
    if let Ok(seed) = std::env::var("TIDEGATE_SEED") {
        command.args(["--seed", &seed]);
    }
    let ran = command.output().unwrap();
    println!("{}", String::from_utf8_lossy(&ran.stdout));
    ran
}

#[test]
fn a_store_cut_off_from_power_opens_with_all_that_was_acknowledged() {
    if !strace() {
        return;
    }
    let ran = power_loss(&["--scenario", "start", "--images", "200"]);
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(text.contains("200 images opened"), "{text}");
    assert!(text.contains(" 0 images broken"), "{text}");
}

#[test]
fn without_the_sync_of_the_journal_or_of_the_state_images_break() {
    if !strace() {
        return;
    }
    for part in ["journal", "state"] {
        let ran = power_loss(&["--scenario", "start", "--images", "60", "--without-sync", part]);
        let text = String::from_utf8_lossy(&ran.stdout);
        assert_eq!(ran.status.code(), Some(1), "{part}: {text}");
        assert!(text.contains("60 images opened"), "{part}: {text}");
        assert!(!text.contains(" 0 images broken"), "{part}: {text}");
    }
}
