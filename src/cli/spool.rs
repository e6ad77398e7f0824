//! `avtryck spool verify`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use spool::RealDisk;

use super::{exit_code, print};
use crate::serve::shard_dirs;

#[derive(clap::Subcommand)]
pub(super) enum SpoolCommand {
    /// Read every record, and print a line for each chunk. Exit status 1 if anything is damaged.
    Verify {
        /// The spool's directory.
        dir: PathBuf,
    },
}

impl SpoolCommand {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let SpoolCommand::Verify { dir } = self;
        let mut is_sound = true;
        for dir in shard_dirs(dir, 1)? {
            let reports = spool::verify(&dir, &RealDisk)
                .with_context(|| format!("cannot read the spool in {}", dir.display()))?;
            for report in &reports {
                print(&report.to_string());
            }
            is_sound &= !reports.iter().any(|report| report.is_damaged());
        }
        Ok(exit_code(is_sound))
    }
}
