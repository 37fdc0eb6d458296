//! `tidegate view` on a running server: over HTTP, like any other client. It prints what the
//! server says, and knows of no view by itself.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{anyhow, bail};
use serde::Deserialize;
use serde_json::Value;
use tidegate::{Position, RebuildProgress};

use super::{Bars, Rebuilt, print_rows};
use crate::cli::{
    Verdict, grouped, print, print_json,
    remote::{Remote, segment},
};

/// How often the server is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What is read of a view here.
#[derive(Deserialize)]
struct ServedView {
    name: String,
    version: u64,
    condition: String,
    rebuilding: bool,
    position: u64,
    lag_records: u64,
    lag_ms: u64,
    rows: u64,
    builds: u64,
    failures: u64,
    progress: Option<Progress>,
}

#[derive(Deserialize)]
struct Progress {
    loaded: u64,
    position: u64,
    target: u64,
}

fn views(answer: &Value) -> anyhow::Result<Vec<ServedView>> {
    Ok(Vec::deserialize(&answer["views"])?)
}

fn named(answer: &Value, name: &str) -> anyhow::Result<Option<ServedView>> {
    Ok(views(answer)?.into_iter().find(|view| view.name == name))
}

/// Runs `tidegate view list`.
pub(super) fn list(remote: &Remote, json: bool) -> anyhow::Result<Verdict> {
    let answer: Value = remote.get("/v1/views")?;
    if json {
        print_json(&answer)?;
        return Ok(Verdict::Good);
    }
    let views = views(&answer)?;
    if views.is_empty() {
        print("the server has no views\n")?;
    }
    let rows = views.into_iter().map(|view| {
        let (position, rows) = (grouped(view.position), grouped(view.rows));
        let lag = grouped(view.lag_records);
        let rebuilding = if view.rebuilding { ", being rebuilt" } else { "" };
        let ServedView { name, version, condition, .. } = view;
        let how = format!("version {version}, {condition}");
        (name, format!("{how}, {rows} rows, position {position}, lag {lag}{rebuilding}"))
    });
    print_rows(rows)?;
    Ok(Verdict::Good)
}

/// Runs `tidegate view show`.
pub(super) fn show(remote: &Remote, name: &str, json: bool) -> anyhow::Result<Verdict> {
    let answer: Value = remote.get("/v1/views")?;
    let Some(view) = named(&answer, name)? else {
        eprintln!("the server has no view {name:?}");
        return Ok(Verdict::Bad);
    };
    if json {
        let all = answer["views"].as_array().into_iter().flatten();
        let shown = all.clone().find(|view| view["name"] == name);
        print_json(&shown)?;
        return Ok(Verdict::Good);
    }
    let rebuilt = match &view.progress {
        Some(progress) => {
            format!("at {} of {}", grouped(progress.position), grouped(progress.target))
        }
        None if view.rebuilding => "soon".to_owned(),
        None => "no".to_owned(),
    };
    let (lag, lag_ms) = (grouped(view.lag_records), grouped(view.lag_ms));
    print_rows([
        ("view", view.name),
        ("version", view.version.to_string()),
        ("condition", view.condition),
        ("position", grouped(view.position)),
        ("lag", format!("{lag} records, {lag_ms} ms")),
        ("rows", grouped(view.rows)),
        ("being rebuilt", rebuilt),
    ])?;
    Ok(Verdict::Good)
}

/// Runs `tidegate view rebuild`: asks for it, and waits until it is over.
pub(super) fn rebuild(remote: &Remote, name: &str, json: bool) -> anyhow::Result<Verdict> {
    let begun = Instant::now();
    let gone = || anyhow!("the server has no view {name:?}");
    let before = named(&remote.get("/v1/views")?, name)?.ok_or_else(gone)?;
    let _: Value = remote.ask("POST", &format!("/v1/views/{}/rebuild", segment(name)), None)?;
    let mut bars = Bars::new();
    let after = loop {
        let view = named(&remote.get("/v1/views")?, name)?.ok_or_else(gone)?;
        if !view.rebuilding {
            break view;
        }
        if let Some(Progress { loaded, position, target }) = view.progress {
            let (position, target) = (Position(position), Position(target));
            bars.show(RebuildProgress { loaded, position, target });
        }
        thread::sleep(LOOK_EVERY);
    };
    drop(bars);
    if after.builds == before.builds {
        if after.failures > before.failures {
            let old = "and the old rows are still read";
            bail!("the view was not built; the server's log says why, {old}");
        }
        bail!("the server has ended meanwhile; `tidegate view show {name}` tells how it is");
    }
    let seconds = begun.elapsed().as_secs_f64();
    let ServedView { position, rows, .. } = after;
    Rebuilt { name, position, rows, seconds }.print(json)?;
    Ok(Verdict::Good)
}
