//! `avtryck migrate`.

use std::process::ExitCode;

use tokio_postgres::Client;

use crate::config::Config;
use crate::postgres::server::cluster::Remembers;
use crate::postgres::{self, Database};

/// Brings the schema up to date, and distributes it if that is asked for.
///
/// # Errors
/// If Postgres cannot be reached, or a migration fails, or Postgres has no Citus to distribute by.
pub(super) fn run(config: &Config, distribute: bool) -> anyhow::Result<ExitCode> {
    with(
        new_database(config)?,
        async |database| match distribute {
            true => database.connect_to_distribute().await,
            false => database.connect().await,
        },
        async |client| match distribute {
            true => postgres::distribute(client).await,
            false => Ok(()),
        },
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Works on the database, with its schema up to date. An embedded server is left as it was: running
/// where a collector uses it. An embedded database that does not exist is not made.
///
/// # Errors
/// If there is no database, Postgres cannot be reached, a migration fails, or `work` does.
pub(super) fn with_database(
    config: &Config,
    work: impl AsyncFnOnce(&mut Client) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let database = new_database(config)?.existing();
    with(database, async |database| database.connect().await, work)
}

fn new_database(config: &Config) -> anyhow::Result<Database> {
    let database = Database::new(&config.database)?;
    Ok(database.remembering(&config.spool.dir, Remembers::Reads))
}

fn with(
    database: Database,
    connect: impl AsyncFnOnce(&Database) -> anyhow::Result<Client>,
    work: impl AsyncFnOnce(&mut Client) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let worked = match connect(&database).await {
            Ok(mut client) => work(&mut client).await,
            Err(error) => Err(error),
        };
        database.leave().await;
        worked
    })
}
