//! `avtryck migrate`.

use std::process::ExitCode;

use tokio_postgres::Client;

use crate::config::Config;
use crate::postgres::Database;

/// Brings the schema up to date.
///
/// # Errors
/// If Postgres cannot be reached, or a migration fails.
pub(super) fn run(config: &Config) -> anyhow::Result<ExitCode> {
    with_database(config, async |_| Ok(()))?;
    Ok(ExitCode::SUCCESS)
}

/// Works on the database, with its schema up to date. An embedded server is left as it was: running
/// where a collector uses it.
///
/// # Errors
/// If Postgres cannot be reached, a migration fails, or `work` does.
pub(super) fn with_database(
    config: &Config,
    work: impl AsyncFnOnce(&mut Client) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let database = Database::new(&config.database)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let worked = match database.connect().await {
            Ok(mut client) => work(&mut client).await,
            Err(error) => Err(error),
        };
        database.leave().await;
        worked
    })
}
