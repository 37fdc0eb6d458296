//! Progress bars: on stderr, and only if that is a terminal. They measure nothing that is reported.

use std::{fmt::Write, pin::pin, time::Duration};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use tidegate::{Builder, OpenError, OpeningProgress, OpeningStep, Tidegate};

/// How often it is looked how far an opening is. One that takes less shows nothing.
const LOOK_EVERY: Duration = Duration::from_millis(200);

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

/// Opens a store, and shows how far that is.
pub(super) async fn opening(builder: Builder) -> Result<Tidegate, OpenError> {
    let opening = builder.opening();
    let mut opened = pin!(builder.open());
    let mut bars = OpeningBars { shown: None };
    loop {
        if let Ok(opened) = tokio::time::timeout(LOOK_EVERY, &mut opened).await {
            return opened;
        }
        bars.show(opening.progress());
    }
}

/// A bar for the step that an opening is at. Gone when dropped.
struct OpeningBars {
    shown: Option<(OpeningStep, ProgressBar)>,
}

impl OpeningBars {
    fn show(&mut self, OpeningProgress { step, done, total }: OpeningProgress) {
        let Some(what) = words(step) else { return };
        if self.shown.as_ref().is_none_or(|(shown, _)| *shown != step) {
            self.clear();
        }
        let (_, bar) = self.shown.get_or_insert_with(|| (step, bar(Some(total), what)));
        bar.set_length(total);
        bar.set_position(done);
    }

    fn clear(&mut self) {
        if let Some((_, bar)) = self.shown.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for OpeningBars {
    fn drop(&mut self) {
        self.clear();
    }
}

/// What a bar says, if a step has one.
fn words(step: OpeningStep) -> Option<&'static str> {
    match step {
        OpeningStep::CheckingJournal => Some("checking the journal"),
        OpeningStep::CheckingState => Some("checking the state"),
        OpeningStep::Indexing => Some("indexing the state"),
        OpeningStep::Loading => Some("loading snapshots"),
        OpeningStep::Applying => Some("applying the journal"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_has_a_bar_for_each_step_and_none_at_its_end() {
        let mut bars = OpeningBars { shown: None };
        bars.show(OpeningProgress::default());
        assert!(bars.shown.is_none());
        let step = OpeningStep::CheckingJournal;
        bars.show(OpeningProgress { step, done: 1, total: 9 });
        let (_, first) = bars.shown.clone().unwrap();
        bars.show(OpeningProgress { step, done: 3, total: 9 });
        assert_eq!((first.position(), first.length(), first.is_finished()), (3, Some(9), false));
        bars.show(OpeningProgress { step: OpeningStep::Applying, done: 5, total: 7 });
        assert!(first.is_finished());
        let (_, second) = bars.shown.clone().unwrap();
        assert_eq!((second.position(), second.message()), (5, "applying the journal".to_owned()));
        drop(bars);
        assert!(second.is_finished());
    }
}
