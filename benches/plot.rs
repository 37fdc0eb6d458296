//! A plain picture (SVG) of what is done a second: orders, a bar for each contender, in groups of
//! the same skew and callers, and then what has no peers. It shows no waiting. The scale is
//! logarithmic, so that a small bar is seen; each has its figure.

use std::fmt::Write;

use crate::{
    row::{Results, Row},
    table::grouped,
};

const BAR_HEIGHT: f64 = 16.0;
const GROUP_GAP: f64 = 34.0;
const NAMES_WIDTH: f64 = 250.0;
const BARS_WIDTH: f64 = 480.0;
const FIGURES_WIDTH: f64 = 90.0;
const MARGIN: f64 = 12.0;
const OURS: &str = "#1f6f8b";
const THEIRS: &str = "#a9b7bd";
const NOT_DURABLE: &str = "#e0b354";

/// How the names begin of what is not ours where most is: other systems, and what is measured to
/// hold ours against.
const NOT_OURS: [&str; 4] = ["only parsed", "a bare socket", "redis", "tigerbeetle"];

/// What else is drawn, with its heading.
const OTHERS: [(&str, &str); 5] = [
    ("trace", "lines of a trace"),
    ("holds", "holds placed and confirmed"),
    ("refusals", "sold-out refusals, in process"),
    ("http", "requests over HTTP"),
    ("reads", "reads, in process"),
];

/// Bars under one heading.
struct Group<'a> {
    heading: String,
    rows: Vec<&'a Row>,
}

/// Orders by skew and callers; all else by what it is.
fn groups(results: &Results) -> Vec<Group<'_>> {
    let of = |bench: &str| -> Vec<&Row> {
        results.rows.iter().filter(|row| row.bench == bench).collect()
    };
    let orders = of("orders");
    let alike =
        |one: &&Row, next: &&Row| (&one.skew, one.in_flight) == (&next.skew, next.in_flight);
    let orders = orders.chunk_by(alike).filter_map(|rows| {
        let (first, rows) = (rows.first()?, rows.to_vec());
        let callers = grouped(first.in_flight as f64);
        Some(Group { heading: format!("orders, {}, {callers} in flight", first.skew), rows })
    });
    let others = OTHERS.iter().map(|(bench, heading)| {
        let heading = format!("{heading}; each with how many are in flight");
        Group { heading, rows: of(bench) }
    });
    orders.chain(others).filter(|group| !group.rows.is_empty()).collect()
}

/// The picture; none if there is nothing to draw.
pub(crate) fn svg(results: &Results) -> Option<String> {
    let groups = groups(results);
    let rows: Vec<&Row> = groups.iter().flat_map(|group| group.rows.iter().copied()).collect();
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
        "<text x=\"{MARGIN}\" y=\"{y}\" fill=\"#777\">done or accepted a second; each line is ten \
         times the one before; yellow: not synced before the answer</text>"
    );
    for group in groups {
        y += GROUP_GAP - 8.0;
        let _ = writeln!(
            text,
            "<text x=\"{MARGIN}\" y=\"{y:.1}\" font-weight=\"bold\">{}</text>",
            group.heading,
        );
        y += 8.0;
        for row in group.rows {
            bar(&mut text, row, y, decades);
            y += BAR_HEIGHT;
        }
    }
    text.push_str("</svg>\n");
    Some(text)
}

fn bar(text: &mut String, row: &Row, y: f64, decades: f64) {
    let length = BARS_WIDTH * row.good_per_second.max(1.0).log10() / decades;
    let of_orders = row.bench == "orders";
    let ours = match of_orders {
        true => row.who.starts_with("tidegate"),
        false => !NOT_OURS.iter().any(|name| row.who.starts_with(name)),
    };
    let color = match ours {
        true => OURS,
        false if of_orders && !row.durability.starts_with("synced") => NOT_DURABLE,
        false => THEIRS,
    };
    let (x, line) = (MARGIN + NAMES_WIDTH, y + BAR_HEIGHT - 5.0);
    let who = match of_orders {
        true => row.who.clone(),
        false => format!("{}; {}", row.who, grouped(row.in_flight as f64)),
    };
    let figure = grouped(row.good_per_second);
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
    fn only_what_is_ours_has_our_color() {
        let ours = |bench: &str, who: &str| {
            let row = Row { bench: bench.to_owned(), ..row(who, 1, 5.0) };
            svg(&Results { rows: vec![row], ..Results::default() }).unwrap().contains(OURS)
        };
        for (bench, who) in [
            ("orders", "tidegate-bulk"),
            ("http", "placed"),
            ("reads", "stock of a SKU"),
            ("holds", "tidegate, 64 together"),
        ] {
            assert!(ours(bench, who), "{who}");
        }
        for (bench, who) in [
            ("orders", "redis-always"),
            ("orders", "postgres"),
            ("http", "only parsed"),
            ("http", "a bare socket, which parses nothing"),
            ("http", "redis-always, by redis-benchmark"),
            ("holds", "tigerbeetle, 64 together"),
        ] {
            assert!(!ours(bench, who), "{who}");
        }
    }

    #[test]
    fn each_contender_has_a_bar_with_its_figure() {
        assert!(svg(&Results::default()).is_none());
        let mut rows = vec![row("tidegate", 1, 5e3), row("a peer", 1, 50.0)];
        rows.push(row("a peer", 64, 9e4));
        rows.push(Row { bench: "reads".to_owned(), ..row("an order", 1_024, 7e4) });
        let text = svg(&Results { rows, ..Results::default() }).unwrap();
        assert!(text.contains(">5,000</text>") && text.contains(">90,000</text>"), "{text}");
        // The background and a bar for each.
        assert_eq!(text.matches("<rect").count(), 5);
        assert_eq!(text.matches(" in flight</text>").count(), 3);
        assert!(text.contains(">an order; 1,024</text>"), "{text}");
    }
}
