//! `avtryck check-config`.

use std::path::Path;
use std::process::ExitCode;

use super::{complain, print};
use crate::config::{Config, ConfigErrors};
use crate::serve;

/// Checks what a start would check, and the files that it would do without. Prints what is in
/// force, and ends with a line that says so if all of it is good.
pub(super) fn run(config: &Config, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let (missing, remarks) = serve::check_tables(config);
    let mut errors = serve::check(config)
        .err()
        .map_or(Vec::new(), |errors| errors.0);
    errors.extend(missing);
    if !errors.is_empty() {
        return Err(ConfigErrors(errors).into());
    }
    for warning in serve::warnings(config).iter().chain(&remarks) {
        complain(&format!("warning: {warning}"));
    }
    print(&config.in_force.to_string());
    let name = file.map_or("the environment".to_owned(), |file| {
        file.display().to_string()
    });
    // A comment, because what is printed can be used as a file.
    print(&format!("\n# {name} is good: {}", serve::summary(config)));
    Ok(ExitCode::SUCCESS)
}
