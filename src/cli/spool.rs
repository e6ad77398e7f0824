//! `avtryck spool verify`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use spool::RealDisk;

use super::{exit_code, print};

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
        let reports = spool::verify(dir, &RealDisk)
            .with_context(|| format!("cannot read the spool in {}", dir.display()))?;
        for report in &reports {
            print(&report.to_string());
        }
        Ok(exit_code(!reports.iter().any(|report| report.is_damaged())))
    }
}
