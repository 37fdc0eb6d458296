//! The page is read back with a strict reader of the exposition format, written here after its
//! specification, and compared with the report that it came from.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{Bucket, JournalStats, Position, ProjectorReport};

/// Series with labels as written, by name.
type Samples = BTreeMap<String, BTreeMap<String, f64>>;

fn shard(name: &'static str, index: u16, phase: Phase) -> ShardReport {
    let answer_us = Distribution {
        sum: 300,
        buckets: vec![Bucket { below: 20, count: 2 }, Bucket { below: 320, count: 1 }],
    };
    let batch_records = Distribution { sum: 3, buckets: vec![Bucket { below: 2, count: 3 }] };
    ShardReport {
        name,
        index,
        phase,
        in_flight: 7,
        commands: 10,
        events: 9,
        rejections: 1,
        batches: 3,
        held: 2,
        waiting: 1,
        restarts: 4,
        queue: QueueCounts { queued: 9, released: 4, timed_out: 2, cancelled: 1 },
        answer_us,
        batch_records,
    }
}

fn report() -> Report {
    Report {
        shards: vec![
            shard("stock", 0, Phase::Running),
            shard("stock", 1, Phase::Dead),
            shard("odd \"name\"\\\n", 0, Phase::Restoring),
        ],
        projector: ProjectorReport { backlog: 5, rows: 6, flushes: 2, failed: false },
        journal: JournalStats {
            commits: 8,
            records: 27,
            bytes: 1_000,
            sync_us: 1_500_000,
            write_us: 10,
            disk_bytes: 1 << 20,
        },
        oldest: Position(3),
        appended: Position(30),
        durable: Position(27),
        state_disk_bytes: 77,
        views: vec![ViewReport {
            name: "sales".to_owned(),
            version: 1,
            condition: ViewCondition::Stopped("a \"reason\"".into()),
            rebuilding: true,
            progress: None,
            position: Position(20),
            lag_records: 7,
            lag_ms: 12,
            rows: 3,
            events: 19,
            batches: 2,
            builds: 1,
            failures: 1,
        }],
    }
}

fn is_name(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    text.starts_with(letter) && text.chars().all(|c| letter(c) || c.is_ascii_digit())
}

/// Splits `name{labels}` and checks the labels.
fn series(text: &str) -> (String, String) {
    let Some((name, labels)) = text.split_once('{') else { return (text.into(), String::new()) };
    let labels = labels.strip_suffix('}').expect("a closing brace");
    let mut rest = labels;
    while !rest.is_empty() {
        let (label, value) = rest.split_once("=\"").expect("a label");
        assert!(is_name(label), "{label}");
        let (mut end, mut escape) = (None, false);
        for (at, c) in value.char_indices() {
            match c {
                _ if escape => {
                    assert!(matches!(c, '\\' | '"' | 'n'), "escaped {c}");
                    escape = false;
                }
                '\\' => escape = true,
                '"' => {
                    end = Some(at);
                    break;
                }
                '\n' => panic!("a line break in a label"),
                _ => {}
            }
        }
        rest = &value[end.expect("a closing quote") + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (name.to_owned(), labels.to_owned())
}

/// Reads a page as Prometheus does, and more strictly.
fn read(page: &str) -> (Samples, BTreeMap<String, String>) {
    assert!(page.ends_with('\n'), "the last line must end");
    let (mut samples, mut types): (Samples, BTreeMap<String, String>) = Default::default();
    let (mut helped, mut done) = (BTreeSet::new(), BTreeSet::new());
    let mut current = String::new();
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("help has a text");
            assert!(is_name(name) && !text.is_empty());
            assert!(helped.insert(name.to_owned()), "{name} is told twice");
            done.insert(std::mem::replace(&mut current, name.to_owned()));
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type");
            assert_eq!(name, current, "the type comes after its help");
            assert!(["counter", "gauge", "histogram", "summary"].contains(&kind), "{kind}");
            types.insert(name.to_owned(), kind.to_owned());
        } else {
            let (text, value) = line.rsplit_once(' ').expect("a value");
            let (name, labels) = series(text);
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| {
                name.strip_suffix(suffix).filter(|family| {
                    types.get(*family).is_some_and(|kind| kind != "counter" && kind != "gauge")
                })
            });
            assert_eq!(family.unwrap_or(&name), current, "samples of a family stand together");
            let value: f64 = value.parse().expect("a number");
            let before = samples.entry(name).or_default().insert(labels, value);
            assert_eq!(before, None, "{line} is there twice");
        }
    }
    (samples, types)
}

#[test]
fn the_page_is_what_prometheus_reads() {
    let (samples, types) = read(&render(&report()));
    for (name, kind) in &types {
        assert!(name.starts_with("tidegate_"));
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        if kind != "histogram" {
            continue;
        }
        let mut series: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
        for (labels, value) in &samples[&format!("{name}_bucket")] {
            let (machine, bound) = labels.split_once(",le=\"").expect("buckets have a bound");
            let bound = bound.trim_end_matches('"').replace("+Inf", "inf").parse().unwrap();
            series.entry(machine).or_default().push((bound, *value));
        }
        for (machine, mut buckets) in series {
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{buckets:?}");
            let (bound, all) = buckets[buckets.len() - 1];
            assert_eq!((bound, all), (f64::INFINITY, samples[&format!("{name}_count")][machine]));
        }
    }
}

#[test]
fn the_figures_are_those_of_the_report() {
    let (samples, _) = read(&render(&report()));
    for (name, labels, value) in [
        ("tidegate_commands_total", r#"machine="stock""#, 20.0),
        ("tidegate_restarts_total", r#"machine="stock""#, 8.0),
        ("tidegate_shards", r#"machine="stock",phase="dead""#, 1.0),
        ("tidegate_shards", r#"machine="stock",phase="running""#, 1.0),
        ("tidegate_shards", r#"machine="odd \"name\"\\\n",phase="restoring""#, 1.0),
        ("tidegate_in_flight_commands", r#"machine="stock",shard="1""#, 7.0),
        ("tidegate_answer_seconds_bucket", r#"machine="stock",le="0.000016""#, 0.0),
        ("tidegate_answer_seconds_bucket", r#"machine="stock",le="0.000032""#, 4.0),
        ("tidegate_answer_seconds_bucket", r#"machine="stock",le="0.000512""#, 6.0),
        ("tidegate_answer_seconds_sum", r#"machine="stock""#, 0.0006),
        ("tidegate_answer_seconds_count", r#"machine="stock""#, 6.0),
        ("tidegate_batch_records_bucket", r#"machine="stock",le="1""#, 6.0),
        ("tidegate_journal_sync_seconds_sum", "", 1.5),
        ("tidegate_journal_sync_seconds_count", "", 8.0),
        ("tidegate_journal_pending_records", "", 3.0),
        ("tidegate_journal_disk_bytes", "", 1_048_576.0),
        ("tidegate_projector_backlog_orders", "", 5.0),
        ("tidegate_state_disk_bytes", "", 77.0),
    ] {
        assert_eq!(samples[name].get(labels), Some(&value), "{name}{{{labels}}}");
    }
}

#[test]
fn seconds_are_exact() {
    for (us, text) in [(0, "0"), (16, "0.000016"), (1_000_000, "1"), (33_554_432, "33.554432")] {
        assert_eq!(micros(us), text);
    }
}
