//! The command line's part of the fuzzers' doors: the files that it reads. No part of the
//! interface.

use std::{io::Cursor, path::Path};

use super::{import::fuzz_file, trace::Trace};

/// A trace, plain.
pub fn trace(bytes: &[u8]) {
    let bytes = Box::new(Cursor::new(bytes.to_vec()));
    let Ok(trace) = Trace::read(Path::new("fuzz.csv"), bytes) else { return };
    // The first error is the last thing that is read.
    for order in trace.map_while(Result::ok) {
        assert!(order.lines.iter().all(|line| line.quantity > 0));
    }
}

/// A stock file, plain.
pub fn stock_file(bytes: &[u8]) {
    fuzz_file(bytes);
}
