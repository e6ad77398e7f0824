//! `avtryck check-config`.

use std::path::Path;
use std::process::ExitCode;

use super::{complain, print};
use crate::config::Config;
use crate::serve;

/// Checks what a start would check, and the files that it would do without. Names all mistakes at
/// once; without one, prints what is in force, and ends with a line that says that it is good.
pub(super) fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let (config, mut mistakes) = Config::examine(file, std::env::vars_os());
    let (missing, mut remarks) = serve::check_tables(&config);
    let (unreachable, doubtful) = serve::check_addresses(&config);
    let unusable = [serve::unusable(&config), unreachable, missing].concat();
    mistakes.add_unusable(unusable, &config.in_force);
    mistakes.into_result()?;
    remarks.extend(doubtful);
    remarks.extend(serve::find_unsaid(&config));
    let remarks = remarks.iter().map(|remark| config.in_force.message(remark));
    for warning in serve::warnings(&config).into_iter().chain(remarks) {
        complain(&format!("warning: {warning}"));
    }
    print(&config.in_force.to_string());
    let name = file.map_or("the environment".to_owned(), |file| {
        file.display().to_string()
    });
    // A comment, because what is printed can be used as a file.
    print(&format!("\n# {name} is good: {}", serve::summary(&config)));
    Ok(ExitCode::SUCCESS)
}
