//! `avtryck geoip verify`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{complain, exit_code, print};
use crate::clock;
use crate::enrich;

#[derive(clap::Subcommand)]
pub(super) enum Geoip {
    /// Read files in MaxMind's format to the end, and print a line for each. Exit status 1 if one
    /// is damaged.
    Verify {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

impl Geoip {
    pub(super) fn run(&self) -> ExitCode {
        let Geoip::Verify { files } = self;
        // Every file is reported, also after a damaged one.
        let damaged = files.iter().filter(|file| !verify(file)).count();
        exit_code(damaged == 0)
    }
}

/// Prints what a file holds; returns false if it is damaged.
fn verify(file: &Path) -> bool {
    match enrich::verify(file) {
        Ok(report) => {
            let days = report.age(clock::now()).as_secs() / 86_400;
            print(&format!(
                "{}: {}, {}, built {days} days ago, {} networks",
                file.display(),
                report.about,
                report.database_type,
                report.networks,
            ));
            true
        }
        Err(error) => {
            complain(&error.to_string());
            false
        }
    }
}
