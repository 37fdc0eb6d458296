//! The fuzzer proper: libFuzzer on the target that `TIDEGATE_FUZZ_TARGET` names. `run` beside this
//! package builds and starts it; it knows no decoder.
#![no_main]

use std::{alloc::System, sync::OnceLock};

use cap::Cap;
use libfuzzer_sys::fuzz_target;
use tidegate_fuzz::{Target, target};

/// Far above what any decoder needs: a damaged length that asks for more is found.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, 128 << 20);

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fuzz_target!(|bytes: &[u8]| {
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("TIDEGATE_FUZZ_TARGET").unwrap_or_default();
        target(&name).unwrap_or_else(|| panic!("TIDEGATE_FUZZ_TARGET: there is no {name:?}"))
    });
    (target.run)(bytes);
});
