//! Deletes what was imported once it is valid no more. Nothing reads it from that day on; a day's
//! worth goes in a run, as of everything that is deleted by age.

use tokio_postgres::Client;

use super::{Done, day, expiry};
use crate::clock::UnixMicros;
use crate::postgres::import::known;

/// The job's name.
pub(super) const NAME: &str = "import";

pub(super) async fn run(client: &mut Client, as_of: UnixMicros) -> anyhow::Result<Done> {
    let today = day(as_of);
    let Some(oldest) = known::read_first_expired(client, today).await? else {
        return Ok(Done::default());
    };
    let days_since = |day: i32| u64::from(today.abs_diff(day)) + 1;
    if expiry::is_too_soon(client, NAME, as_of).await? {
        return Ok(Done {
            changed: 0,
            held_back: days_since(oldest),
        });
    }
    let changed = known::delete_expired(client, oldest).await?;
    expiry::note(client, NAME, as_of).await?;
    let left = known::read_first_expired(client, today).await?;
    Ok(Done {
        changed,
        held_back: left.map_or(0, days_since),
    })
}
