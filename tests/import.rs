//! `tidegate import-stock`, as a shell runs it: what a file does to a store, that it does it once,
//! also after kills, and what becomes of bad lines. How single lines are read is tested beside the
//! reader.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use tidegate::{EventData, EventKind, ItemView, NewOrder};

use crate::{
    program::{self, Ran, count, run, tidegate},
    seed::Random,
    shop,
};

fn import(file: &Path, data: &Path, more: &[&str]) -> Ran {
    let fixed = [
        "import-stock".as_ref(),
        file.as_os_str(),
        "--data".as_ref(),
        data.as_os_str(),
        "--json".as_ref(),
    ];
    run(fixed.into_iter().chain(more.iter().map(std::ffi::OsStr::new)))
}

/// An import with no bad line.
fn good(file: &Path, data: &Path, more: &[&str]) -> Value {
    let ran = import(file, data, more);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stderr, "", "no terminal, so no progress bar");
    ran.json()
}

async fn items(data: &Path, skus: &[&str]) -> Vec<ItemView> {
    let gate = tidegate::Tidegate::builder(data).open().await.unwrap();
    let mut items = Vec::new();
    for sku in skus {
        items.push(gate.stock().get(sku).await.unwrap());
    }
    gate.close().await.unwrap();
    items
}

/// How often each key of an adjustment is in the journal: its reason names its line here.
async fn movements(data: &Path) -> BTreeMap<String, u64> {
    let gate = tidegate::Tidegate::builder(data).open().await.unwrap();
    let durable = gate.report().durable;
    let mut feed = gate.events().clone().only([EventKind::StockAdjusted]).from_oldest();
    let mut found = BTreeMap::new();
    while feed.cursor().position < durable {
        match tokio::time::timeout(Duration::from_secs(5), feed.next()).await {
            Ok(event) => {
                let EventData::StockAdjusted { reason, .. } = event.unwrap().data else { panic!() };
                *found.entry(reason).or_default() += 1;
            }
            // What follows the last of them did not pass the filter.
            Err(_) => break,
        }
    }
    gate.close().await.unwrap();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_defines_and_moves_and_does_so_once() {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("s.csv"), folder.path().join("store"));
    let text = "sku,delta,location,price_minor,currency,limit_per_user,backorder_limit,reason\n\
                tea,10,,300,EUR,2,,arrival\n\
                tea,5,east,,,,,\n\
                tea,-4,,,,,,broken\n\
                tea,0,,350,,,7,dearer\n\
                coffee,0,,,,,,\n";
    fs::write(&file, text).unwrap();
    let report = good(&file, &data, &[]);
    for (field, number) in [("lines", 5), ("imported", 5), ("imported_before", 0), ("bad", 0)] {
        assert_eq!(count(&report, field), number, "{field} in {report}");
    }
    let after = items(&data, &["tea", "coffee"]).await;
    let [tea, coffee] = &after[..] else { panic!() };
    assert_eq!((tea.total.on_hand, coffee.total.on_hand), (11, 0));
    let on_hand: Vec<_> =
        tea.locations.iter().map(|(place, level)| (place.as_str(), level.on_hand)).collect();
    assert_eq!(on_hand, [("east", 5), ("main", 6)]);
    assert_eq!((tea.options.price_minor, tea.options.limit_per_user), (Some(350), Some(2)));
    assert_eq!(tea.options.backorder_limit, 7);

    // Again, and zipped: it is the same content. Nothing changes, also what was changed since.
    let gate = tidegate::Tidegate::builder(&data).open().await.unwrap();
    let dearer = tidegate::SkuPatch { price_minor: Some(Some(999)), ..Default::default() };
    gate.stock().define("tea", dearer).await.unwrap();
    let records = gate.report().durable;
    gate.close().await.unwrap();
    drop(gate);
    let zipped = folder.path().join("s.csv.gz");
    let mut encoder = GzEncoder::new(fs::File::create(&zipped).unwrap(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap();
    for file in [&file, &zipped] {
        let report = good(file, &data, &[]);
        assert_eq!((count(&report, "imported"), count(&report, "imported_before")), (0, 5));
    }
    let gate = tidegate::Tidegate::builder(&data).open().await.unwrap();
    assert_eq!(gate.report().durable, records, "nothing was written");
    gate.close().await.unwrap();
    drop(gate);

    // Under another name it is another import.
    let report = good(&file, &data, &["--import-id", "second"]);
    assert_eq!(count(&report, "imported"), 5);
    assert_eq!(items(&data, &["tea"]).await[0].total.on_hand, 22);
    program::audit(&data);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_lines_are_told_and_counted_and_nothing_of_them_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("s.csv"), folder.path().join("store"));
    let gate = shop::open(&data).await;
    let ahead = tidegate::SkuPatch { backorder_limit: Some(5), ..Default::default() };
    gate.stock().define("ahead", ahead).await.unwrap();
    gate.orders().place(NewOrder::new("ann").line("ahead", 4), "k-1").await.unwrap();
    gate.close().await.unwrap();
    drop(gate);
    let text = "sku,delta,price_minor,backorder_limit\n\
                tea,10,300,\n\
                tea,x,400,\n\
                tea,-11,500,\n\
                nothing,-1,5,\n\
                ahead,1,700,2\n\
                ahead,1,700,3\n\
                a b,1,,\n\
                coffee,1,,\n";
    fs::write(&file, text).unwrap();
    let ran = import(&file, &data, &[]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let report = ran.json();
    assert_eq!((count(&report, "imported"), count(&report, "bad")), (3, 5), "{report}");
    let told: Vec<_> = report["bad_lines"].as_array().unwrap().iter().collect();
    for (bad, (line, what)) in told.iter().zip([
        (3, "delta must be a whole number"),
        (4, "delta -11 is not possible with 10 on hand"),
        (5, "sku nothing is unknown"),
        (6, "backorder_limit must be at least 3"),
        (8, "sku must be"),
    ]) {
        assert_eq!(bad["line"], line, "{report}");
        assert!(bad["what"].as_str().unwrap().contains(what), "{bad}");
        assert!(ran.stderr.contains(&format!("line {line}: ")), "{}", ran.stderr);
    }
    let after = items(&data, &["tea", "ahead", "coffee"]).await;
    let [tea, ahead, _] = &after[..] else { panic!() };
    assert_eq!((tea.total.on_hand, tea.options.price_minor), (10, Some(300)));
    assert_eq!((ahead.total.on_hand, ahead.options.backorder_limit), (1, 3));
    // The same again: nothing changes, and the bad lines are not forgotten.
    let ran = import(&file, &data, &[]);
    assert_eq!(ran.code, Some(1));
    let report = ran.json();
    assert_eq!((count(&report, "imported"), count(&report, "imported_before")), (0, 3));
    assert_eq!(count(&report, "bad"), 5);
    assert_eq!(items(&data, &["tea"]).await[0], *tea);
}

#[test]
fn what_can_not_be_read_at_all_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("s.csv"), folder.path().join("store"));
    import(&folder.path().join("none.csv"), &data, &[]).assert_failed(&["none.csv"]);
    fs::write(&file, "sku,colour\n").unwrap();
    import(&file, &data, &[]).assert_failed(&["line 1", "\"colour\" is unknown"]);
    let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
    zipped.write_all(format!("sku,delta\n{}", "tea,1\n".repeat(1_000)).as_bytes()).unwrap();
    let zipped = zipped.finish().unwrap();
    fs::write(&file, &zipped[..zipped.len() - 20]).unwrap();
    import(&file, &data, &[]).assert_failed(&["s.csv"]);
    assert!(!data.exists(), "the store was touched");
    fs::write(&file, "sku,delta\ntea,1\n").unwrap();
    import(&file, &data, &["--import-id", "a b"]).assert_failed(&["--import-id"]);
    assert!(!data.exists());
    let ran = run(["import-stock", "--data", "x"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_open_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("s.csv"), folder.path().join("store"));
    fs::write(&file, "sku,delta\ntea,1\n").unwrap();
    let gate = shop::open(&data).await;
    import(&file, &data, &[]).assert_failed(&["open elsewhere"]);
    gate.close().await.unwrap();
    good(&file, &data, &[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_import_that_is_run_again_ends_as_one_left_alone() {
    const LINES: u64 = 40_000;
    const SKUS: u64 = 300;
    let mut random = Random::of("a_killed_import_that_is_run_again_ends_as_one_left_alone");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.csv");
    let (mut text, mut expected) = ("sku,delta,reason\n".to_owned(), BTreeMap::<u64, u64>::new());
    for number in 0..LINES {
        let (sku, delta) = (random.between(0, SKUS), random.between(1, 100));
        *expected.entry(sku).or_default() += delta;
        writeln!(text, "sku-{sku},{delta},line-{number}").unwrap();
    }
    fs::write(&file, text).unwrap();
    let (alone, killed) = (folder.path().join("alone"), folder.path().join("killed"));
    let begun = Instant::now();
    assert_eq!(count(&good(&file, &alone, &[]), "imported"), LINES);
    let whole = begun.elapsed().as_micros() as u64;
    let mut in_the_middle = 0;
    for _ in 0..6 {
        let mut child = tidegate()
            .arg("import-stock")
            .arg(&file)
            .arg("--data")
            .arg(&killed)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_micros(random.between(whole / 20, whole / 3))).await;
        if child.try_wait().unwrap().is_none() {
            in_the_middle += 1;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    println!("{in_the_middle} of 6 were killed before their end");
    assert!(in_the_middle > 0, "no import was interrupted");
    let report = good(&file, &killed, &[]);
    let sum = count(&report, "imported") + count(&report, "imported_before");
    assert_eq!((sum, count(&report, "bad")), (LINES, 0), "{report}");

    let names: Vec<_> = expected.keys().map(|sku| format!("sku-{sku}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let on_hand = |items: Vec<ItemView>| -> Vec<u64> {
        items.into_iter().map(|item| item.total.on_hand).collect()
    };
    let units: Vec<_> = expected.values().copied().collect();
    assert_eq!(on_hand(items(&killed, &names).await), units);
    assert_eq!(on_hand(items(&alone, &names).await), units);
    let movements = movements(&killed).await;
    assert_eq!(movements.len() as u64, LINES);
    assert!(movements.values().all(|times| *times == 1), "a line was applied twice");
    program::audit(&killed);
}
