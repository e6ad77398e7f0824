//! Removes what is older than `privacy.retention`: whole days of hits, rejected hits, and partners'
//! IDs that were last seen before that.
//!
//! `hit_count` stays: a count per minute, site and ad holds no personal data. So do the dimension
//! rows, which describe places, networks, devices, ads and sites, not visitors.

use anyhow::Context as _;
use tokio_postgres::Client;

use super::Settings;
use crate::clock::UnixMicros;
use crate::postgres::partition;

pub(super) async fn run(
    client: &mut Client,
    settings: &Settings,
    now: UnixMicros,
) -> anyhow::Result<u64> {
    // The day in which the limit falls is kept: only the days before it are old as a whole.
    let first_kept = super::day(super::earlier(now, settings.retention));
    let rejected = super::delete_all(
        client,
        "delete from avtryck.rejected_hit where ctid = any(array( \
             select ctid from avtryck.rejected_hit \
             where rejected_at < (date '1970-01-01' + $1::int)::timestamp at time zone 'UTC' \
             limit $2))",
        first_kept,
    )
    .await
    .context("deleting old rejected hits")?;
    let partner_ids = super::delete_all(
        client,
        "delete from avtryck.partner_id where ctid = any(array( \
             select ctid from avtryck.partner_id \
             where last_seen < (date '1970-01-01' + $1::int)::timestamp at time zone 'UTC' \
             limit $2))",
        first_kept,
    )
    .await
    .context("deleting old IDs of partners")?;
    let days = partition::drop_before(client, first_kept).await?;
    if !days.is_empty() {
        tracing::info!(?days, "retention dropped the hits of whole days");
    }
    Ok(rejected + partner_ids + days.len() as u64)
}
