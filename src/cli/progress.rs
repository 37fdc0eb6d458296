//! Progress bars: on stderr, and only if that is a terminal. They measure nothing that is reported.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `total` things, or a running count if the total is not known.
pub(super) fn bar(total: Option<u64>, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::no_length();
    let template = match total {
        Some(_) => "{msg:>20} {bar:32} {human_pos}/{human_len}  {per_sec}  {eta} left",
        None => "{msg:>20} {spinner} {human_pos}  {per_sec}",
    };
    if let Some(total) = total {
        bar.set_length(total);
    }
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}
