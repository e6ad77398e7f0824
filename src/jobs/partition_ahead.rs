//! Makes the partitions of today and the days after, so that a batch seldom has to.

use tokio_postgres::Client;

use crate::clock::UnixMicros;
use crate::postgres::partition;

/// The days after today that have their partition: enough for a weekend with this job broken.
const DAYS_AHEAD: i32 = 3;

pub(super) async fn run(client: &mut Client, as_of: UnixMicros) -> anyhow::Result<u64> {
    partition::make_ahead(client, super::day(as_of), DAYS_AHEAD).await
}
