//! `avtryck example-config`: prints `avtryck.example.toml`.

use std::process::ExitCode;

use super::print;
use crate::config::Config;

pub(super) fn run() -> ExitCode {
    print(&Config::example());
    ExitCode::SUCCESS
}
