//! `tidegate audit`: prints what the library's audit found.

use std::path::Path;

use tidegate::AuditReport;

use super::{AuditArguments, Verdict, print, print_json};

/// Runs the command.
pub(super) async fn run(arguments: AuditArguments) -> anyhow::Result<Verdict> {
    let report = of(&arguments.data).await?;
    if arguments.json {
        print_json(&report)?;
    } else {
        print(&readable(&report))?;
    }
    Ok(Verdict::of(report.ok))
}

/// Audits the store in `data`.
pub(super) async fn of(data: &Path) -> anyhow::Result<AuditReport> {
    let data = data.to_owned();
    Ok(tokio::task::spawn_blocking(move || tidegate::audit(data)).await??)
}

/// One line for each check.
pub(super) fn readable(report: &AuditReport) -> String {
    let mut text = String::new();
    for check in &report.checks {
        let verdict = if check.ok { "ok" } else { "WRONG" };
        text += &format!("{:>20}  {verdict}: {}\n", format!("audit, {}", check.name), check.detail);
    }
    text
}
