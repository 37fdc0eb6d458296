//! Opening a store that is taken, damaged, newer, half made, out of room, forbidden or no store at
//! all: the message says what to do, and what was there stays as it was.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::FileExt,
    path::Path,
    process::Stdio,
};

use tidegate::{OpenError, OpeningProgress, OpeningStep, OrderId, StorageError, Tidegate};

use crate::{
    program::{run, tidegate},
    seed::Random,
    shop::{Shop, assert_sound, files, open, orders_of, small},
    traces,
};

const MANIFEST: &str = "tidegate.store";
const SEGMENT: &str = "00000000000000000001.seg";

/// Makes a store with orders of ada, and closes it.
async fn closed_store(folder: &Path) {
    let shop = Shop::at(folder).await;
    shop.item("mug", 1_000).await;
    for number in 0..40 {
        let order = tidegate::NewOrder::new("ada").line("mug", 1);
        let id = shop.place(order, &format!("cart-{number}")).await.id;
        shop.pay(id, "event", 100).await;
    }
    shop.gate.close().await.unwrap();
}

async fn open_error(folder: &Path) -> OpenError {
    match small(folder).open().await {
        Ok(_) => panic!("it must not open"),
        Err(error) => error,
    }
}

/// Both commands that open a store fail with exit code 1 and these words.
fn assert_commands_fail(data: &Path, parts: &[&str]) {
    let trace = traces::bundled();
    let replay = ["replay".as_ref(), trace.as_os_str(), "--data".as_ref(), data.as_os_str()];
    run(replay).assert_failed(parts);
    run(["audit".as_ref(), "--data".as_ref(), data.as_os_str()]).assert_failed(parts);
}

#[tokio::test]
async fn a_store_that_is_open_is_locked_for_everybody_else() {
    let folder = tempfile::tempdir().unwrap();
    let gate = open(folder.path()).await;
    let error = open_error(folder.path()).await;
    assert!(matches!(error, OpenError::Storage(StorageError::Locked { .. })), "{error}");
    let audit = tidegate::audit(folder.path()).unwrap_err();
    assert!(matches!(audit, OpenError::Storage(StorageError::Locked { .. })), "{audit}");
    let path = folder.path().display().to_string();
    assert_commands_fail(folder.path(), &["is open elsewhere", &path]);

    // Whoever was turned away has done no harm, and closing lets the next one in.
    gate.stock().define("mug", tidegate::SkuPatch::default()).await.unwrap();
    gate.close().await.unwrap();
    let next = open(folder.path()).await;
    next.stock().get("mug").await.unwrap();
    next.close().await.unwrap();
    next.close().await.unwrap();
}

#[tokio::test]
async fn the_lock_of_a_killed_process_is_gone_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = tidegate();
    command.args(["demo", "--sell-until-killed"]).arg(folder.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut told = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = told.next().unwrap().unwrap();
    let error = open_error(folder.path()).await;
    assert!(matches!(error, OpenError::Storage(StorageError::Locked { .. })), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();

    let gate = Tidegate::builder(folder.path()).open().await.unwrap();
    let (_, id) = first.split_once(' ').unwrap();
    gate.orders().get(id.parse::<OrderId>().unwrap()).await.unwrap();
    gate.close().await.unwrap();
    assert_sound(folder.path());
}

#[tokio::test]
async fn a_damaged_journal_is_refused_with_its_place_and_left_alone() {
    let mut random = Random::of("a_damaged_journal_is_refused_with_its_place_and_left_alone");
    let folder = tempfile::tempdir().unwrap();
    closed_store(folder.path()).await;
    let segment = folder.path().join("journal").join(SEGMENT);
    let good = fs::read(&segment).unwrap();
    let used = good.iter().rposition(|byte| *byte != 0).unwrap();
    for _ in 0..4 {
        // Anywhere between the first frame and the last: what follows proves that it was durable.
        let at = random.between(4_096 + 32, used as u64 * 3 / 4);
        let flipped = good[at as usize] ^ (1 << random.between(0, 8));
        write_at(&segment, at, &[flipped]);
        let before = files(folder.path());
        let error = open_error(folder.path()).await;
        let OpenError::Storage(StorageError::Damaged { path, offset, .. }) = &error else {
            panic!("byte {at}: {error}");
        };
        assert_eq!(*path, segment);
        assert!(*offset <= at && *offset >= 4_096, "said {offset}, was {at}");
        assert!(tidegate::audit(folder.path()).is_err());
        let place = format!("{SEGMENT} is damaged at byte {offset}");
        assert_commands_fail(folder.path(), &[&place, "restore it from a backup"]);
        assert!(files(folder.path()) == before, "a damaged store was changed");
        write_at(&segment, at, &[good[at as usize]]);
    }
    let gate = open(folder.path()).await;
    assert_eq!(orders_of(&gate, "ada", 100).await.len(), 40, "mended, all is there");
    gate.close().await.unwrap();
}

#[tokio::test]
async fn a_journal_that_is_gone_is_not_taken_for_a_new_store() {
    let folder = tempfile::tempdir().unwrap();
    closed_store(folder.path()).await;
    let (journal, aside) = (folder.path().join("journal"), folder.path().join("state.aside-9"));
    fs::rename(&journal, &aside).unwrap();
    assert_commands_fail(folder.path(), &["all journal segments are gone"]);
    fs::remove_dir_all(&journal).unwrap();
    fs::rename(&aside, &journal).unwrap();

    let (manifest, aside) = (folder.path().join(MANIFEST), tempfile::tempdir().unwrap());
    fs::copy(&manifest, aside.path().join(MANIFEST)).unwrap();
    fs::remove_file(&manifest).unwrap();
    let error = open_error(folder.path()).await.to_string();
    assert!(error.contains("it is gone, though the journal beside it holds records"), "{error}");
    fs::copy(aside.path().join(MANIFEST), &manifest).unwrap();
    assert_sound(folder.path());
}

#[tokio::test]
async fn newer_formats_are_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    closed_store(folder.path()).await;
    let segment = folder.path().join("journal").join(SEGMENT);
    for (file, name) in [(folder.path().join(MANIFEST), MANIFEST), (segment, SEGMENT)] {
        write_at(&file, 8, &9_u32.to_le_bytes());
        let before = files(folder.path());
        let error = open_error(folder.path()).await;
        let newer = matches!(
            &error,
            OpenError::Storage(StorageError::NewerFormat { path, found: 9, supported: 1 })
                if *path == file
        );
        assert!(newer, "{error}");
        let words = format!("{name} has format version 9, this build reads up to 1");
        assert_commands_fail(folder.path(), &[&words, "use the newer Tidegate"]);
        assert!(files(folder.path()) == before);
        write_at(&file, 8, &1_u32.to_le_bytes());
    }
    assert_sound(folder.path());
}

#[tokio::test]
async fn a_folder_with_anything_else_in_it_is_refused_and_untouched() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), b"years of work").unwrap();
    fs::create_dir(folder.path().join("journal")).unwrap();
    let error = open_error(folder.path()).await;
    assert!(matches!(error, OpenError::Storage(StorageError::NotAStore { .. })), "{error}");
    let trace = traces::bundled();
    let replay = ["replay".as_ref(), trace.as_os_str(), "--data".as_ref()];
    let ran = run(replay.into_iter().chain([folder.path().as_os_str()]));
    ran.assert_failed(&["not a Tidegate store", "thesis.tex", "nothing was touched"]);
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["journal", "thesis.tex"], "not even a lock file");
    assert_eq!(fs::read(folder.path().join("thesis.tex")).unwrap(), b"years of work");

    let file = folder.path().join("thesis.tex");
    assert_commands_fail(&file, &["not a Tidegate store"]);
    assert_eq!(fs::read(&file).unwrap(), b"years of work");
}

#[tokio::test]
async fn how_far_an_opening_is_can_be_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let shop = Shop::at(folder.path()).await;
    shop.item("mug", 1_000).await;
    shop.place(tidegate::NewOrder::new("ada").line("mug", 1), "cart").await;
    let journalled = shop.gate.report().durable.0;
    // As a crash would leave it: everything is to be applied again.
    drop(shop);
    let builder = small(folder.path());
    let opening = builder.opening();
    assert_eq!(opening.progress(), OpeningProgress::default());
    let gate = builder.open().await.unwrap();
    let (step, done) = (OpeningStep::Applying, journalled);
    assert_eq!(opening.progress(), OpeningProgress { step, done, total: journalled });
    gate.close().await.unwrap();
    let builder = small(folder.path());
    let opening = builder.opening();
    builder.open().await.unwrap();
    let OpeningProgress { done, total, .. } = opening.progress();
    assert!(done == total && total < journalled, "snapshots hold what was there: {total}");
}

#[tokio::test]
async fn the_number_of_shards_is_fixed_when_a_store_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let shop = Shop::at(folder.path()).await;
    shop.item("mug", 5).await;
    shop.gate.close().await.unwrap();
    drop(shop);
    for (asked, words) in [
        (small(folder.path()).stock_shards(4), "this store has 3 stock shards, not 4"),
        (small(folder.path()).order_shards(1), "this store has 2 orders shards, not 1"),
    ] {
        let error = asked.open().await.err().expect("it must not open");
        assert!(matches!(error, OpenError::ShardCount { .. }));
        assert!(error.to_string().contains(words), "{error}");
    }
    // Left out, it is what it was.
    let gate = Tidegate::builder(folder.path()).open().await.unwrap();
    assert_eq!(gate.stock().get("mug").await.unwrap().available, 5);
    let own = |name: &str| gate.report().shards.iter().filter(|one| one.name == name).count();
    assert_eq!((own("stock"), own("orders")), (3, 2));
    gate.close().await.unwrap();
}

#[tokio::test]
async fn a_store_half_made_is_finished() {
    let whole = tempfile::tempdir().unwrap();
    open(whole.path()).await.close().await.unwrap();
    let cuts: [&dyn Fn(&Path); 6] = [
        &|folder| fs::remove_file(folder.join(MANIFEST)).unwrap(),
        &|folder| {
            fs::rename(folder.join(MANIFEST), folder.join("tidegate.store.tmp")).unwrap();
        },
        &|folder| {
            fs::remove_file(folder.join(MANIFEST)).unwrap();
            fs::write(folder.join("tidegate.store.tmp"), b"TIDE").unwrap();
            fs::remove_dir_all(folder.join("state")).unwrap();
        },
        &|folder| {
            fs::remove_file(folder.join(MANIFEST)).unwrap();
            fs::write(folder.join("state/index/db"), b"cut short").unwrap();
            fs::write(folder.join("state/index/conf"), b"").unwrap();
        },
        &|folder| {
            fs::remove_file(folder.join(MANIFEST)).unwrap();
            let journal = folder.join("journal");
            let spare = journal.join("00000000000000000007.tmp");
            fs::rename(journal.join(SEGMENT), spare).unwrap();
        },
        &|folder| {
            fs::remove_dir_all(folder).unwrap();
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("LOCK"), b"").unwrap();
        },
    ];
    for (number, cut) in cuts.into_iter().enumerate() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("store");
        copy_folder(whole.path(), &folder);
        cut(&folder);
        let shop = Shop::at(&folder).await;
        shop.item("mug", 3).await;
        shop.gate.close().await.unwrap();
        drop(shop);
        let again = open(&folder).await;
        assert_eq!(again.stock().get("mug").await.unwrap().available, 3, "cut {number}");
        again.close().await.unwrap();
        assert_sound(&folder);
    }
}

fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = (entry.as_ref().unwrap().path(), entry.unwrap().file_name());
        if path.is_dir() {
            copy_folder(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}
