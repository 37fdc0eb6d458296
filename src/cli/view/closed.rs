//! `tidegate view` on a closed store, which it opens itself. A rebuild opens all of it, with what
//! is due; the others only look.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde::Serialize;
use tidegate::{Rebuild, Sales, StoredView, Tidegate, View};

use super::{Bars, Rebuilt, ViewArguments, ViewsArguments, print_rows};
use crate::cli::{Verdict, grouped, print, print_json, progress::opening};

/// How often the bar is moved.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Serialize)]
struct Listed {
    views: Vec<StoredView>,
}

/// Runs `tidegate view list`.
pub(super) async fn list(arguments: ViewsArguments) -> anyhow::Result<Verdict> {
    let views = stored(&arguments.data).await?;
    if arguments.json {
        print_json(&Listed { views })?;
    } else if views.is_empty() {
        print("the store has no views\n")?;
    } else {
        print_rows(views.iter().map(|view| (&view.name, readable(view))))?;
    }
    Ok(Verdict::Good)
}

/// Runs `tidegate view show`.
pub(super) async fn show(arguments: ViewArguments) -> anyhow::Result<Verdict> {
    let ViewArguments { name, of } = arguments;
    let views = stored(&of.data).await?;
    let Some(view) = views.into_iter().find(|view| view.name == name) else {
        eprintln!("the store has no rows of a view {name:?}");
        return Ok(Verdict::Bad);
    };
    if of.json {
        print_json(&view)?;
        return Ok(Verdict::Good);
    }
    let version = view.version.map_or_else(|| "none".to_owned(), |version| version.to_string());
    let lag = grouped(view.durable.saturating_sub(view.position));
    let rebuilding = if view.rebuilding { "yes" } else { "no" };
    print_rows([
        ("view", view.name),
        ("version", version),
        ("position", grouped(view.position)),
        ("lag", format!("{lag} records")),
        ("rows", grouped(view.rows)),
        ("being rebuilt", rebuilding.to_owned()),
    ])?;
    Ok(Verdict::Good)
}

/// Runs `tidegate view rebuild`.
pub(super) async fn rebuild(arguments: ViewArguments) -> anyhow::Result<Verdict> {
    let ViewArguments { name, of } = arguments;
    if name != Sales::NAME {
        bail!(
            "{name:?} is not a built-in view ({} is); a host's own view is built by the host, with \
             Tidegate::rebuild_view",
            Sales::NAME
        );
    }
    // Opening would make a store where there is none.
    stored(&of.data).await?;
    let begun = Instant::now();
    let gate = opening(Tidegate::builder(&of.data).view(Sales)).await?;
    let rebuild = gate.rebuild_view(&name).context("the view was not started")?;
    let position = finished(rebuild).await;
    let rows = gate.view::<Sales>().map_or(0, |sales| sales.report().rows);
    gate.close().await.context("the store did not close cleanly; the next open recovers it")?;
    let (position, seconds) = (position?.0, begun.elapsed().as_secs_f64());
    Rebuilt { name: &name, position, rows, seconds }.print(of.json)?;
    Ok(Verdict::Good)
}

/// Waits for the end, and shows how far it is.
async fn finished(mut rebuild: Rebuild) -> anyhow::Result<tidegate::Position> {
    let mut bars = Bars::new();
    loop {
        if let Ok(finished) = tokio::time::timeout(LOOK_EVERY, rebuild.finished()).await {
            return Ok(finished?);
        }
        if let Some(progress) = rebuild.progress() {
            bars.show(progress);
        }
    }
}

async fn stored(data: &Path) -> anyhow::Result<Vec<StoredView>> {
    let data = data.to_owned();
    Ok(tokio::task::spawn_blocking(move || tidegate::stored_views(data)).await??)
}

fn readable(view: &StoredView) -> String {
    let (position, rows) = (grouped(view.position), grouped(view.rows));
    let lag = grouped(view.durable.saturating_sub(view.position));
    let rebuilding = if view.rebuilding { ", being rebuilt" } else { "" };
    match view.version {
        Some(version) => {
            format!("version {version}, {rows} rows, position {position}, lag {lag}{rebuilding}")
        }
        None => format!("no rows yet{rebuilding}"),
    }
}
