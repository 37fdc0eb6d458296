//! Results as tables of text, for people, on the terminal and in `docs/performance.md`. It draws no
//! picture and judges nothing.

use std::fmt::Write;

use crate::row::{Results, Row};

/// What a cell says that has nothing to say.
const NONE: &str = "–";

/// Each kind of row with its heading.
const SECTIONS: [(&str, &str); 15] = [
    ("proof", "Proofs: the same hash is the same result"),
    ("orders", "Whole orders"),
    ("trace", "A trace of real baskets"),
    ("holds", "Holds without an order, placed and then confirmed"),
    ("refusals", "What is sold out"),
    ("http", "Over HTTP, by wrk, beside a route that only parses"),
    ("overload", "More than it can do"),
    ("published", "Messages, until they are published"),
    ("handled", "Messages, until they are published, handed out and acknowledged"),
    ("journal", "The journal, beside a bare loop"),
    ("reads", "Reads"),
    ("recovery", "Opening again"),
    ("snapshots", "Snapshots"),
    ("growth", "Beside much that is stored"),
    ("sync", "Rows in PostgreSQL, beside a COPY of the same rows"),
];

/// Everything, as Markdown.
pub(crate) fn markdown(results: &Results) -> String {
    let mut text = String::new();
    pairs(&mut text, "The machine", &results.machine);
    pairs(&mut text, "Who takes part, and how", &results.settings);
    for (bench, heading) in SECTIONS {
        let rows: Vec<&Row> = results.rows.iter().filter(|row| row.bench == bench).collect();
        if rows.is_empty() {
            continue;
        }
        let _ = writeln!(text, "### {heading}\n");
        let lines = if bench == "proof" { proofs(&rows) } else { figures(&rows) };
        table(&mut text, &lines);
    }
    if !results.parts.is_empty() {
        let _ = writeln!(text, "### Parts that touch no disk (criterion)\n");
        let head = ["part", "median", "95 % from", "to"].map(str::to_owned).to_vec();
        let parts = results.parts.iter().map(|part| {
            vec![part.name.clone(), nanos(part.median), nanos(part.low), nanos(part.high)]
        });
        table(&mut text, &[vec![head], parts.collect()].concat());
    }
    for row in results.rows.iter().filter(|row| !row.faults.is_empty()) {
        let _ = writeln!(text, "**WRONG**, {} of {}: {}\n", row.bench, row.who, row.faults[0]);
    }
    text
}

fn pairs(text: &mut String, heading: &str, pairs: &std::collections::BTreeMap<String, String>) {
    if pairs.is_empty() {
        return;
    }
    let _ = writeln!(text, "### {heading}\n");
    for (name, value) in pairs {
        let _ = writeln!(text, "- {name}: {value}");
    }
    text.push('\n');
}

fn proofs(rows: &[&Row]) -> Vec<Vec<String>> {
    let mut lines = vec![["who", "durability", "result"].map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(|row| vec![row.who.clone(), row.durability.clone(), result(row)]));
    lines
}

fn figures(rows: &[&Row]) -> Vec<Vec<String>> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flat_map(|row| &row.more) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let unit = rows.first().map_or("", |row| row.unit.as_str());
    let head = [
        "who",
        "durability",
        "skew",
        "in flight",
        "a sync",
        "bytes each",
        &format!("{unit}s/s"),
        "of COPY",
        "p50",
        "p99",
        "p99.9",
        "max",
        "refused/s",
        "p99 of those",
        "result",
    ];
    let head: Vec<&str> = [&head[..7], &names, &head[7..]].concat();
    let mut lines = vec![head.into_iter().map(str::to_owned).collect()];
    lines.extend(rows.iter().map(|row| {
        let refused = row.refused_per_second > 0.0;
        let mut line = vec![
            row.who.clone(),
            row.durability.clone(),
            row.skew.clone(),
            row.in_flight.to_string(),
            row.batch.map_or(NONE.to_owned(), |batch| format!("{batch:.1}")),
            row.bytes.map_or(NONE.to_owned(), grouped),
            if row.good_per_second > 0.0 { grouped(row.good_per_second) } else { NONE.to_owned() },
            beside_copy(rows, row),
            micros(row.waited.p50_us),
            micros(row.waited.p99_us),
            micros(row.waited.p999_us),
            micros(row.waited.max_us),
            if refused { grouped(row.refused_per_second) } else { NONE.to_owned() },
            if refused { micros(row.refused_waited.p99_us) } else { NONE.to_owned() },
            result(row),
        ];
        line.splice(7..7, names.iter().map(|name| more(row, name)));
        line
    }));
    lines
}

/// A figure that not all have: small ones are mostly shares.
fn more(row: &Row, name: &str) -> String {
    match row.more.iter().find(|(other, _)| other == name) {
        Some((_, figure)) if *figure < 100.0 => format!("{figure:.2}"),
        Some((_, figure)) => grouped(*figure),
        None => NONE.to_owned(),
    }
}

/// How fast it is beside who copies the same.
fn beside_copy(rows: &[&Row], row: &Row) -> String {
    let copies = |other: &&&Row| other.who.starts_with("COPY") && other.hash == row.hash;
    let copy = rows.iter().find(copies).filter(|copy| copy.who != row.who);
    copy.map_or(NONE.to_owned(), |copy| {
        format!("{:.2}", row.good_per_second / copy.good_per_second)
    })
}

fn result(row: &Row) -> String {
    if !row.faults.is_empty() {
        return "WRONG".to_owned();
    }
    if row.hash.is_empty() { NONE.to_owned() } else { format!("`{}`", row.hash) }
}

/// A table with its first line as its head; columns are as wide as they must be, and those that say
/// nothing are left out.
fn table(text: &mut String, lines: &[Vec<String>]) {
    let columns = 0..lines.first().map_or(0, Vec::len);
    let says = |column: &usize| lines.iter().skip(1).any(|line| line[*column] != NONE);
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let columns: Vec<(usize, usize)> =
        columns.filter(says).map(|column| (column, width(column))).collect();
    for (number, line) in lines.iter().enumerate() {
        for (column, width) in &columns {
            let _ = write!(text, "| {:<width$} ", line[*column]);
        }
        text.push_str("|\n");
        if number == 0 {
            columns.iter().for_each(|(_, width)| {
                let _ = write!(text, "|{}", "-".repeat(width + 2));
            });
            text.push_str("|\n");
        }
    }
    text.push('\n');
}

/// `1234567.8` as `1,234,568`.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn micros(micros: f64) -> String {
    nanos(micros * 1_000.0)
}

fn nanos(nanos: f64) -> String {
    match nanos {
        0.0 => NONE.to_owned(),
        nanos if nanos < 1e4 => format!("{nanos:.0} ns"),
        nanos if nanos < 1e6 => format!("{:.0} µs", nanos / 1e3),
        nanos if nanos < 1e9 => format!("{:.1} ms", nanos / 1e6),
        nanos => format!("{:.2} s", nanos / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_its_figures_and_tells_what_is_wrong() {
        let mut row = Row::of("orders", "somebody", "order");
        row.good_per_second = 1_234_567.8;
        row.waited.p99_us = 1_500.0;
        row.hash = "abc".to_owned();
        let mut results = Results { rows: vec![row.clone()], ..Results::default() };
        let text = markdown(&results);
        assert!(text.contains("| 1,234,568 |") && text.contains("| 1.5 ms |"), "{text}");
        assert!(text.contains("`abc`") && !text.contains("WRONG"), "{text}");
        assert!(!text.contains("refused"), "nothing was: {text}");

        row.faults = vec!["sold twice".to_owned()];
        results.rows.push(row);
        let text = markdown(&results);
        assert!(text.contains("| WRONG") && text.contains("sold twice"), "{text}");
    }
}
