//! Brings the schema up to date.
//!
//! A function in SQL has a body that is read when it is made (`return …` or `begin atomic … end`),
//! so what it calls is fixed. After each migration the others get a `search_path` that leads to
//! Postgres itself alone, which a function in SQL would pay for: it no longer becomes a part of the
//! query that calls it. And the roles of those who read get what is new.

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

/// Returns whether the schema is that of this program: each migration is applied, and no other.
/// Where it cannot be read, it is not.
///
/// # Errors
/// Where the connection is lost.
pub(in crate::postgres) async fn is_current(client: &Client) -> anyhow::Result<bool> {
    let sql = "select version, name, checksum from avtryck.migration order by version";
    let rows = match client.query(sql, &[]).await {
        Ok(rows) => rows,
        Err(error) if error.as_db_error().is_some() => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let mut applied = Vec::with_capacity(rows.len());
    for row in &rows {
        let version: i32 = row.try_get(0)?;
        let name: &str = row.try_get(1)?;
        let checksum: &str = row.try_get(2)?;
        applied.push((version, name, checksum.to_owned()));
    }
    let runner = schema::migrations::runner();
    let mut own: Vec<_> = runner
        .get_migrations()
        .iter()
        .map(|own| (own.version(), own.name(), own.checksum().to_string()))
        .collect();
    own.sort_unstable();
    Ok(applied == own)
}

async fn migrate_locked(client: &mut Client) -> anyhow::Result<()> {
    // `create schema if not exists` takes a privilege even where there is nothing to do.
    let schema = client
        .query_opt("select from pg_namespace where nspname = 'avtryck'", &[])
        .await?;
    if schema.is_none() {
        let made = client.batch_execute("create schema avtryck").await;
        made.context("creating the schema avtryck")?;
    }
    let mut runner = schema::migrations::runner();
    runner.set_migration_table_name("avtryck.migration");
    let report = runner.run_async(client).await.context("migrating")?;
    let fixed = client.batch_execute(include_str!("fix_search_path.sql"));
    fixed.await.context("fixing what functions call")?;
    let fixed = client.batch_execute(include_str!("fix_plans.sql"));
    fixed.await.context("fixing how reports are planned")?;
    let granted = client.batch_execute(include_str!("readers.sql"));
    granted
        .await
        .context("granting to those who read reports")?;
    for migration in report.applied_migrations() {
        tracing::info!(%migration, "migrated");
    }
    Ok(())
}
