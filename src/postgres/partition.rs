//! The partitions of `avtryck.hit`, one a UTC day: made when needed, dropped whole by retention.

use anyhow::Context as _;
use tokio_postgres::{Client, Error, Transaction};

/// How long a drop waits for readers of the table. Loaders queue behind it, so it gives up soon;
/// the job tries again later.
const DROP_LOCK_TIMEOUT: &str = "2s";

/// Locks `hit` against the dropping of partitions until the transaction ends, makes the partitions
/// of these days (since 1970, UTC) that are missing, and returns how many it made.
///
/// Because the lock is taken first, a day that is found here still exists when the rows come.
pub(super) async fn make_days(transaction: &Transaction<'_>, days: &[i32]) -> Result<u64, Error> {
    transaction
        .batch_execute("lock table only avtryck.hit in row exclusive mode")
        .await?;
    let row = transaction
        .query_one(
            "select count(*) from unnest($1::int[]) as day \
             where avtryck.make_hit_day(date '1970-01-01' + day)",
            &[&days],
        )
        .await?;
    Ok(row.try_get::<_, i64>(0)?.cast_unsigned())
}

/// Makes the partitions of the days `first ..= last`, and returns how many were missing.
///
/// # Errors
/// Where Postgres fails.
pub async fn make_ahead(client: &mut Client, first: i32, last: i32) -> anyhow::Result<u64> {
    let transaction = client.transaction().await?;
    let days: Vec<i32> = (first..=last).collect();
    let made = make_days(&transaction, &days).await?;
    transaction.commit().await?;
    Ok(made)
}

/// Drops the partitions of all days before `day`, each in a transaction of its own, and returns
/// their names.
///
/// # Errors
/// Where Postgres fails, or a reader holds a partition longer than a drop waits.
pub async fn drop_before(client: &mut Client, day: i32) -> anyhow::Result<Vec<String>> {
    let rows = client
        .query(
            "select relname::text from pg_inherits join pg_class on pg_class.oid = inhrelid \
             where inhparent = 'avtryck.hit'::regclass and relname ~ '^hit_[0-9]{8}$' \
               and relname < 'hit_' || to_char(date '1970-01-01' + $1::int, 'YYYYMMDD') \
             order by relname",
            &[&day],
        )
        .await?;
    let mut dropped = Vec::with_capacity(rows.len());
    for row in rows {
        let name: String = row.try_get(0)?;
        // The pattern above leaves nothing in a name that would need quoting.
        let transaction = client.transaction().await?;
        transaction
            .batch_execute(&format!(
                "set local lock_timeout = '{DROP_LOCK_TIMEOUT}'; drop table if exists avtryck.{name}"
            ))
            .await
            .with_context(|| format!("dropping the partition {name}"))?;
        transaction.commit().await?;
        dropped.push(name);
    }
    Ok(dropped)
}
