//! Results for keeping: into a Markdown file between two marks, and as a picture. It also reads
//! what criterion has estimated. It measures nothing.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    plot,
    row::{Part, Results},
    table,
};

const BEGIN: &str = "<!-- figures: begin -->";
const END: &str = "<!-- figures: end -->";

/// Writes the tables and the picture of `results` where wanted.
pub(crate) fn write(results: &Results, markdown: Option<&Path>, svg: Option<&Path>) -> Result<()> {
    if let Some(file) = markdown {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let text = between_marks(&text, &table::markdown(results))
            .with_context(|| format!("{} lacks {BEGIN} and {END}", file.display()))?;
        fs::write(file, text).with_context(|| file.display().to_string())?;
    }
    if let Some(file) = svg {
        let text = plot::svg(results).context("there is nothing to draw")?;
        fs::write(file, text).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// `text` with `new` instead of what is between the marks.
fn between_marks(text: &str, new: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{new}{END}{after}"))
}

/// What criterion has estimated last: a folder for each group, in it one for each benchmark.
pub(crate) fn parts(folder: &Path) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for group in folders(folder)? {
        for bench in folders(&group)? {
            let new = bench.join("new");
            let Ok(named) = fs::read(new.join("benchmark.json")) else { continue };
            let named: Value = serde_json::from_slice(&named)?;
            let estimates = fs::read(new.join("estimates.json"))?;
            let median = &serde_json::from_slice::<Value>(&estimates)?["median"];
            let interval = &median["confidence_interval"];
            let figure = |value: &Value| value.as_f64().context("criterion's files have changed");
            parts.push(Part {
                name: named["full_id"].as_str().unwrap_or_default().to_owned(),
                median: figure(&median["point_estimate"])?,
                low: figure(&interval["lower_bound"])?,
                high: figure(&interval["upper_bound"])?,
            });
        }
    }
    parts.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(parts)
}

fn folders(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    Ok(paths.collect::<Result<Vec<_>, _>>()?.into_iter().filter(|path| path.is_dir()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_replace_figures_and_nothing_else() {
        let text = format!("method\n{BEGIN}\nold\n{END}\nrest\n");
        let text = between_marks(&text, "new\n").unwrap();
        assert_eq!(text, format!("method\n{BEGIN}\n\nnew\n{END}\nrest\n"));
        assert!(between_marks("no marks", "new").is_none());
    }
}
