//! Brings the schema up to date.

use anyhow::Context as _;
use tokio_postgres::Client;

/// The advisory lock that a migration runs under: "avtryck" in ASCII.
const LOCK: i64 = 0x0061_7674_7279_636b;

pub(in crate::postgres) mod schema {
    refinery::embed_migrations!("src/postgres/migrations");
}

/// Brings the schema `avtryck` up to date. Several processes may call it at once: it runs under an
/// advisory lock. The table `avtryck.migration` lists the migrations that were applied.
///
/// # Errors
/// Where a migration fails, or one that was applied has changed since.
pub async fn migrate(client: &mut Client) -> anyhow::Result<()> {
    client
        .execute("select pg_advisory_lock($1)", &[&LOCK])
        .await
        .context("waiting for the lock of the migration")?;
    let migrated = migrate_locked(client).await;
    let unlocked = client
        .execute("select pg_advisory_unlock($1)", &[&LOCK])
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
