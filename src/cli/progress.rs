//! Progress bars: on stderr, and only if that is a terminal. They measure nothing that is reported.

use std::fmt::Write;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// A bar over `total` things, or a running count if the total is not known.
pub(super) fn bar(total: Option<u64>, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::no_length();
    let template = match total {
        Some(_) => "{msg:>20} {bar:32} {human_pos}/{human_len}  {rate}  {eta} left",
        None => "{msg:>20} {spinner} {human_pos}  {rate}",
    };
    if let Some(total) = total {
        bar.set_length(total);
    }
    if let Ok(style) = ProgressStyle::with_template(template) {
        let rate = |state: &ProgressState, out: &mut dyn Write| {
            // A bar that can't be drawn is no failure.
            let _ = write!(out, "{:.0}/s", state.per_sec());
        };
        bar.set_style(style.with_key("rate", rate));
    }
    bar.set_message(what);
    bar
}
