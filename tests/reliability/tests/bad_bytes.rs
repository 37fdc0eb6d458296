//! `bad-bytes` in short: a small store, and a few damages drawn from a seed. The long form is
//! the program itself.

use std::process::Command;

#[test]
fn a_damaged_store_is_refused_or_as_it_was() {
    let seed = std::env::var("TIDEGATE_SEED").unwrap_or_else(|_| "7".to_owned());
    let program = Command::new(env!("CARGO_BIN_EXE_tidegate-reliability"))
        .args(["bad-bytes", "--orders", "120", "--copies", "24", "--seed", &seed])
        .output()
        .expect("the program starts");
    let told = String::from_utf8_lossy(&program.stdout).into_owned();
    println!("TIDEGATE_SEED={seed}\n{told}");
    assert!(program.status.success(), "{told}{}", String::from_utf8_lossy(&program.stderr));
    assert!(told.contains("refused, Damaged"), "nothing was noticed: {told}");
}
