//! Postgres: the schema, and loading batches into it.
//!
//! What it promises: a batch and the position of the spool behind it commit in one transaction
//! ([`commit`]), so each record becomes exactly one row. One bad hit never stops a batch. What it
//! refuses: to guess after a lost connection. The truth is then [`batch::position::read`].

pub mod batch;
pub mod partition;
pub mod server;
pub mod subject;
mod timestamp;

use std::time::Duration;

use anyhow::Context as _;
use tokio_postgres::{Client, Config, NoTls};

pub use batch::commit::{CommitError, Loaded, Payloads, commit};
pub use batch::load::{Count, Load, Record, Rejected, event_key};
pub use batch::position::Position;
pub use server::connect::{Database, check};

/// The advisory lock that a migration runs under: "avtryck" in ASCII.
const MIGRATION_LOCK: i64 = 0x0061_7674_7279_636b;

mod schema {
    refinery::embed_migrations!("src/postgres/migrations");
}

/// How far loading steps back, by the number of `nice`: where it and the edge want a core, the edge has it.
pub(crate) const NICE: i32 = 10;

/// What every connection rests on, whatever the server, the database or the role say otherwise: a chunk of the
/// spool is deleted behind a commit, so a commit is durable; the locks of a batch are taken statement by
/// statement; and whoever is cut off in a transaction does not hold its locks for hours.
const SESSION: &str = "select set_config('synchronous_commit', 'on', false) \
     where current_setting('synchronous_commit') = 'off'; \
     set default_transaction_isolation = 'read committed'; \
     set idle_in_transaction_session_timeout = '150s'";
/// How long a silent connection may be dead.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Connects, and drives the connection on a task of the current runtime until the client is dropped.
///
/// # Errors
/// Where Postgres cannot be reached or refuses.
pub async fn connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let mut config = config.clone();
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(SILENCE_MAX);
    }
    // The default of two hours is the system's, and nobody's choice.
    if config.get_keepalives_idle() > SILENCE_MAX {
        config.keepalives_idle(SILENCE_MAX);
    }
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        // Whoever waits for an answer gets this error too, and handles it.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to Postgres ended");
        }
    });
    client.batch_execute(SESSION).await?;
    Ok(client)
}

/// Brings the schema `avtryck` up to date. Several processes may call it at once: it runs under an
/// advisory lock. The history stands in `avtryck.migration`.
///
/// # Errors
/// Where a migration fails, or one that was applied has changed since.
pub async fn migrate(client: &mut Client) -> anyhow::Result<()> {
    client
        .execute("select pg_advisory_lock($1)", &[&MIGRATION_LOCK])
        .await
        .context("waiting for the lock of the migration")?;
    let migrated = migrate_locked(client).await;
    let unlocked = client
        .execute("select pg_advisory_unlock($1)", &[&MIGRATION_LOCK])
        .await;
    migrated?;
    unlocked.context("releasing the lock of the migration")?;
    Ok(())
}

async fn migrate_locked(client: &mut Client) -> anyhow::Result<()> {
    client
        .batch_execute(
            "set client_min_messages = warning; create schema if not exists avtryck; \
             reset client_min_messages",
        )
        .await
        .context("creating the schema avtryck")?;
    let mut runner = schema::migrations::runner();
    runner.set_migration_table_name("avtryck.migration");
    let report = runner.run_async(client).await.context("migrating")?;
    for migration in report.applied_migrations() {
        tracing::info!(%migration, "migrated");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
