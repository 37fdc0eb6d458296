//! A plain picture (SVG) of orders a second: a bar for each contender, in groups of the same skew
//! and callers. The scale is logarithmic, so that a small bar is seen; each has its figure.

use std::fmt::Write;

use crate::{
    row::{Results, Row},
    table::grouped,
};

const BAR_HEIGHT: f64 = 16.0;
const GROUP_GAP: f64 = 34.0;
const NAMES_WIDTH: f64 = 150.0;
const BARS_WIDTH: f64 = 480.0;
const FIGURES_WIDTH: f64 = 90.0;
const MARGIN: f64 = 12.0;
const OURS: &str = "#1f6f8b";
const THEIRS: &str = "#a9b7bd";
const NOT_DURABLE: &str = "#e0b354";

/// The picture of all rows of orders; none if there are none.
pub(crate) fn svg(results: &Results) -> Option<String> {
    let rows: Vec<&Row> = results.rows.iter().filter(|row| row.bench == "orders").collect();
    let groups: Vec<&[&Row]> = rows
        .chunk_by(|one, next| (&one.skew, one.in_flight) == (&next.skew, next.in_flight))
        .collect();
    let most = rows.iter().map(|row| row.good_per_second).max_by(f64::total_cmp)?;
    let decades = most.max(10.0).log10().ceil();
    let height = 2.0 * MARGIN + 28.0 + rows.len() as f64 * BAR_HEIGHT;
    let height = height + groups.len() as f64 * GROUP_GAP;
    let width = NAMES_WIDTH + BARS_WIDTH + FIGURES_WIDTH + 2.0 * MARGIN;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>"
    );
    for decade in 0..=decades as i32 {
        let x = MARGIN + NAMES_WIDTH + BARS_WIDTH * f64::from(decade) / decades;
        let (bottom, label) = (height - MARGIN - 14.0, grouped(10f64.powi(decade)));
        let _ = writeln!(
            text,
            "<line x1=\"{x:.1}\" y1=\"{MARGIN}\" x2=\"{x:.1}\" y2=\"{bottom}\" \
             stroke=\"#e4e4e4\"/>\n\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#777\">{label}</text>",
            height - MARGIN,
        );
    }
    let mut y = MARGIN + 10.0;
    let _ = writeln!(
        text,
        "<text x=\"{MARGIN}\" y=\"{y}\" fill=\"#777\">accepted orders a second; each line is ten \
         times the one before; yellow: not synced before the answer</text>"
    );
    for group in groups {
        let first = group.first()?;
        y += GROUP_GAP - 8.0;
        let _ = writeln!(
            text,
            "<text x=\"{MARGIN}\" y=\"{y:.1}\" font-weight=\"bold\">{}, {} in flight</text>",
            first.skew,
            grouped(first.in_flight as f64),
        );
        y += 8.0;
        for row in group {
            bar(&mut text, row, y, decades);
            y += BAR_HEIGHT;
        }
    }
    text.push_str("</svg>\n");
    Some(text)
}

fn bar(text: &mut String, row: &Row, y: f64, decades: f64) {
    let length = BARS_WIDTH * row.good_per_second.max(1.0).log10() / decades;
    let color = match row.who.as_str() {
        who if who.starts_with("tidegate") => OURS,
        _ if row.durability.starts_with("synced") => THEIRS,
        _ => NOT_DURABLE,
    };
    let (x, line) = (MARGIN + NAMES_WIDTH, y + BAR_HEIGHT - 5.0);
    let (who, figure) = (&row.who, grouped(row.good_per_second));
    let wrong = if row.faults.is_empty() { "" } else { " WRONG" };
    let _ = writeln!(
        text,
        "<text x=\"{:.1}\" y=\"{line:.1}\" text-anchor=\"end\">{who}</text>\n\
         <rect x=\"{x}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"{}\" fill=\"{color}\"/>\n\
         <text x=\"{:.1}\" y=\"{line:.1}\">{figure}{wrong}</text>",
        x - 6.0,
        y + 2.0,
        BAR_HEIGHT - 4.0,
        x + length + 5.0,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(who: &str, in_flight: u64, per_second: f64) -> Row {
        let mut row = Row::of("orders", who, "order");
        (row.in_flight, row.good_per_second) = (in_flight, per_second);
        row
    }

    #[test]
    fn each_contender_has_a_bar_with_its_figure() {
        assert!(svg(&Results::default()).is_none());
        let rows = vec![row("tidegate", 1, 5e3), row("a peer", 1, 50.0), row("a peer", 64, 9e4)];
        let text = svg(&Results { rows, ..Results::default() }).unwrap();
        assert!(text.contains(">5,000</text>") && text.contains(">90,000</text>"), "{text}");
        // The background and a bar for each.
        assert_eq!(text.matches("<rect").count(), 4);
        assert_eq!(text.matches(" in flight</text>").count(), 2);
    }
}
