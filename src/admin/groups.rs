//! Figures of consumer groups, for Prometheus: how far behind each is, and what it could not
//! handle. Labels are bounded here; how far a group is, is asked elsewhere.

use std::fmt::Display;

use super::page::Page;
use crate::{GroupFigures, GroupId, GroupSummary};

/// Groups that are told one by one; the others are only counted.
const TOLD_MAX: usize = 256;

/// A group as it stands; with figures if the process has it open.
pub type Standing = (GroupId, GroupSummary, Option<GroupFigures>);

/// A figure that a group may not have.
type Figure = fn(&Standing) -> Option<u64>;

/// Writes the figures of `groups`, which are in the order of their names.
pub fn write(page: &mut Page, groups: &[Standing]) {
    page.gauge("tidegate_groups", "Consumer groups that there are.", groups.len());
    let told = &groups[..groups.len().min(TOLD_MAX)];
    let help = "Consumer groups that are not told one by one, because there are too many.";
    page.gauge("tidegate_groups_untold", help, groups.len() - told.len());
    let mut family = |name: &str, kind: &str, help: &str, figure: Figure| {
        page.head(name, kind, help);
        for group in told {
            if let Some(value) = figure(group) {
                let labels: [(_, &dyn Display); 2] =
                    [("topic", &group.0.topic), ("group", &group.0.group)];
                page.sample(name, &labels, value);
            }
        }
    };
    for (name, help, figure) in [
        (
            "tidegate_group_open",
            "1 if the server has the group open; only then its lag is told.",
            (|(_, _, open)| Some(u64::from(open.is_some()))) as Figure,
        ),
        (
            "tidegate_group_lag_messages",
            "Messages published and neither done nor dead; no more than a group reads ahead.",
            |(_, _, open)| open.as_ref().map(|open| open.open as u64),
        ),
        ("tidegate_group_leased_messages", "Messages that a consumer has.", |(_, _, open)| {
            open.as_ref().map(|open| open.leased as u64)
        }),
        ("tidegate_group_paused", "1 if nothing is handed out.", |(_, summary, _)| {
            Some(u64::from(summary.paused))
        }),
        (
            "tidegate_group_dead_letters",
            "Messages given up, until they are replayed or discarded; each needs an operator.",
            |(_, summary, _)| Some(summary.dead as u64),
        ),
    ] {
        family(name, "gauge", help, figure);
    }
    let help = "How long ago the oldest message was published that is neither done nor dead; 0 if \
                there is none.";
    // Seconds are told as whole ones: what is late by less concerns nobody.
    family("tidegate_group_lag_seconds", "gauge", help, |(_, _, open)| {
        open.as_ref().map(|open| open.oldest_age_ms.unwrap_or(0) / 1_000)
    });
    family("tidegate_group_done_total", "counter", "Messages done.", |(_, summary, _)| {
        Some(summary.done)
    });
    let help = "Attempts after the first of a message, since the group was opened.";
    family("tidegate_group_retries_total", "counter", help, |(_, _, open)| {
        open.as_ref().map(|open| open.retries)
    });
    let help =
        "How often messages were gone before they were consumed, since the group was opened.";
    family("tidegate_group_trimmed_total", "counter", help, |(_, _, open)| {
        open.as_ref().map(|open| open.trimmed)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MessageId, Retry};

    fn standing(group: &str, open: bool) -> Standing {
        let of = GroupId { topic: "t\"".parse().unwrap(), group: group.parse().unwrap() };
        let cursor = MessageId::after(7);
        let summary = GroupSummary { cursor, pending: 3, dead: 2, done: 9, paused: true };
        let figures = GroupFigures {
            open: 3,
            reads_on: true,
            oldest_at: None,
            oldest_age_ms: Some(4_999),
            leased: 1,
            retries: 5,
            trimmed: 0,
            retry: Retry::default(),
        };
        (of, summary, open.then_some(figures))
    }

    #[test]
    fn groups_are_told_up_to_a_bound_and_lag_only_of_open_ones() {
        let mut groups = vec![standing("a", true), standing("b", false)];
        groups.extend((0..TOLD_MAX).map(|number| standing(&format!("c{number:04}"), false)));
        let mut page = Page::new();
        write(&mut page, &groups);
        let text = page.into_text();
        for line in [
            "tidegate_groups 258",
            "tidegate_groups_untold 2",
            r#"tidegate_group_open{topic="t\"",group="a"} 1"#,
            r#"tidegate_group_open{topic="t\"",group="b"} 0"#,
            r#"tidegate_group_lag_messages{topic="t\"",group="a"} 3"#,
            r#"tidegate_group_lag_seconds{topic="t\"",group="a"} 4"#,
            r#"tidegate_group_leased_messages{topic="t\"",group="a"} 1"#,
            r#"tidegate_group_retries_total{topic="t\"",group="a"} 5"#,
            r#"tidegate_group_dead_letters{topic="t\"",group="b"} 2"#,
            r#"tidegate_group_paused{topic="t\"",group="b"} 1"#,
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is missing in {text}");
        }
        assert!(!text.contains(r#"tidegate_group_lag_messages{topic="t\"",group="b"}"#));
        assert!(text.contains("c0253") && !text.contains("c0254"), "{text}");
    }
}
