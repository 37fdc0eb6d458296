//! The `tidegate` program, run as a shell would run it: arguments in, exit code and both outputs
//! out. It doesn't look into a store.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use crate::seed;

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program, not started yet, with logs as a user has them who asks for none.
pub(crate) fn tidegate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    // What is for the tests would be refused as an unknown setting.
    command.env_remove("RUST_LOG").env_remove(seed::VARIABLE).env_remove("TIDEGATE_ROUNDS");
    command
}

/// Runs the program to its end.
pub(crate) fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ran {
    Ran::of(&tidegate().args(arguments).output().expect("the program starts"))
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8 output");
        Self {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// The one JSON object on stdout, which has nothing else.
    pub(crate) fn json(&self) -> Value {
        let value: Value = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is no JSON ({error}): {self:?}"));
        assert!(value.is_object(), "{value}");
        value
    }

    /// That it failed as failing checks do, with `parts` in its message and nothing on stdout.
    pub(crate) fn assert_failed(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert_eq!(self.stdout, "", "a failed run must print no result");
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is missing in: {}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }
}

/// `tidegate replay TRACE --data DATA --json …`, which must succeed and be quiet on stderr.
pub(crate) fn replay(trace: &Path, data: &Path, more: &[&str]) -> Value {
    let fixed = [trace.as_os_str(), "--data".as_ref(), data.as_os_str(), "--json".as_ref()];
    let arguments = ["replay".as_ref()].into_iter().chain(fixed);
    let ran = run(arguments.chain(more.iter().map(OsStr::new)));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stderr, "", "no terminal, so no progress bar; no trouble, so no log");
    ran.json()
}

/// `tidegate audit --data DATA --json`, which must find nothing wrong.
pub(crate) fn audit(data: &Path) -> Value {
    let ran = run(["audit".as_ref(), "--data".as_ref(), data.as_os_str(), "--json".as_ref()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let report = ran.json();
    assert_eq!(report["ok"], true, "{report}");
    report
}

/// A count in a report.
pub(crate) fn count(report: &Value, field: &str) -> u64 {
    report[field].as_u64().unwrap_or_else(|| panic!("{field} of {report}"))
}
