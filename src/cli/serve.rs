//! `avtryck serve`.

use std::path::Path;
use std::process::ExitCode;

use super::tag::form;
use crate::config::Config;
use crate::serve;

/// Collect: answer hits, keep them, load them into Postgres.
#[derive(clap::Args)]
pub(super) struct Serve {
    /// Take over from the process that serves from the same spool, if there is one: no connection
    /// is refused, and that process ends.
    #[arg(long)]
    take_over: bool,
}

impl Serve {
    pub(super) fn run(&self, config: Config, file: Option<&Path>) -> anyhow::Result<ExitCode> {
        serve::serve(
            config,
            file.map(Path::to_owned),
            self.take_over,
            form::make_page,
        )?;
        Ok(ExitCode::SUCCESS)
    }
}
