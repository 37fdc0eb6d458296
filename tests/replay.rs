//! `tidegate replay` against a plain sequential model, and what it says when it can't run. How it
//! comes through kills is in `kills`.

use std::{collections::BTreeSet, ffi::OsStr, fs, path::Path};

use crate::{
    program::{self, Ran, count, run, tidegate},
    seed::Random,
    shop::small,
    traces::{self, HEADER, Model, Shape},
};

#[test]
fn one_at_a_time_gives_exactly_what_a_sequential_model_gives() {
    let trace = traces::bundled();
    let orders = traces::read(&trace);
    for percent in [0, 10, 50, 80, 100] {
        let folder = tempfile::tempdir().unwrap();
        let report = run_at(&trace, folder.path(), percent, 1);
        let model = traces::model(&orders, percent);
        model.assert_matches(&report);
        assert_stock(folder.path(), &model.left, &model);
    }
}

#[test]
fn many_at_a_time_oversell_nothing() {
    let trace = traces::bundled();
    let orders = traces::read(&trace);
    for concurrency in [64, 1_024] {
        let folder = tempfile::tempdir().unwrap();
        let report = run_at(&trace, folder.path(), 50, concurrency);
        assert_nothing_oversold(folder.path(), &report, &traces::model(&orders, 50));
    }
}

#[test]
fn contended_orders_over_many_shards_are_all_or_nothing() {
    let mut random = Random::of("contended_orders_over_many_shards_are_all_or_nothing");
    let shape = Shape { orders: 600, skus: 9, users: 40, lines_max: 12 };
    let traces = tempfile::tempdir().unwrap();
    let trace = traces.path().join("contended.csv");
    let orders = traces::make(&trace, shape, &mut random);
    let named_twice = |order: &&traces::TraceOrder| {
        let skus: BTreeSet<_> = order.lines.iter().map(|(sku, _)| sku).collect();
        skus.len() < order.lines.len()
    };
    assert!(orders.iter().filter(named_twice).count() > 100);

    for (percent, concurrency) in [(60, 1), (100, 1), (60, 64), (60, 1_024)] {
        let folder = tempfile::tempdir().unwrap();
        // More shards than the program would make here: most orders reach over several.
        make_store(folder.path(), 7, 3);
        let report = run_at(&trace, folder.path(), percent, concurrency);
        let model = traces::model(&orders, percent);
        if concurrency == 1 {
            model.assert_matches(&report);
            assert_stock(folder.path(), &model.left, &model);
        } else {
            assert_nothing_oversold(folder.path(), &report, &model);
        }
    }
}

#[test]
fn an_order_beyond_the_bounds_is_refused_and_counted_as_other() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("beyond.csv");
    let mut text = format!("{HEADER}\n");
    // 257 lines; 1,000,001 units in one line, and in two; and one that is fine.
    for line in 0..257 {
        text += &format!("long,t,ada,main,sku-{line},1,1\n");
    }
    text += "big,t,bob,main,heap,1000001,1\n";
    text += "sum,t,bob,main,heap,600000,1\nsum,t,bob,main,heap,400001,1\n";
    text += "fine,t,cleo,main,heap,1000000,1\n";
    fs::write(&trace, text).unwrap();
    let model = traces::model(&traces::read(&trace), 100);
    assert_eq!((model.count("accepted"), model.count("rejected_other")), (1, 3));
    model.assert_matches(&run_at(&trace, &folder.path().join("store"), 100, 1));
}

#[test]
fn the_result_has_exactly_the_fields_of_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let report = run_at(&traces::bundled(), folder.path(), 80, 64);
    let fields: Vec<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
    let counts = [
        "orders",
        "skipped_orders",
        "skipped_lines",
        "accepted",
        "rejected_sold_out",
        "rejected_other",
        "units_sold",
        "p50_us",
        "p99_us",
    ];
    let rates = ["seconds", "orders_per_second"];
    let mut promised: Vec<&str> = [&counts[..], &rates[..], &["audit"]].concat();
    promised.sort_unstable();
    let mut sorted = fields;
    sorted.sort_unstable();
    assert_eq!(sorted, promised);
    assert!(counts.iter().all(|field| report[field].is_u64()), "{report}");
    assert!(rates.iter().all(|field| report[field].as_f64().unwrap() > 0.0), "{report}");
    assert!(count(&report, "p50_us") <= count(&report, "p99_us"));

    let audit = report["audit"].as_object().unwrap();
    assert_eq!(audit.keys().collect::<Vec<_>>(), ["checks", "ok"]);
    for check in audit["checks"].as_array().unwrap() {
        let check = check.as_object().unwrap();
        assert_eq!(check.keys().collect::<Vec<_>>(), ["detail", "name", "ok"]);
        assert!(check["ok"].is_boolean() && check["name"].is_string());
    }
    let again = program::audit(folder.path());
    assert_eq!(again["checks"], report["audit"]["checks"], "an audit changes nothing");
}

#[test]
fn without_a_folder_it_works_in_a_temporary_one_and_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = tidegate();
    command.env("TMPDIR", temporary.path()).arg("replay").arg(traces::bundled());
    let ran = Ran::of(&command.output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert!(ran.stdout.contains("accepted and paid"), "a report for people: {}", ran.stdout);
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn a_trace_may_be_gzipped_under_any_name() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, odd) = (folder.path().join("day.csv"), folder.path().join("day.txt"));
    let orders = traces::read(&traces::bundled());
    fs::copy(traces::bundled(), &odd).unwrap();
    let mut text = String::new();
    let bytes = fs::File::open(&odd).unwrap();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(bytes), &mut text).unwrap();
    fs::write(&plain, text).unwrap();
    let model = traces::model(&orders, 30);
    for (name, trace) in [("a", plain), ("b", odd)] {
        model.assert_matches(&run_at(&trace, &folder.path().join(name), 30, 1));
    }
}

#[test]
fn another_share_of_stock_on_the_same_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let trace = traces::bundled();
    let first = run_at(&trace, folder.path(), 80, 1);
    let ran = run(arguments(&trace, folder.path(), &["--stock-percent", "70"]));
    ran.assert_failed(&["another trace or --stock-percent"]);
    let again = run_at(&trace, folder.path(), 80, 1);
    assert_eq!(again["accepted"], first["accepted"], "the refused run has sold nothing");
}

#[test]
fn a_malformed_trace_is_refused_by_its_line_before_there_is_a_store() {
    let good = "1,t,ada,main,mug,1,100";
    let bad: &[(&str, u64)] = &[
        ("2,t,ada,main,mug,-1,100", 3),
        ("2,t,ada,main,mug,1.5,100", 3),
        ("2,t,ada,main,mug,,100", 3),
        ("2,t,ada,main,mug,99999999999999999999,100", 3),
        ("2,t,ada,main,mug,1,x", 3),
        ("2,t,ada,main,mug,1", 3),
        ("2,t,ada,main,mug,1,100,more", 3),
        ("2,t,,main,mug,1,100", 3),
        ("2,t,ada,,mug,1,100", 3),
        ("2,t,ada,main,big mug,1,100", 3),
        ("1,t,bob,main,mug,1,100", 3),
        ("2,t,ada,main,mug,1,100\n1,t,ada,main,mug,1,100", 4),
        ("2,t,ada,main,m\u{fc}g,1,100", 3),
    ];
    for (row, line) in bad {
        assert_malformed(format!("{HEADER}\n{good}\n{row}\n").as_bytes(), *line);
    }
    assert_malformed(b"", 1);
    assert_malformed(format!("{good}\n").as_bytes(), 1);
    assert_malformed(format!("order_ref,user\n{good}\n").as_bytes(), 1);
    let latin = [HEADER.as_bytes(), b"\n2,t,ada,main,m\xfcg,1,100\n"].concat();
    assert_malformed(&latin, 2);
    // Bad far down: what comes before must not have been sold.
    let mut long = format!("{HEADER}\n");
    (0..5_000).for_each(|order| long += &format!("{order},t,ada,main,mug,1,100\n"));
    assert_malformed(format!("{long}5000,t,ada,main,mug,one,100\n").as_bytes(), 5_002);
}

#[test]
fn a_trace_that_is_cut_or_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (cut, store) = (folder.path().join("cut.csv.gz"), folder.path().join("store"));
    let whole = fs::read(traces::bundled()).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    run(arguments(&cut, &store, &[])).assert_failed(&["cut.csv.gz"]);
    let missing = folder.path().join("missing.csv");
    run(arguments(&missing, &store, &[])).assert_failed(&["missing.csv"]);
    assert!(!store.exists());
}

#[test]
fn usage_errors_exit_with_2() {
    let wrong: &[&[&str]] = &[
        &[],
        &["sell"],
        &["replay"],
        &["replay", "t.csv", "--concurrency", "0"],
        &["replay", "t.csv", "--concurrency", "many"],
        &["replay", "t.csv", "--concurrency", "1000000"],
        &["replay", "t.csv", "--stock-percent", "-1"],
        &["replay", "t.csv", "--stock-percent", "80%"],
        &["replay", "t.csv", "--data"],
        &["replay", "t.csv", "--quiet"],
        &["replay", "t.csv", "u.csv"],
        &["audit", "store"],
        &["demo", "--buyers", "0"],
    ];
    for arguments in wrong {
        let ran = run(*arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:?}");
        assert_eq!(ran.stdout, "", "{arguments:?}");
        assert!(ran.stderr.contains("--help"), "{arguments:?}: {ran:?}");
    }
    for arguments in [["--help"], ["--version"]] {
        let ran = run(arguments);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
        assert!(!ran.stdout.is_empty());
    }
}

#[test]
fn an_audit_of_no_store_says_so_and_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let (empty, absent) = (folder.path().join("empty"), folder.path().join("absent"));
    fs::create_dir(&empty).unwrap();
    for data in [&empty, &absent] {
        let ran = run(["audit".as_ref(), "--data".as_ref(), data.as_os_str()]);
        ran.assert_failed(&["there is no store in it"]);
    }
    assert!(!absent.exists());
    assert_eq!(fs::read_dir(empty).unwrap().count(), 0);
}

fn arguments<'a>(trace: &'a Path, data: &'a Path, more: &'a [&'a str]) -> Vec<&'a OsStr> {
    let fixed = ["replay".as_ref(), trace.as_os_str(), "--data".as_ref(), data.as_os_str()];
    fixed.into_iter().chain(more.iter().map(OsStr::new)).collect()
}

fn run_at(trace: &Path, data: &Path, percent: u64, concurrency: u64) -> serde_json::Value {
    let (percent, concurrency) = (percent.to_string(), concurrency.to_string());
    program::replay(trace, data, &["--stock-percent", &percent, "--concurrency", &concurrency])
}

fn assert_malformed(trace: &[u8], line: u64) {
    let folder = tempfile::tempdir().unwrap();
    let (path, store) = (folder.path().join("bad.csv"), folder.path().join("store"));
    fs::write(&path, trace).unwrap();
    for more in [&[][..], &["--json"]] {
        run(arguments(&path, &store, more)).assert_failed(&["bad.csv", &format!("line {line}: ")]);
    }
    assert!(!store.exists(), "a store was made for a trace that can't be read");
}

fn assert_nothing_oversold(data: &Path, report: &serde_json::Value, model: &Model) {
    let [accepted, sold_out, other] =
        ["accepted", "rejected_sold_out", "rejected_other"].map(|field| count(report, field));
    assert_eq!(accepted + sold_out + other, count(report, "orders"), "{report}");
    for field in ["orders", "skipped_orders", "skipped_lines", "rejected_other"] {
        assert_eq!(count(report, field), model.count(field), "{field}: {report}");
    }
    assert!(accepted > 0);
    assert_eq!(report["audit"]["ok"], true, "{report}");
    let stock = stock_of(data, model);
    let sold: u64 = stock.iter().map(|(_, sold)| sold).sum();
    assert_eq!(sold, count(report, "units_sold"));
    for ((sku, start), (on_hand, sold)) in model.start.iter().zip(stock) {
        assert_eq!(on_hand, *start, "{sku}");
        assert!(sold <= on_hand, "{sku} is oversold: {sold} of {on_hand}");
    }
}

fn assert_stock(data: &Path, left: &std::collections::BTreeMap<String, u64>, model: &Model) {
    for ((sku, left), (on_hand, sold)) in left.iter().zip(stock_of(data, model)) {
        assert_eq!((on_hand, sold), (model.start[sku], model.start[sku] - left), "{sku}");
    }
}

/// On hand and sold of each SKU in order, read through the library; nothing may be held.
fn stock_of(data: &Path, model: &Model) -> Vec<(u64, u64)> {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let gate = tidegate::Tidegate::builder(data).open().await.unwrap();
        let mut stock = Vec::new();
        for sku in model.start.keys() {
            let total = gate.stock().get(sku).await.unwrap().total;
            assert_eq!(total.held, 0, "{sku}");
            stock.push((total.on_hand, total.allocated));
        }
        gate.close().await.unwrap();
        stock
    })
}

fn make_store(data: &Path, stock_shards: u16, order_shards: u16) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let builder = small(data).stock_shards(stock_shards).order_shards(order_shards);
        builder.open().await.unwrap().close().await.unwrap();
    });
}
