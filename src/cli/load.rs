//! `avtryck load`.

use std::path::Path;
use std::process::ExitCode;

use crate::config::Config;
use crate::serve;

/// Loads from Kafka into Postgres until SIGTERM or SIGINT.
///
/// # Errors
/// If a listener, a thread or Kafka's client cannot be set up.
pub(super) fn run(config: Config, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    serve::load(config, file.map(Path::to_owned))?;
    Ok(ExitCode::SUCCESS)
}
