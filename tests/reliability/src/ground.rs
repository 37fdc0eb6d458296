//! What most tools are told: where luck comes from, and where stores are made. What is made there
//! is the tool's.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use tempfile::TempDir;

use crate::random::Random;

/// See the module.
#[derive(Args, Debug)]
pub(crate) struct Ground {
    /// Where luck comes from; drawn and printed unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Where stores are made; a temporary folder unless given.
    #[arg(long)]
    folder: Option<PathBuf>,
}

impl Ground {
    /// The seed that was given, or one that nobody has chosen: another one at each call.
    pub(crate) fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(Random::any_seed)
    }

    /// A new folder, which goes when this is dropped.
    pub(crate) fn place(&self) -> anyhow::Result<TempDir> {
        let place = match &self.folder {
            Some(folder) => tempfile::tempdir_in(folder),
            None => tempfile::tempdir(),
        };
        place.context("no folder for stores")
    }
}
