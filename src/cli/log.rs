//! The log on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Logs to stderr: for people on a terminal, as JSON elsewhere. `AVTRYCK_LOG` is the level of the
/// collector's own messages only. Of libraries at most warnings are logged, because below that
/// level tokio-postgres logs the parameters of statements, which are IDs.
pub(super) fn to_stderr() -> Result<(), String> {
    let level = match std::env::var("AVTRYCK_LOG") {
        Err(_) => LevelFilter::INFO,
        Ok(text) => text.parse().map_err(|_| {
            format!("AVTRYCK_LOG: {text:?} is wrong; off, error, warn, info, debug or trace would be right")
        })?,
    };
    let levels = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("avtryck", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false);
    let lines = if std::io::stderr().is_terminal() {
        lines.boxed()
    } else {
        lines.json().boxed()
    };
    tracing_subscriber::registry()
        .with(lines)
        .with(levels)
        .init();
    Ok(())
}
