//! The format on disk, held by stores that were made once and are kept in the repository: each must
//! open with this version, be sound, and answer as it did when it was made. It makes the next one,
//! too; it changes none that is there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};

use crate::{
    Verdict,
    sample::{self, Questions, Sample, Wrong},
};

/// Enough for every kind of event; few enough for a file of some tens of KB.
const ORDERS: u64 = 90;
const STORES: [&str; 2] = ["closed", "killed"];

/// Makes a store in the present format, to be kept as `tests/fixtures/stores/NAME`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The name of the format: `v1`, `v2`, …
    name: String,
    /// Where stores are kept.
    #[arg(long, default_value = "tests/fixtures/stores")]
    folder: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let folder = arguments.folder.join(&arguments.name);
    ensure!(!folder.exists(), "{} is there already and must stay as it is", folder.display());
    let temporary = tempfile::tempdir()?;
    let (closed, killed) = (temporary.path().join("closed"), temporary.path().join("killed"));
    let expected = tokio::runtime::Runtime::new()?.block_on(async {
        let mut sample = Sample::make(&closed, ORDERS).await?;
        let expected = sample.questions().await?;
        sample::copy(&closed, &killed)?;
        sample.gate.close().await?;
        anyhow::Ok(expected)
    })?;
    fs::create_dir_all(&folder)?;
    for store in STORES {
        let archive = folder.join(format!("{store}.tar.gz"));
        tar(&["--sort=name", "-czf"], &archive, temporary.path(), &[store])?;
    }
    fs::write(folder.join("expected.txt"), expected)?;
    check(&folder)?;
    println!("made {}", folder.display());
    Ok(Verdict::Held)
}

/// An error unless both stores kept in `folder` are as they were made.
fn check(folder: &Path) -> anyhow::Result<()> {
    let expected = fs::read_to_string(folder.join("expected.txt"))?;
    ensure!(expected.lines().count() > 50, "there is nothing to compare");
    let temporary = tempfile::tempdir()?;
    for store in STORES {
        let archive = folder.join(format!("{store}.tar.gz"));
        tar(&["-xzf"], &archive, temporary.path(), &[])?;
        let dir = temporary.path().join(store);
        let asked = tokio::runtime::Runtime::new()?.block_on(async {
            let gate = sample::open(&dir).await?;
            let asked = Questions::check(&expected, &gate).await;
            gate.close().await?;
            anyhow::Ok(asked)
        });
        match asked.with_context(|| archive.display().to_string())? {
            Ok(()) => {}
            Err(Wrong::Refused(what) | Wrong::Different(what)) => {
                bail!("{}: {what}", archive.display())
            }
        }
        let report = tidegate::audit(&dir)?;
        ensure!(report.ok, "{}: {:?}", archive.display(), report.checks);
    }
    Ok(())
}

fn tar(how: &[&str], archive: &Path, folder: &Path, what: &[&str]) -> anyhow::Result<()> {
    let mut tar = Command::new("tar");
    let done = tar.args(how).arg(archive).arg("-C").arg(folder).args(what).status();
    let done = done.context("tar can't be started")?;
    ensure!(done.success(), "tar {}: {done}", archive.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kept_store_opens_and_is_as_it_was() {
        let stores = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/stores");
        let mut checked = 0;
        for entry in fs::read_dir(&stores).expect("the kept stores") {
            check(&entry.expect("a kept store").path()).expect("a kept store is as it was");
            checked += 1;
        }
        assert!(checked >= 1);
    }
}
