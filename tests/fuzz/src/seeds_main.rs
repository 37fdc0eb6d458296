//! Writes the seeds of every target to a folder of its own: `seeds FOLDER`. Without a folder it
//! lists the targets.

use std::{fs, path::PathBuf, process::ExitCode};

use tidegate_fuzz::{Seeds, TARGETS};

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        TARGETS.iter().for_each(|target| println!("{}", target.name));
        return ExitCode::SUCCESS;
    };
    let written = Seeds::make().and_then(|seeds| {
        for target in TARGETS {
            let folder = folder.join(target.name);
            fs::create_dir_all(&folder)?;
            for (number, bytes) in (target.seeds)(&seeds).iter().enumerate() {
                fs::write(folder.join(format!("seed-{number:04}")), bytes)?;
            }
        }
        Ok(())
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("seeds: {error:#}");
            ExitCode::FAILURE
        }
    }
}
