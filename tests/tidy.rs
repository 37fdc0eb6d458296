//! What Cargo can't enforce: who may know whom, how long things may get, and what never gets in.
//! Each rule names the file and the line. Formatting and lints are left to their own tools.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const LINES_MAX: usize = 500;
const LINE_CHARS_MAX: usize = 100;
const MAIN_LINES_MAX: usize = 60;
const ARCHITECTURE_LINES_MAX: usize = 250;

/// The engines behind the traits of storage, and how one gets at them.
const ENGINES: [&str; 7] =
    ["LoggedState", "SplitState", "FileJournal", "Store::", "MemoryJournal", "MemoryState", "sled"];

/// A Rust file of the project.
struct Source {
    /// Its path from the project's root, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// Lines with their numbers, without comments and, if asked, without the tests at the end.
    fn code(&self, with_tests: bool) -> impl Iterator<Item = (usize, &str)> {
        let tests = move |line: &str| !with_tests && line.trim_start().starts_with("#[cfg(test)]");
        let lines = self.text.lines().take_while(move |line| !tests(line));
        lines.enumerate().map(|(number, line)| {
            let comment = line.find("//").unwrap_or(line.len());
            (number + 1, &line[..comment])
        })
    }

    fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file in these folders; what a build leaves behind lies elsewhere.
fn sources(folders: &[&str]) -> Vec<Source> {
    let mut left: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut found = Vec::new();
    while let Some(folder) = left.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                left.push(path);
            } else if path.extension().is_some_and(|suffix| suffix == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn all() -> Vec<Source> {
    let all = sources(&["src", "actors", "storage", "examples", "tests", "benches"]);
    assert!(all.len() > 50, "the project's files are not where they were");
    all
}

/// Whether `line` has `word` standing by itself.
fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        let joined = word.ends_with(part) && after.starts_with(part);
        !before.ends_with(part) && !joined
    })
}

/// Fails with every broken rule at once.
fn assert_none(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

/// Places where the code of `sources` has one of `words`.
fn places(sources: &[Source], words: &[&str], with_tests: bool) -> Vec<String> {
    let mut places = Vec::new();
    for source in sources {
        for (number, line) in source.code(with_tests) {
            for word in words.iter().filter(|word| has_word(line, word)) {
                places.push(format!("{}:{number}: {word}", source.path));
            }
        }
    }
    places
}

/// The names under `[dependencies]` of a package.
fn dependencies(manifest: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(manifest)).unwrap();
    let lines = text.lines().skip_while(|line| line.trim() != "[dependencies]").skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split(['.', '=', ' ']).next());
    names.filter(|name| !name.is_empty() && !name.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn words_are_found_where_they_stand_alone() {
    assert!(has_word("use sled::Db;", "sled") && has_word("Store::open(x)", "Store::"));
    assert!(!has_word("respond_async: bool", "async") && !has_word("tidegate_storage", "storage"));
    assert!(!has_word("StoreOptions", "Store::") && !has_word("AStore::open", "Store::"));
}

#[test]
fn machines_know_no_clock_no_disk_no_thread_and_no_actor() {
    let allowed =
        ["ecow", "hashbrown", "rustc-hash", "serde", "siphasher", "thiserror", "triomphe"];
    let strangers = dependencies("actors/machines/Cargo.toml");
    let strangers = strangers.into_iter().filter(|name| !allowed.contains(&name.as_str()));
    assert_none("machines may depend on few packages", &strangers.collect::<Vec<_>>());

    let words = [
        "std::time",
        "std::fs",
        "std::net",
        "std::thread",
        "std::io",
        "SystemTime",
        "Instant",
        "async",
        "await",
        "tokio",
        "actix",
        "sled",
        "tidegate_storage",
        "tidegate_actors",
    ];
    assert_none("machines are pure", &places(&sources(&["actors/machines/src"]), &words, true));
}

#[test]
fn storage_knows_no_machine_and_no_actor() {
    let words = ["actix", "actix_rt", "tokio", "tidegate_machines", "tidegate_actors", "http"];
    assert_none("storage keeps bytes", &places(&sources(&["storage/src"]), &words, true));
    let names = dependencies("storage/Cargo.toml");
    let known = names.into_iter().filter(|name| words.contains(&name.replace('-', "_").as_str()));
    assert_none("storage keeps bytes", &known.collect::<Vec<_>>());
}

#[test]
fn actors_know_storage_by_its_traits_only() {
    let mut actors = sources(&["actors/src"]);
    actors.retain(|source| !source.is_test());
    assert_none("actors name no engine", &places(&actors, &ENGINES, false));
    let names = dependencies("actors/Cargo.toml");
    assert!(!names.iter().any(|name| name == "sled" || name == "actix-web"), "{names:?}");
}

#[test]
fn the_composition_root_alone_names_an_engine() {
    let mut front = sources(&["src"]);
    front.retain(|source| source.path != "src/runtime.rs" && !source.path.contains("/runtime/"));
    assert_none("engines are named in src/runtime.rs only", &places(&front, &ENGINES, false));
}

#[test]
fn the_command_line_and_the_examples_use_the_library_as_any_host_would() {
    let hosts = sources(&["src/cli", "src/config", "src/http", "src/admin", "examples", "tests"]);
    let inner = ["tidegate_actors", "tidegate_machines", "tidegate_storage"];
    // This file has to name what it forbids; the simulation stands where the runtime does, and
    // fuzzers stand at the decoders themselves.
    let outside = ["tests/tidy.rs", "tests/reliability/src/sim/", "tests/fuzz/"];
    let mut hosts = hosts;
    hosts.retain(|host| !outside.iter().any(|outside| host.path.starts_with(outside)));
    assert_none("hosts know `tidegate` only", &places(&hosts, &inner, true));
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut broken = Vec::new();
    for Source { path, text } in all() {
        let lines = text.lines().count();
        let max = if path == "src/main.rs" { MAIN_LINES_MAX } else { LINES_MAX };
        if lines > max {
            broken.push(format!("{path} has {lines} lines, more than {max}"));
        }
        if !text.starts_with("//!") {
            broken.push(format!("{path} does not begin with //!"));
        }
        for (number, line) in (1..).zip(text.lines()) {
            let chars = line.chars().count();
            if chars > LINE_CHARS_MAX {
                broken.push(format!("{path}:{number} has {chars} characters"));
            }
        }
    }
    if let Ok(text) = fs::read_to_string(root().join("ARCHITECTURE.md")) {
        let lines = text.lines().count();
        if lines > ARCHITECTURE_LINES_MAX {
            broken.push(format!("ARCHITECTURE.md has {lines} lines"));
        }
    }
    assert_none("files have bounds", &broken);
}

#[test]
fn no_module_is_named_after_nothing() {
    let empty = ["util", "utils", "common", "helper", "helpers", "manager", "misc"];
    let mut broken = Vec::new();
    for source in all() {
        let mut parts = source.path.trim_end_matches(".rs").split('/');
        if parts.any(|part| empty.contains(&part)) {
            broken.push(source.path.clone());
        }
        for (number, line) in source.code(true) {
            let module = line.trim().trim_end_matches([';', '{', ' ']).rsplit_once("mod ");
            if module.is_some_and(|(_, name)| empty.contains(&name)) {
                broken.push(format!("{}:{number}", source.path));
            }
        }
    }
    assert_none("a module's name says what is in it", &broken);
}

#[test]
fn nothing_unfinished_gets_in() {
    // Put together here, so that this file does not find itself.
    let words = [
        concat!("#[ig", "nore"),
        concat!("to", "do!"),
        concat!("unimpl", "emented!"),
        concat!("db", "g!"),
        concat!("FIX", "ME"),
    ];
    let mut broken = Vec::new();
    for Source { path, text } in all() {
        for (number, line) in (1..).zip(text.lines()) {
            for word in words.iter().filter(|word| line.contains(*word)) {
                broken.push(format!("{path}:{number}: {word}"));
            }
        }
    }
    assert_none("finished code only", &broken);
}

#[test]
fn there_is_one_integration_binary_and_it_has_every_file() {
    let main = fs::read_to_string(root().join("tests/main.rs")).unwrap();
    for entry in fs::read_dir(root().join("tests")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path.extension().is_some_and(|suffix| suffix == "rs") && name != "main" {
            assert!(main.contains(&format!("mod {name};")), "tests/{name}.rs is never compiled");
        }
    }
}

#[test]
fn every_break_that_a_test_must_notice_can_still_be_made() {
    let folder = root().join("tests/reliability/mutations");
    let (mut seen, mut broken) = (0, Vec::new());
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|suffix| suffix != "patch") {
            continue;
        }
        seen += 1;
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let says = fs::read_to_string(&path).unwrap();
        if !says.lines().any(|line| line.starts_with("Caught by: ")) {
            broken.push(format!("{name} does not say what catches it"));
        }
        let mut git = Command::new("git");
        git.current_dir(root()).args(["apply", "--check"]).arg(&path);
        let Ok(checked) = git.output() else {
            println!("skipped: there is no git here");
            return;
        };
        if !checked.status.success() {
            broken.push(format!("{name}: {}", String::from_utf8_lossy(&checked.stderr)));
        }
    }
    assert!(seen > 15, "the breaks are not where they were");
    assert_none("a patch must apply to the code as it is", &broken);
}
