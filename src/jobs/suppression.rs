//! Forgets visitors who withdrew or were erased, once no hit can name them any more.
//!
//! Entries of other IDs stay: a device keeps its mobile advertising ID, and a partner its ID for a
//! visitor, for as long as they like. That somebody was erased is on record for as long as it may
//! have to be proved.

use anyhow::Context as _;
use tokio_postgres::Client;

use crate::clock::UnixMicros;
use crate::visitor::COOKIE_DAYS_MAX;

/// How long its last hit may wait in a spool.
const SLACK_DAYS: i32 = 30;

/// How long an erasure is on record: three years, and longer than any backup that would have to be
/// erased from again.
const ERASURE_DAYS: i32 = 3 * 365;

pub(super) async fn run(client: &mut Client, now: UnixMicros) -> anyhow::Result<u64> {
    let erasures = super::delete_all(
        client,
        "delete from avtryck.erasure where ctid = any(array( \
             select ctid from avtryck.erasure \
             where erased_at < (date '1970-01-01' + $1::int)::timestamp at time zone 'UTC' \
             limit $2))",
        super::day(now) - ERASURE_DAYS,
    )
    .await
    .context("deleting old records of erasures")?;
    let entries = super::delete_all(
        client,
        "delete from avtryck.suppression where key = any(array( \
             select key from avtryck.suppression \
             where id_kind = 'visitor' \
               and since < (date '1970-01-01' + $1::int)::timestamp at time zone 'UTC' \
             limit $2))",
        super::day(now) - i32::from(COOKIE_DAYS_MAX) - SLACK_DAYS,
    )
    .await
    .context("deleting old entries of the list of suppression")?;
    Ok(erasures + entries)
}
