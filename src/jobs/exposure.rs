//! Deletes who saw what after `privacy.retention`.
//!
//! The table has no index on its times: one would turn each change of a row into a new entry in
//! every index. It is read in stretches instead, each in a short transaction of its own. Rows that
//! a loader is adding to are left: they were seen just now, and waiting for them here, in another
//! order, could be a deadlock.

use anyhow::Context as _;
use tokio_postgres::Client;

use super::Settings;
use crate::clock::UnixMicros;

/// Pages of a stretch: about 90,000 rows.
const STRETCH_PAGES: i64 = 1_000;

pub(super) async fn run(
    client: &mut Client,
    settings: &Settings,
    now: UnixMicros,
) -> anyhow::Result<u64> {
    let first_kept = super::day(super::earlier(now, settings.retention));
    let sql = "select pg_relation_size('avtryck.exposure') / current_setting('block_size')::bigint";
    let row = client.query_one(sql, &[]).await?;
    let pages: i64 = row.try_get(0)?;
    let delete = client
        .prepare(
            "delete from avtryck.exposure where ctid = any(array( \
                 select ctid from avtryck.exposure \
                 where ctid >= format('(%s,0)', $2::bigint)::tid and ctid < format('(%s,0)', $3::bigint)::tid \
                   and last_at < (date '1970-01-01' + $1::int)::timestamp at time zone 'UTC' \
                 for update skip locked))",
        )
        .await?;
    let mut deleted = 0;
    let mut from = 0;
    while from < pages {
        let to = from + STRETCH_PAGES;
        deleted += client
            .execute(&delete, &[&first_kept, &from, &to])
            .await
            .context("deleting old exposures")?;
        from = to;
    }
    Ok(deleted)
}
