//! Deletes event IDs after the time in which a sender may repeat one.

use anyhow::Context as _;
use tokio_postgres::Client;

use crate::clock::UnixMicros;

/// The days for which a sender's event ID is kept. Networks repeat a callback within hours;
/// a browser sends what it kept offline within days.
const EVENT_KEY_DAYS: i32 = 7;

pub(super) async fn run(client: &mut Client, now: UnixMicros) -> anyhow::Result<u64> {
    super::delete_all(
        client,
        "delete from avtryck.event_key where key = any(array( \
             select key from avtryck.event_key \
             where seen_on < date '1970-01-01' + $1::int limit $2))",
        super::day(now) - EVENT_KEY_DAYS,
    )
    .await
    .context("deleting old event IDs")
}
