//! `avtryck check-config`.

use std::process::ExitCode;

use super::print;
use crate::config::Config;
use crate::serve;

/// Checks what a start would check, and prints what is in force.
pub(super) fn run(config: &Config) -> anyhow::Result<ExitCode> {
    serve::check(config)?;
    print(&config.in_force.to_string());
    Ok(ExitCode::SUCCESS)
}
