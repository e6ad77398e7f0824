//! Device groups: follows new ties and lost ones, and lets hubs back.

use std::time::Duration;

use tokio_postgres::Client;

use super::{JobLimits, day};
use crate::clock::{self, UnixMicros};
use crate::postgres::identity::group;

/// How long a run may take. What is left, the next one does.
const TIME_MAX: Duration = Duration::from_secs(20);

/// Brings groups into step with ties. Returns how many IDs came to another group.
pub(super) async fn run(client: &mut Client) -> anyhow::Result<u64> {
    let begun = clock::monotonic();
    let mut moved = 0;
    loop {
        let grouped = group::settle_some(client).await?;
        moved += grouped.merged + grouped.split + grouped.hubs;
        if !grouped.is_full() || begun.elapsed() >= TIME_MAX {
            return Ok(moved);
        }
    }
}

/// Lets hubs back that have few ties left.
pub(super) async fn free_hubs(
    client: &Client,
    _: JobLimits,
    as_of: UnixMicros,
) -> anyhow::Result<u64> {
    Ok(group::free_hubs(client, day(as_of)).await?)
}
